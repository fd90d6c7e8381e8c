"""Scores of predictions, from confusion counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def confusion_counts(
    true: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    n_classes: int,
    subjects: npt.NDArray[np.int64],
    n_subjects: int,
) -> npt.NDArray[np.int64]:
    """Return counts of shape (n_subjects, n_classes, n_classes): rows are true, columns predicted classes."""
    cells = (subjects * n_classes + true) * n_classes + predicted
    counts = np.bincount(cells, minlength=n_subjects * n_classes**2)
    return counts.reshape(n_subjects, n_classes, n_classes).astype(np.int64)


def accuracy(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the share of held-out samples that are right, for counts of shape (..., C, C)."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def class_accuracy(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the share of every class's samples that are right (recall), for counts (..., C, C).

    A class without held-out samples has none: nan.
    """
    sizes = confusion.sum(axis=-1)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(right, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
