"""A user's own networks, as ``--model package.module:factory`` takes them."""

from __future__ import annotations

from torch import nn


def small(shape: tuple[int, int, int], n_classes: int, *, width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, width, 5, stride=2),
        nn.BatchNorm3d(width),
        nn.ReLU(),
        nn.Conv3d(width, 2 * width, 3),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.AdaptiveAvgPool3d(3),
        nn.Flatten(),
        nn.Linear(54 * width, n_classes),
    )


def three(shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    return small(shape, n_classes + 1)
