"""In how many trainings a voxel passes its threshold, and how often chance does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bids_xai.inference.null import check_finite, sided


class ExceedanceCounter:
    """Counts, per level and voxel, the runs whose importance exceeds its threshold; and sums the maps.

    Gotsopoulos et al. (2018), section 2.9.2.

    Parameters
    ----------
    thresholds
        Shape (n_alphas, n_methods, n_classes, n_voxels).
    tail
        ``"greater"``, or ``"two-sided"`` to compare absolute values.
    """

    def __init__(self, thresholds: npt.NDArray[np.float32], tail: str = "greater") -> None:
        self.thresholds, self.tail = thresholds, tail
        self.counts = np.zeros(thresholds.shape, dtype=np.int32)
        self.total = np.zeros(thresholds.shape[1:], dtype=np.float64)

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take the maps of one run, shape (n_methods, n_classes, n_voxels)."""
        check_finite(maps)
        values = sided(maps, self.tail)
        for number, thresholds in enumerate(self.thresholds):
            self.counts[number] += values > thresholds
        self.total += maps

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return ``counts`` and ``total``."""
        return {"counts": self.counts, "total": self.total}


def reproducibility_curve(counts: npt.NDArray[np.int32], n_runs: int) -> npt.NDArray[np.int64]:
    """Return the number of voxels that pass in at least x of the runs, for x = 0 ... n_runs.

    Parameters
    ----------
    counts
        Shape (..., n_voxels).
    n_runs
        Number of runs.

    Returns
    -------
    array, int64, shape (..., n_runs + 1)
    """
    flat = counts.reshape(-1, counts.shape[-1])
    exact = np.stack([np.bincount(row, minlength=n_runs + 1) for row in flat])
    at_least = exact[:, ::-1].cumsum(axis=1)[:, ::-1]
    return at_least.reshape(*counts.shape[:-1], n_runs + 1)


def reproducibility_threshold(null_counts: npt.NDArray[np.int32], n_runs: int) -> npt.NDArray[np.float64]:
    """Return the highest share of runs in which any voxel passes by chance, shape (...).

    Gotsopoulos et al. (2018), section 2.9.3: what a voxel's reproducibility must exceed.

    Parameters
    ----------
    null_counts
        Counts of the second set of permuted runs, shape (..., n_voxels).
    n_runs
        Number of those runs.
    """
    return np.asarray(null_counts.max(axis=-1) / n_runs)
