"""One pass over minibatches: to update a network, or to read its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.decoding.augmentation import augment
from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.volumes import VolumeFeed
from bids_xai.errors import InputError
from bids_xai.models.memory import memory_kept
from bids_xai.models.threads import torch_threads

T = TypeVar("T")
_ORDER, _MOVES, _DROPOUT = range(3)


@contextmanager
def mode_of(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a network in training or evaluation mode, and every module back as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def machine_of(device: torch.device, n_threads: int | None, *, mixed: bool = False) -> Iterator[None]:
    """Fix the number of threads, and cuDNN's choice of algorithms, so that sums are taken in one order.

    Freed memory is kept meanwhile (:func:`bids_xai.models.memory.memory_kept`).
    """
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=mixed)
    threads = torch_threads(torch.get_num_threads() if n_threads is None else n_threads)
    with threads, memory_kept(), cudnn if device.type == "cuda" else nullcontext():
        yield


def sample_losses(logits: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return -log p(class) of every sample, shape (n,): cross entropy of a softmax, or of one sigmoid unit.

    Raises
    ------
    InputError
        There is neither an output per class nor, for two classes, one.
    """
    if logits.ndim == 2 and logits.shape[1] == 1 and n_classes == 2:
        return nn.functional.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), reduction="none"
        )
    if logits.ndim != 2 or logits.shape[1] != n_classes:
        raise InputError(
            f"The model has outputs of shape {tuple(logits.shape[1:])} for {n_classes} classes.",
            f"({n_classes},)" + (", or (1,): the logit of the second" if n_classes == 2 else ""),
            "choose a model with an output for every class",
        )
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def network_outputs(
    network: nn.Module,
    feed: VolumeFeed,
    index: npt.NDArray[np.int64],
    batch_size: int,
    *,
    autocast: Callable[[], Any] = nullcontext,
) -> Tensor:
    """Return the logits of volumes in evaluation mode, float32, on the CPU."""
    size, outputs = batch_size, []
    place = 0
    with mode_of(network, training=False), torch.inference_mode():
        while place < len(index):
            chosen = index[place : place + size]
            output = fitting(partial(_forward, network, feed, chosen, autocast))
            if isinstance(output, OutOfMemory):
                size = halved(len(chosen), output, "reading outputs")
                continue
            outputs.append(output)
            place += len(chosen)
    return torch.cat(outputs)


def _forward(
    network: nn.Module, feed: VolumeFeed, index: npt.NDArray[np.int64], autocast: Callable[[], Any]
) -> Tensor:
    with autocast():
        return network(feed.batch(index)).float().cpu()


class Trainer:
    """Updates a network, epoch by epoch.

    Everything random in an epoch (order, moves, dropout) is drawn from (seed, epoch), so that an epoch can be
    repeated from its start.

    Parameters
    ----------
    network, optimizer
        What is trained.
    feed, labels
        Volumes, and labels of all of them.
    parameters
        Of the training.
    n_classes
        Number of classes.
    class_weights
        Weight of a sample of every class, shape (n_classes,).
    seed
        Of the training.
    device
        Where the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        feed: VolumeFeed,
        labels: npt.NDArray[np.int64],
        parameters: NetworkParameters,
        *,
        n_classes: int,
        class_weights: npt.NDArray,
        seed: np.random.SeedSequence,
        device: torch.device,
    ) -> None:
        self.network, self.optimizer, self.feed, self.parameters = network, optimizer, feed, parameters
        self.labels = torch.from_numpy(labels).to(device)
        self.weights = torch.from_numpy(class_weights.astype(np.float32)).to(device)
        self.n_classes, self.seed, self.device = n_classes, seed, device
        self.held_at_once = parameters.batch_size
        self.n_updates = 0

    def epoch(self, train: npt.NDArray[np.int64], number: int) -> float:
        """Update on all samples once in random order; return the mean loss, weighted by class."""
        order = np.random.default_rng(substream(self.seed, _ORDER, number)).permutation(train)
        moves = torch.Generator().manual_seed(torch_seed(self.seed, _MOVES, number))
        total = torch.zeros((), device=self.device)
        # Dropout knows the global generators only: they are put back.
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            mode_of(self.network, training=True),
        ):
            torch.manual_seed(torch_seed(self.seed, _DROPOUT, number))
            for start in range(0, len(order), self.parameters.batch_size):
                rate = self.parameters.rate(number - 1, self.n_updates)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                total += self._update(order[start : start + self.parameters.batch_size], moves)
                self.n_updates += 1
        # The weights of the training samples have the mean 1.
        return float(total / len(train))

    def _update(self, index: npt.NDArray[np.int64], moves: torch.Generator) -> Tensor:
        """Update on one minibatch; return its loss summed over samples (times their weights)."""
        parameters = self.parameters
        images = augment(
            self.feed.batch(index),
            moves,
            flip=parameters.flip,
            shift=parameters.shift,
            shift_axes=parameters.shift_axes,
        )
        labels = self.labels[torch.from_numpy(index).to(self.device)]
        while True:
            # A forward pass that ran out of memory has moved the running means of some layers.
            buffers = [buffer.clone() for buffer in self.network.buffers()]
            self.optimizer.zero_grad()
            loss = fitting(partial(self._gradients, images, labels))
            if not isinstance(loss, OutOfMemory):
                break
            with torch.no_grad():
                for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            self.held_at_once = halved(min(self.held_at_once, len(index)), loss, "training")
        self.optimizer.step()
        return loss

    def _gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Sum the gradients of parts of a minibatch that fit into memory: those of the whole minibatch."""
        weights = self.weights[labels]
        total = torch.zeros((), device=self.device)
        for start in range(0, len(images), self.held_at_once):
            part = slice(start, start + self.held_at_once)
            with self.autocast():
                logits = self.network(images[part])
            losses = sample_losses(logits.float(), labels[part], self.n_classes)
            summed = (losses * weights[part]).sum()
            loss = summed / weights.sum()
            (loss + penalty(self.network) if start == 0 else loss).backward()
            total += summed.detach()
        return total

    def autocast(self) -> Any:
        """Return the context of forward passes: bfloat16 where it is asked for, on a GPU."""
        mixed = self.parameters.precision == "mixed" and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()


def penalty(network: nn.Module) -> Tensor | float:
    """Return sum_k l2_k sum(w_k^2) over ``network.penalties`` (Eitel et al. 2019: .01), 0 without."""
    penalties: dict[str, float] = getattr(network, "penalties", None) or {}
    return sum(l2 * network.get_parameter(name).square().sum() for name, l2 in penalties.items())


def balanced_weights(labels: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.float64]:
    """Return n / (n_classes n_c) for every class c, shape (n_classes,); their mean over samples is 1."""
    return len(labels) / (n_classes * np.bincount(labels, minlength=n_classes))


def make_optimizer(network: nn.Module, parameters: NetworkParameters) -> torch.optim.Optimizer:
    """Return torch's optimizer over all parameters that are trained."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    options = {"lr": parameters.learning_rate, "weight_decay": parameters.weight_decay}
    if parameters.optimizer == "sgd":
        return torch.optim.SGD(trained, momentum=parameters.momentum, **options)
    kind: Callable[..., torch.optim.Optimizer] = (
        torch.optim.Adam if parameters.optimizer == "adam" else torch.optim.AdamW
    )
    return kind(trained, **options)


def substream(seed: np.random.SeedSequence, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of a part of a training, without a count of what was spawned before."""
    return np.random.SeedSequence(entropy=seed.entropy, spawn_key=(*seed.spawn_key, *key))


def torch_seed(seed: np.random.SeedSequence, *key: int) -> int:
    """Return a seed for torch's generators, 63 bits."""
    return int(substream(seed, *key).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class OutOfMemory:
    """What torch said when memory ran out: how much it asked for."""

    message: str


def fitting(compute: Callable[[], T]) -> T | OutOfMemory:
    """Return what a function gives, or that it ran out of memory; other errors pass."""
    try:
        return compute()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        message = str(error).splitlines()[0]
    # Outside of the except block, whose traceback holds on to the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return OutOfMemory(message)


def halved(size: int, shortage: OutOfMemory, doing: str) -> int:
    """Return half of a number of volumes, rounded up.

    Raises
    ------
    InputError
        It was one.
    """
    if size > 1:
        return math.ceil(size / 2)
    raise InputError(
        f"Out of memory while {doing} with one volume at a time: {shortage.message}",
        "memory for the activations of one volume, the weights and the optimizer",
        "use a coarser grid, a smaller model or a device with more memory",
    )
