"""Which samples are explained, of which class, and the groups that heatmaps are averaged over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.design import check_class_names

Codes = npt.NDArray[np.int64]
# Whose output is explained, where it is not that of one class for everyone.
TRUE, PREDICTED = "true", "predicted"
BINARY_GROUPS = ("TP", "FP", "TN", "FN")
OTHER_GROUPS = ("correct", "incorrect")


def explained_classes(of_class: int | str, true: Codes, predicted: Codes) -> Codes:
    """Return the class whose output is explained, for every sample.

    Parameters
    ----------
    of_class
        Code of a class, which is explained for everyone (Böhle et al. 2019), ``"true"`` or ``"predicted"``.
    true, predicted
        Classes of the samples, shape (n,).
    """
    if of_class == TRUE:
        return true
    if of_class == PREDICTED:
        return predicted
    return np.full(len(true), int(of_class), dtype=np.int64)


def chosen_samples(
    labels: Codes, probabilities: npt.NDArray, *, most: int | None = None, above: float = 0.0
) -> Codes:
    """Return the samples that are explained, ascending.

    Parameters
    ----------
    labels
        True classes, shape (n,).
    probabilities
        Of every class, shape (n, n_classes).
    most
        Samples of every class at most, those first whose class is the most probable; None: all.
    above
        Smallest probability of the true class.
    """
    own = probabilities[np.arange(len(labels)), labels]
    chosen = []
    for code in np.unique(labels):
        members = np.flatnonzero((labels == code) & (own >= above))
        # A stable sort: equal probabilities keep the order of the samples.
        chosen.append(members[np.argsort(-own[members], kind="stable")][:most])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def group_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the groups: every class, then TP, FP, TN, FN of the second of two classes, or right, wrong.

    Raises
    ------
    InputError
        A class has the name of another group, or of a choice of the class that is explained.
    """
    outcomes = BINARY_GROUPS if len(classes) == 2 else OTHER_GROUPS
    check_class_names(classes, (*outcomes, TRUE, PREDICTED))
    return (*classes, *outcomes)


def group_members(true: Codes, predicted: Codes, n_classes: int) -> npt.NDArray[np.bool_]:
    """Return which samples are of which group (:func:`group_names`), shape (n_groups, n)."""
    classes = [true == code for code in range(n_classes)]
    if n_classes == 2:
        positive, said = true == 1, predicted == 1
        outcomes = [positive & said, ~positive & said, ~positive & ~said, positive & ~said]
    else:
        outcomes = [true == predicted, true != predicted]
    return np.array([*classes, *outcomes], dtype=bool)


def group_sums(heatmaps: npt.NDArray[np.float32], members: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the sum of the heatmaps (n, n_voxels) of every group, shape (n_groups, n_voxels)."""
    return np.stack([heatmaps[own].sum(axis=0, dtype=np.float64) for own in members])


def run_means(
    sums: Sequence[npt.NDArray[np.float32]], counts: Sequence[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the mean heatmap of every group in every training, over the folds.

    Parameters
    ----------
    sums, counts
        Of every fold: sums (n_runs, n_methods, n_groups, n_voxels) and samples (n_runs, n_groups).

    Returns
    -------
    means : array, float32, (n_runs, n_methods, n_groups, n_voxels)
        0 where a group has no sample.
    counts : array, int64, (n_runs, n_groups)
    """
    total = np.sum([np.asarray(own) for own in counts], axis=0)
    means = np.array(sums[0], dtype=np.float32)
    for own in sums[1:]:
        means += own
    means /= np.maximum(total, 1)[:, None, :, None].astype(np.float32)
    return means, total


def mean_over_runs(means: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the mean over the trainings in which a group has samples, (n_methods, n_groups, n_voxels)."""
    present = counts > 0
    total: npt.NDArray[np.float32] = np.zeros(means.shape[1:], dtype=np.float32)
    # A group without samples in a training is 0 there.
    for own in means:
        total += own
    total /= np.maximum(present.sum(axis=0), 1).astype(np.float32)[None, :, None]
    return total


def averaged(
    heatmaps: Sequence[npt.NDArray[np.float32]], keys: Sequence[npt.NDArray[np.int64]], n_keys: int
) -> npt.NDArray[np.float32]:
    """Return the mean of the heatmaps that share a key: those of a person, over folds and volumes.

    Parameters
    ----------
    heatmaps
        Of every fold, (n_methods, k, n_voxels).
    keys
        Of every fold, key of each of its k samples.
    n_keys
        Number of keys, all of which occur.

    Returns
    -------
    array, float32, (n_keys, n_methods, n_voxels)
    """
    n_methods, _, n_voxels = heatmaps[0].shape
    total = np.zeros((n_keys, n_methods, n_voxels), dtype=np.float32)
    counts = np.zeros(n_keys, dtype=np.int64)
    for own, of_sample in zip(heatmaps, keys, strict=True):
        for place, key in enumerate(of_sample):
            total[key] += own[:, place]
            counts[key] += 1
    total /= counts[:, None, None].astype(np.float32)
    return total
