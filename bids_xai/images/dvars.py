"""DVARS: how much a run changes from volume to volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEDIAN = 1000.0
_QUARTILES_PER_SD = 1.349


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
    scaled = series.astype(np.float64) * (_MEDIAN / median if median > 0 else 1.0)
    steps = np.diff(scaled[:, np.ptp(scaled, axis=0) > 0], axis=0)
    plain = np.sqrt(np.square(steps).mean(axis=1)) if steps.size else np.zeros(len(series) - 1)
    standardised = plain / _expected(scaled)
    first = [np.nan]
    return np.concatenate([first, plain]), np.concatenate([first, standardised])


def _expected(scaled: NDArray[np.float64]) -> float:
    """Return DVARS of noise with the series' spread and autocorrelation; NaN where no voxel has a spread."""
    low, high = np.percentile(scaled, (25, 75), axis=0, method="lower")
    kept = high > low
    if not kept.any():
        return float("nan")
    deviation = (high - low)[kept] / _QUARTILES_PER_SD
    centred = scaled[:, kept] - scaled[:, kept].mean(axis=0)
    lag = (centred[1:] * centred[:-1]).sum(axis=0) / np.square(centred).sum(axis=0)
    return float(np.mean(np.sqrt(2 * (1 - lag)) * deviation))
