import pytest

from bids_xai.errors import InputError
from bids_xai.phantom.parameters import CLASS_NAMES, PhantomParameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subjects", 0),
        ("runs", 0),
        ("classes", 1),
        ("classes", len(CLASS_NAMES) + 1),
        ("seed", -1),
        ("trials_per_class", 0),
        ("tr", 0.0),
        ("duration", float("nan")),
        ("resolution", 0.5),
        ("t1w_resolution", 20.0),
        ("effect", -1.0),
        ("noise", float("inf")),
    ],
)
def test_a_value_that_cannot_be_made_is_refused_by_its_option(name, value):
    with pytest.raises(InputError) as refused:
        PhantomParameters(**{name: value})
    assert "--" + name.replace("_", "-") in str(refused.value)
    assert str(value) in refused.value.found


def test_labels():
    parameters = PhantomParameters(classes=2, resolution=2.5)
    assert parameters.class_names == ("face", "house")
    assert parameters.resolution_label == "2p5"
    assert PhantomParameters(resolution=4.0).resolution_label == "4"
