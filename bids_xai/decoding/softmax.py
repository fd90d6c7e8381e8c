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

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.basis import Basis, aligned_zeros
from bids_xai.decoding.kernels import descend, floyd
from bids_xai.errors import InputError

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")


@dataclass(frozen=True)
class SgdParameters:
    """Parameters of the training.

    Parameters
    ----------
    learning_rate
        Step of the gradient descent; None: from the data (:meth:`of`). Gotsopoulos et al. (2018): .005.
    batch_size
        Samples in a minibatch, drawn without replacement within it.
    n_updates
        Number of minibatches.
    l2
        Weight decay: ``W <- W - learning_rate * (gradient + l2 * W)``; the bias does not decay. The authors'
        lambda is l2 times batch_size; theirs is 0. None: from the data (:meth:`of`).
    clip
        The outputs that the error is taken of are clipped to [clip, 1 - clip], as in the authors' code (.01);
        0: they are not.
    bias
        Whether there is a bias; it starts at 0.
    """

    learning_rate: float | None = None
    batch_size: int = 20
    n_updates: int = 10_000
    l2: float | None = None
    clip: float = 0.0
    bias: bool = True

    @property
    def step(self) -> float:
        """The learning rate, which is known."""
        if self.learning_rate is None:
            raise ValueError("the learning rate is to be taken from the data: SgdParameters.of")
        return self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay, which is known."""
        if self.l2 is None:
            raise ValueError("the weight decay is to be taken from the data: SgdParameters.of")
        return self.l2

    def of(self, basis: Basis) -> SgdParameters:
        """Return the parameters for some samples: learning rate and weight decay are taken from them.

        With n samples x_s::

            l2            = mean_s |x_s - mean_s x_s|^2 / (2 n)
            learning_rate = min(4 / mean_s |x_s|^2, 2 / (n l2))

        The cross-entropy curves by at most |x_s|^2 / 4 along a sample, and over all samples, were they noise,
        by half of this l2 in every direction: the decay is of the size of what the data say, whatever their
        number of voxels. It shrinks weights towards differences of class means, as far as the accuracy gains
        by it (``tests/benchmarks/bench_map_power.py``). The step is the inverse of the largest curvature, and
        small enough for n / 2 updates to enter the weights, so that minibatches average out.

        Raises
        ------
        InputError
            A weight decay takes away more than the weights there are.
        """
        if self.learning_rate is not None and self.l2 is not None:
            return self
        whole, around_mean = basis.mean_squares()
        n = len(basis.rows)
        l2 = around_mean / (2 * n) if self.l2 is None else self.l2
        steps = ([4 / whole] if whole else []) + ([2 / (n * l2)] if l2 else [])
        rate = min(steps, default=1.0) if self.learning_rate is None else self.learning_rate
        check_decay(rate, l2)
        return replace(self, learning_rate=rate, l2=l2)


def check_decay(learning_rate: float, l2: float) -> None:
    """Raise InputError if an update takes away more than the weights there are."""
    if learning_rate * l2 >= 1:
        raise InputError(
            f"A weight decay of {l2:g} with a learning rate of {learning_rate:g}.",
            "a product below 1: every update would take away more than the weights there are",
            f"lower --learning-rate, or --l2 to less than {1 / learning_rate:g}",
        )


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
    norms
        ``sqrt(sum_s a_sc^2)``, a_sc being what training sample s has added to the weights of class c in units
        of itself, ``W = factor * W0 + sum_s x_s a_s'``: shape (n_classes,). In a voxel that is independent of
        the labels and has the standard deviation sd, weights vary by ``sd norms``.
    halfway
        The layer after half of the updates; None of itself.
    """

    coefficients: npt.NDArray
    factor: float
    bias: npt.NDArray
    norms: npt.NDArray
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
    parameters = parameters.of(basis)
    n_classes, kind = len(Z0), coefficient_type(basis)
    n_trained = n_classes if parameters.clip else n_classes - 1
    n_rows = -(-n_trained // 4) * 4
    A = aligned_zeros(n_rows, basis.width, kind)
    added = A if basis.dual else aligned_zeros(n_rows, len(basis.rows), kind)
    state, layer, half = (1.0, 1.0, np.zeros(n_classes)), None, len(minibatches) // 2
    for part in (minibatches[:half], minibatches[half:]):
        state = descend(
            basis.rows,
            basis.dual,
            A,
            added,
            np.ascontiguousarray(Z0.T),
            labels,
            part,
            parameters.step,
            parameters.decay,
            parameters.clip,
            parameters.bias,
            state,
        )
        factor, factor_0, bias = state
        coefficients = _of_all_classes(A[:, : basis.width], n_classes, n_trained, factor)
        of_samples = coefficients if basis.dual else _of_all_classes(added, n_classes, n_trained, factor)
        layer = SoftmaxLayer(
            coefficients.astype(basis.rows.dtype, copy=False),
            float(factor_0),
            bias.astype(basis.rows.dtype),
            np.linalg.norm(of_samples, axis=1).astype(basis.rows.dtype),
            layer,
        )
    assert layer is not None
    return layer


def _of_all_classes(A: npt.NDArray, n_classes: int, n_trained: int, factor: float) -> npt.NDArray:
    """Return the coefficients of all classes: of one that is not trained, minus the sum of the others."""
    out = np.empty((n_classes, A.shape[1]), dtype=A.dtype)
    out[:n_trained] = A[:n_trained] * A.dtype.type(factor)
    if n_trained < n_classes:
        out[-1] = -out[:-1].sum(axis=0)
    return out
