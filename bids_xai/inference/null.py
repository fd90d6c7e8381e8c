"""The null distribution of maps as a stream: only the largest values are kept, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from bids_xai.errors import InputError
from bids_xai.inference.ledger import Arrays, Ledger
from bids_xai.inference.tail import FEWEST_EXCEEDANCES, exceedances
from bids_xai.inference.thresholds import rank, voxel_thresholds

TWO_SIDED = "two-sided"


class TopK:
    """The k largest values of every voxel among the maps seen so far, equal to sorting them all.

    The values of a voxel lie side by side, largest first; a new one is compared with the smallest kept and
    put in its place. Memory is that of k + 1 maps, however many are seen.

    Parameters
    ----------
    k
        Number of values to keep, at least 1.
    shape
        Shape of a map.
    absolute
        Keep the largest absolute values.
    """

    def __init__(self, k: int, shape: tuple[int, ...], *, absolute: bool = False) -> None:
        self.k, self.shape, self.absolute = k, shape, absolute
        n_values = int(np.prod(shape))
        self._rows = np.full((n_values, k), -np.inf, dtype=np.float32)
        self._smallest = np.full(n_values, -np.inf, dtype=np.float32)
        self._filled = 0

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take one map of the given shape, whose values are finite."""
        flat = np.ascontiguousarray(maps, dtype=np.float32).reshape(-1)
        _insert(self._rows, self._smallest, flat, self._filled, self.absolute)
        self._filled = min(self._filled + 1, self.k)

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the largest values, shape (number of values, min(k, number seen)), largest first."""
        return self._rows[:, : self._filled]

    def values(self) -> npt.NDArray[np.float32]:
        """Return the largest values, shape (min(k, number seen), *shape), largest first."""
        return as_maps(self.rows(), self.shape)


class NullAccumulator:
    """What a chunk keeps of its null runs: top-k values, and each run's maximum over the voxels.

    Parameters
    ----------
    n_permutations
        Number of null runs of all chunks together.
    alphas
        Significance levels; the largest decides how many values are kept.
    shape
        Shape of a run's maps: (n_methods, n_classes, n_voxels).
    tail
        ``"greater"``, or ``"two-sided"`` to compare absolute values.
    n_runs
        Null runs of this chunk (default: all).
    """

    def __init__(
        self,
        n_permutations: int,
        alphas: Sequence[float],
        shape: tuple[int, int, int],
        tail: str = "greater",
        *,
        n_runs: int | None = None,
    ) -> None:
        self.tail = tail
        self.n_kept = kept_values(n_permutations, alphas)
        k = min(self.n_kept, n_permutations if n_runs is None else n_runs)
        self._top = TopK(k, shape, absolute=tail == TWO_SIDED)
        self._maxima: list[npt.NDArray[np.float32]] = []

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take the maps of one null run, shape (n_methods, n_classes, n_voxels)."""
        highest, lowest = maps.max(axis=2), maps.min(axis=2)
        check_finite(highest, lowest)
        self._top.update(maps)
        self._maxima.append(np.maximum(highest, -lowest) if self.tail == TWO_SIDED else highest)

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return ``top`` (k, n_methods, n_classes, n_voxels), largest first, and :meth:`run_arrays`."""
        return {"top": self._top.values(), **self.run_arrays()}

    def run_arrays(self) -> dict[str, npt.NDArray]:
        """Return ``maxima`` (n_runs, n_methods, n_classes), in the order of the runs."""
        return {"maxima": np.array(self._maxima, dtype=np.float32).reshape(-1, *self._top.shape[:-1])}

    def merged(self, values: slice, before: Arrays | None) -> dict[str, npt.NDArray]:
        """Return ``top``, shape (number of values, k), of some values with those of earlier chunks.

        Parameters as :data:`bids_xai.inference.ledger.Combine`.
        """
        own = self._top.rows()[values]
        return {"top": own if before is None else merge_rows(before["top"], own, self.n_kept)}


def kept_values(n_permutations: int, alphas: Sequence[float]) -> int:
    """Return how many of the largest null values are kept of every voxel, at least one.

    As many as thresholds at these levels need, and as many as its tail needs to be fitted
    (:mod:`bids_xai.inference.tail`) where there are enough permutations for that.
    """
    of_tail = FEWEST_EXCEEDANCES + 1 if exceedances(n_permutations) else 1
    return max(rank(max(alphas), n_permutations), of_tail)


def load_top(ledger: Ledger, n_runs: int, path: Path | None = None) -> npt.NDArray[np.float32]:
    """Return the largest values of null chunks, shape (k, n_methods, n_classes, n_voxels), largest first.

    Parameters
    ----------
    ledger
        Merged :class:`NullAccumulator`.
    n_runs
        Number of null runs.
    path
        New ``.npy`` file that holds them in place of memory; None: memory does.
    """
    rows: npt.NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
    for values, arrays in ledger.parts(n_runs):
        if not len(rows):
            shape = (ledger.n_values, arrays["top"].shape[1])
            rows = np.empty(shape, np.float32) if path is None else open_memmap(path, "w+", np.float32, shape)
        rows[values] = arrays["top"]
    return as_maps(rows, ledger.shape)


def ledger_thresholds(ledger: Ledger, n_runs: int, alphas: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return the thresholds of every voxel from a ledger, one part in memory at a time.

    See :func:`bids_xai.inference.thresholds.voxel_thresholds`.

    Parameters
    ----------
    ledger, n_runs
        See :func:`load_top`.
    alphas
        Significance levels.

    Returns
    -------
    array, float32, shape (n_alphas, n_methods, n_classes, n_voxels)
    """
    out = np.empty((len(alphas), ledger.n_values), dtype=np.float32)
    for values, arrays in ledger.parts(n_runs):
        out[:, values] = voxel_thresholds(arrays["top"].T, n_runs, alphas)
    return out.reshape(len(alphas), *ledger.shape)


def as_maps(rows: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return values (number of values, k) as k maps, shape (k, *shape), without copying them."""
    return np.moveaxis(rows.reshape(*shape, rows.shape[1]), -1, 0)


def merge_rows(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], k: int
) -> npt.NDArray[np.float32]:
    """Return the k largest of both rows, or all if there are fewer, largest first.

    Parameters
    ----------
    first, second
        Shape (n, k_i), every row sorted, largest first.
    k
        Number of values to keep of every row.
    """
    out = np.empty((len(first), min(k, first.shape[1] + second.shape[1])), dtype=np.float32)
    _merge(np.ascontiguousarray(first), np.ascontiguousarray(second), out)
    return out


def sided(maps: npt.NDArray[np.float32], tail: str) -> npt.NDArray[np.float32]:
    """Return what is compared: the values, or their absolute values for ``"two-sided"``."""
    return np.abs(maps) if tail == TWO_SIDED else maps


def check_finite(highest: npt.NDArray[np.float32], lowest: npt.NDArray[np.float32]) -> None:
    """Refuse maps that are not finite: comparisons with them are silently false, and p-values too small.

    Parameters
    ----------
    highest, lowest
        Largest and smallest values of the maps.

    Raises
    ------
    InputError
        If a value is infinite or not a number, which is what a training that diverged gives.
    """
    if not (np.isfinite(highest).all() and np.isfinite(lowest).all()):
        raise InputError(
            "An importance map of a training is not finite: the training has diverged.",
            "finite importance in every voxel",
            "lower the learning rate, and check that the samples are standardised",
        )


@numba.njit(cache=True, nogil=True)
def _insert(rows, smallest, maps, filled, absolute):  # type: ignore[no-untyped-def]
    """Put every value of a map in its place among those kept of its voxel."""
    n_values, k = rows.shape
    for i in range(n_values):
        value = abs(maps[i]) if absolute else maps[i]
        if value <= smallest[i]:
            continue
        if value == 0:
            # Which of 0 and -0 is kept would depend on the order.
            value = np.float32(0)
        # Without branches, which keeps the order just as well: several places are computed at once.
        for j in range(min(filled, k - 1), 0, -1):
            own, above = rows[i, j], rows[i, j - 1]
            shifted = above if above < value else value
            rows[i, j] = shifted if shifted > own else own
        rows[i, 0] = max(rows[i, 0], value)
        if filled >= k - 1:
            smallest[i] = rows[i, k - 1]


@numba.njit(cache=True, nogil=True)
def _merge(first, second, out):  # type: ignore[no-untyped-def]
    """Merge sorted rows, largest first, as far as ``out`` has room."""
    n, k = out.shape
    for i in range(n):
        a, b = 0, 0
        for j in range(k):
            if b >= second.shape[1] or (a < first.shape[1] and first[i, a] >= second[i, b]):
                out[i, j] = first[i, a]
                a += 1
            else:
                out[i, j] = second[i, b]
                b += 1
