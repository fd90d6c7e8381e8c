"""Statistics between trainings of networks: permutation by retraining, variants, stability, biomarkers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bids_xai.errors import InputError
from bids_xai.inference.permutation import p_value, reaches

Floats = npt.NDArray[np.float64]

GREATER, TWO_SIDED = "greater", "two-sided"
SCORE_COLUMNS = ("metric", "observed", "chance", "chance_sd", "n_permutations", "p", "smallest_p")
VARIANT_COLUMNS = (
    "metric", "first", "second", "n", "median_difference", "statistic", "p", "smallest_p", "p_holm",
)  # fmt: skip
DISTANCE_COLUMNS = ("first", "second", "distance")
BIOMARKER_COLUMNS = ("region", "n", "r", "p", "p_family", "n_permutations", "smallest_p")
_FEWEST_PEOPLE = 4


def score_tests(
    observed: Mapping[str, float], null: Mapping[str, npt.ArrayLike], *, smallest: float = 0.0
) -> pd.DataFrame:
    """Compare the scores of a network with those of networks trained on permuted labels.

    ``p = (b + 1) / (m + 1)``, b of m retrained networks scoring at least as high (Phipson & Smyth 2010).

    Parameters
    ----------
    observed
        Score by the name of its metric; higher is better. A mean over trainings varies at most as single
        retrained networks do, so that its p errs on the safe side.
    null
        Scores of the retrained networks, shape (m,), by metric; m may differ between metrics.
    smallest
        Smallest p that the design allows (:func:`bids_xai.inference.permutation.design_p`).

    Returns
    -------
    DataFrame
        One row per metric, columns :data:`SCORE_COLUMNS`: mean and SD of the retrained networks' scores, and
        ``smallest_p = max(1 / (m + 1), smallest)``.

    Raises
    ------
    InputError
        A metric has no null scores, or a score is not finite.
    """
    rows = []
    for metric, value in observed.items():
        scores = np.asarray(null.get(metric, ()), dtype=np.float64)
        if not len(scores) or not np.isfinite(scores).all() or not np.isfinite(value):
            raise InputError(
                f"Metric {metric}: {value} against {len(scores)} null scores, "
                f"{np.count_nonzero(~np.isfinite(scores))} of them not finite.",
                "finite scores of one or more networks trained on permuted labels",
                "train some (--n-permutations), or leave this metric out",
            )
        sd = float(scores.std(ddof=1)) if len(scores) > 1 else np.nan
        least = max(1 / (len(scores) + 1), smallest)
        p = max(p_value(value, scores), least)
        rows.append((metric, value, float(scores.mean()), sd, len(scores), p, least))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


@dataclass(frozen=True)
class MapTest:
    """p-values of a mean heatmap against those of retrained networks.

    Parameters
    ----------
    p
        Of every voxel, ``(b + 1) / (m + 1)``, shape as the map.
    p_family
        Family-wise over the voxels, by the maximum of every null map, shape as the map.
    maxima
        Largest value of every null map, shape (m,) or (m, ...) if the map has leading axes.
    n_permutations
        m.
    smallest_p
        1 / (m + 1): with few permutations a p of this size says no more than that none reached the value.
    """

    p: npt.NDArray[np.float32]
    p_family: npt.NDArray[np.float32]
    maxima: npt.NDArray[np.float32]
    n_permutations: int
    smallest_p: float


def map_test(
    observed: npt.NDArray[np.float32],
    null: Iterable[npt.NDArray[np.float32]],
    *,
    tail: str = GREATER,
) -> MapTest:
    """Compare a mean heatmap with those of networks trained on permuted labels, voxel by voxel.

    Per voxel ``p = (b + 1) / (m + 1)``; family-wise with the maximum of every null map over the last axis in
    place of the voxel (Westfall & Young 1993; Nichols & Holmes 2002). One null map is held at a time.

    Parameters
    ----------
    observed
        Shape (..., n_voxels): maps of several classes are separate families.
    null
        Maps of that shape: an iterator of them, or an array (m, ..., n_voxels).
    tail
        ``"greater"``, or ``"two-sided"`` to compare absolute values.

    Raises
    ------
    InputError
        There is no null map, or one has another shape or values that are not finite.
    """
    if tail not in (GREATER, TWO_SIDED):
        raise InputError(f"A tail named {tail}.", f"one of {GREATER}, {TWO_SIDED}")
    compared = np.abs(observed) if tail == TWO_SIDED else observed
    _check_map(compared, compared.shape, "The heatmap")
    reached = np.zeros(compared.shape, dtype=np.int64)
    family = np.zeros(compared.shape, dtype=np.int64)
    maxima = []
    for number, values in enumerate(null, 1):
        _check_map(values, compared.shape, f"Null heatmap {number}")
        sided = np.abs(values) if tail == TWO_SIDED else values
        largest = sided.max(axis=-1)
        reached += sided >= compared
        family += largest[..., None] >= compared
        maxima.append(largest)
    m = len(maxima)
    if not m:
        raise InputError("No heatmap of permuted labels.", "one or more", "ask for --n-permutations")
    return MapTest(
        p=((reached + 1) / (m + 1)).astype(np.float32),
        p_family=((family + 1) / (m + 1)).astype(np.float32),
        maxima=np.asarray(maxima, dtype=np.float32),
        n_permutations=m,
        smallest_p=1 / (m + 1),
    )


def variant_tests(scores: Mapping[str, npt.ArrayLike], metric: str = "balanced_accuracy") -> pd.DataFrame:
    """Compare variants trained on the same splits by Wilcoxon's signed-rank test, all pairs, two-sided.

    Klingenberg et al. (2021), who compare registrations so, with SciPy's test: exact
    for up to 50 pairs without ties and zeros, the normal approximation otherwise. Trainings on the same split
    are not independent of each other: hand over means over the trainings of a split to be strict.

    Parameters
    ----------
    scores
        Scores of every variant in the same order of splits (and trainings), shape (n,).
    metric
        Their name.

    Returns
    -------
    DataFrame
        One row per pair, columns :data:`VARIANT_COLUMNS`: median of first - second, the test's statistic, p,
        ``smallest_p = 2 / 2^n``, and p after Holm's (1979) correction over the pairs. p is 1 if no score
        differs.

    Raises
    ------
    InputError
        There are fewer than two variants, or their numbers of scores differ.
    """
    values = {name: np.asarray(own, dtype=np.float64) for name, own in scores.items()}
    counts = {len(own) for own in values.values()}
    if len(values) < 2 or len(counts) != 1 or not all(np.isfinite(own).all() for own in values.values()):
        raise InputError(
            f"Scores of {', '.join(f'{name} ({len(own)})' for name, own in values.items()) or 'no variant'}.",
            "two or more variants with as many finite scores each, from the same splits",
            "train all variants on the same splits and seeds",
        )
    n = counts.pop()
    rows = []
    for first, second in combinations(values, 2):
        difference = values[first] - values[second]
        statistic, p = 0.0, 1.0
        if difference.any():
            result = stats.wilcoxon(difference)
            statistic, p = float(result.statistic), float(result.pvalue)
        rows.append((metric, first, second, n, float(np.median(difference)), statistic, p, 2.0 ** (1 - n)))
    table = pd.DataFrame(rows, columns=list(VARIANT_COLUMNS[:-1]))
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def holm(p: Floats) -> Floats:
    """Return p-values corrected for their number by Holm's (1979) step-down method.

    ``max_{j <= i} min(1, (n - j + 1) p_(j))`` for the i-th smallest.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.minimum((len(p) - np.arange(len(p))) * p[order], 1.0)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(stepped)
    return corrected


def map_distances(maps: npt.NDArray[np.float32], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the L2 distance between the mean heatmaps of all pairs of trainings.

    ``|| h_i / max h_i - h_j / max h_j ||_2`` over the voxels: Eitel and Ritter (2019),
    doi:10.1007/978-3-030-33850-3_1.

    Parameters
    ----------
    maps
        Mean heatmap of every training, shape (n_trainings, ...).
    names
        Of the trainings; their numbers from 1 if None.

    Returns
    -------
    DataFrame
        One row per pair, columns :data:`DISTANCE_COLUMNS`.

    Raises
    ------
    InputError
        There are fewer than two maps, or one has no finite maximum above 0.
    """
    names = list(names) if names is not None else [str(number) for number in range(1, len(maps) + 1)]
    if len(maps) < 2 or len(names) != len(maps):
        raise InputError(f"{len(maps)} heatmaps and {len(names)} names.", "two or more, and as many names")
    largest = [float(np.max(own)) for own in maps]
    for name, top in zip(names, largest, strict=True):
        if not (np.isfinite(top) and top > 0):
            raise InputError(
                f"The largest value of heatmap {name} is {top}: it cannot be scaled by it.",
                "heatmaps with a finite maximum above 0",
                "use an explanation with positive values, or leave this training out",
            )
    rows = []
    for i, j in combinations(range(len(maps)), 2):
        first = np.asarray(maps[i], dtype=np.float64) / largest[i]
        difference = first - np.asarray(maps[j], dtype=np.float64) / largest[j]
        rows.append((names[i], names[j], float(np.linalg.norm(difference))))
    return pd.DataFrame(rows, columns=list(DISTANCE_COLUMNS))


def biomarker_tests(
    relevance: npt.ArrayLike,
    biomarker: npt.ArrayLike,
    regions: Sequence[str],
    rng: np.random.Generator,
    *,
    n_permutations: int = 10_000,
    tail: str = TWO_SIDED,
) -> pd.DataFrame:
    """Correlate the relevance of regions with a biomarker over people, with permutation p-values.

    Boehle et al. (2019), doi:10.3389/fnagi.2019.00194 (hippocampal relevance and volume). Pearson's r; the
    biomarker's values are permuted over people, ``p = (b + 1) / (m + 1)``, and family-wise over the regions
    by the maximum of the permuted r. People must be exchangeable: one row each.

    Parameters
    ----------
    relevance
        Of every person and region, shape (n_people, n_regions).
    biomarker
        Of every person, shape (n_people,); people without a value (NaN) are left out.
    regions
        Names of the regions.
    rng
        Source of the permutations.
    n_permutations
        m.
    tail
        ``"two-sided"`` compares absolute values, ``"greater"`` the values.

    Returns
    -------
    DataFrame
        One row per region, columns :data:`BIOMARKER_COLUMNS`; one that is constant has r, p, p_family NaN.

    Raises
    ------
    InputError
        Shapes disagree, fewer than 4 people have a value, or it is the same for all.
    """
    x, y = np.asarray(relevance, dtype=np.float64), np.asarray(biomarker, dtype=np.float64)
    if tail not in (GREATER, TWO_SIDED):
        raise InputError(f"A tail named {tail}.", f"one of {GREATER}, {TWO_SIDED}")
    if x.ndim != 2 or x.shape != (len(y), len(regions)):
        raise InputError(
            f"Relevance of shape {x.shape}, {len(y)} values and {len(regions)} regions.",
            "(people, regions), a value per person, a name per region",
        )
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(y) < _FEWEST_PEOPLE or np.ptp(y) == 0:
        raise InputError(
            f"A biomarker of {len(y)} people with {len(np.unique(y))} different values.",
            f"{_FEWEST_PEOPLE} or more people whose values differ",
            "choose another column of participants.tsv",
        )
    x, y = _unit_columns(x), _unit_columns(y[:, None])[:, 0]
    r = y @ x
    extreme = np.abs(r) if tail == TWO_SIDED else r
    reached, family = np.zeros(len(r), dtype=np.int64), np.zeros(len(r), dtype=np.int64)
    for _ in range(n_permutations):
        null = rng.permutation(y) @ x
        null = np.abs(null) if tail == TWO_SIDED else null
        reached += reaches(null, extreme)  # type: ignore[arg-type]
        family += np.nanmax(null, initial=-1.0) >= extreme - 1e-12
    undefined = np.isnan(r)
    p, p_family = ((count + 1) / (n_permutations + 1) for count in (reached, family))
    columns = (
        list(regions),
        len(y),
        r,
        np.where(undefined, np.nan, p),
        np.where(undefined, np.nan, p_family),
    )
    frame = dict(zip(BIOMARKER_COLUMNS, (*columns, n_permutations, 1 / (n_permutations + 1)), strict=True))
    return pd.DataFrame(frame)


def _unit_columns(x: Floats) -> Floats:
    """Return columns of mean 0 and length 1; NaN where constant."""
    centred = x - x.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    constant = length <= 1e-12 * np.abs(x).max(axis=0, initial=0.0) * np.sqrt(len(x))
    return np.asarray(centred / np.where(constant, np.nan, length))


def _check_map(values: npt.NDArray, shape: tuple[int, ...], what: str) -> None:
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(
            f"{what} has shape {values.shape}"
            + ("." if values.shape != shape else ", and values that are not finite."),
            f"finite values of shape {shape}",
        )
