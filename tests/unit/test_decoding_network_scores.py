"""Scores of probabilities against scikit-learn and against loops over pairs of samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from bids_xai.decoding.network_scores import (
    confusion_table,
    roc_auc,
    roc_curve,
    roc_table,
    score_metrics,
    score_table,
    stopping_table,
    summarise,
)
from bids_xai.errors import InputError

NAMES = ("CN", "MCI", "AD")


def predictions(
    seed: int, n: int, n_classes: int, ties: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    logits = rng.standard_normal((n, n_classes)) + np.eye(n_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, np.round(probabilities, 1) if ties else probabilities


def pairs_auc(positive: npt.NDArray[np.bool_], scores: npt.NDArray) -> float:
    """Compare every positive with every negative."""
    wins = [
        1.0 if p > q else 0.5 if p == q else 0.0
        for p in scores[positive].tolist()
        for q in scores[~positive].tolist()
    ]
    return sum(wins) / len(wins)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(4, 40), ties=st.booleans())
def test_roc_is_that_of_all_pairs_and_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    labels, probabilities = predictions(seed, n, 2, ties)
    positive, scores = labels == 1, probabilities[:, 1]
    area = roc_auc(positive, scores)
    assert area == pytest.approx(pairs_auc(positive, scores), abs=1e-12)
    assert area == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-12)
    fpr, tpr, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    ours = roc_curve(positive, scores)
    np.testing.assert_allclose(ours[0], fpr, atol=1e-12)
    np.testing.assert_allclose(ours[1], tpr, atol=1e-12)
    assert area == pytest.approx(metrics.auc(*ours), abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_scikit_learn(n_classes: int) -> None:
    runs = [predictions(seed, 30 + seed, n_classes) for seed in range(4)]
    classes = NAMES[:n_classes]
    table = score_table(runs, classes)
    assert list(table.columns) == ["run", "metric", "class", "value"]
    found = table.set_index(["run", "metric", "class"])["value"]
    for run, (labels, probabilities) in enumerate(runs):
        called = probabilities.argmax(axis=1)
        assert found[run, "accuracy", ""] == pytest.approx(metrics.accuracy_score(labels, called))
        balanced = metrics.balanced_accuracy_score(labels, called)
        assert found[run, "balanced-accuracy", ""] == pytest.approx(balanced)
        recalls = metrics.recall_score(labels, called, average=None)
        for code, name in enumerate(classes):
            assert found[run, "recall", name] == pytest.approx(recalls[code])
            area = metrics.roc_auc_score(labels == code, probabilities[:, code])
            assert found[run, "auc", name] == pytest.approx(area)
        assert ((run, "sensitivity", "") in found.index) == (n_classes == 2)
        if n_classes == 2:
            assert found[run, "sensitivity", ""] == pytest.approx(metrics.recall_score(labels, called))
            of_first = metrics.recall_score(labels, called, pos_label=0)
            assert found[run, "specificity", ""] == pytest.approx(of_first)
        stopped_by = score_metrics(labels, probabilities)
        assert stopped_by["balanced-accuracy"] == pytest.approx(balanced)
        macro = np.mean([found[run, "auc", name] for name in classes])
        assert stopped_by["auc"] == pytest.approx(macro)
    counts = confusion_table(runs, classes)
    for run, (labels, probabilities) in enumerate(runs):
        own = counts[counts["run"] == run].pivot(index="true", columns="predicted", values="count")
        expected = metrics.confusion_matrix(labels, probabilities.argmax(axis=1))
        np.testing.assert_array_equal(own.loc[list(classes), list(classes)], expected)


def test_summaries_are_those_of_scipy() -> None:
    runs = [predictions(seed, 20, 2) for seed in range(5)]
    table = score_table(runs, NAMES[:2])
    summary = summarise(table).set_index(["metric", "class"])
    assert list(summary.columns) == ["n_runs", "mean", "sd", "se"]
    for (metric, name), own in table.groupby(["metric", "class"]):
        row = summary.loc[(metric, name)]
        assert row["n_runs"] == 5
        assert row["mean"] == pytest.approx(np.mean(own["value"]))
        assert row["sd"] == pytest.approx(np.std(own["value"], ddof=1))
        assert row["se"] == pytest.approx(stats.sem(own["value"]))


def height(fpr: npt.NDArray, tpr: npt.NDArray, at: float) -> float:
    """Read a curve off at a rate, point by point."""
    below = max(i for i in range(len(fpr)) if fpr[i] <= at)
    if below == len(fpr) - 1 or fpr[below] == at:
        return float(tpr[below])
    share = (at - fpr[below]) / (fpr[below + 1] - fpr[below])
    return float(tpr[below] + share * (tpr[below + 1] - tpr[below]))


def test_the_averaged_curve_is_the_mean_of_heights() -> None:
    runs = [predictions(seed, 25, 3, ties=True) for seed in range(6)]
    grid = np.array([0.0, 0.1, 0.25, 0.5, 0.77, 1.0])
    table = roc_table(runs, NAMES, grid)
    assert table["class"].drop_duplicates().tolist() == list(NAMES)
    for code, name in enumerate(NAMES):
        own = table[table["class"] == name].reset_index(drop=True)
        for row, at in enumerate(grid):
            heights = []
            for labels, probabilities in runs:
                fpr, tpr, _ = metrics.roc_curve(
                    labels == code, probabilities[:, code], drop_intermediate=False
                )
                heights.append(height(fpr, tpr, float(at)))
            assert own["tpr"][row] == pytest.approx(np.mean(heights))
            assert own["se"][row] == pytest.approx(stats.sem(heights))
    assert (table["n_runs"] == 6).all()
    single = roc_table(runs[:1], NAMES)
    assert single["se"].isna().all()
    assert len(single) == 303


def test_a_class_without_held_out_samples_has_no_score() -> None:
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(3)[[0, 1, 1, 1]]
    table = score_table([(labels, probabilities)], NAMES).set_index(["metric", "class"])["value"]
    assert np.isnan(table["auc", "AD"])
    assert np.isnan(table["recall", "AD"])
    assert table["balanced-accuracy", ""] == pytest.approx(0.75)
    assert set(roc_table([(labels, probabilities)], NAMES)["class"]) == {"CN", "MCI"}


def test_stopping_is_summarised_like_scores() -> None:
    table = stopping_table([{"iterations": 10, "seconds": 1.0}, {"iterations": 20, "seconds": 2.0}])
    summary = summarise(table).set_index("metric")
    assert summary.loc["iterations", "mean"] == 15
    assert summary.loc["seconds", "se"] == pytest.approx(0.5)
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize("wrong", [np.zeros((3, 3)), np.zeros((4, 2)), np.full((3, 2), np.nan)])
def test_probabilities_of_other_classes_are_refused(wrong: npt.NDArray) -> None:
    with pytest.raises(InputError, match="Run 0: probabilities of shape"):
        score_table([(np.zeros(3, dtype=np.int64), wrong)], NAMES[:2])
