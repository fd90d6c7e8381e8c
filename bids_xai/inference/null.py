"""The null distribution of maps as a stream: only the largest values are kept, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.inference.chunks import reopened
from bids_xai.inference.thresholds import rank

_TILE = 2048


class TopK:
    """The k largest values of every voxel among the maps seen so far, equal to sorting them all.

    Maps fill a buffer of 2k; when it is full, its k largest values per voxel stay. That is one partial sort
    per k maps, and memory for 2k maps at most, however many are seen.

    Parameters
    ----------
    k
        Number of values to keep, at least 1.
    shape
        Shape of a map; its last axis counts voxels.
    """

    def __init__(self, k: int, shape: tuple[int, ...]) -> None:
        self.k, self.shape = k, shape
        # Pages of an empty array cost nothing until they are written: few maps take little memory.
        self._buffer = np.empty((2 * k, *shape), dtype=np.float32)
        self._filled = 0

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take one map of the given shape."""
        if self._filled == len(self._buffer):
            self._condense()
        self._buffer[self._filled] = maps
        self._filled += 1

    def values(self) -> npt.NDArray[np.float32]:
        """Return the largest values, shape (min(k, number seen), *shape), largest first."""
        self._condense()
        return -np.sort(-self._buffer[: self._filled], axis=0)

    def _condense(self) -> None:
        if self._filled <= self.k:
            return
        for start in range(0, self.shape[-1], _TILE):
            tile = self._buffer[: self._filled, ..., start : start + _TILE]
            tile[: self.k] = largest(tile, self.k)
        self._filled = self.k


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
    """

    def __init__(
        self, n_permutations: int, alphas: Sequence[float], shape: tuple[int, int, int], tail: str = "greater"
    ) -> None:
        self.tail = tail
        self._top = TopK(kept_values(n_permutations, alphas), shape)
        self._maxima: list[npt.NDArray[np.float32]] = []

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take the maps of one null run, shape (n_methods, n_classes, n_voxels)."""
        values = sided(maps, self.tail)
        check_finite(values)
        self._top.update(values)
        self._maxima.append(values.max(axis=2))

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return the arrays of a chunk.

        ``top`` (k, n_methods, n_classes, n_voxels), largest first, and ``maxima`` (n_runs, n_methods,
        n_classes), in the order of the runs.
        """
        return {"top": self._top.values(), "maxima": np.stack(self._maxima)}


def kept_values(n_permutations: int, alphas: Sequence[float]) -> int:
    """Return how many of the largest null values thresholds at these levels need (at least one)."""
    return max(rank(max(alphas), n_permutations), 1)


def sided(maps: npt.NDArray[np.float32], tail: str) -> npt.NDArray[np.float32]:
    """Return what is compared: the values, or their absolute values for ``"two-sided"``."""
    return np.abs(maps) if tail == "two-sided" else maps


def check_finite(maps: npt.NDArray[np.float32]) -> None:
    """Refuse maps that are not finite: comparisons with them are silently false, and p-values too small.

    Raises
    ------
    InputError
        If a value is infinite or not a number, which is what a training that diverged gives.
    """
    if not (np.isfinite(maps.max()) and np.isfinite(maps.min())):
        raise InputError(
            "An importance map of a training is not finite: the training has diverged.",
            "finite importance in every voxel",
            "lower the learning rate, and check that the samples are standardised",
        )


def largest(values: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """Return the k largest along the first axis, in no order."""
    n = len(values)
    return values if n <= k else np.partition(values, n - k, axis=0)[n - k :]


def merge_top(chunks: Sequence[npt.NDArray[np.float32]], out: npt.NDArray[np.float32]) -> None:
    """Merge the top values of chunks, tile by tile, so that memory does not grow with their number.

    Parameters
    ----------
    chunks
        Arrays of shape (k_i, ..., n_voxels), for example memory-mapped.
    out
        Array of shape (k, ..., n_voxels), k being at most the sum of the k_i: takes the largest values,
        largest first.
    """
    shape = out.shape[1:]
    if sum(len(chunk) for chunk in chunks) < len(out):
        raise ValueError(f"{len(chunks)} chunks hold fewer than the {len(out)} values to keep")
    for start in range(0, shape[-1], _TILE):
        tile = slice(start, start + _TILE)
        top = np.empty((0, *shape[:-1], min(_TILE, shape[-1] - start)), dtype=np.float32)
        for chunk in chunks:
            top = largest(np.concatenate([top, reopened(chunk)[..., tile]]), len(out))
        out[..., tile] = -np.sort(-top, axis=0)
