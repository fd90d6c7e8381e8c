"""Training many layers: on the processor in compiled loops, or on the GPU side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.basis import Basis
from bids_xai.decoding.softmax import SgdParameters, SoftmaxLayer, coefficient_type, resolve_device, train

if TYPE_CHECKING:
    import torch

_Item = TypeVar("_Item")

# Folds that train on less than this share of the samples get a Gram matrix of their own.
_SHARE_OF_GRAM = 0.75
# Values on the GPU that layers trained side by side may take (float32: 4 GB), with rows gathered for them.
_VALUES_AT_ONCE = 1 << 30


@dataclass(frozen=True)
class Task:
    """One layer to train.

    Parameters
    ----------
    Z0
        Logits of the initial weights for all samples, without bias, shape (n_classes, n_samples).
    labels
        Classes of all samples, shape (n_samples,).
    samples
        Numbers of the samples to train on, shape (n_train,).
    draw
        Returns the minibatches, positions in ``samples``, shape (n_updates, batch)
        (:func:`bids_xai.decoding.softmax.draw_minibatches`); called once.
    """

    Z0: npt.NDArray
    labels: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    draw: Callable[[], npt.NDArray[np.int32]]


class Trainer(Protocol):
    """Trains one softmax layer per task (:func:`bids_xai.decoding.softmax.train`).

    ``n_threads`` is what it uses of the processor.
    """

    n_threads: int

    def __call__(self, basis: Basis, tasks: Sequence[Task], parameters: SgdParameters) -> list[SoftmaxLayer]:
        """Return the layers in the order of the tasks."""


def trainer(device: str = "cpu", n_threads: int = 1) -> Trainer:
    """Return what trains layers.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    n_threads
        Layers trained at once on the processor; the results do not depend on it.

    Raises
    ------
    InputError
        There is no GPU.
    """
    if resolve_device(device) == "cuda":
        return TorchTrainer("cuda")
    return CpuTrainer(n_threads)


@contextmanager
def threads(n_threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give a ``map`` that computes in so many threads; with one, in this one and only what is asked for."""
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield pool.map


class CpuTrainer:
    """Compiled loops, one layer per thread: coefficients stay in the first cache, the basis in the last."""

    def __init__(self, n_threads: int = 1) -> None:
        self.n_threads = n_threads

    def __call__(self, basis: Basis, tasks: Sequence[Task], parameters: SgdParameters) -> list[SoftmaxLayer]:
        """Train the layers."""
        parameters = parameters.of(basis)
        layers: list[SoftmaxLayer | None] = [None] * len(tasks)
        # Tasks of one fold, whatever their repetition, share what is cut out of the Gram matrix.
        order = sorted(range(len(tasks)), key=lambda number: (id(tasks[number].samples), number))
        with threads(self.n_threads) as run:
            for _, numbers in groupby(order, key=lambda number: id(tasks[number].samples)):
                own = list(numbers)
                train_one = _in_fold(basis, tasks[own[0]].samples, parameters)
                for number, layer in zip(own, run(train_one, [tasks[i] for i in own]), strict=True):
                    layers[number] = layer
        return [layer for layer in layers if layer is not None]


def _in_fold(
    basis: Basis, samples: npt.NDArray[np.int64], parameters: SgdParameters
) -> Callable[[Task], SoftmaxLayer]:
    """Return what trains a task of the fold that trains on these samples."""
    n = len(basis.rows)
    if not basis.dual or len(samples) >= _SHARE_OF_GRAM * n:
        numbers = samples.astype(np.int32)

        def with_all(task: Task) -> SoftmaxLayer:
            return train(basis, task.Z0, task.labels, numbers[task.draw()], parameters)

        return with_all

    own = basis.restricted(samples)

    def with_own(task: Task) -> SoftmaxLayer:
        layer = train(own, task.Z0[:, samples], task.labels[samples], task.draw(), parameters)
        return _among_all(layer, samples, n)

    return with_own


def _among_all(layer: SoftmaxLayer, samples: npt.NDArray[np.int64], n: int) -> SoftmaxLayer:
    """Return a layer of some of n samples with coefficients of all of them, those of the others being 0."""
    coefficients = np.zeros((len(layer.coefficients), n), dtype=layer.coefficients.dtype)
    coefficients[:, samples] = layer.coefficients
    halfway = None if layer.halfway is None else _among_all(layer.halfway, samples, n)
    return SoftmaxLayer(coefficients, layer.factor, layer.bias, layer.norms, halfway)


class TorchTrainer:
    """Batched products on a torch device: layers take their updates together."""

    def __init__(self, device: str) -> None:
        self.device, self.n_threads = device, 1

    def __call__(self, basis: Basis, tasks: Sequence[Task], parameters: SgdParameters) -> list[SoftmaxLayer]:
        """Train the layers; those with minibatches of one size go together, as many as fit."""
        parameters = parameters.of(basis)
        layers: list[SoftmaxLayer | None] = [None] * len(tasks)
        sizes = [min(parameters.batch_size, len(task.samples)) for task in tasks]
        for size in sorted(set(sizes)):
            together = [number for number, own in enumerate(sizes) if own == size]
            values = basis.rows.shape[1] * (size + 2 * len(tasks[0].Z0)) + parameters.n_updates * size
            for part in parts(together, max(_VALUES_AT_ONCE // values, 1)):
                trained = self._descend(basis, [tasks[number] for number in part], parameters)
                for number, layer in zip(part, trained, strict=True):
                    layers[number] = layer
        return [layer for layer in layers if layer is not None]

    def _descend(self, basis: Basis, tasks: list[Task], parameters: SgdParameters) -> list[SoftmaxLayer]:
        import torch

        def put(values: npt.NDArray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=self.device)

        rows = put(basis.rows[:, : basis.width].astype(coefficient_type(basis), copy=False))
        batches = put(np.stack([task.samples[task.draw()] for task in tasks]))
        starts = put(np.stack([task.Z0.T for task in tasks])).to(rows.dtype)
        targets = torch.nn.functional.one_hot(put(np.stack([task.labels for task in tasks])), starts.shape[2])
        targets = targets.to(rows.dtype)
        with torch.inference_mode():
            reached = _descend_together(rows, basis.dual, starts, targets, batches, parameters)
        kind = basis.rows.dtype
        layers: list[SoftmaxLayer | None] = [None] * len(tasks)
        for coefficients, factor, bias, norms in reached:
            trained = np.ascontiguousarray(coefficients.transpose(1, 2).cpu().numpy(), dtype=kind)
            biases, of_samples = bias[:, 0].cpu().numpy().astype(kind), norms.cpu().numpy().astype(kind)
            layers = [
                SoftmaxLayer(own, factor, offset, norm, before)
                for own, offset, norm, before in zip(trained, biases, of_samples, layers, strict=True)
            ]
        return [layer for layer in layers if layer is not None]


def _descend_together(
    rows: torch.Tensor,
    dual: bool,
    starts: torch.Tensor,
    targets: torch.Tensor,
    batches: torch.Tensor,
    parameters: SgdParameters,
) -> list[tuple[torch.Tensor, float, torch.Tensor, torch.Tensor]]:
    """Return what half of the updates and all of them have led to.

    Coefficients (n_layers, width, n_classes), the factor of the initial weights, the bias, and the norms.
    """
    import torch

    n_layers, _, n_classes = starts.shape
    coefficients = rows.new_zeros((n_layers, rows.shape[1], n_classes))
    added = coefficients if dual else rows.new_zeros((n_layers, len(rows), n_classes))
    bias = rows.new_zeros((n_layers, 1, n_classes))
    own = torch.arange(n_layers, device=rows.device)[:, None]
    step, decay = parameters.step / batches.shape[2], 1 - parameters.step * parameters.decay
    factor = 1.0
    reached = []
    for update in range(batches.shape[1]):
        if update == batches.shape[1] // 2:
            reached.append((coefficients.clone(), factor, bias.clone(), added.norm(dim=1)))
        chosen = batches[:, update]
        gathered = rows[chosen]
        outputs = (gathered @ coefficients + factor * starts[own, chosen] + bias).softmax(dim=2)
        if parameters.clip:
            outputs = outputs.clamp(parameters.clip, 1 - parameters.clip)
        error = (targets[own, chosen] - outputs) * step
        if parameters.decay:
            coefficients *= decay
            factor *= decay
            if not dual:
                added *= decay
        if dual:
            coefficients[own, chosen] += error
        else:
            coefficients += gathered.transpose(1, 2) @ error
            added[own, chosen] += error
        if parameters.bias:
            bias += error.sum(dim=1, keepdim=True)
    return [*reached, (coefficients, factor, bias, added.norm(dim=1))]


def parts(sequence: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yield the parts of a sequence, of ``size`` items or fewer."""
    return (sequence[start : start + size] for start in range(0, len(sequence), size))
