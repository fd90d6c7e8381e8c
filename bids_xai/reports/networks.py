"""The page of the group level of networks: which sections it has."""

from __future__ import annotations

from bids_xai.reports.html import Gallery, Section
from bids_xai.reports.networks_maps import explanation_blocks
from bids_xai.reports.networks_regions import region_blocks
from bids_xai.reports.networks_scores import score_blocks
from bids_xai.reports.networks_similarity import similarity_blocks
from bids_xai.reports.networks_summary import summary_blocks
from bids_xai.reports.networks_survivors import survival_blocks
from bids_xai.reports.networks_training import training_blocks
from bids_xai.reports.networks_trust import robustness_blocks, trust_blocks
from bids_xai.reports.results import Results
from bids_xai.reports.verdict import folded_at_chance


def network_sections(results: Results, gallery: Gallery) -> list[Section]:
    """Return the sections about networks and their explanations; those without data have no blocks.

    Parameters
    ----------
    results
        Manifest of kind ``networks`` and the files that it names.
    gallery
        Takes the figures.

    Raises
    ------
    InputError
        A file that the manifest names is missing.
    """
    return [
        Section("summary", "Summary", summary_blocks(results)),
        Section("scores", "Scores", score_blocks(results, gallery)),
        Section("training", "Training", training_blocks(results, gallery)),
        Section(
            "explanations",
            "Explanations",
            folded_at_chance(results, explanation_blocks(results, gallery), "Heatmaps"),
        ),
        Section(
            "survivors",
            "What survives permutation",
            folded_at_chance(results, survival_blocks(results, gallery), "Heatmaps"),
        ),
        Section("trust", "Trust", trust_blocks(results, gallery)),
        Section("regions", "Regions", folded_at_chance(results, region_blocks(results, gallery), "Regions")),
        Section("robustness", "Robustness", robustness_blocks(results, gallery)),
        Section("similarity", "Similarity", similarity_blocks(results, gallery)),
    ]
