"""How a network is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bids_xai.decoding.augmentation import SAGITTAL
from bids_xai.decoding.volumes import SCALINGS
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

OPTIMIZERS = ("adam", "adamw", "sgd")
MONITORS = ("loss", "accuracy", "balanced-accuracy", "auc")
SCHEDULES = ("none", "cosine", "inverse-time")
PRECISIONS = ("single", "mixed")


@dataclass(frozen=True)
class NetworkParameters:
    """Parameters of a training, plain values; the defaults are those of Böhle et al. (2019).

    Parameters
    ----------
    model, model_options
        Name in :data:`bids_xai.models.NETWORKS` or ``package.module:factory``, and options of the factory.
    optimizer
        ``"adam"``, ``"adamw"`` (decay apart from the gradient) or ``"sgd"``.
    learning_rate
        First step.
    momentum
        Of ``"sgd"``.
    weight_decay
        L2 of all parameters, as torch's optimizers take it.
    batch_size
        Samples in a minibatch.
    max_epochs, patience
        Epochs at most, and epochs without a better validation after which training stops.
    monitor
        What is better: a lower ``"loss"``, or a higher ``"accuracy"``, ``"balanced-accuracy"`` or ``"auc"``.
    schedule
        ``"cosine"``: over ``max_epochs``, epoch by epoch. ``"inverse-time"``: learning_rate / (1 + decay t)
        at update t, which is how Keras' Adam, and so Eitel et al. (2019), decays.
    learning_rate_decay
        decay of ``"inverse-time"``.
    flip, shift, shift_axes
        See :func:`bids_xai.decoding.augmentation.augment`.
    class_weights
        Weigh samples by n / (n_classes x samples of their class).
    pretrained, transfer
        Checkpoint to start from, and what to take from it
        (:func:`bids_xai.models.checkpoints.transfer_weights`).
    precision
        ``"mixed"``: bfloat16 autocast and TF32 on a GPU; the CPU is always single.
    input_scaling
        See :func:`bids_xai.decoding.volumes.scale_volumes`.

    Raises
    ------
    InputError
        A value is none of those that there are.
    """

    model: str = "boehle2019"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 4
    max_epochs: int = 100
    patience: int = 8
    monitor: str = "accuracy"
    schedule: str = "none"
    learning_rate_decay: float = 0.0
    flip: float = 0.5
    shift: int = 2
    shift_axes: tuple[int, ...] = (SAGITTAL,)
    class_weights: bool = False
    pretrained: str | None = None
    transfer: tuple[str, ...] = ("all",)
    precision: str = "single"
    input_scaling: str = "minmax"

    def __post_init__(self) -> None:
        # JSON has lists.
        object.__setattr__(self, "shift_axes", tuple(self.shift_axes))
        object.__setattr__(
            self, "transfer", (self.transfer,) if isinstance(self.transfer, str) else tuple(self.transfer)
        )
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"Unknown {name} {value!r}.", f"one of {', '.join(known)}", nearest_name(value, known)
                )
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}.", "1 or more")
        if not self.learning_rate > 0 or not 0 <= self.flip <= 1 or self.shift < 0:
            raise InputError(
                f"learning_rate {self.learning_rate:g}, flip {self.flip:g}, shift {self.shift}.",
                "a positive learning rate, a probability, a number of voxels",
            )

    def rate(self, epoch: int, update: int) -> float:
        """Return the learning rate in an epoch (from 0) at an update (from 0, over all epochs)."""
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * epoch / self.max_epochs)) / 2
        if self.schedule == "inverse-time":
            return self.learning_rate / (1 + self.learning_rate_decay * update)
        return self.learning_rate


_CHOICES = {
    "optimizer": OPTIMIZERS,
    "monitor": MONITORS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "input_scaling": SCALINGS,
}
