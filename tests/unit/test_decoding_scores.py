"""Scores against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from bids_xai.decoding.scores import accuracy, class_accuracy, confusion_counts


def test_scores_equal_those_of_scikit_learn(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(0, 4, (2, 60))
    counts = confusion_counts(true, predicted, 4, np.zeros(60, np.int64), 1)[0]
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, confusion_matrix(true, predicted, labels=range(4)))
    np.testing.assert_allclose(accuracy(counts), accuracy_score(true, predicted))
    np.testing.assert_allclose(class_accuracy(counts), recall_score(true, predicted, average=None))


def test_everyone_has_counts_of_their_own(rng: np.random.Generator) -> None:
    true, predicted, subjects = rng.integers(0, 3, (3, 60))
    counts = confusion_counts(true, predicted, 3, subjects, 4)
    for subject in range(4):
        own = subjects == subject
        np.testing.assert_array_equal(
            counts[subject], confusion_matrix(true[own], predicted[own], labels=range(3)) if own.any() else 0
        )


def test_scores_take_many_repetitions_at_once(rng: np.random.Generator) -> None:
    counts = rng.integers(1, 9, (5, 3, 3))
    np.testing.assert_array_equal(accuracy(counts), [accuracy(own) for own in counts])
    np.testing.assert_array_equal(class_accuracy(counts), [class_accuracy(own) for own in counts])


def test_a_class_that_is_never_predicted_keeps_its_place() -> None:
    counts = confusion_counts(np.array([0, 2]), np.array([0, 0]), 4, np.array([0, 0]), 1)[0]
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_a_class_without_samples_has_no_accuracy() -> None:
    np.testing.assert_array_equal(class_accuracy(np.array([[3, 1], [0, 0]])), [0.75, np.nan])
