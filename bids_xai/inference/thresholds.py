"""Thresholds from null distributions: per voxel, family-wise, and by false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Comparisons in memory at once.
_TILE_VALUES = 1 << 22


def rank(alpha: float, n_permutations: int) -> int:
    """Return k such that exceeding the k-th largest of m null values means ``p <= alpha``.

    ``p = (b + 1) / (m + 1) <= alpha`` holds when fewer than ``k = floor(alpha (m + 1))`` null values reach
    the observed one. 0: no p-value that small can be had from m permutations.
    """
    return int(np.floor(alpha * (n_permutations + 1) + 1e-9))


def voxel_thresholds(
    top: npt.NDArray[np.float32], n_permutations: int, alphas: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Return what an importance must exceed, per level and voxel.

    Parameters
    ----------
    top
        Largest null values, largest first, shape (k, ...).
    n_permutations
        Number of null runs.
    alphas
        Significance levels.

    Returns
    -------
    array, float32, shape (n_alphas, ...)
        Infinite where a level cannot be reached.
    """
    out = np.full((len(alphas), *top.shape[1:]), np.inf, dtype=np.float32)
    for number, alpha in enumerate(alphas):
        k = rank(alpha, n_permutations)
        if k:
            out[number] = top[k - 1]
    return out


def family_thresholds(maxima: npt.NDArray[np.float32], alphas: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return what an importance must exceed to be significant family-wise over the voxels.

    The max-statistic of Westfall and Young (1993) and Nichols and Holmes (2002).

    Parameters
    ----------
    maxima
        Maximum over the voxels of every null run, shape (n_permutations, ...).
    alphas
        Significance levels.

    Returns
    -------
    array, float32, shape (n_alphas, ...)
    """
    ordered = -np.sort(-np.asarray(maxima), axis=0)
    return voxel_thresholds(ordered.astype(np.float32), len(maxima), alphas)


def p_map(
    observed: npt.NDArray[np.float32], top: npt.NDArray[np.float32], n_permutations: int
) -> npt.NDArray[np.float32]:
    """Return ``p = (b + 1) / (m + 1)`` per voxel where the top values decide it, else 1.

    Parameters
    ----------
    observed
        Shape (...).
    top
        Largest null values, largest first, shape (k, ...). b is known while it is below k; a voxel that all k
        reach has p > k / (m + 1), and gets the upper bound 1 (all null values when k = m).
    n_permutations
        Number of null runs, m.
    """
    flat, of_null = observed.reshape(-1), top.reshape(len(top), observed.size)
    p = np.empty(flat.shape, dtype=np.float32)
    # The values of a voxel lie side by side, perhaps in a file: all are read once, tile by tile.
    size = max(_TILE_VALUES // max(len(top), 1), 1)
    for start in range(0, len(flat), size):
        tile = slice(start, start + size)
        reached = (of_null[:, tile] >= flat[tile]).sum(axis=0)
        p[tile] = np.where(reached < len(top), (reached + 1) / (n_permutations + 1), 1.0)
    return p.reshape(observed.shape)


def family_p_map(
    observed: npt.NDArray[np.float32], maxima: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``p = (b + 1) / (m + 1)``, b of m null maxima over the voxels being at least the observed value.

    Family-wise p-values over the voxels (Westfall and Young 1993; Nichols and Holmes 2002).

    Parameters
    ----------
    observed
        Shape (..., n_voxels).
    maxima
        Maximum over the voxels of every null run, shape (n_permutations, ...).
    """
    ordered = np.sort(np.asarray(maxima), axis=0).reshape(len(maxima), -1)
    flat = observed.reshape(-1, observed.shape[-1])
    below = np.stack([np.searchsorted(own, row) for own, row in zip(ordered.T, flat, strict=True)])
    p = (len(maxima) - below + 1) / (len(maxima) + 1)
    return p.reshape(observed.shape).astype(np.float32)


def adjusted_p(p: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return Benjamini and Hochberg's (1995) adjusted p-values, q, along the last axis, in float64.

    ``q_(i) = min_{j >= i} min(1, n p_(j) / j)``: the smallest rate of false discoveries at which a value is
    rejected. P-values that are upper bounds, as those of :func:`p_map`, make q an upper bound.
    """
    n = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    raised = np.take_along_axis(p.astype(np.float64), order, -1) * n / np.arange(1, n + 1)
    least = np.minimum(np.minimum.accumulate(raised[..., ::-1], axis=-1)[..., ::-1], 1.0)
    q = np.empty(p.shape)
    np.put_along_axis(q, order, least, -1)
    return q


def discovered(q: npt.NDArray[np.floating[Any]], alpha: float) -> npt.NDArray[np.bool_]:
    """Return which q-values are at most alpha; one of exactly alpha may lie above by rounding to float32."""
    return np.asarray(q <= alpha * (1 + 1e-6))


def false_discovery(p: npt.NDArray[np.floating[Any]], alpha: float) -> npt.NDArray[np.bool_]:
    """Return which of the p-values along the last axis Benjamini and Hochberg (1995) reject at level alpha.

    P-values that are upper bounds, as those of :func:`p_map`, only make it stricter.
    """
    return discovered(adjusted_p(p), alpha)
