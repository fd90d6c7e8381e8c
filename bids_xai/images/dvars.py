"""DVARS: how much a run changes from volume to volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEDIAN = 1000.0
_QUARTILES_PER_SD = 1.349
# Voxels in float64 at once.
_TILE = 8192


def dvars(series: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return DVARS (Power et al. 2012) and DVARS relative to what noise alone would give (Nichols 2013).

    The series is scaled to a median of 1000. Noise alone would give the mean over voxels of
    ``sd sqrt(2 (1 - r))``: ``sd`` from the quartiles, ``r`` the autocorrelation of lag 1. Voxels without
    variation are left out, and of that mean those whose quartiles are equal.

    Parameters
    ----------
    series
        (n_volumes, n_voxels), after motion correction.

    Returns
    -------
    plain, standardised : ndarray, (n_volumes,)
        The first value is NaN: nothing comes before it.
    """
    median = float(np.median(series))
    factor = _MEDIAN / median if median > 0 else 1.0
    squares, n_varying, expected = np.zeros(len(series) - 1), 0, []
    for start in range(0, series.shape[1], _TILE):
        scaled = series[:, start : start + _TILE].astype(np.float64) * factor
        varying = np.ptp(scaled, axis=0) > 0
        squares += np.square(np.diff(scaled[:, varying], axis=0)).sum(axis=1)
        n_varying += int(varying.sum())
        expected.append(_expected(scaled))
    plain = np.sqrt(squares / max(n_varying, 1))
    of_noise = np.concatenate(expected) if expected else np.empty(0)
    standardised = plain / (float(np.mean(of_noise)) if len(of_noise) else np.nan)
    first = [np.nan]
    return np.concatenate([first, plain]), np.concatenate([first, standardised])


def _expected(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return DVARS of noise with the spread and autocorrelation of every voxel that has a spread."""
    low, high = np.percentile(scaled, (25, 75), axis=0, method="lower")
    kept = high > low
    deviation = (high - low)[kept] / _QUARTILES_PER_SD
    centred = scaled[:, kept] - scaled[:, kept].mean(axis=0)
    lag = (centred[1:] * centred[:-1]).sum(axis=0) / np.square(centred).sum(axis=0)
    return np.asarray(np.sqrt(2 * (1 - lag)) * deviation)
