"""Patch-individual filters in training on a CPU: from maps to outputs, and back, without patches between.

The values are those of :class:`bids_xai.models.patches.Split` and the grouped convolution after it, to
rounding; the loops are in :mod:`bids_xai.models.patch_kernels`.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bids_xai.models import patch_kernels
from bids_xai.models.layers import Shape

_LAST = torch.channels_last_3d


@dataclass(frozen=True)
class Cutting:
    """How maps are cut: patches per axis of both sets, size of a patch and zeros around it, and the shift."""

    grid: Shape
    second: Shape
    patch: Shape
    padding: Shape
    shift: Shape | None

    @property
    def n_first(self) -> int:
        """Patches of the first set, of which no two share a voxel; nor do two of the second."""
        return math.prod(self.grid)

    def corners(self) -> np.ndarray:
        """Return the first voxels of the patches of both sets, shape (patches, 3)."""
        sets = [(self.grid, (0, 0, 0))] + ([(self.second, self.shift)] if self.shift else [])
        firsts = [
            np.array(list(itertools.product(*map(range, grid)))) * self.patch + start for grid, start in sets
        ]
        return np.concatenate(firsts).astype(np.int64)


def filtered(x: Tensor, weight: Tensor, bias: Tensor, cutting: Cutting) -> Tensor:
    """Return what the filters of every patch give.

    Parameters
    ----------
    x
        Maps (n, c, x, y, z), in float32 or float64, in any order in memory.
    weight, bias
        Those of the grouped convolution: shapes (patches * filters, c, kx, ky, kz), (patches * filters,).
    cutting
        How maps are cut.

    Returns
    -------
    Tensor, shape (n, patches * filters, ox, oy, oz). Gradients of its gradients are refused by torch.
    """
    found: Tensor = _Filtered.apply(x, weight, bias, cutting)
    return found


class _Filtered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, cutting: Cutting) -> Tensor:
        ctx.cutting, ctx.channels_last = cutting, x.is_contiguous(memory_format=_LAST)
        x = x if ctx.channels_last else _channels_last(x)
        weight = weight.contiguous()
        ctx.save_for_backward(x, weight)
        geometry, filters = _geometry(cutting, weight)
        left = [p + 2 * q - k + 1 for p, q, k in zip(*geometry[1:], strict=True)]
        y = x.new_empty((len(x), len(weight), *left))
        maps, biases, out = _rows(x), bias.reshape(filters.shape[:2]).numpy(), _of_patches(y, filters)
        patch_kernels.outputs(maps, *geometry, filters, biases, out, 0, len(filters))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        geometry, filters = _geometry(ctx.cutting, weight)
        towards, n_first = _of_patches(gradient.contiguous(), filters), ctx.cutting.n_first
        in_x, in_weight, in_bias = (
            torch.empty_like(x),
            torch.empty_like(weight),
            weight.new_empty(len(weight)),
        )
        maps, out, sums = _rows(x), _rows(in_x), in_weight.view(filters.shape).numpy()
        biases = in_bias.view(filters.shape[:2]).numpy()
        if of_x:
            patch_kernels.gradient_of_maps(towards, *geometry, filters, False, out, 0, n_first)
            patch_kernels.gradient_of_maps(towards, *geometry, filters, True, out, n_first, len(filters))
        if of_weight or of_bias:
            patch_kernels.gradient_of_filters(maps, towards, *geometry, sums, biases, 0, len(filters))
        if of_x and not ctx.channels_last:
            in_x = _channels_first(in_x)
        return in_x if of_x else None, in_weight if of_weight else None, in_bias if of_bias else None, None


def _geometry(cutting: Cutting, weight: Tensor) -> tuple[tuple[Any, Shape, Shape, Shape], np.ndarray]:
    """Return what all kernels take, and the filters (patches, filters, c, kx * ky * kz)."""
    corners, (kx, ky, kz) = _corners(cutting), weight.shape[2:]
    filters = weight.detach().view(len(corners), -1, weight.shape[1], kx * ky * kz).numpy()
    return (corners, cutting.patch, cutting.padding, (kx, ky, kz)), filters


@functools.lru_cache(maxsize=64)
def _corners(cutting: Cutting) -> np.ndarray:
    return cutting.corners()


def _rows(x: Tensor) -> np.ndarray:
    """Return maps in channels last as (n, x, y, z * c)."""
    return x.detach().permute(0, 2, 3, 4, 1).flatten(3).numpy()


def _of_patches(y: Tensor, filters: np.ndarray) -> np.ndarray:
    return y.detach().view(len(y), *filters.shape[:2], *y.shape[2:]).numpy()


def _channels_last(x: Tensor) -> Tensor:
    turned = torch.empty_like(x, memory_format=_LAST)
    here, there = x.detach().contiguous().flatten(2).numpy(), _rows(turned).reshape(len(x), -1, x.shape[1])
    patch_kernels.channels_to_last(here, there, 0, len(x))
    return turned


def _channels_first(x: Tensor) -> Tensor:
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    here, there = _rows(x).reshape(len(x), -1, x.shape[1]), turned.flatten(2).numpy()
    patch_kernels.channels_to_first(here, there, 0, len(x))
    return turned
