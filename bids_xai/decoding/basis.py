"""What a softmax layer is trained with: the Gram matrix, or the samples where there are more than voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BLOCK = 4096
# Vector loads are twice as fast where they do not cross a cache line.
_LINE = 64


@dataclass(frozen=True)
class Basis:
    """Rows whose products with coefficients are the logits of the samples.

    Parameters
    ----------
    rows
        Shape (n_samples, width + padding), C-contiguous, of whole cache lines; the padding is zero. Rows of
        the Gram matrix K = X X', or of X.
    width
        Columns that count: n_samples, or n_voxels.
    dual
        Whether the rows are those of K.
    """

    rows: npt.NDArray
    width: int
    dual: bool

    def product(self, coefficients: npt.NDArray) -> npt.NDArray:
        """Return the products of coefficients (k, width) with every row, shape (k, n_samples)."""
        return np.asarray(coefficients @ self.rows[:, : self.width].T)

    def mean_squares(self) -> tuple[float, float]:
        """Return ``mean_s |x_s|^2`` and ``mean_s |x_s - mean_s x_s|^2`` of the samples, in float64.

        The second is the variance of a voxel, summed over the voxels.
        """
        rows = self.rows[:, : self.width]
        if self.dual:
            whole = float(np.diagonal(rows).mean(dtype=np.float64))
            of_mean = float(rows.mean(dtype=np.float64))
        else:
            whole = float(np.einsum("sv,sv->", rows, rows, dtype=np.float64)) / len(rows)
            of_mean = float((rows.mean(axis=0, dtype=np.float64) ** 2).sum())
        return whole, max(whole - of_mean, 0.0)

    def restricted(self, samples: npt.NDArray[np.int64]) -> Basis:
        """Return the basis of some of the samples alone."""
        part = self.rows[np.ix_(samples, samples)] if self.dual else self.rows[samples, : self.width]
        return Basis(aligned(part), part.shape[1], self.dual)

    def save(self, path: Path) -> None:
        """Write the rows to a ``.npy`` file."""
        np.save(path, self.rows)

    @classmethod
    def load(cls, path: Path | str, shape: tuple[int, ...]) -> Basis:
        """Map what :meth:`save` wrote; processes that map one file share its memory, and caches.

        Parameters
        ----------
        path
            The file.
        shape
            Shape of the samples, (n_samples, n_voxels).
        """
        return cls(np.load(path, mmap_mode="r"), min(shape), dual=is_dual(shape))


def is_dual(shape: tuple[int, ...]) -> bool:
    """Return whether samples of this shape are trained in Gram space: not where they outnumber the voxels."""
    return shape[0] <= shape[1]


def training_basis(X: npt.NDArray) -> Basis:
    """Return the Gram matrix of samples (n_samples, n_voxels), or themselves if they outnumber the voxels."""
    dual = is_dual(X.shape)
    return Basis(aligned(gram_matrix(X) if dual else X), min(X.shape), dual)


def gram_matrix(X: npt.NDArray, block: int = _BLOCK) -> npt.NDArray:
    """Return K = X X', shape (n, n), in the type of X, summed over blocks of voxels in float64.

    Parameters
    ----------
    X
        Samples, shape (n, n_voxels); may be memory-mapped, and is read block by block.
    block
        Voxels in a block.
    """
    K = np.zeros((X.shape[0], X.shape[0]))
    for start in range(0, X.shape[1], block):
        columns = np.ascontiguousarray(X[:, start : start + block])
        K += columns @ columns.T
    # A product of a matrix with its own transpose need not come out symmetric to the last bit.
    return ((K + K.T) / 2).astype(X.dtype)


def aligned(values: npt.NDArray) -> npt.NDArray:
    """Return a copy whose rows begin at cache lines, shape (n, width + padding); the padding is zero."""
    out = aligned_zeros(len(values), values.shape[1], values.dtype)
    out[:, : values.shape[1]] = values
    return out


def aligned_zeros(n: int, width: int, dtype: npt.DTypeLike) -> npt.NDArray:
    """Return zeros of shape (n, width + padding) whose rows begin at cache lines."""
    size = np.dtype(dtype).itemsize
    padded = -(-width * size // _LINE) * _LINE
    memory = np.zeros(n * padded + _LINE, dtype=np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + n * padded].view(dtype).reshape(n, padded // size)
