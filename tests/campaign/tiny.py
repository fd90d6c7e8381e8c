"""A network of the user for volumes of a few voxels."""

from __future__ import annotations

from math import prod

from torch import nn


def network(shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * prod(shape), n_classes)
    )
