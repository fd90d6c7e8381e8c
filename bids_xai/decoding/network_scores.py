"""Scores of class probabilities on held-out samples, per run and over runs, as tables in long form.

A run is one training on one split. For two classes the second is the positive one (patients).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.scores import accuracy, class_accuracy, confusion_counts
from bids_xai.errors import InputError

Labels = npt.NDArray[np.int64]
Predictions = Sequence[tuple[Labels, npt.NDArray]]
AVERAGE = ""
COLUMNS = ("run", "metric", "class", "value")


def confusion(labels: Labels, probabilities: npt.NDArray) -> npt.NDArray[np.int64]:
    """Return counts (n_classes, n_classes) of true (rows) and most probable (columns) classes."""
    n_classes = probabilities.shape[1]
    everybody = np.zeros(len(labels), dtype=np.int64)
    return confusion_counts(labels, probabilities.argmax(axis=1), n_classes, everybody, 1)[0]


def balanced_accuracy(counts: npt.NDArray[np.int64]) -> float:
    """Return the mean share of right samples over the classes that there are samples of."""
    return float(np.nanmean(class_accuracy(counts)))


def roc_auc(positive: npt.NDArray[np.bool_], scores: npt.NDArray) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2 (Mann and Whitney 1947).

    Parameters
    ----------
    positive
        Shape (n,): whether a sample is of the class.
    scores
        Shape (n,): higher is more like the class.

    Returns
    -------
    float
        The area under the ROC curve; nan where all samples are of one kind.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[inverse.reshape(-1)]
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def roc_curve(positive: npt.NDArray[np.bool_], scores: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Return false and true positive rates at every threshold, from (0, 0) to (1, 1).

    One point per value of the scores: samples of equal score are called positive together.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[last]
    alarms = np.cumsum(~positive[order])[last]
    return np.append(0.0, alarms / max(alarms[-1], 1)), np.append(0.0, hits / max(hits[-1], 1))


def score_metrics(labels: Labels, probabilities: npt.NDArray) -> dict[str, float]:
    """Return the metrics that a training can be stopped by: accuracy, balanced-accuracy and auc (mean)."""
    counts = confusion(labels, probabilities)
    areas = [roc_auc(labels == code, probabilities[:, code]) for code in range(probabilities.shape[1])]
    defined = [area for area in areas if not np.isnan(area)]
    return {
        "accuracy": float(accuracy(counts)),
        "balanced-accuracy": balanced_accuracy(counts),
        "auc": float(np.mean(defined)) if defined else float("nan"),
    }


def score_table(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Return the scores of every run: columns run, metric, class, value.

    Metrics: ``accuracy``; ``balanced-accuracy``, mean of the classes' recalls; for two classes
    ``sensitivity`` and ``specificity``, recalls of the second and of the first; for every class ``recall``
    and ``auc``, the area under the ROC curve of the class against the others. ``class`` is empty for metrics
    of all classes. A metric of a class without held-out samples is nan.

    Parameters
    ----------
    predictions
        For every run the labels, shape (n,), and the probabilities, shape (n, n_classes), of the samples held
        out in it.
    classes
        Names of the classes; a label is an index into them.

    Raises
    ------
    InputError
        The probabilities are not of these classes, or are not finite.
    """
    records: list[tuple[int, str, str, float]] = []
    for run, (labels, probabilities) in enumerate(predictions):
        _check(run, labels, probabilities, classes)
        counts = confusion(labels, probabilities)
        recalls = class_accuracy(counts)
        records.append((run, "accuracy", AVERAGE, float(accuracy(counts))))
        records.append((run, "balanced-accuracy", AVERAGE, balanced_accuracy(counts)))
        if len(classes) == 2:
            records.append((run, "sensitivity", AVERAGE, float(recalls[1])))
            records.append((run, "specificity", AVERAGE, float(recalls[0])))
        for code, name in enumerate(classes):
            records.append((run, "recall", name, float(recalls[code])))
            records.append((run, "auc", name, roc_auc(labels == code, probabilities[:, code])))
    return pd.DataFrame(records, columns=list(COLUMNS))


def confusion_table(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Return the counts of every run: columns run, true, predicted, count."""
    tables = []
    for run, (labels, probabilities) in enumerate(predictions):
        _check(run, labels, probabilities, classes)
        true, predicted = np.meshgrid(classes, classes, indexing="ij")
        cells = {"run": run, "true": true.ravel(), "predicted": predicted.ravel()}
        tables.append(pd.DataFrame({**cells, "count": confusion(labels, probabilities).ravel()}))
    return pd.concat(tables, ignore_index=True)


def roc_table(
    predictions: Predictions, classes: Sequence[str], grid: npt.NDArray | None = None
) -> pd.DataFrame:
    """Return the ROC curve of every class against the others, averaged over runs.

    Vertical averaging (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, algorithm 3): at every false positive
    rate of a common grid the mean of the runs' true positive rates, each interpolated linearly, and its
    standard error s / sqrt(n), s with n - 1.

    Parameters
    ----------
    predictions, classes
        As in :func:`score_table`; runs without samples on both sides of a class are left out of its curve.
    grid
        False positive rates, ascending; 0, .01, ..., 1 if None.

    Returns
    -------
    DataFrame
        Columns class, fpr, tpr, se, n_runs; the standard error of one run is nan.
    """
    grid = np.linspace(0, 1, 101) if grid is None else np.asarray(grid, dtype=float)
    tables = []
    for code, name in enumerate(classes):
        curves = []
        for run, (labels, probabilities) in enumerate(predictions):
            _check(run, labels, probabilities, classes)
            positive = labels == code
            if positive.any() and not positive.all():
                # Where a rate stands for several points, np.interp takes the last: the highest.
                curves.append(np.interp(grid, *roc_curve(positive, probabilities[:, code])))
        if not curves:
            continue
        mean, error = np.mean(curves, axis=0), np.full(len(grid), np.nan)
        if len(curves) > 1:
            error = np.std(curves, axis=0, ddof=1) / np.sqrt(len(curves))
        columns = {"class": name, "fpr": grid, "tpr": mean, "se": error, "n_runs": len(curves)}
        tables.append(pd.DataFrame(columns))
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=["class", "fpr", "tpr", "se", "n_runs"])
    )


def stopping_table(trainings: Iterable[Mapping[str, float]]) -> pd.DataFrame:
    """Return what trainings took until they stopped: columns run, metric, class, value.

    Iterations and seconds until early stopping are what Eitel et al. (2021) compare networks by.

    Parameters
    ----------
    trainings
        For every run ``iterations`` (updates), ``epochs``, ``best-epoch`` and ``seconds``
        (:attr:`bids_xai.decoding.networks.TrainedNetwork.effort`).
    """
    records = [
        (run, metric, AVERAGE, float(value))
        for run, effort in enumerate(trainings)
        for metric, value in effort.items()
    ]
    return pd.DataFrame(records, columns=list(COLUMNS))


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation (n - 1) and standard error of every metric and class over the runs.

    Parameters
    ----------
    table
        Of :func:`score_table` or :func:`stopping_table`; nan is left out.

    Returns
    -------
    DataFrame
        Columns metric, class, n_runs, mean, sd, se, in the order of the table.
    """
    statistics = {"n_runs": "count", "mean": "mean", "sd": "std", "se": "sem"}
    grouped = table.groupby(["metric", "class"], sort=False)["value"]
    return grouped.agg(list(statistics.values())).set_axis(list(statistics), axis=1).reset_index()


def _check(run: int, labels: Labels, probabilities: npt.NDArray, classes: Sequence[str]) -> None:
    if probabilities.shape != (len(labels), len(classes)) or not np.isfinite(probabilities).all():
        raise InputError(
            f"Run {run}: probabilities of shape {probabilities.shape} for {len(labels)} samples, "
            f"{int((~np.isfinite(probabilities)).sum())} of them not finite.",
            f"finite numbers of shape ({len(labels)}, {len(classes)}): {', '.join(classes)}",
            "check that the model has an output for every class",
        )
