"""Patch-individual filters: convolutions of which every patch of the feature maps has its own.

The layer is linear and made of three modules in order: ``split`` (a rearrangement), ``conv`` (one grouped
:class:`torch.nn.Conv3d`, a group per patch), ``merge`` (a rearrangement). A rule of layer-wise relevance
propagation for convolutions and plain autograd for the rearrangements therefore carry relevance through it:
a voxel that two patches share gets the sum of what both give back, so that relevance is conserved (the paper
speaks of the mean of both sets, for gradients and for relevance).

Most of the time would go into copies and into products of a few rows. On a CPU, in training, the patches of
all volumes therefore lie side by side along z (:class:`Split`), and the convolution sees one long volume
(:class:`PatchConvolution`). Where nothing looks at what is between both modules, no patches are cut at all:
:mod:`bids_xai.models.fused_patches` goes from the maps to the outputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from bids_xai.errors import InputError
from bids_xai.models.layers import Shape

OVERLAPS = (None, "half", "full")
OUTPUTS = ("flat", "map")

# What a module keeps of those who want to see its inputs, outputs or gradients.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Split(nn.Module):
    """Cut feature maps into patches: (n, c, x, y, z) to (n, patches * c, *patch).

    The maps are padded with zeros at the end of each axis to whole patches: g = ceil(size / patch) of them.
    The patches of the first set are in C order. Those of the second start ``shift`` voxels later and number
    g - 1 an axis, so that none of them crosses the border of the padded map; an axis of one patch keeps it.

    Parameters
    ----------
    shape
        Size of the maps.
    patch
        Size of a patch.
    shift
        Voxels between both sets along every axis; None: one set.
    side_by_side
        Whether volumes lie side by side in memory in training on a CPU, for :class:`PatchConvolution`;
        other convolutions are fast with channels last, as patches are otherwise. Values are the same.
    """

    def __init__(
        self, shape: Shape, patch: Shape, shift: Shape | None = None, *, side_by_side: bool = False
    ) -> None:
        super().__init__()
        self.shape, self.patch, self.side_by_side = shape, patch, side_by_side
        self.grid = _per_axis(-(-n // p) for n, p in zip(shape, patch, strict=True))
        self.shift = _where_cut(shift, self.grid)
        self.second = _per_axis(max(g - 1, 1) for g in self.grid) if self.shift else (0, 0, 0)
        self.n_patches = math.prod(self.grid) + math.prod(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches of both sets, side by side along the channels."""
        patches: Tensor = _Cut.apply(x, self)
        return patches

    def cut(self, x: Tensor) -> Tensor:
        """Return the patches; nothing is recorded for gradients."""
        n, channels = x.shape[:2]
        patches = x.new_empty((n, *self.patch, self.n_patches, channels))
        if self.side_by_side and self.training and x.device.type == "cpu":
            patches = x.new_empty((*self.patch, n, self.n_patches, channels)).permute(3, 0, 1, 2, 4, 5)
        # Two copies that read or write whole runs are no slower than one that does neither.
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for grid, start, own in self._sets(patches):
            for axis, (g, p) in enumerate(zip(grid, self.patch, strict=True)):
                inside = self.shape[axis] - start[axis] - (g - 1) * p
                if inside < p:
                    own.select(2 + 2 * axis, g - 1).narrow(2 + 2 * axis, inside, p - inside).zero_()
            for there, here in self._pieces(x, own, grid, start):
                here.copy_(there)
        return patches.flatten(4).permute(0, 4, 1, 2, 3)

    def returned(self, patches: Tensor) -> Tensor:
        """Return the transpose of :meth:`cut`: every voxel gets the sum of what patches have for it."""
        n, channels = patches.shape[0], patches.shape[1] // self.n_patches
        # Channels last whatever the maps were: whole runs of channels are copied.
        x = patches.new_empty((n, *self.shape, channels)).permute(0, 4, 1, 2, 3)
        parts = patches.permute(0, 2, 3, 4, 1).unflatten(4, (self.n_patches, channels))
        for number, (grid, start, own) in enumerate(self._sets(parts)):
            for there, here in self._pieces(x, own, grid, start):
                # The patches of the first set cover every voxel once.
                there.add_(here) if number else there.copy_(here)
        return x

    def _sets(self, patches: Tensor) -> Iterator[tuple[Shape, Shape, Tensor]]:
        """Iterate over grids, first voxels and patches (n, c, gx, px, gy, py, gz, pz) of both sets."""
        n_first = math.prod(self.grid)
        sets = [(self.grid, (0, 0, 0), patches[..., :n_first, :])]
        if self.shift:
            sets.append((self.second, self.shift, patches[..., n_first:, :]))
        for grid, start, own in sets:
            yield grid, start, own.unflatten(4, grid).permute(0, 7, 4, 1, 5, 2, 6, 3)

    def _pieces(self, x: Tensor, own: Tensor, grid: Shape, start: Shape) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over equal parts of maps and patches: along each axis whole patches, then what is left."""
        axes = []
        for axis, (g, p) in enumerate(zip(grid, self.patch, strict=True)):
            whole = min(g, (self.shape[axis] - start[axis]) // p)
            left = min(g * p, self.shape[axis] - start[axis]) - whole * p
            axes.append([(0, whole, p)] * (whole > 0) + [(whole, 1, left)] * (left > 0))
        for piece in itertools.product(*axes):
            there, here = x, own
            for axis, (first, count, size) in reversed(list(enumerate(piece))):
                begin = start[axis] + first * self.patch[axis]
                there = there.narrow(2 + axis, begin, count * size).unflatten(2 + axis, (count, size))
                here = here.narrow(2 + 2 * axis, first, count).narrow(3 + 2 * axis, 0, size)
            yield there, here

    def extra_repr(self) -> str:
        """Return what the module's line says."""
        return f"{self.n_patches} patches of {self.patch} from {self.shape}, shift {self.shift}"


class _Cut(torch.autograd.Function):
    """:meth:`Split.cut`, with its transpose for gradients; gradients of gradients are refused by torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: Split) -> Tensor:
        ctx.split = split
        return split.cut(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.split.returned(gradient), None


class PatchConvolution(nn.Conv3d):
    """A grouped convolution of patches: that of :class:`torch.nn.Conv3d`, faster for small patches.

    Where the n volumes lie side by side in memory, as :class:`Split` leaves them in training, row (x, y) of
    all their patches is one of nz values, value z of volume v at z n + v. There the convolution with the
    dilation n along z and n times the padding sums over the same voxels, for all volumes in one product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, shape (n, groups * c, ...), of patches (n, groups * channels, ...)."""
        n, lying = x.shape[0], x.permute(2, 3, 4, 0, 1)
        plain = (1, 1, 1)
        fits = self.stride == plain and self.dilation == plain and self.padding_mode == "zeros"
        if n == 1 or not fits or isinstance(self.padding, str) or not lying.is_contiguous():
            return super().forward(x)
        long = lying.flatten(2, 3)[None].permute(0, 4, 1, 2, 3)
        padding = (*self.padding[:2], n * self.padding[2])
        y = functional.conv3d(long, self.weight, self.bias, 1, padding, (1, 1, n), self.groups)
        return y[0].unflatten(3, (-1, n)).permute(4, 0, 1, 2, 3)


class Merge(nn.Module):
    """Put patches together: (n, patches * c, *size) to a map, or to a row per volume.

    As a map, the first set becomes (n, c, *(grid * size)). The second set, where there is one, follows as c
    more channels of the same shape, ``shift`` values further and zero around.

    Parameters
    ----------
    grid, second
        Patches per axis of both sets (:class:`Split`).
    shift
        Values between both sets along every axis; None: one set.
    output
        ``"map"`` or ``"flat"``.
    """

    def __init__(self, grid: Shape, second: Shape, shift: Shape | None, output: str) -> None:
        super().__init__()
        self.grid, self.second, self.output = grid, second, output
        self.shift = _where_cut(shift, grid)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map or the rows."""
        if self.output == "flat":
            return x.flatten(1)
        n_first, n_second = math.prod(self.grid), math.prod(self.second)
        channels = x.shape[1] // (n_first + n_second)
        first = self._join(x[:, : n_first * channels], self.grid)
        if self.shift is None:
            return first
        second = self._join(x[:, n_first * channels :], self.second)
        pads: list[int] = []
        for axis in (2, 1, 0):
            rest = first.shape[axis + 2] - second.shape[axis + 2] - self.shift[axis]
            pads += [self.shift[axis], rest]
        return torch.cat([first, functional.pad(second, pads)], dim=1)

    @staticmethod
    def _join(x: Tensor, grid: Shape) -> Tensor:
        n, size = x.shape[0], x.shape[2:]
        channels = x.shape[1] // math.prod(grid)
        parts = x.reshape(n, *grid, channels, *size).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return parts.reshape(n, channels, *(g * s for g, s in zip(grid, size, strict=True)))

    def extra_repr(self) -> str:
        """Return what the module's line says."""
        return f"{self.output}, grids {self.grid} and {self.second}"


class PatchIndividualFilters(nn.Sequential):
    """A convolution of its own for every patch of the feature maps (PIF layer).

    Patch p of the maps I gives z_p(i) = b_p + sum over m in p of I(m) K_p(m - i): filters K_p and biases b_p
    are the patch's own, and so is the border (no voxel of a neighbouring patch, zeros where padded). Maps of
    shape (n, in_channels, *shape) become rows (n, n_out) or maps.

    Parameters
    ----------
    shape
        Size of the feature maps.
    in_channels, out_channels
        Feature maps before, and filters of every patch.
    patch, kernel, padding
        Size of a patch; of its filters; zeros around each patch (0 in the paper: a patch of 5 and a kernel
        of 3 leave 3 values an axis).
    overlap
        ``"half"``: a second set of patches, shifted by floor(patch / 2) along every axis (equation 3).
        ``"full"``: shifted by a whole patch, as the authors' code does: then the second set repeats patches
        of the first with filters of its own. None: one set.
    output
        ``"flat"``: rows of shape (n, n_out), for a dense layer. ``"map"``: feature maps; see :class:`Merge`.

    Attributes
    ----------
    n_patches
        Patches of both sets.
    n_out
        Values per volume of the output ``"flat"``.

    Raises
    ------
    InputError
        Another overlap or output; a kernel that does not fit the padded patch.

    Source: Eitel et al. 2021, equations 2 and 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        in_channels: int,
        out_channels: int,
        *,
        patch: int | Sequence[int] = 5,
        kernel: int | Sequence[int] = 3,
        padding: int = 0,
        overlap: str | None = None,
        output: str = "map",
    ) -> None:
        if overlap not in OVERLAPS:
            raise InputError(f"Unknown overlap {overlap!r} of patches.", "half, full or None")
        if output not in OUTPUTS:
            raise InputError(f"Unknown output {output!r} of patches.", f"one of {', '.join(OUTPUTS)}")
        sizes, kernels = _triple(patch), _triple(kernel)
        left = _per_axis(s + 2 * padding - k + 1 for s, k in zip(sizes, kernels, strict=True))
        if min(left) < 1:
            raise InputError(
                f"A kernel of {kernels} does not fit patches of {sizes} with padding {padding}.",
                "a kernel no larger than the padded patch",
            )
        split = Split(_per_axis(shape), sizes, _shift(sizes, overlap), side_by_side=True)
        groups = split.n_patches
        super().__init__()
        self.split = split
        self.conv = PatchConvolution(
            groups * in_channels, groups * out_channels, kernels, padding=padding, groups=groups
        )
        self.merge = Merge(split.grid, split.second, _shift(left, overlap), output)
        self.n_patches, self.n_out = groups, groups * out_channels * math.prod(left)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows or maps of ``split``, ``conv`` and ``merge``, without patches where it can."""
        if not self._unobserved() or not self._treatable(x):
            return super().forward(x)
        # Compiled loops are for training alone: numba takes a while to import.
        from bids_xai.models.fused_patches import Cutting, filtered

        split, (px, py, pz) = self.split, self.conv.padding
        cutting = Cutting(split.grid, split.second, split.patch, (px, py, pz), split.shift)
        return self.merge(filtered(x, self.conv.weight, self.conv.bias, cutting))

    def _unobserved(self) -> bool:
        """Whether split and convolution are as they were made, and nobody asks for what they give."""
        if type(self.split) is not Split or type(self.conv) is not PatchConvolution:
            return False
        inner = [vars(module) for module in (self.split, self.conv)]
        hooked = _has_any_global_hook() or any(own[hooks] for own in inner for hooks in _HOOKS)
        return not hooked and not any("forward" in own for own in inner)

    def _treatable(self, x: Tensor) -> bool:
        """Whether these maps are for the loops compiled for training on a CPU, in one thread.

        torch's own convolution shares its work out among threads, whose waiting keeps other threads from it.
        """
        weight, bias = self.conv.weight, self.conv.bias
        if not self.training or bias is None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if torch.get_num_threads() > 1:
            return False
        if any(one.device.type != "cpu" or one.dtype != x.dtype for one in (x, weight, bias)):
            return False
        known = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
        fits = len(x) > 0 and x.shape[1:] == (weight.shape[1], *self.split.shape)
        return known and fits and any(one.requires_grad for one in (x, weight, bias))


def _shift(sizes: Shape, overlap: str | None) -> Shape | None:
    if overlap is None:
        return None
    return sizes if overlap == "full" else _per_axis(size // 2 for size in sizes)


def _where_cut(shift: Shape | None, grid: Shape) -> Shape | None:
    """Return the shift, 0 along axes of one patch; None where no axis is cut."""
    if shift is None or max(grid) == 1:
        return None
    return _per_axis(s if g > 1 else 0 for s, g in zip(shift, grid, strict=True))


def _triple(value: int | Sequence[int]) -> Shape:
    return (value, value, value) if isinstance(value, int) else _per_axis(value)


def _per_axis(values: Iterable[int]) -> Shape:
    x, y, z = (int(value) for value in values)
    return (x, y, z)
