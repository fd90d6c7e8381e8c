"""Univariate tests of every voxel, to set importance against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# Values of a tile in memory (float64: 64 MB), whatever the number of samples.
_TILE_VALUES = 1 << 23


def one_versus_rest_t(
    X: npt.NDArray[np.float32], y: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.float32]:
    """Return Student's t of every class against all others, two-sample with pooled variance.

    Gotsopoulos et al. (2018), section 2.6.

    Parameters
    ----------
    X
        Samples, shape (n_samples, n_voxels); may be memory-mapped.
    y
        Class codes, shape (n_samples,).
    n_classes
        Number of classes.

    Returns
    -------
    array, float32, shape (n_classes, n_voxels)
        With n_samples - 2 degrees of freedom; 0 for voxels that are constant, or constant within both groups.
    """
    out = np.zeros((n_classes, X.shape[1]), dtype=np.float32)
    for voxels in _tiles(X):
        tile = np.asarray(X[:, voxels], dtype=np.float64)
        for c in range(n_classes):
            own, rest = tile[y == c], tile[y != c]
            n, m = len(own), len(rest)
            within = ((own - own.mean(0)) ** 2).sum(0) + ((rest - rest.mean(0)) ** 2).sum(0)
            error = np.sqrt(within / (n + m - 2) * (1 / n + 1 / m))
            out[c, voxels] = _ratio(own.mean(0) - rest.mean(0), error)
    return out


def anova_f(X: npt.NDArray[np.float32], y: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.float32]:
    """Return the one-way analysis of variance's F of every voxel, shape (n_voxels,).

    Parameters as in :func:`one_versus_rest_t`; (n_classes - 1, n_samples - n_classes) degrees of freedom.
    """
    out = np.zeros(X.shape[1], dtype=np.float32)
    for voxels in _tiles(X):
        tile = np.asarray(X[:, voxels], dtype=np.float64)
        mean = tile.mean(0)
        between, within = np.zeros(tile.shape[1]), np.zeros(tile.shape[1])
        for c in range(n_classes):
            own = tile[y == c]
            between += len(own) * (own.mean(0) - mean) ** 2
            within += ((own - own.mean(0)) ** 2).sum(0)
        out[voxels] = _ratio(between / (n_classes - 1), within / (len(tile) - n_classes))
    return out


def _tiles(X: npt.NDArray[np.float32]) -> Iterator[slice]:
    size = max(_TILE_VALUES // len(X), 1)
    return (slice(start, start + size) for start in range(0, X.shape[1], size))


def _ratio(
    numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    # Equal float32 values add up exactly in float64: the variance of a constant voxel is exactly 0.
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
