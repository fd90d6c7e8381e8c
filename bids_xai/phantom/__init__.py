"""Data with known truth: whole BIDS datasets made from a template that comes with a package, and arrays.

``bids_dataset.make_dataset`` writes BOLD and T1w; ``parameters.PhantomParameters`` says what is in it.
``lesions_dataset.make_lesion_dataset`` writes anatomical images of controls and patients with lesions;
``lesion_parameters.LesionParameters`` says which.
``scenarios.make_samples`` makes arrays; ``scenarios.ScenarioParameters`` says of what scenario and scale.
"""

from bids_xai.registry import Entry, Registry

_SOURCE = "Gotsopoulos et al. 2018, section 2.5"

SCENARIOS = Registry(
    "scenario",
    Entry(
        "1",
        "bids_xai.phantom.scenarios:partly_overlapping",
        "patterns of one size, each half shared with the next class and half with the previous",
        _SOURCE,
    ),
    Entry(
        "2",
        "bids_xai.phantom.scenarios:of_several_sizes",
        "patterns of several sizes, some inside others, two identical",
        _SOURCE,
    ),
    Entry(
        "3",
        "bids_xai.phantom.scenarios:of_two_magnitudes",
        "the second twice, with patterns shifted among the classes and two magnitudes",
        _SOURCE,
    ),
)
