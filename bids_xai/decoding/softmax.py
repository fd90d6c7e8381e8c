"""A softmax layer trained by stochastic gradient descent in Gram space: exact, and far fewer operations.

Every update of ``W`` adds multiples of training rows, so at any step ``W = s W0 + X' A``. What is trained
is A (n samples x C classes) and not W (V voxels x C): the logits of a minibatch b are

    Z_b = s X_b W0 + K_b A + bias,    K = X X',

and the update touches only the rows of A in b: ``A_b += lr / |b| (T_b - softmax(Z_b))``. Weight decay is a
scalar factor on A and W0. The trajectory is that of the primal loop (Gotsopoulos et al. 2018, section 2.7)
up to rounding. The updates of the classes sum to zero unless outputs are clipped, so the last class's column
of A follows from the others and is never computed.

Where there are more samples than voxels, ``W = s W0 + D`` is trained as it stands, with rows of X in place of
rows of K.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.basis import Basis, aligned_zeros
from bids_xai.decoding.kernels import descend, floyd
from bids_xai.errors import InputError

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
        Weight decay: ``W <- W - learning_rate * (gradient + l2 * W)``; the bias does not decay. The authors'
        lambda is l2 times batch_size.
    clip
        The outputs that the error is taken of are clipped to [clip, 1 - clip], as in the authors' code (.01);
        0: they are not.
    bias
        Whether there is a bias; it starts at 0.
    """

    learning_rate: float = 0.005
    batch_size: int = 20
    n_updates: int = 10_000
    l2: float = 0.0
    clip: float = 0.0
    bias: bool = True


@dataclass(frozen=True)
class SoftmaxLayer:
    """A trained layer: ``W = factor * W0 + coefficients X`` (dual) or ``factor * W0 + coefficients``.

    Parameters
    ----------
    coefficients
        Shape (n_classes, n_samples), zero for samples that were not trained on; or (n_classes, n_voxels).
    factor
        What weight decay has left of the initial weights.
    bias
        Shape (n_classes,).
    halfway
        The layer after half of the updates; None of itself.
    """

    coefficients: npt.NDArray
    factor: float
    bias: npt.NDArray
    halfway: SoftmaxLayer | None = None


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


def initial_weights(
    rng: np.random.Generator, n_voxels: int, n_classes: int, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray:
    """Draw W0' from N(0, 2 / (n_voxels + n_classes)) (Glorot and Bengio 2010): (n_classes, n_voxels)."""
    weights = rng.standard_normal((n_classes, n_voxels), dtype=np.float32)
    weights *= np.float32(np.sqrt(2.0 / (n_voxels + n_classes)))
    return weights.astype(dtype, copy=False)


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
    drawn: npt.NDArray[np.int32] = floyd(rng.random((n_updates, batch_size)), n_train)
    return drawn


def coefficient_type(basis: Basis) -> np.dtype:
    """Return the type to train in: float64 for weights, to which every update adds a little."""
    return basis.rows.dtype if basis.dual else np.dtype(np.float64)


def train(
    basis: Basis,
    Z0: npt.NDArray,
    labels: npt.NDArray[np.int64],
    minibatches: npt.NDArray[np.int32],
    parameters: SgdParameters,
) -> SoftmaxLayer:
    """Train one softmax layer.

    Parameters
    ----------
    basis
        Of all samples, float32 or float64.
    Z0
        Logits of the initial weights for all samples, without bias, shape (n_classes, n_samples).
    labels
        Classes of all samples, shape (n_samples,).
    minibatches
        Numbers of samples, shape (n_updates, batch).
    parameters
        Of the training.
    """
    n_classes = len(Z0)
    n_trained = n_classes if parameters.clip else n_classes - 1
    A = aligned_zeros(-(-n_trained // 4) * 4, basis.width, coefficient_type(basis))
    state, layer, half = (1.0, 1.0, np.zeros(n_classes)), None, len(minibatches) // 2
    for part in (minibatches[:half], minibatches[half:]):
        state = descend(
            basis.rows,
            basis.dual,
            A,
            np.ascontiguousarray(Z0.T),
            labels,
            part,
            parameters.learning_rate,
            parameters.l2,
            parameters.clip,
            parameters.bias,
            state,
        )
        factor, factor_0, bias = state
        coefficients = np.empty((n_classes, basis.width), dtype=basis.rows.dtype)
        coefficients[:n_trained] = A[:n_trained, : basis.width] * A.dtype.type(factor)
        if n_trained < n_classes:
            coefficients[-1] = -coefficients[:-1].sum(axis=0)
        layer = SoftmaxLayer(coefficients, float(factor_0), bias.astype(basis.rows.dtype), layer)
    assert layer is not None
    return layer
