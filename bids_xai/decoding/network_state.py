"""Where a training has got to, on disk after every epoch, so that it goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bids_xai.atomic import sweep, whole_file
from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.errors import InputError

STATE_FILE = "training.pt"
Record = dict[str, float]


@dataclass
class TrainingState:
    """What is known after an epoch.

    Parameters
    ----------
    history
        A record of every epoch.
    best_epoch, best_value, best
        The epoch with the best validation (0: none yet), its monitored value, and the weights after it.
    n_updates
        Updates so far.
    held_at_once
        Volumes that went through the network at once; fewer than a minibatch if memory ran out.
    finished
        Whether training has stopped.
    """

    history: list[Record] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = float("nan")
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    n_updates: int = 0
    held_at_once: int = 0
    finished: bool = False

    def save(
        self, folder: Path, fingerprint: str, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the state, the weights and what the optimizer keeps to one file, whole."""
        with whole_file(folder / STATE_FILE) as path:
            torch.save(
                {
                    **{name: getattr(self, name) for name in _ENTRIES},
                    "fingerprint": fingerprint,
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
                path,
            )

    @classmethod
    def load(
        cls, folder: Path, fingerprint: str, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> TrainingState | None:
        """Read a state into network and optimizer; None if there is none.

        Raises
        ------
        InputError
            The folder is another training's, or the file is damaged.
        """
        # The folder outlives kills: what they left would pile up.
        sweep(folder, deep=False)
        path = folder / STATE_FILE
        if not path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive fails in many ways
            raise InputError(
                f"{path} cannot be read ({type(error).__name__}).",
                "the state of a training",
                "remove it to train from the start",
            ) from error
        if content.get("fingerprint") != fingerprint:
            raise InputError(
                f"{path} is of another training.",
                "the same parameters, samples, labels and seed",
                "use another folder, or remove the file to train from the start",
            )
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        return cls(**{name: content[name] for name in _ENTRIES})


_ENTRIES = tuple(TrainingState.__dataclass_fields__)


def training_fingerprint(
    parameters: NetworkParameters,
    seed: np.random.SeedSequence,
    n_classes: int,
    volumes: npt.NDArray,
    arrays: Mapping[str, npt.NDArray[np.int64]],
) -> str:
    """Return a checksum of all that a training follows from, but for the voxels of all volumes but one."""
    described = {
        "parameters": asdict(parameters),
        "seed": [str(seed.entropy), list(seed.spawn_key)],
        "n_classes": n_classes,
        "shape": list(volumes.shape),
    }
    checksum = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        checksum.update(name.encode() + np.ascontiguousarray(values).tobytes())
    checksum.update(np.ascontiguousarray(volumes[arrays["train"][0]]).tobytes())
    return checksum.hexdigest()
