"""How long an update of a network takes, and what it holds in memory, on made-up volumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.network_steps import machine_of, sample_losses
from bids_xai.decoding.networks import make_optimizer
from bids_xai.models.build import build_network


def seconds_per_update(
    parameters: NetworkParameters,
    shape: Sequence[int],
    n_classes: int,
    *,
    device: str,
    n_threads: int,
    n_updates: int = 2,
) -> float:
    """Return the seconds of an update: forward, backward and step of a minibatch, after one to warm up.

    Parameters
    ----------
    parameters
        Network, optimiser and minibatch.
    shape
        Voxels of a volume.
    n_classes
        Number of classes.
    device, n_threads
        Where, and with how many threads.
    n_updates
        Updates that are measured.
    """
    place = torch.device(device)
    x, y, z = shape
    with machine_of(place, n_threads, mixed=parameters.precision == "mixed"):
        network = build_network(
            parameters.model, (x, y, z), n_classes, seed=0, **parameters.model_options
        ).to(place)
        network.train()
        optimizer = make_optimizer(network, parameters)
        volumes = torch.rand((parameters.batch_size, 1, x, y, z), generator=torch.Generator().manual_seed(0))
        volumes, labels = volumes.to(place), torch.arange(parameters.batch_size, device=place) % n_classes
        for number in range(n_updates + 1):
            if number == 1:
                began = time.perf_counter()
            optimizer.zero_grad()
            sample_losses(network(volumes), labels, n_classes).mean().backward()
            optimizer.step()
        if place.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - began) / n_updates


def outputs_per_volume(network: nn.Module, shape: Sequence[int]) -> int:
    """Return how many numbers the layers of a network put out for one volume; nothing is computed.

    Parameters
    ----------
    network
        On the processor; it is copied.
    shape
        Voxels of a volume.
    """
    counts: list[int] = []

    def count(_: nn.Module, __: object, output: object) -> None:
        counts.extend(part.numel() for part in tree_leaves(output) if isinstance(part, torch.Tensor))

    copy = deepcopy(network).eval().to("meta")
    for module in copy.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with torch.inference_mode():
        copy(torch.empty((1, 1, *shape), device="meta"))
    return sum(counts)
