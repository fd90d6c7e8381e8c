"""What an operation of a network reaches: the part of its output that a part of its input can change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bids_xai.models.layers import Residual
from bids_xai.models.patches import PatchIndividualFilters

Triple = tuple[int, int, int]

# What runs the modules of a sequence one after the other, in evaluation mode.
_CHAINS = (nn.Sequential.forward, PatchIndividualFilters.forward)

# Modules that treat every voxel on its own, in evaluation mode.
_VOXELWISE = (
    nn.BatchNorm3d,
    nn.Dropout,
    nn.Dropout3d,
    nn.ELU,
    nn.GELU,
    nn.Identity,
    nn.LeakyReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Tanh,
)


class UntreatableError(Exception):
    """A module whose changes cannot be followed window by window."""


@dataclass(frozen=True)
class Reach:
    """How far a voxel reaches: output o sees inputs ``o stride - padding + dilation {0 .. kernel - 1}``."""

    kernel: Triple
    stride: Triple
    padding: Triple
    dilation: Triple = (1, 1, 1)

    def span(self, outputs: Sequence[int]) -> Triple:
        """Return the number of inputs under a row of outputs, per axis."""
        axes = zip(outputs, self.kernel, self.stride, self.dilation, strict=True)
        return triple([(o - 1) * s + d * (k - 1) + 1 for o, k, s, d in axes])

    def touched(self, first: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs [first, stop) that see inputs [first, stop); shapes (n, 3)."""
        k, s, p, d = (torch.tensor(v) for v in (self.kernel, self.stride, self.padding, self.dilation))
        return -((d * (k - 1) - first - p) // s), (stop - 1 + p) // s + 1


@dataclass
class Step:
    """One operation on the maps of earlier steps (step 0 is the volume).

    ``kind``: "windowed" (convolution, pooling), "voxelwise", "add" (of two maps), "mean" (over space),
    "whole" (all of the map). ``clean``: the sources' maps for the unchanged volume, padded by ``margin`` with
    ``fill``, shape (x, y, z, channels).
    """

    kind: str
    module: nn.Module
    sources: tuple[int, ...]
    reach: Reach | None = None
    fill: float = 0.0
    shape: Triple = (0, 0, 0)
    margin: Triple = (0, 0, 0)
    clean: list[Tensor] = field(default_factory=list)


def steps_of(network: nn.Module) -> tuple[list[Step], list[nn.Module]]:
    """Return the steps that can be followed window by window, and the modules after them."""
    steps = [Step("input", nn.Identity(), ())]
    modules = _flat(network)
    for index, module in enumerate(modules):
        before = len(steps)
        try:
            _append(steps, module)
        except UntreatableError:
            del steps[before:]
            return steps, modules[index:]
    return steps, []


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential) and type(module).forward in _CHAINS:
        return [leaf for child in module for leaf in _flat(child)]
    return [module]


def _append(steps: list[Step], module: nn.Module) -> None:
    source = len(steps) - 1
    if steps[source].kind == "mean":
        raise UntreatableError("one voxel is left")
    if type(module) is Residual:
        parts = _flat(module.body)
        if _changes_input(parts):
            raise UntreatableError("a residual branch that changes its input in place")
        for part in parts:
            _append(steps, part)
            if steps[-1].kind == "mean":
                raise UntreatableError("a mean inside a residual branch")
        steps.append(Step("add", module, (source, len(steps) - 1)))
    elif type(module) is nn.AdaptiveAvgPool3d and module.output_size in (1, (1, 1, 1)):
        steps.append(Step("mean", module, (source,)))
    elif type(module) in _VOXELWISE and _same_for_all(module):
        steps.append(Step("voxelwise", module, (source,)))
    else:
        reach, fill = _reach(module)
        steps.append(Step("windowed", module, (source,), reach, fill))


def _changes_input(parts: list[nn.Module]) -> bool:
    """Whether the input, or an alias of it, is changed in place by the first modules of a branch."""
    first = itertools.takewhile(lambda part: type(part) in _VOXELWISE, parts)
    return any(getattr(part, "inplace", False) for part in first)


def _same_for_all(module: nn.Module) -> bool:
    # Without running statistics, batch normalisation in evaluation mode takes those of the batch.
    return not isinstance(module, nn.BatchNorm3d) or module.running_mean is not None


def _reach(module: nn.Module) -> tuple[Reach, float]:
    """Return what a convolution or pooling reaches, and what it pads with."""
    names: tuple[str, ...] = ("kernel_size", "stride", "padding", "dilation")
    fill = 0.0
    if type(module) is nn.Conv3d:
        follows = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    elif type(module) is nn.MaxPool3d:
        follows, fill = not module.return_indices, -math.inf
    elif type(module) is nn.AvgPool3d:
        # Otherwise windows at borders divide by fewer voxels than others.
        even = module.count_include_pad or triple(module.padding) == (0, 0, 0)
        follows, names = even and not module.ceil_mode and module.divisor_override is None, names[:3]
    else:
        follows = False
    if not follows:
        raise UntreatableError(str(module))
    return Reach(*(triple(getattr(module, name)) for name in names)), fill


def triple(value: Any) -> Triple:
    """Return a size per axis, of one for all or of three."""
    if isinstance(value, int):
        return value, value, value
    first, second, third = value
    return int(first), int(second), int(third)
