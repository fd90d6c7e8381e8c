"""What the columns of the tables of networks mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bids_xai.bids.columns import TABLE_COLUMNS

_RUN = {"run": "Number of the training of a fold, from 0", "fold": "What is left out"}
_SUBJECT = {"subject": "Participant label without 'sub-'"}
_METHOD = {"method": "Explanation"}
_GROUP = {
    "group": "Held-out samples that are averaged: those of a class, TP, FP, TN, FN of the second of two "
    "classes, or those classified correctly and incorrectly"
}
_METRIC = {
    "metric": "Score: accuracy, balanced accuracy (mean of the recalls), sensitivity, specificity, recall, "
    "or auc (area under the ROC curve)",
    "class": "Class that the score is of; 'all' for all",
}
_NULL = {
    "null_mean": "Mean over the permutations",
    "null_sd": "Standard deviation over the permutations",
    "null_max": "Largest value among the permutations",
    "p": "(b + 1) / (m + 1), b of m permutations being at least as large; n/a without permutations",
    "smallest_p": "Smallest p that so many permutations of this design can give",
    "n_permutations": "Number of permutations, m",
}
_COLUMNS: dict[str, dict[str, Any]] = {
    "predictions": {
        **_RUN,
        "sample": "Number of the row of the samples, from 0",
        **_SUBJECT,
        "session": "Session label without 'ses-'",
        "true": "Class of the sample",
        "predicted": "Class of the largest probability",
    },
    "scores": {
        "model": "Classifier",
        "run": _RUN["run"],
        **_METRIC,
        "value": "Over the held-out samples of all folds",
    },
    "score_tests": {
        **_METRIC,
        "mean": "Mean over the trainings on the true labels",
        "sd": "Standard deviation over the trainings",
        "se": "Standard error over the trainings",
        "n_runs": "Number of trainings",
        "ci_low": "Lower end of the 95 % confidence interval of the mean over participants (Wilson, with the "
        "effective number of samples)",
        "ci_high": "Upper end of the interval",
        **_NULL,
    },
    "roc": {
        "class": "Class against all others",
        "fpr": "False positive rate",
        "tpr": "True positive rate, mean over the trainings at this false positive rate",
        "se": "Standard error over the trainings",
        "n_runs": "Number of trainings",
    },
    "history": {
        **_RUN,
        "epoch": "Number of the epoch, from 1",
        "train_loss": "Mean loss of the training samples",
        "validation_loss": "Mean loss of the validation samples",
        "validation_accuracy": "Accuracy of the validation samples",
        "validation_balanced_accuracy": "Balanced accuracy of the validation samples",
        "validation_auc": "Area under their ROC curve",
        "learning_rate": "Step of the optimiser",
        "seconds": {"Description": "Time of the epoch", "Units": "s"},
    },
    "trainings": {
        **_RUN,
        "best_epoch": "Epoch whose weights are kept",
        "n_epochs": "Epochs until training stopped",
        "n_iterations": "Minibatches until training stopped",
        "seconds": {"Description": "Time of the training", "Units": "s"},
        "batch_size": "Samples of a minibatch",
        "learning_rate": "Step of the optimiser at the start",
        "patience": "Epochs without improvement that stop",
        "n_train": "Training samples",
        "n_validation": "Validation samples",
        "n_test": "Held-out samples",
    },
    "search": {
        **_RUN,
        "batch_size": "Samples of a minibatch",
        "learning_rate": "Step of the optimiser at the start",
        "patience": "Epochs without improvement that stop",
        "validation": "Best value of what is monitored",
        "best_epoch": "Its epoch",
        "iterations": "Minibatches until training stopped",
        "seconds": {"Description": "Time of the training", "Units": "s"},
        "chosen": "Whether it is the best of its fold",
    },
    "conservation": {
        **_METHOD,
        **_RUN,
        "residual_mean": "Mean over the samples of |sum of the relevance - output| / |output|; n/a where the "
        "explanation does not decompose the output",
        "residual_max": "Largest of the samples",
        "outside_mask": "Share of the absolute relevance outside the mask, mean over the samples",
    },
    "randomization": {
        **_METHOD,
        "mode": "'cascading': this layer and all behind it have random parameters; 'independent': this layer",
        "depth": "Layers that are random, from the output",
        "layer": "Layer of the network",
        "spearman": "Rank correlation with the heatmap of the trained network",
        "spearman_abs": "Rank correlation of absolute values",
        "ssim": "Structural similarity",
        "ssim_abs": "Structural similarity of absolute values",
    },
    "deletion": {
        **_METHOD,
        "order": "Voxels of largest relevance first, or at random",
        "fraction": "Share of the voxels that are deleted",
        "probability": "Mean probability of the explained class",
        "se": "Standard error over the samples",
    },
    "area": {**_METHOD, "area_over_curve": "Mean drop of the probability over all fractions"},
    "localisation": {
        **_METHOD,
        **_SUBJECT,
        "session": "Session label without 'ses-'",
        "true": "Class of the sample",
        "mass": "Share of the positive relevance inside the lesions",
        "chance": "Share of the voxels inside the lesions",
        "auc": "Area under the ROC curve of the ranking of the voxels",
        "pointing": "Whether the largest relevance lies in a lesion",
        "lesion_voxels": "Voxels inside the lesions",
        "relevance": "Sum of the relevance as the method gives it, in units of what is explained",
    },
    "lesion_load": {
        **_METHOD,
        "r": "Correlation of the number of lesion voxels with the relevance, summed as the method gives it",
        "p": "Permutation p-value, two-sided",
        "n": "Number of people",
        "n_permutations": "Number of permutations",
    },
    "distances": {
        **_METHOD,
        **_GROUP,
        "run_a": "Number of a training",
        "run_b": "Number of another",
        "distance": "L2 norm of the difference of their mean heatmaps as they are shown, each divided by its "
        "maximum",
    },
    "regions": {
        "atlas": "Atlas",
        "index": "Number of the region, in the atlas's order",
        "region": "Name of the region",
        **_METHOD,
        **_GROUP,
        "n_voxels": "Voxels of the region",
        "sum": "Sum over the region of the heatmaps as they are shown (shares, or raw), mean over the people",
        "density": "Sum over the number of voxels",
        "gain": "Mean sum of the group's people over that of all others",
        "rank_sum": "Rank by the sum, 1 being the largest",
        "rank_density": "Rank by the density",
        "rank_gain": "Rank by the gain",
    },
    "overlap": {
        "atlas": "Atlas",
        **_METHOD,
        "metric": "What regions are ranked by: sum, density or gain",
        **_GROUP,
        "k": "Number of the first regions",
        "mean_overlap": "Share of the first regions that two trainings have in common, mean over all pairs",
        "n_pairs": "Number of pairs",
    },
    "method_overlap": {
        "atlas": "Atlas",
        "metric": "What regions are ranked by: sum, density or gain",
        "k": "Number of the first regions",
        "first": "Explanation",
        "second": "Another explanation, or the same with other options",
        "overlap": "Share of the first regions that both have in common, in the last class",
    },
    "biomarker": {
        "atlas": "Atlas",
        "region": "Name of the region",
        **_METHOD,
        "r": "Pearson correlation over the people of the biomarker with the region's relevance: its share "
        "of the heatmap, or as it is where raw values are tested",
        "p": "Permutation p-value, two-sided",
        "p_family": "The same, family-wise over the regions",
        "n": "Number of people",
        "n_permutations": "Number of permutations",
        "smallest_p": "Smallest p that so many can give",
    },
    "fingerprints": {
        "atlas": "Atlas",
        **_METHOD,
        **_SUBJECT,
        "other": "Person whose regional relevance differs the most",
        "distance": "Cosine distance of their region densities",
    },
    "rdm": {
        "kind": {"Description": "Patterns", "Levels": {"brain": "mean volumes", "network": "mean features"}},
        "class_a": "Class",
        "class_b": "Class",
        "distance": "1 - Pearson correlation of the classes' mean patterns",
    },
    "mantel": {
        "r": "Correlation of the two dissimilarity matrices",
        "p": "Permutation p-value over the classes",
        "n_permutations": "Number of permutations",
        "exact": "Whether all permutations were taken",
        "smallest_p": "Smallest p that so many classes can give",
    },
    "positions": {
        "class": "Class whose occlusion it is",
        "x": {"Description": "Position", "Units": "mm"},
        "y": {"Description": "Position", "Units": "mm"},
        "z": {"Description": "Position", "Units": "mm"},
        "drop": "Drop of the class's output as it is shown: its share, or raw",
        "umap_1": "First coordinate of the embedding of the positions",
        "umap_2": "Second coordinate",
        "functional_1": "First coordinate of the embedding of the drops of all classes",
        "functional_2": "Second coordinate",
    },
    "folds": TABLE_COLUMNS["folds"],
    "samples": TABLE_COLUMNS["samples"],
}


def columns_of(name: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return the meaning of the columns of a table.

    Raises
    ------
    KeyError
        A column has no meaning here.
    """
    known = _COLUMNS[name]
    return {column: known[column] if column in known else _other(name, column) for column in columns}


def _other(name: str, column: str) -> str:
    if name == "predictions" and column.startswith("probability_"):
        return f"Probability of class {column.removeprefix('probability_')}"
    if name == "samples":
        return "Column of the samples or of participants.tsv"
    raise KeyError(f"column {column!r} of table {name!r} has no meaning")
