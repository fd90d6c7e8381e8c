"""From runs and their nulls to maps and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.inference.accuracy import (
    COUNTED,
    FITTED,
    accuracy_table,
    accuracy_tests,
    confusion_table,
    misclassified_table,
    of_one_class,
    prevalence_table,
    subject_tests,
)
from bids_xai.inference.null import sided
from bids_xai.inference.reproducibility import reproducibility_curve, reproducibility_threshold
from bids_xai.inference.tail import COUNTED_FROM, tail_family_p_map, tail_p_map
from bids_xai.inference.tail import exceedances as exceedances_of_tail
from bids_xai.inference.thresholds import (
    adjusted_p,
    discovered,
    family_p_map,
    family_thresholds,
    p_map,
    rank,
)

PREFERRED_ALPHA = 0.01
# A voxel that passes in more than half of the runs counts as found by a method (Gotsopoulos et al. 2018: 500
# of 1000), and an absolute t below 1 as no univariate difference.
FOUND_IN = 0.5
LOW_T = 1.0
_CURVE_LEVELS = 100


@dataclass(frozen=True)
class Runs:
    """Runs on the true labels, or the second set on permuted ones.

    Parameters
    ----------
    counts
        How often a voxel passed, shape (n_alphas, n_methods, n_classes, n_voxels).
    total
        Sum of the maps, shape (n_methods, n_classes, n_voxels).
    confusions
        Counts of every run and person, shape (n_runs, n_subjects, n_classes, n_classes).
    """

    counts: npt.NDArray[np.int32]
    total: npt.NDArray[np.float64]
    confusions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.confusions)

    @property
    def reproducibility(self) -> npt.NDArray[np.float32]:
        """Share of runs in which a voxel passed."""
        return (self.counts / len(self)).astype(np.float32)


@dataclass(frozen=True)
class Null:
    """Runs on permuted labels.

    Parameters
    ----------
    top
        Largest values, largest first, shape (k, n_methods, n_classes, n_voxels).
    thresholds
        Per level and voxel, shape (n_alphas, n_methods, n_classes, n_voxels).
    maxima
        Maximum over the voxels, shape (n_runs, n_methods, n_classes).
    confusions
        Counts of every run and person, shape (n_runs, n_subjects, n_classes, n_classes).
    """

    top: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float32]
    maxima: npt.NDArray[np.float32]
    confusions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.confusions)


@dataclass(frozen=True)
class Summary:
    """Maps by name, tables by name.

    Maps of a level have its position as suffix (``reproducibility-0``); shapes are (n_methods, n_classes,
    n_voxels), (n_classes, n_voxels) for ``t``, ``overlap`` and ``lowunivariate``, (n_voxels,) for ``F``.
    """

    maps: dict[str, npt.NDArray]
    tables: dict[str, pd.DataFrame]
    report_alpha: float
    q_from: str


def summarize(
    real: Runs,
    null: Null,
    second: Runs | None,
    univariate: Mapping[str, npt.NDArray[np.float32]],
    *,
    classes: Sequence[str],
    people: Sequence[str],
    methods: Sequence[str],
    alphas: Sequence[float],
    tail: str = "greater",
    tail_fit: str = "none",
    smallest: float = 0.0,
    exceedances: int = 0,
    population: np.random.Generator | None = None,
) -> Summary:
    """Threshold the importance maps and put everything into tables.

    Parameters
    ----------
    real, null, second
        The runs, their null, and the second null set (None if there was none).
    univariate
        ``t``, shape (n_classes, n_voxels), and ``F``, shape (n_voxels,).
    classes, people, methods, alphas
        Names and levels, in the order of the arrays.
    tail
        ``"greater"`` or ``"two-sided"``.
    tail_fit
        ``"none"``: all p-values are counted; ``"gpd"``: small ones come from the tail of their null
        (:mod:`bids_xai.inference.tail`). Thresholds are those of counting. False discovery rates are those of
        fitted tails without an end in both cases, if the null is large enough: counted p-values are never
        below 1 / (m + 1), which nothing passes unless n_voxels / (alpha (m + 1)) voxels do.
    smallest
        One over the number of distinct relabelings: no p-value lies below.
    exceedances
        What permuting stopped at (:func:`bids_xai.inference.accuracy.accuracy_tests`); 0: it did not.
    population
        Source of the groups that the inference to the population draws
        (:func:`bids_xai.inference.accuracy.prevalence_table`); None: there is no such inference.
    """
    mean = (real.total / len(real)).astype(np.float32)
    compared = sided(mean, tail)
    family = family_thresholds(null.maxima, alphas)
    reproducibility = real.reproducibility
    counted = {"p": p_map(compared, null.top, len(null)), "pfwer": family_p_map(compared, null.maxima)}
    p_maps = counted
    if tail_fit == FITTED:
        p_maps = {
            "p": tail_p_map(counted["p"], compared, null.top, len(null), smallest),
            "pfwer": tail_family_p_map(counted["pfwer"], compared, null.maxima, smallest),
        }
    # With tails that may end, noise has more discoveries than alpha allows.
    q = tail_p_map(counted["p"], compared, null.top, len(null), smallest, endless=True)
    for family_of_voxels in np.ndindex(q.shape[:-1]):
        q[family_of_voxels] = adjusted_p(q[family_of_voxels])
    maps = {"mean": mean, **p_maps, "q": q, **univariate}
    for number in range(len(alphas)):
        maps[f"reproducibility-{number}"] = reproducibility[number]
        maps[f"thresholded-{number}"] = np.where(compared > null.thresholds[number], mean, 0)
        maps[f"fwer-{number}"] = np.where(compared > family[number][..., None], mean, 0)
    shown = report_alpha(alphas, len(null))
    found = (reproducibility[list(alphas).index(shown)] > FOUND_IN).sum(axis=0).astype(np.float32)
    maps["overlap"] = found
    maps["lowunivariate"] = np.where(np.abs(univariate["t"]) < LOW_T, found, 0)
    axes = (list(methods), list(classes))
    of_all = real.confusions.sum(axis=1), null.confusions.sum(axis=1)
    tables = {
        "accuracy": accuracy_table(*of_all, classes),
        "accuracy_tests": accuracy_tests(*of_all, classes, tail_fit, smallest, exceedances),
        "confusion": confusion_table(*of_all, classes),
        "curves": _curves_table(real, second, *axes, alphas),
        "thresholds": _thresholds_table(maps, real, null, second, family, *axes, alphas),
    }
    if of_one_class(real.confusions):
        tables["misclassified"] = misclassified_table(real.confusions, classes, people)
    else:
        tables["subject_tests"] = subject_tests(real.confusions, null.confusions, people, tail_fit, smallest)
    if tail_fit == FITTED:
        tables["tails"] = _tails_table(counted, p_maps, len(null), *axes)
    if population is not None:
        tables["prevalence"] = prevalence_table(real.confusions, null.confusions, classes, population)
    q_from = FITTED if exceedances_of_tail(len(null), len(null.top)) else COUNTED
    return Summary(maps, tables, shown, q_from)


def report_alpha(alphas: Sequence[float], n_permutations: int) -> float:
    """Return the level that figures show: .01 if asked and reachable, else the smallest reachable one."""
    reachable = [alpha for alpha in alphas if rank(alpha, n_permutations)]
    if PREFERRED_ALPHA in reachable:
        return PREFERRED_ALPHA
    return min(reachable) if reachable else max(alphas)


def chance_voxels(second: Runs | None, null: Null, alphas: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return how many voxels pass their threshold by chance, shape (n_alphas, n_methods, n_classes).

    The mean over the second set of permuted runs; without one, what counting promises: the number of voxels
    times ``floor(alpha (m + 1)) / (m + 1)``. Runs on the true labels share these labels: without any
    information, the same voxels pass in most of them, about as many as in one permuted run.
    """
    if second is not None:
        return np.asarray(second.counts.sum(axis=-1) / len(second))
    promised = [rank(alpha, len(null)) / (len(null) + 1) for alpha in alphas]
    shape = (len(alphas), *null.thresholds.shape[1:-1])
    return np.multiply.outer(promised, np.full(shape[1:], float(null.thresholds.shape[-1]))).reshape(shape)


def _curves_table(
    real: Runs, second: Runs | None, methods: list[str], classes: list[str], alphas: Sequence[float]
) -> pd.DataFrame:
    parts = []
    for kind, runs in (("real", real), ("null", second)):
        if runs is None:
            continue
        curves = reproducibility_curve(runs.counts, len(runs))
        levels = np.unique(np.linspace(0, len(runs), min(len(runs), _CURVE_LEVELS) + 1).round().astype(int))
        for a, alpha in enumerate(alphas):
            for m, method in enumerate(methods):
                for c, name in enumerate(classes):
                    parts.append(
                        pd.DataFrame(
                            {
                                "kind": kind,
                                "method": method,
                                "class": name,
                                "alpha": alpha,
                                "reproducibility": levels / len(runs),
                                "n_voxels": curves[a, m, c, levels],
                            }
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def _thresholds_table(
    maps: Mapping[str, npt.NDArray],
    real: Runs,
    null: Null,
    second: Runs | None,
    family: npt.NDArray[np.float32],
    methods: list[str],
    classes: list[str],
    alphas: Sequence[float],
) -> pd.DataFrame:
    by_chance = None if second is None else reproducibility_threshold(second.counts, len(second))
    expected = chance_voxels(second, null, alphas)
    rows: list[dict[str, Any]] = []
    for a, alpha in enumerate(alphas):
        of_fdr = discovered(maps["q"], alpha).sum(axis=-1)
        for m, method in enumerate(methods):
            for c, name in enumerate(classes):
                limit = float("nan") if by_chance is None else float(by_chance[a, m, c])
                share = real.counts[a, m, c] / len(real)
                rows.append(
                    {
                        "method": method,
                        "class": name,
                        "alpha": alpha,
                        "threshold_median": float(np.median(null.thresholds[a, m, c])),
                        "fwer_threshold": float(family[a, m, c]),
                        "reproducibility_threshold": limit,
                        "n_voxels_chance": float(expected[a, m, c]),
                        "n_voxels_p": int(np.count_nonzero(maps[f"thresholded-{a}"][m, c])),
                        "n_voxels_fwer": int(np.count_nonzero(maps[f"fwer-{a}"][m, c])),
                        "n_voxels_fdr": int(of_fdr[m, c]),
                        "n_voxels_reproducible": int((share > limit).sum()) if second is not None else None,
                    }
                )
    return pd.DataFrame(rows)


def _tails_table(
    counted: Mapping[str, npt.NDArray[np.float32]],
    fitted: Mapping[str, npt.NDArray[np.float32]],
    n_permutations: int,
    methods: list[str],
    classes: list[str],
) -> pd.DataFrame:
    """Say how many p-values were too small to be counted, and how many of them a fitted tail gave."""
    rows = []
    for m, method in enumerate(methods):
        for c, name in enumerate(classes):
            row: dict[str, Any] = {"method": method, "class": name}
            for stat, values in counted.items():
                few = values[m, c] <= np.float32(COUNTED_FROM / (n_permutations + 1))
                row[f"n_voxels_{stat}_few"] = int(few.sum())
                row[f"n_voxels_{stat}_fitted"] = int((fitted[stat][m, c] != values[m, c]).sum())
            rows.append(row)
    return pd.DataFrame(rows)
