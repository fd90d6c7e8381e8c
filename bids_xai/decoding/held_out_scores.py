"""Scores of held-out samples and their confidence intervals over people, from sums per person.

Accuracy, balanced accuracy (mean of the classes' sensitivities), and of every class against the others
sensitivity (share of its samples that are recognised), specificity (share of the others' that are not taken
for it) and the area under the ROC curve: by chance 1/2, whatever the sizes of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bids_xai.decoding.design import Design
from bids_xai.decoding.splits import Fold

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
ALL = "all"
CONFIDENCE = 0.95


def placements(
    labels: Counts, scores: Sequence[npt.NDArray], subjects: Counts, folds: Sequence[Fold]
) -> Floats:
    """Return what areas under ROC curves are means of, summed by person: shape (n_people, n_classes, 4).

    A sample of a class is placed by the share of the other classes' samples whose score is lower (equal ones
    count half), another by the share of the class's samples whose score is higher (DeLong et al. 1988): among
    the samples of its fold, which one classifier has scored. Where no fold holds a class and another, samples
    are placed among all of their repetition.

    Parameters
    ----------
    labels, subjects
        Class and person of every sample, shape (n_samples,).
    scores
        Of every fold the scores of the samples left out, shape (n_test, n_classes): higher is more like the
        class; logits are compared as their softmax.
    folds
        Samples left out, and their repetition.

    Returns
    -------
    array
        Of every class, sum of the placements of its samples, their number, and the same of the others.
    """
    n_classes = scores[0].shape[1]
    out = np.zeros((int(subjects.max()) + 1, n_classes, 4))
    parts = [(fold.repeat, fold.test, _softmax(own)) for fold, own in zip(folds, scores, strict=True)]
    for code in range(n_classes):
        found = [_place(labels[test] == code, own[:, code]) for _, test, own in parts]
        if all(places is None for places in found):
            merged = _merged(parts)
            tests = [test for test, _ in merged]
            found = [_place(labels[test] == code, own[:, code]) for test, own in merged]
        else:
            tests = [test for _, test, _ in parts]
        for test, places in zip(tests, found, strict=True):
            if places is None:
                continue
            positive = labels[test] == code
            for side, chosen in ((0, positive), (2, ~positive)):
                people = subjects[test][chosen]
                np.add.at(out[:, code, side], people, places[chosen])
                np.add.at(out[:, code, side + 1], people, 1)
    return out


def _merged(parts: Sequence[tuple[int, Counts, Floats]]) -> list[tuple[Counts, Floats]]:
    repeats = sorted({repeat for repeat, _, _ in parts})
    return [
        (
            np.concatenate([test for own, test, _ in parts if own == repeat]),
            np.concatenate([scores for own, _, scores in parts if own == repeat]),
        )
        for repeat in repeats
    ]


def _softmax(logits: npt.NDArray) -> Floats:
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True))


def _place(positive: npt.NDArray[np.bool_], scores: Floats) -> Floats | None:
    """Return the placements of samples; None where all are of one kind."""
    # scikit-learn's roc_auc_score gives their mean, in a hundred times the time.
    if positive.all() or not positive.any():
        return None
    places = np.empty(len(scores))
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    own, others = scores[positive], scores[~positive]
    below = np.searchsorted(low, own, "left") + np.searchsorted(low, own, "right")
    above = 2 * len(high) - np.searchsorted(high, others, "left") - np.searchsorted(high, others, "right")
    places[positive], places[~positive] = below / 2 / len(low), above / 2 / len(high)
    return places


def held_out_scores(confusions: npt.NDArray, placed: npt.NDArray, classes: Sequence[str]) -> pd.DataFrame:
    """Return the scores of runs: a row per metric and class, columns ``metric, class, values``.

    Parameters
    ----------
    confusions
        Counts, shape (n_runs, n_people, C, C): rows are true, columns predicted classes.
    placed
        Shape (n_runs, n_people or 1, C, 4), of :func:`placements`.
    classes
        Names of the classes.
    """
    counts, sums = confusions.sum(axis=1).astype(float), placed.sum(axis=1)
    right = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    of_class, taken = counts.sum(axis=2), counts.sum(axis=1)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = hits / of_class
        others = counts.sum(axis=(1, 2))[:, None] - of_class
        specificity = 1 - (taken - hits) / others
        area = sums[..., 0] / sums[..., 1]
    rows = [
        ("accuracy", ALL, right),
        ("balanced_accuracy", ALL, np.nanmean(sensitivity, axis=1)),
        ("auc", ALL, np.nanmean(area, axis=1)),
    ]
    for c, name in enumerate(classes):
        rows += [
            ("sensitivity", name, sensitivity[:, c]),
            ("specificity", name, specificity[:, c]),
            ("auc", name, area[:, c]),
        ]
    return pd.DataFrame(rows, columns=["metric", "class", "values"])


def tested_samples(design: Design) -> Counts:
    """Return how many different samples of every class are left out, shape (n_people, n_classes)."""
    tested = np.unique(np.concatenate([fold.test for fold in design.folds]))
    samples = np.zeros((len(design.people), len(design.classes)), dtype=np.int64)
    np.add.at(samples, (design.subjects[tested], design.labels[tested]), 1)
    return samples


def score_intervals(
    confusions: npt.NDArray, placed: npt.NDArray, samples: Counts, classes: Sequence[str]
) -> pd.DataFrame:
    """Return confidence intervals of the mean scores over people: columns ``metric, class, low, high``.

    Wilson's score interval with the effective number of samples (Korn & Graubard 1998), ``p (1 - p) / V``, V
    being the variance of the linearised score over people (of areas: Obuchowski 1997), at most the number of
    samples. With one sample per person it is Wilson's interval. It says how scores of these classifiers vary
    with the people they are tested on, not with those they are trained on.

    Parameters
    ----------
    confusions, placed, classes
        As in :func:`held_out_scores`; all people.
    samples
        Different samples of every class that were left out, shape (n_people, C).
    """
    n_classes = len(classes)
    counts, sums = confusions.mean(axis=0).astype(float), placed.mean(axis=0)
    of_class = counts.sum(axis=2)  # people x classes
    hits, taken = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=1)
    total = of_class.sum(axis=1)
    sizes, n = samples.sum(axis=0), int(samples.sum())
    n_people = int((samples.sum(axis=1) > 0).sum())
    rows = [("accuracy", ALL, *_interval([(hits.sum(axis=1), total)], samples.sum(axis=1), n))]
    present = [c for c in range(n_classes) if of_class[:, c].any()]
    recalls = [(hits[:, c], of_class[:, c]) for c in present]
    rows.append(("balanced_accuracy", ALL, *_interval(recalls, samples.sum(axis=1), n)))
    areas = [_influence_of_area(sums[:, c]) for c in range(n_classes)]
    if all(area is not None for area in areas):
        values, influences = zip(*(area for area in areas if area is not None), strict=True)
        smallest = int(min(sizes.min(), (n - sizes).min()))
        mean = float(np.mean(values)), np.mean(influences, axis=0)
        rows.append(("auc", ALL, *_wilson(*mean, n_people, smallest)))
    for c, name in enumerate(classes):
        others, of_others = total - of_class[:, c], samples.sum(axis=1) - samples[:, c]
        rejected = others - (taken[:, c] - hits[:, c])
        low, high = _interval([(hits[:, c], of_class[:, c])], samples[:, c], sizes[c])
        rows.append(("sensitivity", name, low, high))
        rows.append(("specificity", name, *_interval([(rejected, others)], of_others, n - sizes[c])))
        area = areas[c]
        if area is not None:
            rows.append(("auc", name, *_wilson(*area, n_people, int(min(sizes[c], n - sizes[c])))))
    return pd.DataFrame(rows, columns=["metric", "class", "low", "high"])


def _interval(ratios: Sequence[tuple[Floats, Floats]], samples: Counts, n: int) -> tuple[float, float]:
    """Return the interval of the mean of ratios of sums over people."""
    if not ratios or any(whole.sum() == 0 for _, whole in ratios):
        return float("nan"), float("nan")
    values = [part.sum() / whole.sum() for part, whole in ratios]
    influence = np.mean(
        [(part - value * whole) / whole.sum() for (part, whole), value in zip(ratios, values, strict=True)],
        axis=0,
    )
    return _wilson(float(np.mean(values)), influence, int((samples > 0).sum()), n)


def _influence_of_area(sums: Floats) -> tuple[float, Floats] | None:
    """Return the area under the ROC curve of a class and the influence of every person; None: no pairs."""
    totals = sums.sum(axis=0)
    if not totals[1] or not totals[3]:
        return None
    area, mirrored = totals[0] / totals[1], totals[2] / totals[3]
    own = (sums[:, 0] - area * sums[:, 1]) / totals[1]
    return float(area), own + (sums[:, 2] - mirrored * sums[:, 3]) / totals[3]


def _wilson(value: float, influence: Floats, n_people: int, n: int) -> tuple[float, float]:
    """Return the interval of a score whose people's influence sums to 0, and of n samples."""
    if n_people < 2 or n < 2:
        return float("nan"), float("nan")
    level = (1 + CONFIDENCE) / 2
    variance = float((influence**2).sum()) * n_people / (n_people - 1) * (n - 1) / n
    binomial = value * (1 - value)
    effective = binomial / variance if variance > binomial / n else float(n)
    if n > n_people:
        # Few people say little of the variance over people.
        effective *= (stats.t.ppf(level, n - 1) / stats.t.ppf(level, n_people - 1)) ** 2
    z = stats.norm.ppf(level)
    middle = (value + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(binomial / effective + z**2 / (4 * effective**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))
