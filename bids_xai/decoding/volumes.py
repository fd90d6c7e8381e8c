"""Volumes on their way to a network: checked, scaled, on the device if they fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.errors import InputError

SCALINGS = ("none", "minmax", "zscore", "max")
# Activations and gradients need the rest.
_RESIDENT_SHARE = 0.4
_CHECKED_AT_ONCE = 16


def scale_volumes(batch: Tensor, scaling: str) -> Tensor:
    """Return volumes scaled one by one, over all voxels.

    ``minmax``: (v - min) / (max - min), in [0, 1] (Böhle et al. 2019; Eitel et al. 2019). ``zscore``:
    (v - mean) / sd, sd with n. ``max``: v / max (Eitel et al. 2021). ``none``: v. A constant
    volume becomes zero by the first two, and one without a positive voxel stays as it is by the third.

    Parameters
    ----------
    batch
        Shape (n, 1, x, y, z).
    scaling
        One of :data:`SCALINGS`.
    """
    if scaling == "none":
        return batch
    flat = batch.flatten(1)
    if scaling == "minmax":
        offset, width = flat.amin(1), flat.amax(1) - flat.amin(1)
    elif scaling == "zscore":
        offset, width = flat.mean(1), flat.std(1, correction=0)
    elif scaling == "max":
        offset, width = torch.zeros_like(flat[:, 0]), flat.amax(1)
    else:
        raise InputError(f"Unknown scaling {scaling!r}.", f"one of {', '.join(SCALINGS)}")
    width = torch.where(width > 0, width, 1.0)
    shape = (-1, 1, 1, 1, 1)
    return (batch - offset.reshape(shape)) / width.reshape(shape)


class VolumeFeed:
    """Gives minibatches of volumes on a device.

    Parameters
    ----------
    volumes
        Shape (n, x, y, z), float32; may be memory-mapped.
    used
        Numbers of the volumes that will be asked for.
    device
        On a GPU the used volumes are kept there if they take less than 40 % of its free memory; else, and on
        the CPU, minibatches are copied.
    scaling
        See :func:`scale_volumes`.
    layout
        Of the minibatches in memory (:func:`memory_format`).

    Raises
    ------
    InputError
        A used volume holds a number that is not finite.
    """

    def __init__(
        self,
        volumes: npt.NDArray,
        used: npt.NDArray[np.int64],
        device: torch.device,
        scaling: str,
        layout: torch.memory_format,
    ) -> None:
        check_finite(volumes, used)
        self._volumes, self._device, self._scaling, self._layout = volumes, device, scaling, layout
        self._resident: Tensor | None = None
        self._places = np.full(len(volumes), -1, dtype=np.int64)
        self._places[used] = np.arange(len(used))
        if device.type == "cuda":
            size = len(used) * int(np.prod(volumes.shape[1:])) * 4
            if size < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._resident = torch.empty((len(used), *volumes.shape[1:]), device=device)
                for place, number in enumerate(used):
                    self._resident[place] = torch.from_numpy(np.array(volumes[number], dtype=np.float32))

    def batch(self, index: npt.NDArray[np.int64]) -> Tensor:
        """Return scaled volumes, shape (n, 1, x, y, z), float32."""
        if self._resident is not None:
            chosen = self._resident[torch.from_numpy(self._places[index]).to(self._device)]
        else:
            chosen = torch.from_numpy(np.asarray(self._volumes[index], dtype=np.float32))
            chosen = chosen.to(self._device)
        return scale_volumes(chosen[:, None], self._scaling).to(memory_format=self._layout)


def memory_format(network: nn.Module) -> torch.memory_format:
    """Return how volumes lie in memory best: channels last, but for depthwise convolutions.

    Measured on one core at minibatches of 4: 1.3 to 1.9 times faster for ``boehle2019`` and ``adni-a``, 0.8
    times for ``emotion``.
    """
    depthwise = any(
        isinstance(module, nn.Conv3d) and module.groups == module.in_channels > 1
        for module in network.modules()
    )
    return torch.contiguous_format if depthwise else torch.channels_last_3d


def check_finite(volumes: npt.NDArray, used: npt.NDArray[np.int64]) -> None:
    """Refuse volumes with nan or inf, and name the first."""
    for start in range(0, len(used), _CHECKED_AT_ONCE):
        numbers = used[start : start + _CHECKED_AT_ONCE]
        chosen = volumes[numbers]
        if np.isfinite(chosen).all():
            continue
        wrong = ~np.isfinite(chosen).reshape(len(chosen), -1)
        first = int(wrong.any(axis=1).argmax())
        raise InputError(
            f"Sample {int(numbers[first])} has {int(wrong[first].sum())} voxels that are nan or infinite.",
            "finite numbers in every voxel",
            "look at that image and its preprocessing, or leave the person out with --participant-label",
        )


def as_seen(volumes: npt.NDArray[np.float32], scaling: str) -> npt.NDArray[np.float32]:
    """Return volumes of shape (n, x, y, z) as a network sees them (:func:`scale_volumes`)."""
    if not len(volumes):
        return volumes
    batch = torch.from_numpy(np.ascontiguousarray(volumes))[:, None]
    return np.asarray(scale_volumes(batch, scaling)[:, 0].numpy())
