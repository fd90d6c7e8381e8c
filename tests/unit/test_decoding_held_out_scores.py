"""Scores of held-out samples against scikit-learn, and their intervals against Wilson's and the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from bids_xai.decoding import held_out_scores as held_out  # its tested_samples is no test
from bids_xai.decoding.design import make_design
from bids_xai.decoding.held_out_scores import (
    held_out_scores,
    placements,
    score_intervals,
)
from bids_xai.decoding.scores import confusion_counts
from bids_xai.decoding.splits import Fold
from bids_xai.inference.held_out_tests import held_out_tests
from bids_xai.inference.permutation import p_value
from bids_xai.interfaces.network_results import network_intervals
from bids_xai.interfaces.networks import prediction_table

CLASSES = ("a", "b", "c")


def predicted(rng: np.random.Generator, labels: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Return logits, some of them equal."""
    n_classes = int(labels.max()) + 1
    return np.round(rng.normal(size=(len(labels), n_classes)) + gain * np.eye(n_classes)[labels], 1)


def run_of(labels: np.ndarray, logits: np.ndarray, subjects: np.ndarray, folds: list[Fold]) -> tuple:
    tested = np.concatenate([fold.test for fold in folds])
    counts = confusion_counts(
        labels[tested], logits[tested].argmax(axis=1), logits.shape[1], subjects[tested], subjects.max() + 1
    )
    return counts[None], placements(labels, [logits[fold.test] for fold in folds], subjects, folds)[None]


def table(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row["metric"], row["class"]): float(row["values"][0]) for _, row in frame.iterrows()}


def test_scores_of_unbalanced_classes_are_scikit_learns(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 8])
    logits, subjects = predicted(rng, labels), np.arange(78) % 13
    found = table(held_out_scores(*run_of(labels, logits, subjects, [Fold("", [], np.arange(78))]), CLASSES))
    guess = logits.argmax(axis=1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["accuracy", "all"] == pytest.approx(metrics.accuracy_score(labels, guess))
    assert found["balanced_accuracy", "all"] == pytest.approx(metrics.balanced_accuracy_score(labels, guess))
    assert found["auc", "all"] == pytest.approx(
        metrics.roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    )
    for code, name in enumerate(CLASSES):
        own = labels == code
        assert found["sensitivity", name] == pytest.approx(metrics.recall_score(own, guess == code))
        assert found["specificity", name] == pytest.approx(metrics.recall_score(~own, guess != code))
        assert found["auc", name] == pytest.approx(metrics.roc_auc_score(own, shares[:, code]))


def test_samples_are_ranked_within_what_one_classifier_scored(rng: np.random.Generator) -> None:
    labels, subjects = np.tile([0, 1], 20), np.arange(40)
    logits = predicted(rng, labels)
    folds = [Fold("x", [], np.arange(20)), Fold("y", [], np.arange(20, 40))]
    # Another classifier may score everything higher: that changes no order within its fold.
    moved = logits + np.where(np.arange(40) < 20, 0, 3)[:, None] * np.array([0, 1])
    areas = [
        table(held_out_scores(*run_of(labels, own, subjects, folds), CLASSES[:2]))["auc", "b"]
        for own in (logits, moved)
    ]
    each = [
        metrics.roc_auc_score(labels[fold.test], (logits[:, 1] - logits[:, 0])[fold.test]) for fold in folds
    ]
    assert areas == pytest.approx([np.mean(each)] * 2)
    # Single people are left out: there is nothing to rank within a fold.
    alone = [Fold(str(number), [], np.array([number])) for number in range(40)]
    found = table(held_out_scores(*run_of(labels, logits, subjects, alone), CLASSES[:2]))["auc", "b"]
    assert found == pytest.approx(metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0]))


@pytest.mark.parametrize("right", [0, 3, 17, 20])
def test_intervals_of_one_sample_per_person_are_wilsons(right: int) -> None:
    labels = np.repeat([0, 1], [20, 12])
    logits = np.zeros((32, 2))
    logits[:, 1] = np.where(labels == 1, 1, -1)
    logits[right:20, 1] = 1
    samples = np.eye(2, dtype=int)[labels]
    found = score_intervals(
        *run_of(labels, logits, np.arange(32), [Fold("", [], np.arange(32))]), samples, CLASSES[:2]
    ).set_index(["metric", "class"])
    for (metric, name), k, n in (
        (("accuracy", "all"), right + 12, 32), (("sensitivity", "a"), right, 20),
        (("sensitivity", "b"), 12, 12), (("specificity", "b"), right, 20),
    ):  # fmt: skip
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert found.loc[(metric, name)].tolist() == pytest.approx([expected.low, expected.high])


@pytest.mark.parametrize("n_each", [1, 12])
def test_intervals_hold_the_true_score_of_people_who_differ(n_each: int) -> None:
    rng = np.random.default_rng(5)
    n_people, n_datasets = 12, 300
    subjects = np.repeat(np.arange(n_people), n_each)
    labels = np.arange(len(subjects)) % 2 if n_each > 1 else np.arange(n_people) % 2
    samples = np.zeros((n_people, 2), dtype=int)
    np.add.at(samples, (subjects, labels), 1)
    folds, kept = [Fold("", [], np.arange(len(subjects)))], {"accuracy": 0, "balanced_accuracy": 0}
    for _ in range(n_datasets):
        chance = rng.beta(7, 3, n_people)[subjects]
        right = rng.random(len(subjects)) < chance
        logits = np.eye(2)[np.where(right, labels, 1 - labels)]
        found = score_intervals(*run_of(labels, logits, subjects, folds), samples, CLASSES[:2])
        for metric in kept:
            row = found[(found["metric"] == metric) & (found["class"] == "all")].iloc[0]
            kept[metric] += row["low"] <= 0.7 <= row["high"]
    for metric, count in kept.items():
        assert count / n_datasets > 0.91, metric
        assert n_each == 1 or count / n_datasets < 0.995, metric


def test_intervals_of_areas_hold_the_true_area() -> None:
    rng = np.random.default_rng(2)
    labels, subjects = np.tile([0, 1], 20), np.arange(40)
    samples, folds = np.eye(2, dtype=int)[labels], [Fold("", [], np.arange(40))]
    true, kept = stats.norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(300):
        x = rng.normal(size=40) + labels
        found = score_intervals(
            *run_of(labels, np.stack([-x, x], axis=1), subjects, folds), samples, CLASSES[:2]
        )
        row = found[(found["metric"] == "auc") & (found["class"] == "b")].iloc[0]
        kept += row["low"] <= true <= row["high"]
    assert 0.90 < kept / 300 < 0.997


def test_scores_are_compared_with_those_of_permuted_labels(rng: np.random.Generator) -> None:
    labels, subjects = np.repeat([0, 1], [30, 10]), np.arange(40)
    folds, samples = [Fold("", [], np.arange(40))], np.eye(2, dtype=int)[labels]

    def runs(n: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
        # What leans to the larger class has an accuracy above one half, and a balanced accuracy of it.
        leaning = np.array([2, 0])
        found = [run_of(labels, predicted(rng, labels, gain) + leaning, subjects, folds) for _ in range(n)]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))

    real, null = runs(5, 1.5), runs(99, 0.0)
    of_all = null[0], null[1].sum(axis=1, keepdims=True)
    found = held_out_tests(real, of_all, samples, CLASSES[:2]).set_index(["metric", "class"])
    assert found.loc[("accuracy", "all"), "null_mean"] > 0.65
    for metric in ("balanced_accuracy", "auc"):
        assert found.loc[(metric, "all"), "null_mean"] == pytest.approx(0.5, abs=0.02)
    values = table(held_out_scores(real[0][:1], real[1][:1], CLASSES[:2]))
    assert set(found.index) == set(values)
    own = held_out_scores(*real, CLASSES[:2]).set_index(["metric", "class"])["values"]
    other = held_out_scores(*null, CLASSES[:2]).set_index(["metric", "class"])["values"]
    for key, row in found.iterrows():
        assert row["mean"] == pytest.approx(own[key].mean())
        assert row["p"] == p_value(own[key].mean(), other[key])
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]


def test_intervals_of_networks_are_those_of_their_predictions(rng: np.random.Generator) -> None:
    rows = pd.DataFrame({"subject": [f"{p:02d}" for p in range(12)], "class": ["x", "y", "y"] * 4})
    rows = rows.assign(session="", task="", run="", event=np.nan)
    design, _ = make_design(rows, cv="kfold", n_repeats=2)
    logits = predicted(rng, design.labels)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tables = [
        prediction_table(rows, design.classes, design.labels, fold.test, shares[fold.test])
        for fold in design.folds
    ]
    found = network_intervals(tables, design).set_index(["metric", "class"])[["ci_low", "ci_high"]]
    own = score_intervals(
        *run_of(design.labels, logits, design.subjects, list(design.folds)),
        held_out.tested_samples(design), design.classes,
    ).set_index(["metric", "class"])  # fmt: skip
    for key, other in {
        ("accuracy", "all"): ("accuracy", "all"), ("balanced_accuracy", "all"): ("balanced_accuracy", "all"),
        ("sensitivity", "all"): ("sensitivity", "y"), ("specificity", "all"): ("specificity", "y"),
        ("recall", "x"): ("sensitivity", "x"), ("auc", "y"): ("auc", "y"),
    }.items():  # fmt: skip
        assert found.loc[key].tolist() == pytest.approx(own.loc[other].tolist()), key
    assert found.index.is_unique
