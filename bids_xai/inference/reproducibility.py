"""In how many trainings a voxel passes its threshold, and how often chance does."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.inference.ledger import Arrays, Ledger
from bids_xai.inference.null import TWO_SIDED, check_finite

# A sum is hi / 2^20 + lo / 2^60: whole numbers add up to the same in any order.
_HIGH, _LOW = 2.0**20, 2.0**60
_LARGEST = 2.0**23


class ExceedanceCounter:
    """Counts, per level and voxel, the runs whose importance exceeds its threshold; and sums the maps.

    Gotsopoulos et al. (2018), section 2.9.2. Sums are kept in fixed point, as two whole numbers (units of
    2^-20, and of 2^-60 for the rest): exact for float32 values from 2^-37 on, to 2^-61 below, whatever the
    order, for up to 2^20 runs of values up to 2^23.

    Parameters
    ----------
    thresholds
        Shape (n_alphas, n_methods, n_classes, n_voxels).
    tail
        ``"greater"``, or ``"two-sided"`` to compare absolute values.
    """

    def __init__(self, thresholds: npt.NDArray[np.float32], tail: str = "greater") -> None:
        self.tail = tail
        self.shape = thresholds.shape[1:]
        self.thresholds = np.ascontiguousarray(thresholds).reshape(len(thresholds), -1)
        self.counts = np.zeros(self.thresholds.shape, dtype=np.int32)
        self.sums = np.zeros((2, self.counts.shape[1]), dtype=np.int64)

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take the maps of one run, shape (n_methods, n_classes, n_voxels).

        Raises
        ------
        InputError
            A value is not finite, or too large to be summed.
        """
        highest, lowest = maps.max(), maps.min()
        check_finite(highest, lowest)
        if max(highest, -lowest) > _LARGEST:
            raise InputError(
                f"An importance of {max(highest, -lowest):.3g}.",
                f"values up to {_LARGEST:.3g}",
                "check that the samples are standardised",
            )
        flat = np.ascontiguousarray(maps, dtype=np.float32).reshape(-1)
        _count(flat, self.thresholds, self.tail == TWO_SIDED, self.counts, self.sums)

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return ``counts`` (n_alphas, n_methods, n_classes, n_voxels) and ``total``, the sum of the maps."""
        return {
            "counts": self.counts.reshape(-1, *self.shape),
            "total": _total(self.sums).reshape(self.shape),
        }

    def run_arrays(self) -> dict[str, npt.NDArray]:
        """Return what is kept of single runs: nothing."""
        return {}

    def merged(self, values: slice, before: Arrays | None) -> dict[str, npt.NDArray]:
        """Return ``counts`` and ``sums`` of some values with those of earlier chunks.

        Parameters as :data:`bids_xai.inference.ledger.Combine`.
        """
        own: dict[str, npt.NDArray] = {"counts": self.counts[:, values], "sums": self.sums[:, values]}
        return own if before is None else {name: own[name] + before[name] for name in own}


def load_counts(ledger: Ledger, n_runs: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Return counts (n_alphas, n_methods, n_classes, n_voxels) and the sum of the maps from a ledger.

    Parameters
    ----------
    ledger
        Merged :class:`ExceedanceCounter`.
    n_runs
        Number of runs.
    """
    parts = [(np.array(arrays["counts"]), _total(arrays["sums"])) for _, arrays in ledger.parts(n_runs)]
    counts = np.concatenate([counts for counts, _ in parts], axis=1)
    total = np.concatenate([total for _, total in parts])
    return counts.reshape(len(counts), *ledger.shape), total.reshape(ledger.shape)


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


def _total(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(sums[0] / _HIGH + sums[1] / _LOW)


@numba.njit(cache=True, nogil=True)
def _count(maps, thresholds, absolute, counts, sums):  # type: ignore[no-untyped-def]
    """Add a map to the counts of every level and to the sums, in one pass."""
    for i in range(len(maps)):
        value = np.float64(maps[i])
        high = np.rint(value * _HIGH)
        sums[0, i] += np.int64(high)
        sums[1, i] += np.int64(np.rint((value - high / _HIGH) * _LOW))
        compared = abs(maps[i]) if absolute else maps[i]
        for a in range(len(thresholds)):
            counts[a, i] += compared > thresholds[a, i]
