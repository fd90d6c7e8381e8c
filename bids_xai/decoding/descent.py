"""Training many folds: on the processor one after the other, or on the GPU side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.softmax import DualModel, SgdParameters, resolve_device, train

if TYPE_CHECKING:
    import torch


class Trainer(Protocol):
    """Trains one softmax layer per fold; see :func:`bids_xai.decoding.softmax.train` for the arguments.

    ``Z0`` has shape (n_folds, n_classes, n_samples); ``samples`` and ``minibatches`` hold one array a fold.
    """

    def __call__(
        self,
        K: npt.NDArray,
        Z0: npt.NDArray,
        labels: npt.NDArray[np.int64],
        samples: Sequence[npt.NDArray[np.int64]],
        minibatches: Sequence[npt.NDArray[np.int32]],
        parameters: SgdParameters,
    ) -> list[DualModel]:
        """Return the models in the order of the folds."""


def trainer(device: str = "cpu", n_threads: int = 1) -> Trainer:
    """Return what trains the folds of a repetition.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    n_threads
        Folds trained at once on the processor; the results do not depend on it.

    Raises
    ------
    InputError
        There is no GPU.
    """
    if resolve_device(device) == "cuda":
        return TorchTrainer("cuda")
    return CpuTrainer(n_threads)


class CpuTrainer:
    """Compiled loops, one fold per thread."""

    def __init__(self, n_threads: int = 1) -> None:
        self.n_threads = n_threads

    def __call__(
        self,
        K: npt.NDArray,
        Z0: npt.NDArray,
        labels: npt.NDArray[np.int64],
        samples: Sequence[npt.NDArray[np.int64]],
        minibatches: Sequence[npt.NDArray[np.int32]],
        parameters: SgdParameters,
    ) -> list[DualModel]:
        """Train the folds."""

        def one(fold: int) -> DualModel:
            return train(K, Z0[fold], labels, samples[fold], minibatches[fold], parameters)

        if self.n_threads == 1:
            return [one(fold) for fold in range(len(Z0))]
        with ThreadPoolExecutor(self.n_threads) as pool:
            return list(pool.map(one, range(len(Z0))))


class TorchTrainer:
    """Batched products on a torch device: the folds of a repetition take their updates together."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(
        self,
        K: npt.NDArray,
        Z0: npt.NDArray,
        labels: npt.NDArray[np.int64],
        samples: Sequence[npt.NDArray[np.int64]],
        minibatches: Sequence[npt.NDArray[np.int32]],
        parameters: SgdParameters,
    ) -> list[DualModel]:
        """Train the folds; those with minibatches of one size go together."""
        models: list[DualModel | None] = [None] * len(Z0)
        for size in sorted({batch.shape[1] for batch in minibatches}):
            together = [fold for fold, batch in enumerate(minibatches) if batch.shape[1] == size]
            order = np.stack([samples[fold][minibatches[fold]] for fold in together])
            trained = self._descend(K, Z0[together], labels, order, parameters)
            for fold, model in zip(together, trained, strict=True):
                models[fold] = model
        return [model for model in models if model is not None]

    def _descend(
        self,
        K: npt.NDArray,
        Z0: npt.NDArray,
        labels: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64],
        parameters: SgdParameters,
    ) -> list[DualModel]:
        import torch

        def put(values: npt.NDArray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=self.device)

        gram, starts, batches = put(K), put(Z0.transpose(0, 2, 1)), put(order)
        targets = put(np.eye(Z0.shape[1], dtype=K.dtype)[labels])
        coefficients, bias = torch.zeros_like(starts), torch.zeros_like(starts[:, :1])
        rows = torch.arange(len(Z0), device=self.device)[:, None]
        rate, factor = parameters.learning_rate, 1.0
        with torch.inference_mode():
            for update in range(order.shape[1]):
                chosen = batches[:, update]
                logits = torch.bmm(gram[chosen], coefficients) + factor * starts[rows, chosen] + bias
                error = (targets[chosen] - logits.softmax(dim=2)) * (rate / order.shape[2])
                if parameters.l2:
                    coefficients *= 1 - rate * parameters.l2
                    factor *= 1 - rate * parameters.l2
                coefficients[rows, chosen] += error
                bias += error.sum(dim=1, keepdim=True)
        trained = coefficients.transpose(1, 2).cpu().numpy()
        biases = bias[:, 0].cpu().numpy()
        return [
            DualModel(np.ascontiguousarray(own), factor, offset)
            for own, offset in zip(trained, biases, strict=True)
        ]
