"""What the columns of the group's tables mean."""

from __future__ import annotations

from typing import Any

from bids_xai.bids.events import ROW_COLUMNS

_METHOD = {"method": "Measure of importance", "class": "Class"}
_ALPHA = {"alpha": "Significance level"}

TABLE_COLUMNS: dict[str, dict[str, Any]] = {
    "samples": ROW_COLUMNS,
    "folds": {
        "fold": "What is left out",
        "n_train": "Number of training samples",
        "n_test": "Number of held-out samples",
    },
    "accuracy": {
        "kind": {"Description": "Labels", "Levels": {"real": "true labels", "null": "permuted labels"}},
        "run": "Number of the repetition, from 0",
        "scope": "'all' for all held-out samples, else the class whose samples are scored",
        "accuracy": "Share of the held-out samples that are classified rightly, from 0 to 1",
    },
    "accuracy_tests": {
        "scope": "'all' for all held-out samples, else the class whose samples are scored",
        "chance": "One over the number of classes",
        "mean": "Mean accuracy over the repetitions on the true labels",
        "sd": "Standard deviation over the repetitions on the true labels",
        "null_mean": "Mean accuracy over the permutations",
        "null_sd": "Standard deviation over the permutations",
        "null_max": "Largest accuracy among the permutations",
        "p": "(b + 1) / (m + 1), b of m permutations being at least as accurate as the mean",
        "n_permutations": "Number of permutations, m",
    },
    "confusion": {
        "kind": {"Description": "Labels", "Levels": {"real": "true labels", "null": "permuted labels"}},
        "true": "Class of the samples",
        "predicted": "Class that the classifier gives",
        "rate": "Share of the true class's samples, mean over the repetitions",
    },
    "curves": {
        "kind": {
            "Description": "Labels",
            "Levels": {"real": "true labels", "null": "second set of permuted labels"},
        },
        **_METHOD,
        **_ALPHA,
        "reproducibility": "Share of the repetitions",
        "n_voxels": "Number of voxels that exceed their threshold in at least that share",
    },
    "thresholds": {
        **_METHOD,
        **_ALPHA,
        "threshold_median": "Median over the voxels of the permutation threshold",
        "fwer_threshold": "Family-wise threshold over the voxels (max-statistic)",
        "reproducibility_threshold": "Largest share of the second permuted set in which any voxel passes",
        "n_voxels_p": "Voxels whose mean importance exceeds their threshold",
        "n_voxels_fwer": "Voxels whose mean importance exceeds the family-wise threshold",
        "n_voxels_fdr": "Voxels with a false discovery rate of alpha (Benjamini and Hochberg)",
        "n_voxels_reproducible": "Voxels whose reproducibility exceeds the reproducibility threshold",
    },
    "regions": {
        "atlas": "Atlas",
        "index": "Number of the region in the atlas",
        "region": "Name of the region",
        "class": "Class",
        "method": "Measure of importance",
        "n_voxels": "Voxels of the region on the analysis grid, inside the mask",
        "sum": "Sum of the mean importance over the region",
        "density": "Sum divided by the number of voxels",
        "n_above": "Voxels that exceed their permutation threshold at the level of the report",
        "peak": "Largest importance in the region (largest absolute one if two-sided)",
        "peak_x": {"Description": "Position of the peak, left to right", "Units": "mm"},
        "peak_y": {"Description": "Position of the peak, posterior to anterior", "Units": "mm"},
        "peak_z": {"Description": "Position of the peak, inferior to superior", "Units": "mm"},
    },
}
