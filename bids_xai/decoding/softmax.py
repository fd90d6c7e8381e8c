"""A softmax layer trained by stochastic gradient descent in Gram space: exact, and far fewer operations.

Every update of ``W`` adds multiples of training rows, so at any step ``W = s W0 + X' A``. What is trained
is A (n samples x C classes) and not W (V voxels x C): the logits of a minibatch b are

    Z_b = s X_b W0 + K_b A + bias,    K = X X',

and the update touches only the rows of A in b: ``A_b += lr / |b| (T_b - softmax(Z_b))``. Weight decay is a
scalar factor on A and W0. The trajectory is that of the primal loop (Gotsopoulos et al. 2018, section 2.7)
up to rounding. The updates of the classes sum to zero, so the last class's column of A follows from the
others and is never computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError

# A decay factor is folded into A before it underflows.
_SMALLEST_FACTOR = 1e-6
_SMALLEST_COEFFICIENT = 1e-30
# Folds that train on less than this share of the samples get a Gram matrix of their own.
_SHARE_OF_GRAM = 0.75
_GRAM_BLOCK = 4096
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")


@dataclass(frozen=True)
class SgdParameters:
    """Parameters of the training; the defaults are those of Gotsopoulos et al. (2018).

    Parameters
    ----------
    learning_rate
        Step of the gradient descent.
    batch_size
        Samples in a minibatch, drawn without replacement within it.
    n_updates
        Number of minibatches.
    l2
        Weight decay: ``W <- W - learning_rate * (gradient + l2 * W)``; the bias does not decay.
    """

    learning_rate: float = 0.005
    batch_size: int = 20
    n_updates: int = 10_000
    l2: float = 0.0


@dataclass(frozen=True)
class DualModel:
    """A trained softmax layer ``W = factor * W0 + X' A`` in terms of the samples.

    Parameters
    ----------
    coefficients
        A', shape (n_classes, n_samples); zero for samples that were not trained on.
    factor
        What weight decay has left of the initial weights.
    bias
        Shape (n_classes,).
    """

    coefficients: npt.NDArray
    factor: float
    bias: npt.NDArray

    def logits(self, K: npt.NDArray, Z0: npt.NDArray, samples: npt.NDArray[np.int64]) -> npt.NDArray:
        """Return the logits (n, n_classes) of some samples without forming the weights."""
        return (self.factor * Z0[:, samples] + self.coefficients @ K[:, samples]).T + self.bias


def resolve_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"`` for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        cuda is asked for and there is none.
    """
    # Importing torch takes seconds: it is asked only where there is a driver, or where cuda is demanded.
    if device == "cpu" or (device == "auto" and not any(Path(node).exists() for node in _GPU_DEVICES)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError(
            "--device cuda: torch finds no CUDA device on this machine.",
            "a GPU, its driver and a CUDA build of torch",
            "use --device cpu or auto",
        )
    return "cpu"


def gram_matrix(X: npt.NDArray, block: int = _GRAM_BLOCK) -> npt.NDArray:
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


def initial_weights(
    rng: np.random.Generator, n_voxels: int, n_classes: int, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray:
    """Draw W0' from N(0, 2 / (n_voxels + n_classes)) (Glorot and Bengio 2010): (n_classes, n_voxels)."""
    scale = np.sqrt(2.0 / (n_voxels + n_classes))
    weights = rng.standard_normal((n_classes, n_voxels), dtype=np.float32)
    return (weights * np.float32(scale)).astype(dtype, copy=False)


def draw_minibatches(
    rng: np.random.Generator, n_train: int, batch_size: int, n_updates: int
) -> npt.NDArray[np.int32]:
    """Draw minibatches afresh for every update, uniformly and without replacement within each.

    Returns
    -------
    array, int32, shape (n_updates, min(batch_size, n_train))
        Numbers in ``range(n_train)``.
    """
    if batch_size >= n_train:
        return np.tile(np.arange(n_train, dtype=np.int32), (n_updates, 1))
    highs = np.arange(n_train - batch_size + 1, n_train + 1)
    return _floyd(rng.integers(0, highs, size=(n_updates, batch_size), dtype=np.int32), n_train)


def train(
    K: npt.NDArray,
    Z0: npt.NDArray,
    labels: npt.NDArray[np.int64],
    samples: npt.NDArray[np.int64],
    minibatches: npt.NDArray[np.int32],
    parameters: SgdParameters,
) -> DualModel:
    """Train one softmax layer on some of the samples.

    Parameters
    ----------
    K
        Gram matrix of all samples, shape (n, n), float32 or float64.
    Z0
        Logits of the initial weights for all samples, without bias, shape (n_classes, n).
    labels
        Classes of all samples, shape (n,).
    samples
        Numbers of the samples to train on, shape (n_train,).
    minibatches
        Positions in ``samples``, shape (n_updates, batch) (:func:`draw_minibatches`).
    parameters
        Learning rate and weight decay.
    """
    n = len(labels)
    own: slice | npt.NDArray[np.int64] = slice(None)
    if len(samples) >= _SHARE_OF_GRAM * n:
        gram, order = K, samples[minibatches].astype(np.int32)
    else:
        own, order = samples, minibatches
        gram = np.ascontiguousarray(K[np.ix_(samples, samples)])
    trained, factor, bias = _descend(
        gram,
        np.ascontiguousarray(Z0[:, own]),
        labels[own],
        order,
        parameters.learning_rate,
        parameters.l2,
    )
    coefficients = np.zeros((len(Z0), n), dtype=K.dtype)
    coefficients[:, own] = trained
    return DualModel(coefficients, float(factor), bias)


@numba.njit(cache=True, nogil=True)
def _floyd(draws, n):  # type: ignore[no-untyped-def]
    """Turn draws from growing ranges into uniform subsets (Floyd's algorithm; Bentley 1987)."""
    n_updates, size = draws.shape
    for u in range(n_updates):
        for j in range(size):
            candidate = draws[u, j]
            for i in range(j):
                if draws[u, i] == candidate:
                    draws[u, j] = n - size + j
                    break
    return draws


@numba.njit(cache=True, nogil=True, fastmath=True)
def _descend(K, Z0, labels, minibatches, learning_rate, l2):  # type: ignore[no-untyped-def]
    n_classes, n = Z0.shape
    n_updates, size = minibatches.shape
    kind = K.dtype.type
    # Rows of A in groups of four, samples in pairs: what is loaded once serves several products.
    n_free = n_classes - 1
    A = np.zeros((4 * ((n_free + 3) // 4), n), dtype=K.dtype)
    products = np.zeros((size + size % 2, A.shape[0]), dtype=K.dtype)
    bias = np.zeros(n_classes, dtype=K.dtype)
    p = np.zeros((size, n_classes), dtype=K.dtype)
    step = kind(learning_rate / size)
    decay = 1.0 - learning_rate * l2
    factor_a, factor_0 = 1.0, 1.0
    for u in range(n_updates):
        for s in range(0, size, 2):
            for c in range(0, n_free, 4):
                _eight_products(K, minibatches[u], A, s, c, products)
        for s in range(size):
            _softmax(products[s], kind(factor_a), Z0[:, minibatches[u, s]], kind(factor_0), bias, p[s])
        factor_a *= decay
        factor_0 *= decay
        if abs(factor_a) < _SMALLEST_FACTOR:
            _rescale(A, kind(factor_a))
            factor_a = 1.0
        _step(p, minibatches[u], labels, step / kind(factor_a), step, A, bias)
    out = np.zeros((n_classes, n), dtype=K.dtype)
    for c in range(n_free):
        for i in range(n):
            out[c, i] = kind(factor_a) * A[c, i]
            out[n_free, i] -= out[c, i]
    return out, factor_0, bias


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _softmax(products, factor_a, starts, factor_0, bias, out):  # type: ignore[no-untyped-def]
    """Write the softmax of a sample's logits, the last class's product being minus the sum of the others."""
    n_free = len(out) - 1
    out[n_free] = 0
    for c in range(n_free):
        out[c] = factor_a * products[c]
        out[n_free] -= out[c]
    for c in range(n_free + 1):
        out[c] += factor_0 * starts[c] + bias[c]
    top = out[0]
    for c in range(1, n_free + 1):
        top = max(top, out[c])
    total = out[0] * 0
    for c in range(n_free + 1):
        out[c] = np.exp(out[c] - top)
        total += out[c]
    for c in range(n_free + 1):
        out[c] /= total


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _step(p, minibatch, labels, growth, step, A, bias):  # type: ignore[no-untyped-def]
    """Add the errors of a minibatch to its rows of A and to the bias."""
    last = len(bias) - 1
    for s in range(len(minibatch)):
        i = minibatch[s]
        for c in range(last + 1):
            error = -p[s, c]
            if labels[i] == c:
                error += p.dtype.type(1)
            if c < last:
                A[c, i] += growth * error
            bias[c] += step * error


@numba.njit(cache=True, nogil=True, fastmath=True)
def _rescale(A, factor):  # type: ignore[no-untyped-def]
    """Multiply A by a factor; what has decayed to nothing becomes 0, for denormal numbers are slow."""
    for c in range(A.shape[0]):
        for i in range(A.shape[1]):
            value = A[c, i] * factor
            A[c, i] = value if abs(value) > _SMALLEST_COEFFICIENT else A.dtype.type(0)


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _eight_products(K, minibatch, A, s, c, out):  # type: ignore[no-untyped-def]
    """Write the products of samples s and s + 1 of the minibatch with rows c to c + 3 of A."""
    k0, k1 = K[minibatch[s]], K[minibatch[min(s + 1, len(minibatch) - 1)]]
    a0, a1, a2, a3 = A[c], A[c + 1], A[c + 2], A[c + 3]
    zero = K.dtype.type(0)
    z00, z01, z02, z03 = zero, zero, zero, zero
    z10, z11, z12, z13 = zero, zero, zero, zero
    for j in range(K.shape[1]):
        x0, x1 = k0[j], k1[j]
        z00 += x0 * a0[j]
        z01 += x0 * a1[j]
        z02 += x0 * a2[j]
        z03 += x0 * a3[j]
        z10 += x1 * a0[j]
        z11 += x1 * a1[j]
        z12 += x1 * a2[j]
        z13 += x1 * a3[j]
    out[s, c], out[s, c + 1], out[s, c + 2], out[s, c + 3] = z00, z01, z02, z03
    out[s + 1, c], out[s + 1, c + 1], out[s + 1, c + 2], out[s + 1, c + 3] = z10, z11, z12, z13
