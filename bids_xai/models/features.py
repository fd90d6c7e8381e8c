"""What a network sees just before it decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.errors import InputError


def penultimate_features(
    network: nn.Module, volumes: npt.NDArray[np.float32], *, batch_size: int = 4, device: str = "cpu"
) -> npt.NDArray[np.float32]:
    """Return the input of the last dense layer, or of the last convolution where there is none.

    Parameters
    ----------
    network
        Takes volumes of shape (n, 1, x, y, z).
    volumes
        Shape (n, x, y, z).
    batch_size, device
        Volumes at once, and where.

    Returns
    -------
    array, float32, shape (n, n_features)

    Raises
    ------
    InputError
        The network has neither.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    layers = layers or [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    if not layers:
        raise InputError(
            f"{type(network).__name__} has no Linear and no Conv3d layer.",
            "a last layer whose input are the features",
            "leave out --similarity",
        )
    found: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))  # noqa: ARG005
    training = network.training
    network.to(device).eval()
    try:
        with torch.no_grad():
            for start in range(0, len(volumes), batch_size):
                part = np.ascontiguousarray(volumes[start : start + batch_size])
                network(torch.from_numpy(part).to(device)[:, None])
    finally:
        handle.remove()
        network.train(training)
    return torch.cat([own.flatten(1) for own in found]).float().cpu().numpy()
