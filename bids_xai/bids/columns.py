"""What the columns of the group's tables mean."""

from __future__ import annotations

from typing import Any

from bids_xai.bids.events import ROW_COLUMNS

_METHOD = {"method": "Measure of importance", "class": "Class"}
_TEST = {
    "p": "(b + 1) / (m + 1), b of m permutations being at least as accurate as the mean; or see p_by",
    "p_by": {
        "Description": "Where p comes from",
        "Levels": {
            "counted": "from counting permutations",
            "gpd": "from a generalised Pareto distribution fitted to the tail of the permutations",
            "sequential": "h / l, the h-th permutation that is as accurate being the l-th, where it stopped",
        },
    },
    "n_permutations": "Number of permutations, m",
}
_ALPHA = {"alpha": "Significance level"}

_RECOVERY = {
    "n_voxels": "Voxels that are found",
    "accuracy": "Share of all voxels that are rightly found or rightly not found",
    "FDR": "Share of the found voxels that are not of the pattern; 0 where none is found",
    "FOR": "Share of the voxels not found that are of the pattern; 0 where all are found",
    "sensitivity": "Share of the pattern's voxels that are found",
}

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
        "chance": "Mean accuracy over the permutations (classes may be of unequal size)",
        "mean": "Mean accuracy over the repetitions on the true labels",
        "sd": "Standard deviation over the repetitions on the true labels",
        "null_mean": "Mean accuracy over the permutations",
        "null_sd": "Standard deviation over the permutations",
        "null_max": "Largest accuracy among the permutations",
        **_TEST,
    },
    "score_tests": {
        "metric": {
            "Description": "Score of held-out samples",
            "Levels": {
                "accuracy": "share that is classified rightly",
                "balanced_accuracy": "mean of the classes' sensitivities",
                "sensitivity": "share of the class's samples that are recognised",
                "specificity": "share of the other classes' samples that are not taken for the class",
                "auc": "area under the ROC curve, of the class against the others ('all': mean over classes)",
            },
        },
        "class": "Class, against all others; 'all' for scores of all classes",
        "n_runs": "Number of repetitions on the true labels",
        "mean": "Mean over the repetitions on the true labels",
        "sd": "Standard deviation over the repetitions on the true labels",
        "ci_low": "Lower end of the 95 % confidence interval of the mean over participants (Wilson, with the "
        "effective number of samples)",
        "ci_high": "Upper end of the interval",
        "null_mean": "Mean over the permutations: what chance gives",
        "null_sd": "Standard deviation over the permutations",
        "null_max": "Largest value among the permutations",
        "p": "(b + 1) / (m + 1), b of m permutations being at least as large as the mean, one-sided",
        "n_permutations": "Number of permutations, m",
    },
    "subject_tests": {
        "subject": "Participant label without 'sub-'",
        "chance": "Mean accuracy over the permutations (classes may be of unequal size)",
        "mean": "Mean accuracy of the participant's held-out samples over the repetitions on the true labels",
        "sd": "Standard deviation over the repetitions on the true labels",
        "null_mean": "Mean accuracy over the permutations",
        "null_sd": "Standard deviation over the permutations",
        "null_low": "2.5 % quantile of the permutations",
        "null_high": "97.5 % quantile of the permutations",
        "null_max": "Largest accuracy among the permutations",
        **_TEST,
    },
    "misclassified": {
        "subject": "Participant label without 'sub-'",
        "true": "Class of the participant's samples",
        "predicted": "Class that they were given most often when they were held out",
        "n_decisions": "Held-out samples times repetitions on the true labels",
        "misclassified": "Share of these that were given another class than the true one",
    },
    "prevalence": {
        "scope": "'all' for all held-out samples, else the class whose samples are scored",
        "n_subjects": "Number of participants, N",
        "mean": "Mean over the participants of their mean accuracy over the repetitions on the true labels",
        "null_mean": "Mean accuracy over permutations and participants",
        "null_95": "95 % quantile of the mean over the participants in groups of chance",
        "p_mean": "(b + 1) / (n_draws + 1), b groups of chance reaching the mean (Stelzer et al. 2013)",
        "minimum": "Smallest accuracy among the participants in the first repetition on the true labels",
        "p_global": "p that no participant's accuracy is above chance (Allefeld et al. 2016)",
        "p_global_corrected": "The same, family-wise over the classes (of 'all' as it is)",
        "p_majority": "p that at most half of the population has an accuracy above chance",
        "p_majority_corrected": "The same, family-wise over the classes (of 'all' as it is)",
        "prevalence": "Largest share of the population rejected as too small at .05; n/a if none is",
        "prevalence_corrected": "The same, family-wise over the classes (of 'all' as it is)",
        "n_permutations": "Number of permutations of every participant, m",
        "n_draws": "Number of groups of chance, each of one permutation of every participant",
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
        "n_voxels_chance": "Voxels expected to exceed their threshold without any information: mean over the "
        "second permuted set, or alpha times the number of voxels; runs on the true labels share these, so "
        "that about as many false ones are reproducible",
        "n_voxels_p": "Voxels whose mean importance exceeds their threshold",
        "n_voxels_fwer": "Voxels whose mean importance exceeds the family-wise threshold",
        "n_voxels_fdr": "Voxels whose q is at most alpha: false discovery rate (Benjamini and Hochberg) of "
        "p-values whose tail is fitted, if there are enough permutations",
        "n_voxels_reproducible": "Voxels whose reproducibility exceeds the reproducibility threshold: no "
        "correction for their number",
    },
    "tails": {
        **_METHOD,
        "n_voxels_p_few": "Voxels whose importance fewer than 10 permutations reach",
        "n_voxels_p_fitted": "Of these, voxels whose p comes from the fitted tail of their permutations",
        "n_voxels_pfwer_few": "Voxels whose importance fewer than 10 of the maxima over the voxels reach",
        "n_voxels_pfwer_fitted": "Of these, voxels whose family-wise p comes from the maxima's fitted tail",
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
        "peak": "Largest importance above threshold in the region (largest absolute one if two-sided); n/a "
        "where no voxel exceeds its threshold",
        "peak_x": {"Description": "Position of the peak, left to right", "Units": "mm"},
        "peak_y": {"Description": "Position of the peak, posterior to anterior", "Units": "mm"},
        "peak_z": {"Description": "Position of the peak, inferior to superior", "Units": "mm"},
    },
    "recovery": {
        "method": "Measure of importance",
        "class": "Class, or 'mean' over the classes",
        **_ALPHA,
        "reproducibility": "Share of the repetitions in which a voxel must pass to be found",
        **_RECOVERY,
    },
    "discoveries": {
        "method": "Measure of importance, or 't' for the univariate test of one class against the others",
        "class": "Class, or 'mean' over the classes",
        **_ALPHA,
        "criterion": {
            "Description": "What makes a voxel found",
            "Levels": {
                "p": "its own p-value is at most alpha",
                "FDR": "false discovery rate over the voxels (Benjamini and Hochberg)",
                "FWER": "family-wise over the voxels (max-statistic; Bonferroni for t)",
                "reproducibility": "it is more reproducible than any voxel by chance",
            },
        },
        **_RECOVERY,
    },
}
