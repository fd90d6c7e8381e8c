"""What heatmaps of people hold in regions: sum, density, gain, rankings, overlaps, fingerprints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.atlases.sources import Atlas
from bids_xai.errors import InputError

Floats = npt.NDArray[np.float64]

METRICS = ("sum", "density", "gain")
TOP = (25, 10)
TABLE_COLUMNS = ("region", "n_voxels", "sum", "density", "gain", "sum_controls", "density_controls")
TOP_COLUMNS = ("metric", "rank", "region", "value")
OVERLAP_COLUMNS = ("metric", "k", "first", "second", "overlap")
_SIDE = re.compile(
    r"^(?:(?i:left|right)|[LR])[ _-]+|[ _-]+(?:(?i:left|right)|[LR])$|[ _]*\((?i:left|right|l|r)\)$"
    r"|(?<![A-Za-z])[lr]h[-_]"
)
_TILE_VALUES = 1 << 22
_HIGH_SCORE = 0.9


@dataclass(frozen=True)
class Regions:
    """Regions of an atlas, perhaps merged, that have voxels on a grid.

    Parameters
    ----------
    names
        Of the regions, each once.
    codes
        Number of the region of every voxel of the mask, -1 outside all, shape (n_voxels,).
    sizes
        Number of voxels of every region, shape (n_regions,).
    """

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


def regions_of(
    labels: npt.NDArray[np.int32],
    atlas: Atlas,
    *,
    merge_sides: bool = False,
    merge: Mapping[str, str] | None = None,
) -> Regions:
    """Return the regions that have voxels, left and right or substructures merged if asked for.

    Both are merged in Eitel et al. (2019), doi:10.1016/j.nicl.2019.102003; the sides in Eitel and Ritter
    (2019). Regions of one name after merging are one.

    Parameters
    ----------
    labels
        Label of every voxel of the mask, shape (n_voxels,)
        (:func:`bids_xai.atlases.regions.labels_on_grid`).
    atlas
        Its table names the labels.
    merge_sides
        Leave the side out of names (:func:`without_side`).
    merge
        Name of a merged region by the regular expression that the names of its parts match from their start
        (after the sides are merged), such as ``{".*Corpus_callosum": "Corpus callosum"}``; the first that
        matches counts.

    Raises
    ------
    InputError
        No label of the atlas has a voxel, or an expression is none or matches no name of the atlas.
    """
    merged = _merged_names(atlas.table["name"].tolist(), merge_sides=merge_sides, merge=merge or {})
    known = dict(zip(atlas.table["index"].tolist(), merged, strict=True))
    present, inverse = np.unique(labels, return_inverse=True)
    named = [known.get(int(label)) for label in present]
    found = set(named)
    names = tuple(dict.fromkeys(name for name in merged if name in found))
    if not names:
        raise InputError(
            f"No voxel of the mask lies in a region of the atlas {atlas.name}.",
            "an atlas and maps of one space",
            "name another --atlas, or check the space of the data",
        )
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.array([-1 if name is None else numbers[name] for name in named], dtype=np.int64)[inverse]
    return Regions(names, codes, np.bincount(codes[codes >= 0], minlength=len(names)).astype(np.int64))


def without_side(name: str) -> str:
    """Return the name of a region without its side.

    ``Left_``, ``L-``, ``_R``, `` right``, ``(L)``, and ``lh-`` as in ``ctx-lh-insula`` are taken for sides.
    """
    return _SIDE.sub("", name) or name


def region_sums(maps: npt.NDArray[np.float32], regions: Regions, *, absolute: bool = False) -> Floats:
    """Return the sum of every map in every region, shape (n_maps, n_regions).

    Parameters
    ----------
    maps
        Heatmaps on the voxels of the mask, shape (n_maps, n_voxels); may be memory-mapped.
    regions
        See :func:`regions_of`.
    absolute
        Sum absolute values, as Eitel and Ritter (2019) do.

    Raises
    ------
    InputError
        Maps and regions are of different masks, or a value is not finite.
    """
    if maps.ndim != 2 or maps.shape[1] != len(regions.codes):
        raise InputError(
            f"Heatmaps of shape {maps.shape} and {len(regions.codes)} labels.", "(maps, voxels of the mask)"
        )
    inside = np.flatnonzero(regions.codes >= 0)
    order = inside[np.argsort(regions.codes[inside], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(regions.sizes)[:-1]])
    out = np.empty((len(maps), len(regions.names)))
    step = max(_TILE_VALUES // max(len(order), 1), 1)
    for first in range(0, len(maps), step):
        values = np.asarray(maps[first : first + step], dtype=np.float64)[:, order]
        out[first : first + step] = np.add.reduceat(np.abs(values) if absolute else values, starts, axis=1)
    if not np.isfinite(out).all():
        raise InputError("A heatmap holds values that are not finite.", "finite values")
    return out


def densities(sums: Floats, regions: Regions) -> Floats:
    """Return sum / number of voxels of every region, shape (n_maps, n_regions): the regional mean."""
    return np.asarray(sums / regions.sizes)


def heatmap_table(sums: Floats, regions: Regions, patients: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Return the three metrics of Boehle et al. (2019), section 2.5, of every region.

    Sum: mean over patients of the region's sum. Density: sum / number of voxels. Gain: mean sum over
    patients / mean sum over controls, NaN where the controls' is 0. The gain of sums of both signs means
    little; it was published for heatmaps without negative values.

    Parameters
    ----------
    sums
        Of every person's heatmap, shape (n_people, n_regions) (:func:`region_sums`).
    regions
        See :func:`regions_of`.
    patients
        Who is a patient (or a true positive); all others are controls (or true negatives). Shape (n_people,).

    Returns
    -------
    DataFrame
        One row per region in the atlas's order, columns :data:`TABLE_COLUMNS`; those of controls, and the
        gain, are NaN where there are none.

    Raises
    ------
    InputError
        There is no patient.
    """
    patients = np.asarray(patients, dtype=bool)
    if sums.shape != (len(patients), len(regions.names)) or not patients.any():
        raise InputError(
            f"Sums of shape {sums.shape}, {int(patients.sum())} patients among {len(patients)} people.",
            "(people, regions) with one or more patients",
        )
    ill = sums[patients].mean(axis=0)
    well = sums[~patients].mean(axis=0) if not patients.all() else np.full(len(ill), np.nan)
    gain = np.divide(ill, well, out=np.full(len(ill), np.nan), where=well != 0)
    columns = (regions.names, regions.sizes, ill, ill / regions.sizes, gain, well, well / regions.sizes)
    return pd.DataFrame(dict(zip(TABLE_COLUMNS, columns, strict=True)))


def top_regions(table: pd.DataFrame, k: int = TOP[0], metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Return the k regions of the largest value by every metric, largest first (Boehle 2019, figures 4-6).

    Parameters
    ----------
    table
        See :func:`heatmap_table`.
    k
        Number of regions; all where there are fewer. Regions whose value is NaN are left out, and of equal
        ones the first in the table comes first.
    metrics
        Of :data:`METRICS`.

    Returns
    -------
    DataFrame
        Columns :data:`TOP_COLUMNS`, rank from 1.
    """
    if k < 1:
        raise InputError(f"The {k} regions of the largest value.", "1 or more")
    parts = []
    for metric in metrics:
        found = table.dropna(subset=[metric]).sort_values(metric, ascending=False, kind="stable").head(k)
        ranks = np.arange(1, len(found) + 1)
        part = {"metric": metric, "rank": ranks, "region": found["region"], "value": found[metric]}
        parts.append(pd.DataFrame(part, columns=list(TOP_COLUMNS)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(TOP_COLUMNS))


def top_overlaps(
    tables: Mapping[str, pd.DataFrame], k: int = TOP[1], metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return how many of the k largest regions two heatmaps share, in percent, for all pairs.

    ``100 |A & B| / k``, the order within the k ignored: between trainings in Eitel and Ritter (2019), between
    values of beta in Boehle et al. (2019), figure 7.

    Parameters
    ----------
    tables
        Table of every training (or method, or parameter) by its name (:func:`heatmap_table`).
    k
        Number of regions; where either has fewer with a value, that number takes its place.
    metrics
        Of :data:`METRICS`.

    Returns
    -------
    DataFrame
        One row per metric and pair, columns :data:`OVERLAP_COLUMNS`; NaN where no region has a value.
        ``groupby("metric")["overlap"].mean()`` is what table 2 of Eitel and Ritter prints.

    Raises
    ------
    InputError
        There are fewer than two tables.
    """
    if len(tables) < 2:
        raise InputError(f"{len(tables)} table of regions to compare.", "two or more")
    rows = []
    for metric in metrics:
        tops = {name: top_regions(table, k, [metric])["region"].tolist() for name, table in tables.items()}
        for first, second in combinations(tops, 2):
            size = min(k, len(tops[first]), len(tops[second]))
            shared = set(tops[first][:size]) & set(tops[second][:size])
            overlap = 100 * len(shared) / size if size else np.nan
            rows.append((metric, k, first, second, overlap))
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def fingerprint_distances(fingerprints: Floats) -> Floats:
    """Return the cosine distances ``1 - a.b / (|a| |b|)`` between all pairs of rows, shape (n, n).

    NaN for a row of zeros, which has no direction.

    Parameters
    ----------
    fingerprints
        Densities of the regions of every person, shape (n_people, n_regions).
    """
    length = np.linalg.norm(fingerprints, axis=1)
    unit = fingerprints / np.where(length > 0, length, np.nan)[:, None]
    distances = 1.0 - np.clip(unit @ unit.T, -1.0, 1.0)
    distances[np.diag_indices_from(distances)] = np.where(length > 0, 0.0, np.nan)
    return np.asarray(distances)


def most_different(
    fingerprints: Floats, scores: Floats, *, above: float = _HIGH_SCORE, k: int | None = TOP[0]
) -> tuple[int, int, float] | None:
    """Return the two people of the largest cosine distance among those with high scores, and the distance.

    Boehle et al. (2019), section 3.3: of patients classified with a score above .9, in the space of the
    densities of the 25 regions of the largest mean density.

    Parameters
    ----------
    fingerprints
        Densities of the regions of every patient, shape (n_people, n_regions).
    scores
        Probability of the class, shape (n_people,).
    above
        Score that a person must exceed.
    k
        Number of regions, of the largest mean density over all rows; None: all.

    Returns
    -------
    tuple or None
        Rows of the two, the first pair of equal ones, and their distance; None where fewer than two people
        have such scores.
    """
    if k is not None:
        strongest = np.argsort(-fingerprints.mean(axis=0), kind="stable")[:k]
        fingerprints = fingerprints[:, strongest]
    people = np.flatnonzero(np.asarray(scores) > above)
    distances = fingerprint_distances(fingerprints[people])
    distances[np.tril_indices_from(distances)] = np.nan
    if np.isnan(distances).all():
        return None
    first, second = np.unravel_index(np.nanargmax(distances), distances.shape)
    return int(people[first]), int(people[second]), float(distances[first, second])


def _merged_names(names: Sequence[str], *, merge_sides: bool, merge: Mapping[str, str]) -> list[str]:
    merged = [without_side(name) for name in names] if merge_sides else list(names)
    out = merged.copy()
    for pattern, new in reversed(list(merge.items())):  # the first that matches has the last word
        try:
            found = [re.match(pattern, name) is not None for name in merged]
        except re.error as error:
            raise InputError(f"{pattern!r} is no regular expression: {error}.") from error
        if not any(found):
            raise InputError(f"{pattern!r} matches no region.", f"names such as {', '.join(merged[:5])}")
        out = [new if hit else name for hit, name in zip(found, out, strict=True)]
    return out
