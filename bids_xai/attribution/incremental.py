"""Forward passes of one volume under many small changes, of which only what changes is computed.

A box of changed voxels reaches, in every layer, one window of the feature map; outside of it the layer has
the values of the unchanged volume, which are computed once and kept. For every box the window of each layer
is computed from a window of the layer before: clean values, with the part that changed pasted in. Windows
have one size for all boxes of a batch (the largest that any of them needs, moved inward at borders: values
that did not change are computed again to what they were), so that a layer is one call for a batch of boxes.
Each value is the sum over the same inputs as in a full forward pass: results agree to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.patchwise import Branches, branches_of
from bids_xai.attribution.steps import Step, Triple, UntreatableError, steps_of, triple

_CHUNK_BYTES = 2**27
# Boxes are sorted into groups of about this many, by at most so many kinds of window sizes along an axis.
_GROUP = 2000
_KINDS_PER_AXIS = 6


@dataclass(frozen=True)
class Windows:
    """Values of a map on one window per box: shape (n, *size, channels), first voxels (n, 3)."""

    values: Tensor
    corners: Tensor

    @property
    def size(self) -> Triple:
        """Size of the windows in voxels."""
        return triple(self.values.shape[1:4])


def _unpadded(step: Step, values: Tensor) -> Tensor:
    """Run a convolution or pooling on windows that bring their padding along."""
    module: Any = step.module
    if isinstance(module, nn.Conv3d):
        return functional.conv3d(
            values, module.weight, module.bias, module.stride, 0, module.dilation, module.groups
        )
    if isinstance(module, nn.MaxPool3d):
        return functional.max_pool3d(
            values, module.kernel_size, module.stride, 0, module.dilation, ceil_mode=False
        )
    return functional.avg_pool3d(values, module.kernel_size, module.stride)


def _voxelwise(module: nn.Module, values: Tensor) -> Tensor:
    return module(values.clone() if getattr(module, "inplace", False) else values)


def _channels_last(values: Tensor) -> Tensor:
    return values.permute(0, 2, 3, 4, 1).contiguous()


class IncrementalForward:
    """Outputs of a network for one volume of which boxes are replaced.

    The network must be in evaluation mode, without gradients, for as long as this object is used. What it
    cannot follow window by window (from the first such module on: a dense layer, a module of the user's)
    runs on whole maps.

    Parameters
    ----------
    network
        Takes volumes of shape (n, 1, x, y, z).
    x
        One volume, shape (1, 1, x, y, z).
    chunk_bytes
        Memory for the windows of the boxes that are computed at once.

    Attributes
    ----------
    clean_output
        Output for the unchanged volume, shape (1, n_outputs).

    Raises
    ------
    UntreatableError
        Where not even the first module can be followed.
    """

    def __init__(self, network: nn.Module, x: Tensor, *, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self.steps, self.tail = steps_of(network)
        self.branches, self.tail = branches_of(self.tail)
        self.chunk_bytes = chunk_bytes
        if len(self.steps) == 1 and self.branches is None:
            raise UntreatableError(type(network).__name__)
        self.steps.append(Step("whole", nn.Identity(), (len(self.steps) - 1,)))
        self._last_use = {source: code for code, step in enumerate(self.steps) for source in step.sources}
        self._clean_features = x
        self.clean_output = self._run_clean(x)
        self._needed = self._needed_parts()

    def outputs(self, corners: Tensor, box: Triple, filling: Tensor) -> Tensor:
        """Return the outputs with the box at every corner replaced, shape (n, n_outputs).

        Parameters
        ----------
        corners
            First voxels of the boxes, int64, shape (n, 3); boxes lie within the volume.
        box
            Their size in voxels.
        filling
            What boxes are replaced with: a volume, shape (x, y, z).
        """
        corners = corners.cpu()
        result = self.clean_output.new_empty((len(corners), self.clean_output.shape[1]))
        for group in self._groups(corners, box):
            for chosen in group.split(self._chunk(corners[group[:_GROUP]], box)):
                result[chosen.to(result.device)] = self._chunk_outputs(corners[chosen], box, filling)
        return result

    def _run_clean(self, x: Tensor) -> Tensor:
        maps = {0: x}
        for code, step in enumerate(self.steps):
            if code:
                maps[code] = self._clean_step(step, [maps[source] for source in step.sources])
                for source in step.sources:
                    if self._last_use[source] == code:
                        del maps[source]
            step.shape = triple(maps[code].shape[2:])
        output = maps[len(self.steps) - 1]
        if self.branches is not None:
            output = self._clean_features = self.branches.clean(output)
        return self._run_tail(output)

    def _run_tail(self, output: Tensor) -> Tensor:
        for module in self.tail:
            output = _voxelwise(module, output)
        return output

    def _clean_step(self, step: Step, inputs: list[Tensor]) -> Tensor:
        if step.kind == "voxelwise":
            return _voxelwise(step.module, inputs[0])
        output = sum(inputs[1:], inputs[0]) if step.kind == "add" else step.module(inputs[0])
        left, right = (0, 0, 0), (0, 0, 0)
        if step.reach is not None:
            left = step.reach.padding
            spans = step.reach.span(output.shape[2:])
            right = triple(
                [max(s - p - n, 0) for s, p, n in zip(spans, left, inputs[0].shape[2:], strict=True)]
            )
        elif step.kind == "whole" and self.branches is not None:
            right = triple([e - n for e, n in zip(self.branches.extent, inputs[0].shape[2:], strict=True)])
        step.margin = left
        pads = [size for axis in (2, 1, 0) for size in (left[axis], right[axis])]
        for values in inputs:
            padded = functional.pad(values, pads, value=step.fill) if any(pads) else values.clone()
            step.clean.append(_channels_last(padded)[0])
        return output

    def _needed_parts(self) -> list[Triple]:
        """Return how much of every map, from its first voxel on, the output depends on."""
        needed = [(1, 1, 1) for _ in self.steps]
        needed[-1] = self.steps[-1].shape
        for code in reversed(range(1, len(self.steps))):
            step = self.steps[code]
            wanted = needed[code]
            if step.reach is not None:
                spans = zip(step.reach.span(wanted), step.reach.padding, strict=True)
                wanted = triple([span - padding for span, padding in spans])
            for source in step.sources:
                own = self.steps[source].shape
                wanted = own if step.kind == "mean" else wanted
                axes = zip(needed[source], wanted, own, strict=True)
                needed[source] = triple([min(max(now, more), most) for now, more, most in axes])
        return needed

    def _extents(self, corners: Tensor, box: Triple) -> list[tuple[Tensor, Tensor]]:
        """Return what changes in every map: first and one past the last voxel, shapes (n, 3)."""
        extents = [(corners, corners + torch.tensor(box))]
        for step, needed in zip(self.steps[1:], self._needed[1:], strict=True):
            first, stop = extents[step.sources[0]]
            for source in step.sources[1:]:
                first, stop = first.minimum(extents[source][0]), stop.maximum(extents[source][1])
            if step.reach is not None:
                most = torch.tensor(needed)
                first, stop = step.reach.touched(first, stop)
                first, stop = first.clamp(min=0).minimum(most), stop.clamp(min=0).minimum(most)
            elif step.kind in ("mean", "whole"):
                first, stop = torch.zeros_like(first), torch.tensor(step.shape).expand_as(stop)
            extents.append((first, stop))
        return extents

    def _groups(self, corners: Tensor, box: Triple) -> list[Tensor]:
        """Split the boxes into groups whose windows have nearly the same sizes; rows of ``corners``.

        Sizes differ with the phase of the boxes to the strides of the layers, and at borders.
        """
        kinds = max(1, min(_KINDS_PER_AXIS, round((len(corners) / _GROUP) ** (1 / 3))))
        codes = torch.zeros(len(corners), dtype=torch.int64)
        for axis in range(3):
            places, where, counts = corners[:, axis].unique(return_inverse=True, return_counts=True)
            line = torch.zeros((len(places), 3), dtype=torch.int64)
            line[:, axis] = places
            sizes = torch.stack([(stop - first)[:, axis] for first, stop in self._extents(line, box)], dim=1)
            codes = codes * kinds + _merged(sizes, counts, kinds)[where]
        order = codes.argsort(stable=True)
        return list(order.split(codes.unique(return_counts=True)[1].tolist()))

    def _chunk(self, corners: Tensor, box: Triple) -> int:
        """Return how many boxes like these to compute at once."""
        largest = 1
        for step, (first, stop) in zip(self.steps, self._extents(corners, box), strict=True):
            size = triple((stop - first).amax(0).clamp(min=1).tolist())
            for clean in step.clean:
                span = step.reach.span(size) if step.reach is not None else size
                if step.kind == "whole" and self.branches is not None:
                    span = self.branches.size
                    largest = max(largest, self._clean_features.numel() * clean.element_size())
                largest = max(largest, math.prod(span) * (clean.element_size() * clean.shape[-1] + 8))
        return max(1, self.chunk_bytes // (4 * largest))

    def _chunk_outputs(self, corners: Tensor, box: Triple, filling: Tensor) -> Tensor:
        rows = _rows(corners, box, triple(filling.shape)).to(filling.device)
        values = filling.reshape(-1).index_select(0, rows).view(len(corners), *box, 1)
        windows = {0: Windows(values, corners)}
        extents = self._extents(corners, box)
        for code, step in enumerate(self.steps[1:], start=1):
            if step.kind == "whole" and self.branches is not None:
                source = step.sources[0]
                return self._run_tail(self._features(self.branches, step, windows[source], *extents[source]))
            first, stop = extents[code]
            size = triple((stop - first).amax(0).clamp(min=1).tolist())
            corner = first.minimum(torch.tensor(self._needed[code]) - torch.tensor(size))
            sources = [windows[source] for source in step.sources]
            windows[code] = self._step(step, sources, corner, size)
            for source in step.sources:
                if self._last_use[source] == code:
                    del windows[source]
        return self._run_tail(windows[len(self.steps) - 1].values.permute(0, 4, 1, 2, 3))

    def _features(
        self, branches: Branches, step: Step, source: Windows, first: Tensor, stop: Tensor
    ) -> Tensor:
        """Return the features of all patches, of which those that boxes meet are computed."""
        features = self._clean_features.expand(len(first), *self._clean_features.shape[1:]).clone()
        for patch, rows in branches.touched(first, stop):
            own = rows.to(features.device)
            met = Windows(source.values.index_select(0, own), source.corners[rows])
            begins = branches.starts[patch].expand(len(rows), 3)
            values = _pasted(step, 0, met, begins, branches.size).permute(0, 4, 1, 2, 3)
            found = branches.of_patch(patch, values)
            width = found.shape[1]
            features[own, patch * width : (patch + 1) * width] = found
        return features

    def _step(self, step: Step, sources: list[Windows], corners: Tensor, size: Triple) -> Windows:
        if step.kind == "voxelwise":
            values = _voxelwise(step.module, sources[0].values.permute(0, 4, 1, 2, 3))
            return Windows(_channels_last(values), sources[0].corners)
        if step.reach is not None:
            begins = corners * torch.tensor(step.reach.stride) - torch.tensor(step.reach.padding)
            inside = _pasted(step, 0, sources[0], begins, step.reach.span(size))
            return Windows(_channels_last(_unpadded(step, inside.permute(0, 4, 1, 2, 3))), corners)
        if step.kind == "mean":
            return Windows(_mean(step, sources[0]), torch.zeros_like(corners))
        parts = [_pasted(step, slot, source, corners, size) for slot, source in enumerate(sources)]
        return Windows(sum(parts[1:], parts[0]), corners)


def _mean(step: Step, source: Windows) -> Tensor:
    """Return the mean over space: that of the clean map, and what the windows add to it."""
    clean = step.clean[0]
    extent = triple(clean.shape[:3])
    rows = _rows(source.corners, source.size, extent).to(clean.device)
    before = clean.view(-1, clean.shape[-1]).index_select(0, rows).view_as(source.values)
    change = (source.values - before).sum(dim=(1, 2, 3), keepdim=True) / math.prod(extent)
    return clean.mean(dim=(0, 1, 2)) + change


def _pasted(step: Step, slot: int, source: Windows, corners: Tensor, size: Triple) -> Tensor:
    """Return a map around the windows that changed, shape (n, *size, channels)."""
    if source.size == size and torch.equal(source.corners, corners):
        return source.values
    clean = step.clean[slot]
    rows = _rows(corners + torch.tensor(step.margin), size, triple(clean.shape[:3])).to(clean.device)
    around = clean.view(-1, clean.shape[-1]).index_select(0, rows).view(len(corners), *size, -1)
    offsets, which = _distinct(source.corners - corners)
    for code, offset in enumerate(offsets):
        cuts = [
            (max(o, 0), min(o + width, most), o)
            for o, width, most in zip(offset, source.size, size, strict=True)
        ]
        target = (slice(None), *(slice(low, high) for low, high, _ in cuts))
        origin = (slice(None), *(slice(low - o, high - o) for low, high, o in cuts))
        if any(high <= low for low, high, _ in cuts):
            continue
        if len(offsets) == 1:
            around[target] = source.values[origin]
        else:
            own = (which == code).nonzero()[:, 0].to(clean.device)
            around[target].index_copy_(0, own, source.values[origin].index_select(0, own))
    return around


def _distinct(offsets: Tensor) -> tuple[list[list[int]], Tensor]:
    """Return the distinct rows, and which of them every row is."""
    low = offsets.amin(0)
    ranges = (offsets.amax(0) - low + 1).tolist()
    shifted = offsets - low
    codes = (shifted[:, 0] * ranges[1] + shifted[:, 1]) * ranges[2] + shifted[:, 2]
    found, which = codes.unique(return_inverse=True)
    planes = [found // (ranges[1] * ranges[2]), found // ranges[2] % ranges[1], found % ranges[2]]
    return (torch.stack(planes, dim=1) + low).tolist(), which


def _rows(corners: Tensor, size: Triple, extent: Triple) -> Tensor:
    """Return the positions of windows in a flattened volume of size ``extent``, shape (n * cells,)."""
    x, y, z = (corners[:, axis, None] + torch.arange(size[axis]) for axis in range(3))
    planes = (x[:, :, None] * extent[1] + y[:, None, :]) * extent[2]
    return (planes[..., None] + z[:, None, None, :]).reshape(-1)


def _merged(sizes: Tensor, counts: Tensor, kinds: int) -> Tensor:
    """Return a kind below ``kinds`` for every row of window sizes; rare rows join larger ones."""
    rows, where = sizes.unique(dim=0, return_inverse=True)
    frequency = torch.zeros(len(rows), dtype=torch.int64).index_add_(0, where, counts)
    kept = frequency.argsort(descending=True, stable=True)[:kinds]
    excess = (rows[None, kept] - rows[:, None]).to(torch.float64)
    # What would have to grow for a row weighs more than what the row would waste.
    cost = torch.where(excess < 0, -10 * excess, excess).sum(dim=2)
    return cost.argmin(dim=1)[where]
