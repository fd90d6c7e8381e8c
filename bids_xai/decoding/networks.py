"""Training of networks on whole volumes, as in Böhle et al. (2019) and the papers after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.network_scores import score_metrics
from bids_xai.decoding.network_state import Record, TrainingState, training_fingerprint
from bids_xai.decoding.network_steps import (
    Trainer,
    balanced_weights,
    machine_of,
    make_optimizer,
    network_outputs,
    sample_losses,
    torch_seed,
)
from bids_xai.decoding.softmax import resolve_device
from bids_xai.decoding.volumes import VolumeFeed, memory_format
from bids_xai.errors import InputError
from bids_xai.models.build import build_network
from bids_xai.models.checkpoints import transfer_weights
from bids_xai.models.outputs import class_scores

__all__ = ["NetworkParameters", "TrainedNetwork", "make_optimizer", "predict", "train_network"]
_START = 3
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and how it got there.

    Parameters
    ----------
    network
        With the weights of the best epoch, in evaluation mode, on the device it was trained on; its
        convolutions lie in memory channels last where that is faster.
    history
        For every epoch ``epoch`` (from 1), ``train_loss`` (while training: dropout and moves are on),
        ``validation_loss``, ``validation_accuracy``, ``validation_balanced-accuracy``, ``validation_auc``,
        ``learning_rate`` (of its last update) and ``seconds``. Losses are without penalties.
    best_epoch
        The epoch with the best validation; the first of equals.
    n_iterations
        Updates until training stopped (those after the best epoch included), as Eitel et al. (2021) compare.
    seconds
        Time until then, over all sittings.
    held_at_once
        Volumes that went through the network at once. Fewer than a minibatch if memory ran out: gradients
        are summed to the same, but batch normalisation takes its means over fewer volumes.
    """

    network: nn.Module
    history: tuple[Record, ...]
    best_epoch: int
    n_iterations: int
    seconds: float
    held_at_once: int

    @property
    def effort(self) -> dict[str, float]:
        """What it took, for :func:`bids_xai.decoding.network_scores.stopping_table`."""
        return {
            "iterations": self.n_iterations,
            "epochs": len(self.history),
            "best-epoch": self.best_epoch,
            "seconds": self.seconds,
        }


def train_network(
    volumes: npt.NDArray,
    labels: Codes,
    train: Codes,
    validation: Codes,
    *,
    parameters: NetworkParameters,
    n_classes: int,
    seed: np.random.SeedSequence | int,
    device: str = "cpu",
    folder: Path | None = None,
    n_threads: int | None = 1,
    callback: Callable[[Record], None] | None = None,
) -> TrainedNetwork:
    """Train a network until its validation gets no better, and return its best epoch.

    Minimises the mean of ``-log p_c`` over a minibatch, c the class of a sample, weighted by 1 or by class,
    plus the penalties of the network. p is the softmax of the outputs, or the sigmoid of the one output.
    After every epoch the validation set is scored without dropout and moves. After ``patience`` epochs
    without a strictly better score training stops.

    The same seed, device and number of threads give the same bits, also when the training was interrupted and
    goes on in ``folder``. (On a GPU some gradients of torch, of max-pooling for one, add in no fixed order.)

    Parameters
    ----------
    volumes
        Shape (n, x, y, z), float32; may be memory-mapped.
    labels
        Classes, shape (n,).
    train, validation
        Numbers of the volumes to train on and to stop by.
    parameters
        Of the training.
    n_classes
        Number of classes.
    seed
        Of initial weights, order, moves and dropout.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    folder
        Where the state is kept after every epoch, and found when the training is asked for again; None:
        nowhere.
    n_threads
        Threads of torch; None: as many as it has.
    callback
        Called with the record of every epoch, after its state was written.

    Raises
    ------
    InputError
        A volume or the loss is not finite, the sets are empty or overlap, the outputs of the model are not of
        the classes, the folder is another training's, or one volume is too large for the memory.
    """
    seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    labels, train, validation = (np.asarray(codes, np.int64) for codes in (labels, train, validation))
    _check_sets(labels, train, validation, n_classes, parameters)
    place = torch.device(resolve_device(device))
    with machine_of(place, n_threads, mixed=parameters.precision == "mixed"):
        trainer = _trainer(volumes, labels, train, validation, parameters, n_classes, seed, place)
        sets = {"labels": labels, "train": train, "validation": validation}
        fingerprint = training_fingerprint(parameters, seed, n_classes, volumes, sets)
        network, optimizer = trainer.network, trainer.optimizer
        state = None if folder is None else TrainingState.load(folder, fingerprint, network, optimizer)
        state = state or TrainingState(held_at_once=parameters.batch_size)
        trainer.n_updates, trainer.held_at_once = state.n_updates, state.held_at_once
        while not state.finished:
            record = _epoch(trainer, state, train, validation)
            if folder is not None:
                state.save(folder, fingerprint, network, optimizer)
            if callback is not None:
                callback(record)
        network.load_state_dict(state.best)
    return TrainedNetwork(
        network.eval(),
        tuple(state.history),
        state.best_epoch,
        state.n_updates,
        sum(record["seconds"] for record in state.history),
        state.held_at_once,
    )


def predict(
    network: nn.Module,
    volumes: npt.NDArray,
    index: Codes,
    *,
    batch_size: int = 4,
    device: str = "cpu",
    input_scaling: str = "none",
    n_threads: int | None = 1,
) -> npt.NDArray[np.float32]:
    """Return the probabilities of the classes, shape (n, n_classes), in evaluation mode.

    Parameters
    ----------
    network
        Its modules are left in the mode, and its weights on the device, that they were in.
    volumes
        Shape (n_volumes, x, y, z).
    index
        Numbers of the n volumes.
    batch_size
        Volumes at once; fewer if memory runs out.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    input_scaling
        That of the training (:func:`bids_xai.decoding.volumes.scale_volumes`).
    n_threads
        Threads of torch; None: as many as it has.

    Raises
    ------
    InputError
        A volume is not finite, or one is too large for the memory.
    """
    place = torch.device(resolve_device(device))
    index = np.asarray(index, np.int64)
    before = next((parameter.device for parameter in network.parameters()), place)
    with machine_of(place, n_threads):
        feed = VolumeFeed(volumes, index, place, input_scaling, memory_format(network))
        try:
            outputs = network_outputs(network.to(place), feed, index, batch_size)
        finally:
            network.to(before)
    return class_scores(outputs, "probability").numpy()


def _trainer(
    volumes: npt.NDArray,
    labels: Codes,
    train: Codes,
    validation: Codes,
    parameters: NetworkParameters,
    n_classes: int,
    seed: np.random.SeedSequence,
    device: torch.device,
) -> Trainer:
    """Build the network, or take it from a checkpoint, and what it is trained with."""
    network = build_network(
        parameters.model,
        tuple(volumes.shape[1:]),
        n_classes,
        seed=torch_seed(seed, _START),
        **parameters.model_options,
    )
    if parameters.pretrained is not None:
        transfer_weights(network, parameters.pretrained, parameters.transfer)
    layout = memory_format(network)
    network = network.to(device=device, memory_format=layout)
    used = np.concatenate([train, validation])
    balanced = parameters.class_weights
    return Trainer(
        network,
        make_optimizer(network, parameters),
        VolumeFeed(volumes, used, device, parameters.input_scaling, layout),
        labels,
        parameters,
        n_classes=n_classes,
        class_weights=balanced_weights(labels[train], n_classes) if balanced else np.ones(n_classes),
        seed=seed,
        device=device,
    )


def _epoch(trainer: Trainer, state: TrainingState, train: Codes, validation: Codes) -> Record:
    """Train for one epoch, score the validation set, and bring the state up to date."""
    start, number = time.perf_counter(), len(state.history) + 1
    parameters = trainer.parameters
    record: Record = {"epoch": number, "train_loss": trainer.epoch(train, number)}
    _refuse_nan("training", number, record["train_loss"], parameters)
    record |= _validation(trainer, validation)
    _refuse_nan("validation", number, record["validation_loss"], parameters)
    record["learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
    record["seconds"] = time.perf_counter() - start
    value = record[f"validation_{parameters.monitor}"]
    # A lower loss is better, and a higher score.
    better = value < state.best_value if parameters.monitor == "loss" else value > state.best_value
    if better or math.isnan(state.best_value):
        state.best_value, state.best_epoch = value, number
        state.best = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    state.history.append(record)
    state.n_updates, state.held_at_once = trainer.n_updates, trainer.held_at_once
    state.finished = number >= parameters.max_epochs or number - state.best_epoch >= parameters.patience
    return record


def _validation(trainer: Trainer, validation: Codes) -> Record:
    """Return loss and metrics of the validation set."""
    held = trainer.held_at_once
    logits = network_outputs(trainer.network, trainer.feed, validation, held, autocast=trainer.autocast)
    labels, weights = trainer.labels.cpu()[torch.from_numpy(validation)], trainer.weights.cpu()
    losses: Tensor = sample_losses(logits, labels, trainer.n_classes) * weights[labels]
    metrics = score_metrics(labels.numpy(), class_scores(logits, "probability").numpy())
    loss = float(losses.sum() / weights[labels].sum())
    return {"validation_loss": loss, **{f"validation_{name}": value for name, value in metrics.items()}}


def _refuse_nan(where: str, epoch: int, loss: float, parameters: NetworkParameters) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"The {where} loss is {loss} in epoch {epoch}.",
            "a finite loss",
            f"lower the learning rate (now {parameters.learning_rate:g}), or scale the volumes "
            f"(now {parameters.input_scaling})",
        )


def _check_sets(
    labels: Codes, train: Codes, validation: Codes, n_classes: int, parameters: NetworkParameters
) -> None:
    counts = np.bincount(labels[train], minlength=n_classes)
    unknown = (labels[np.concatenate([train, validation])] >= n_classes).any()
    if unknown or not counts.all() or not len(validation):
        raise InputError(
            f"{counts.tolist()} samples of the classes to train on, and {len(validation)} to stop by.",
            f"some of each of {n_classes} classes, and some to stop by",
            "use another split, or leave classes out with --classes",
        )
    shared = np.intersect1d(train, validation)
    if len(shared):
        raise InputError(
            f"{len(shared)} samples are to train on and to stop by (sample {int(shared[0])}).",
            "sets without shared samples",
            "split them again",
        )
    if parameters.monitor == "auc" and len(np.unique(labels[validation])) < 2:
        raise InputError(
            "The validation set is of one class, and training is to stop by the area under its ROC curve.",
            "two classes",
            "monitor the loss, or use a larger validation set",
        )
