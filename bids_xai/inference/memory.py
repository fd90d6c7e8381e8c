"""What the computations of the group level hold in memory: bytes of a process with its libraries.

Measured by ``tests/benchmarks/bench_node_memory.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bids_xai.decoding.basis import is_dual
from bids_xai.inference.ledger import part_values

_GIGABYTE = 2**30
# Interpreter, nipype and the libraries that a node loads; with those of figures.
_LIBRARIES, _FIGURES = 0.18 * _GIGABYTE, 0.35 * _GIGABYTE
# Values of a tile and its temporary copies (inference.univariate).
_TILE_BYTES = 3.5 * 8 * (1 << 23)


@dataclass(frozen=True)
class GroupSize:
    """What the memory of the group level depends on; a value is one of a voxel, a class and a measure.

    Parameters
    ----------
    n_samples, n_voxels, n_classes, n_folds
        Size of the data and of the design.
    n_tested
        Samples of the largest part that is left out.
    n_measures, n_alphas
        Measures of importance, and levels.
    n_kept
        Largest values of the null that are kept (:func:`bids_xai.inference.null.kept_values`).
    chunk_size, n_threads
        Repetitions of a chunk, and its threads.
    double
        Whether training and importance are in double precision.
    low_mem
        Whether the null is kept in a file.
    at_once
        Repetitions whose weights a chunk holds together.
    """

    n_samples: int
    n_voxels: int
    n_classes: int
    n_folds: int
    n_tested: int
    n_measures: int
    n_alphas: int
    n_kept: int
    chunk_size: int
    n_threads: int
    double: bool = False
    low_mem: bool = False
    at_once: int = 1

    @property
    def values(self) -> int:
        """Values of all maps."""
        return self.n_measures * self.n_classes * self.n_voxels

    @property
    def weights(self) -> int:
        """Weights of a repetition."""
        return self.n_folds * self.n_classes * self.n_voxels

    @property
    def samples(self) -> float:
        """Bytes of the samples."""
        return 4.0 * self.n_samples * self.n_voxels

    @property
    def basis(self) -> float:
        """Bytes of what they are trained with (:mod:`bids_xai.decoding.basis`)."""
        return 4.0 * self.n_samples * min(self.n_samples, self.n_voxels)


def collect_bytes(size: GroupSize) -> float:
    """Count samples, their products, and the images of a run while they are read."""
    products = 6 * size.basis if is_dual((size.n_samples, size.n_voxels)) else size.basis
    return _LIBRARIES + size.samples * 1.2 + products


def chunk_bytes(size: GroupSize) -> float:
    """Count weights of the repetitions trained together, those of one more, and what is kept of maps."""
    scale = 2 if size.double else 1
    weights = 4.0 * scale * size.weights
    n_threads, n_together = size.n_threads, min(size.at_once, size.chunk_size)
    samples = size.samples * (3 if size.double else 1) + size.basis * (7 if size.double else 1)
    explained = weights + 4.0 * scale * size.n_tested * size.n_voxels + 4.0 * size.values
    finished = 4.0 * size.values * (n_together if n_threads > 1 else 1)
    largest = 4.0 * size.values * (min(size.n_kept, size.chunk_size) + 1)
    counted = (8.0 * size.n_alphas + 16) * size.values
    part = 3 * max(4.0 * size.n_kept, 4.0 * size.n_alphas + 16) * part_values(size.values, 4 * size.n_kept)
    working = n_together * weights + min(n_threads, n_together) * explained + finished
    return _LIBRARIES + samples + working + max(largest, counted) + part


def univariate_bytes(size: GroupSize) -> float:
    """Count a tile of voxels, and samples that are read through it."""
    return _LIBRARIES + size.samples + min(_TILE_BYTES, 3.5 * 2 * size.samples)


def thresholds_bytes(size: GroupSize) -> float:
    """Count thresholds, and a part of the null."""
    part = 3 * 4.0 * size.n_kept * part_values(size.values, 4 * size.n_kept)
    return _LIBRARIES + 4.0 * size.n_alphas * size.values + part


def summary_bytes(size: GroupSize) -> float:
    """Count the null's largest values, counts of two sets of runs, and all maps."""
    # In a file, the system gives its memory to whoever needs it.
    null = 0.0 if size.low_mem else 4.0 * size.n_kept * size.values
    counts = 2 * (4.0 * size.n_alphas + 8) * size.values
    maps = (12.0 * size.n_alphas + 24) * size.values
    return _LIBRARIES + null + counts + maps + 8.0 * size.n_alphas * size.values


def results_bytes(size: GroupSize) -> float:
    """Count all maps, and the figures."""
    return _FIGURES + (12.0 * size.n_alphas + 20) * size.values
