"""Accuracies against their permutations: of all samples, of a class, of a person, and of the population."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.decoding.scores import accuracy, class_accuracy
from bids_xai.inference.group_bootstrap import N_DRAWS, group_mean_p
from bids_xai.inference.permutation import p_value
from bids_xai.inference.prevalence import infer_prevalence
from bids_xai.inference.sequential import sequential_p, stopped_at
from bids_xai.inference.tail import COUNTED_FROM, tail_p

COUNTED, FITTED, SEQUENTIAL = "counted", "gpd", "sequential"
# What the people's own permutations must be exchanged within, so that people are independent of each other.
WITHIN_PEOPLE = ("subject", "run", "fold")
BAND = (0.025, 0.975)

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def accuracies(confusions: Counts, classes: Sequence[str]) -> dict[str, Floats]:
    """Return the accuracy of all samples and of every class by scope, for counts of shape (n_runs, C, C)."""
    by_class = class_accuracy(confusions)
    return {ALL_CLASSES: accuracy(confusions), **{name: by_class[:, c] for c, name in enumerate(classes)}}


def accuracy_tests(
    real: Counts,
    null: Counts,
    classes: Sequence[str],
    tail_fit: str = "none",
    smallest: float = 0.0,
    exceedances: int = 0,
) -> pd.DataFrame:
    """Compare the mean accuracy of the real runs with those of the null runs, overall and per class.

    Parameters
    ----------
    real, null
        Confusion counts, shape (n_runs, n_classes, n_classes).
    classes
        Names of the classes.
    tail_fit
        ``"gpd"``: p-values from fewer than 10 permutations come from the tail of the null
        (:func:`bids_xai.inference.tail.tail_p`), where it fits; ``"none"``: all are counted.
    smallest
        Smallest p that the design allows.
    exceedances
        Number h of permutations as accurate as the mean, overall, that permuting stopped at
        (:func:`bids_xai.inference.sequential.sequential_p`); 0: it did not stop early.
    """
    observed, chance = accuracies(real, classes), accuracies(null, classes)
    rows = [
        {"scope": scope, "chance": values.mean(), **_test(observed[scope], values, tail_fit, smallest)}
        for scope, values in chance.items()
    ]
    mean, permuted = float(observed[ALL_CLASSES].mean()), chance[ALL_CLASSES]
    if exceedances and stopped_at(mean, permuted, exceedances) is not None:
        rows[0] |= {"p": sequential_p(mean, permuted, exceedances, len(permuted)), "p_by": SEQUENTIAL}
    return pd.DataFrame(rows)


def subject_tests(
    real: Counts, null: Counts, people: Sequence[str], tail_fit: str = "none", smallest: float = 0.0
) -> pd.DataFrame:
    """Compare every person's mean accuracy with the person's own null runs.

    Parameters
    ----------
    real, null
        Confusion counts, shape (n_runs, n_people, n_classes, n_classes).
    people
        Labels of the people.
    tail_fit, smallest
        See :func:`accuracy_tests`.
    """
    observed, chance = accuracy(real), accuracy(null)
    rows = []
    for number, name in enumerate(people):
        low, high = np.quantile(chance[:, number], BAND)
        tested = _test(observed[:, number], chance[:, number], tail_fit, smallest)
        band = {"null_low": low, "null_high": high}
        rows.append({"subject": name, "chance": chance[:, number].mean(), **tested, **band})
    return pd.DataFrame(rows)


def of_one_class(confusions: Counts) -> bool:
    """Return whether every person's samples are of one class, for counts (n_runs, n_people, C, C).

    Labels are then exchanged between people, and permuting says nothing of any one of them.
    """
    return bool(((confusions.sum(axis=(0, 3)) > 0).sum(axis=1) == 1).all())


def misclassified_table(real: Counts, classes: Sequence[str], people: Sequence[str]) -> pd.DataFrame:
    """Return of every person the share of the held-out decisions that were wrong.

    Parameters
    ----------
    real
        Confusion counts, shape (n_runs, n_people, n_classes, n_classes), of people of one class each
        (:func:`of_one_class`).
    classes, people
        Names of the classes and labels of the people.

    Returns
    -------
    DataFrame
        One row per person, in their order: ``subject``, ``true``, ``predicted`` (the class that was given
        most often, the first of equal ones), ``n_decisions`` (samples times repetitions) and
        ``misclassified`` (share of the decisions that were wrong).
    """
    counts = real.sum(axis=0)
    of_class = counts.sum(axis=2).argmax(axis=1)
    decided = counts[np.arange(len(people)), of_class]
    n_decisions = decided.sum(axis=1)
    right = decided[np.arange(len(people)), of_class]
    return pd.DataFrame({
        "subject": list(people),
        "true": [classes[code] for code in of_class],
        "predicted": [classes[code] for code in decided.argmax(axis=1)],
        "n_decisions": n_decisions,
        "misclassified": 1 - right / n_decisions,
    })  # fmt: skip


def prevalence_table(
    real: Counts, null: Counts, classes: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """Infer from the people to their population, for all samples and per class.

    The group mean is that of the people's mean accuracies over the real runs
    (:func:`bids_xai.inference.group_bootstrap.group_mean_p`); the minimum is that of the first real run alone
    (:func:`bids_xai.inference.prevalence.infer_prevalence`), which varies as much as a null run does.
    P-values of classes are corrected over the classes. A class that a person has no samples of is left out.

    Parameters
    ----------
    real, null
        Confusion counts, shape (n_runs, n_people, n_classes, n_classes), of people who are classified
        independently of each other (:func:`why_no_prevalence`).
    classes
        Names of the classes.
    rng
        Source of the groups that are drawn.
    """
    per_class = class_accuracy(real), class_accuracy(null)
    known = np.flatnonzero(np.all([np.isfinite(values).all(axis=(0, 1)) for values in per_class], axis=0))
    parts = [_prevalence([ALL_CLASSES], accuracy(real)[..., None], accuracy(null)[..., None], rng)]
    if len(known):
        names = [classes[number] for number in known]
        parts.append(_prevalence(names, per_class[0][..., known], per_class[1][..., known], rng))
    return pd.concat(parts, ignore_index=True)


def why_no_prevalence(
    n_people: int, scheme: str, *, within_people: bool, unbalances_folds: bool = False
) -> str:
    """Return why the people say nothing of their population, empty if they do.

    Parameters
    ----------
    n_people
        Number of people.
    scheme
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`).
    within_people
        Whether every fold trains and tests on one and the same person
        (:attr:`bids_xai.decoding.design.Design.within_people`).
    unbalances_folds
        Whether permuted labels are in less equal shares in the folds than the true ones
        (:func:`bids_xai.inference.design_checks.unbalances_folds`): the smallest accuracy of many people is
        then larger than by chance, though each may be so by little.
    """
    if n_people < 2:
        return "there is one person"
    if not within_people:
        return "the classifier of one person is trained on others, so that accuracies are not independent"
    if scheme not in WITHIN_PEOPLE:
        return "labels are exchanged between people, so that permuted accuracies are not independent"
    if unbalances_folds:
        return (
            "labels are exchanged between folds whose classes are balanced, so that permuted accuracies lie "
            "below chance"
        )
    return ""


def confusion_table(real: Counts, null: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Return the mean confusion matrices, rows divided by their sums, for counts (n_runs, C, C)."""
    rows = []
    for kind, confusions in (("real", real), ("null", null)):
        rates = (confusions / confusions.sum(axis=2, keepdims=True)).mean(axis=0)
        rows += [
            {"kind": kind, "true": true, "predicted": predicted, "rate": rates[i, j]}
            for i, true in enumerate(classes)
            for j, predicted in enumerate(classes)
        ]
    return pd.DataFrame(rows)


def accuracy_table(real: Counts, null: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Return the accuracies of every run by scope, for counts (n_runs, C, C)."""
    parts = [
        pd.DataFrame({"kind": kind, "run": np.arange(len(values)), "scope": scope, "accuracy": values})
        for kind, confusions in (("real", real), ("null", null))
        for scope, values in accuracies(confusions, classes).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _test(observed: Floats, null: Floats, tail_fit: str, smallest: float) -> dict[str, Any]:
    p, how = p_value(observed.mean(), null), COUNTED
    if tail_fit == FITTED and p <= COUNTED_FROM / (len(null) + 1):
        fitted, _ = tail_p(observed.mean()[None, None], -np.sort(-null)[:, None], len(null), smallest)
        if np.isfinite(fitted[0, 0]):
            p, how = float(fitted[0, 0]), FITTED
    return {
        "mean": observed.mean(),
        "sd": _sd(observed),
        "null_mean": null.mean(),
        "null_sd": _sd(null),
        "null_max": null.max(),
        "p": p,
        "p_by": how,
        "n_permutations": len(null),
    }


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _prevalence(names: list[str], real: Floats, null: Floats, rng: np.random.Generator) -> pd.DataFrame:
    """Return the rows of scopes, whose values have shape (n_runs, n_people, n_scopes)."""
    of_people = real.mean(axis=0)
    p_mean, highest = group_mean_p(of_people, null, rng)
    found = infer_prevalence(real[0], null, rng)
    return pd.DataFrame(
        {
            "scope": names,
            "n_subjects": real.shape[1],
            "mean": of_people.mean(axis=0),
            "null_mean": null.mean(axis=(0, 1)),
            "null_95": highest,
            "p_mean": p_mean,
            **vars(found),
            "n_permutations": len(null),
            "n_draws": N_DRAWS,
        }
    )
