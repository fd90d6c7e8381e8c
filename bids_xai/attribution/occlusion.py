"""Occlusion: what a network's output loses when a part of the volume is covered.

A drop is ``d = f(x) - f(x with the part replaced)``, in units of what is explained (a logit, a probability):
positive where the part spoke for the class.

Source: Zeiler and Fergus 2014, section 4.2.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.incremental import IncrementalForward
from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.starts import Start
from bids_xai.attribution.steps import Triple, UntreatableError, triple
from bids_xai.errors import InputError

LOGGER = logging.getLogger(__name__)

Baseline = Literal["zero", "mean", "noise"]


def occlusion(
    network: nn.Module,
    x: Tensor,
    start: Start,
    mask: Tensor | None = None,
    reference: Tensor | None = None,
    *,
    box: tuple[int, int, int] = (2, 2, 2),
    stride: int = 1,
    baseline: Baseline = "zero",
    seed: int = 0,
    batch_size: int = 4,
    incremental: bool = True,
) -> Tensor:
    """Patch occlusion: mean drop over the boxes that cover the voxel.

    Formula: ``R_i = mean over boxes B that cover i of f(x) - f(x with B replaced)``, in units of f; 0 where
    no box covers, outside of the mask.

    Source: Zeiler and Fergus 2014, section 4.2.

    Parameters
    ----------
    network, x, start
        Network; volumes, shape (n, 1, x, y, z); what is explained of each.
    mask
        Brain, bool, shape (x, y, z): only boxes that touch it are covered. None: all boxes.
    reference, baseline, seed
        What replaces the voxels: :func:`replacement`.
    box
        Size of the box in voxels.
    stride
        Voxels between neighbouring boxes, no more than their size: every voxel of the mask is covered by a
        box. The last box of an axis ends with the volume.
    batch_size
        Volumes at once in full forward passes.
    incremental
        Compute only what a box changes (:mod:`bids_xai.attribution.incremental`), where the network allows.

    Returns
    -------
    Shape (n, x, y, z).

    Raises
    ------
    InputError
        A box that does not fit the volume, a stride below 1 or one that leaves voxels between boxes, an
        unknown baseline, a mask of another shape.
    """
    corners, drops = box_drops(
        network,
        x,
        start,
        mask,
        reference,
        box=box,
        stride=stride,
        baseline=baseline,
        seed=seed,
        batch_size=batch_size,
        incremental=incremental,
    )
    return drop_maps(corners, drops, box, triple(x.shape[2:])).to(x.dtype)


def box_drops(
    network: nn.Module,
    x: Tensor,
    start: Start,
    mask: Tensor | None = None,
    reference: Tensor | None = None,
    *,
    box: tuple[int, int, int] = (2, 2, 2),
    stride: int = 1,
    baseline: Baseline = "zero",
    seed: int = 0,
    batch_size: int = 4,
    incremental: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the positions of boxes and the drop at each; parameters of :func:`occlusion`.

    A box whose replacement equals what it covers has the drop 0, without a forward pass.

    Returns
    -------
    corners
        First voxel of every box, int64, shape (n_boxes, 3), in C order, on the CPU.
    drops
        Shape (n, n_boxes), in units of f.
    """
    corners = box_corners(triple(x.shape[2:]), box, stride, mask)
    filling = replacement(x, baseline, seed=seed, reference=reference)
    drops = torch.zeros((len(x), len(corners)), dtype=x.dtype, device=x.device)
    with evaluating(network), torch.no_grad():
        for i in range(len(x)):
            changes = _any_in_box(filling[i, 0] != x[i, 0], box)
            chosen = changes[tuple(corners.to(x.device).T)].nonzero()[:, 0]
            if len(chosen):
                own = start.part(slice(i, i + 1))
                places = corners[chosen.cpu()]
                found = (
                    _incremental_drops(network, x[i : i + 1], own, places, box, filling[i, 0])
                    if incremental
                    else None
                )
                if found is None:
                    parts = ((_cut(place, box), filling[i, 0]) for place in places.tolist())
                    found = _full_drops(network, x[i, 0], own, parts, batch_size)
                drops[i, chosen] = found
    return corners, drops


def box_corners(shape: Triple, box: Triple, stride: int = 1, mask: Tensor | None = None) -> Tensor:
    """Return the first voxels of the boxes in a volume that touch a mask, shape (n_boxes, 3), in C order.

    Along an axis of n voxels they are 0, stride, 2 stride ... as long as the box fits, and n - box.
    """
    if stride < 1 or min(box) < 1 or any(b > n for b, n in zip(box, shape, strict=True)):
        raise InputError(
            f"Boxes of {_sizes(box)} voxels, stride {stride}, in volumes of {_sizes(shape)}.",
            "boxes of at least 1 voxel that fit the volume, and a stride of at least 1",
        )
    lines = []
    for n, b in zip(shape, box, strict=True):
        line = list(range(0, n - b + 1, stride))
        lines.append(torch.tensor(line if line[-1] == n - b else [*line, n - b]))
    if any(b < n and int(line.diff().max()) > b for n, b, line in zip(shape, box, lines, strict=True)):
        raise InputError(
            f"Boxes of {_sizes(box)} voxels, stride {stride}, in volumes of {_sizes(shape)}: voxels between "
            "them would never be covered, and count as without effect.",
            f"a stride of at most {min(b for n, b in zip(shape, box, strict=True) if b < n)}",
            "use a smaller stride, or larger boxes",
        )
    corners = torch.cartesian_prod(*lines)
    if mask is None:
        return corners
    if tuple(mask.shape) != shape:
        raise InputError(f"A mask of shape {tuple(mask.shape)}.", f"shape {shape}, as the volumes")
    return corners[_any_in_box(mask.cpu().bool(), box)[tuple(corners.T)]]


def check_boxes(
    network: nn.Module,  # noqa: ARG001
    x: Tensor,
    start: Start,  # noqa: ARG001
    *,
    box: tuple[int, int, int] = (2, 2, 2),
    stride: int = 1,
    **_: Any,
) -> None:
    """Raise InputError unless boxes of this size and stride cover volumes like ``x`` (:func:`occlusion`)."""
    box_corners(triple(x.shape[2:]), box, stride)


def drop_maps(corners: Tensor, drops: Tensor, box: Triple, shape: Triple) -> Tensor:
    """Return the mean drop over the boxes that cover a voxel, float64, shape (n, x, y, z); 0 under none."""
    at = torch.zeros((len(drops) + 1, *shape), dtype=torch.float64, device=drops.device)
    places = tuple(corners.to(drops.device).T)
    at[(slice(0, -1), *places)] = drops.to(torch.float64)
    at[(-1, *places)] = 1.0
    # A voxel lies under the boxes whose corner is up to box - 1 voxels before it: shifted sums, axis by axis.
    for axis, width in enumerate(box, start=1):
        total = at.clone()
        for shift in range(1, width):
            n = at.shape[axis] - shift
            total.narrow(axis, shift, n).add_(at.narrow(axis, 0, n))
        at = total
    return at[:-1] / at[-1].clamp(min=1.0)


def region_occlusion(
    network: nn.Module,
    x: Tensor,
    start: Start,
    reference: Tensor | None = None,
    *,
    regions: Tensor,
    baseline: Baseline = "zero",
    seed: int = 0,
    batch_size: int = 4,
) -> Tensor:
    """Region occlusion: drop when the voxel's region of an atlas is covered.

    Formula: ``R_i = f(x) - f(x with the region of i replaced)``, in units of f; 0 outside of all regions.

    Source: Zeiler and Fergus 2014, section 4.2, with the regions of an atlas in place of squares.

    Parameters
    ----------
    network, x, start, reference, baseline, seed, batch_size
        As for :func:`occlusion`.
    regions
        Labels on the volumes' grid, shape (x, y, z); 0 is no region.

    Returns
    -------
    Shape (n, x, y, z).
    """
    codes, drops = region_drops(
        network,
        x,
        start,
        reference,
        regions=regions,
        baseline=baseline,
        seed=seed,
        batch_size=batch_size,
    )
    maps = torch.zeros((len(x), *x.shape[2:]), dtype=x.dtype, device=x.device)
    for code, drop in zip(codes.tolist(), drops.T, strict=True):
        maps += drop[:, None, None, None] * (regions.to(x.device) == code)
    return maps


def region_drops(
    network: nn.Module,
    x: Tensor,
    start: Start,
    reference: Tensor | None = None,
    *,
    regions: Tensor,
    baseline: Baseline = "zero",
    seed: int = 0,
    batch_size: int = 4,
) -> tuple[Tensor, Tensor]:
    """Return the labels of the regions, shape (n_regions,), and the drop of each, shape (n, n_regions).

    Parameters of :func:`region_occlusion`.
    """
    if regions.shape != x.shape[2:]:
        raise InputError(
            f"Regions of shape {tuple(regions.shape)}.", f"shape {tuple(x.shape[2:])}, as the volumes"
        )
    regions = regions.to(x.device)
    codes = regions.unique()
    codes = codes[codes != 0]
    filling = replacement(x, baseline, seed=seed, reference=reference)
    drops = torch.zeros((len(x), len(codes)), dtype=x.dtype, device=x.device)
    with evaluating(network), torch.no_grad():
        for i in range(len(x)):
            parts = ((regions == code, filling[i, 0]) for code in codes)
            drops[i] = _full_drops(network, x[i, 0], start.part(slice(i, i + 1)), parts, batch_size)
    return codes, drops


def replacement(
    x: Tensor, baseline: Baseline = "zero", *, seed: int = 0, reference: Tensor | None = None
) -> Tensor:
    """Return what covered voxels are replaced with, shape (n, 1, x, y, z).

    Parameters
    ----------
    x
        Volumes, shape (n, 1, x, y, z).
    baseline
        ``"zero"``; ``"mean"``: each volume's own mean; ``"noise"``: normal noise of each volume's mean and
        standard deviation, one value per voxel (the same noise, scaled, for all volumes).
    seed
        Seed of the noise.
    reference
        A volume, shape (x, y, z), that replaces instead, such as the mean of controls.
    """
    if reference is not None:
        if reference.shape != x.shape[2:]:
            raise InputError(f"A reference of shape {tuple(reference.shape)}.", f"{tuple(x.shape[2:])}")
        return reference.to(x).expand_as(x)
    if baseline == "zero":
        return torch.zeros_like(x)
    mean = x.flatten(1).mean(dim=1).view(-1, 1, 1, 1, 1)
    if baseline == "mean":
        return mean.expand_as(x)
    if baseline == "noise":
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(tuple(x.shape[2:]), generator=generator, dtype=torch.float64).to(x)
        return mean + x.flatten(1).std(dim=1, unbiased=False).view(-1, 1, 1, 1, 1) * noise
    raise InputError(f"Unknown baseline {baseline!r} of occlusion.", "zero, mean or noise")


def _incremental_drops(
    network: nn.Module, x: Tensor, start: Start, corners: Tensor, box: Triple, filling: Tensor
) -> Tensor | None:
    """Return the drops at the corners, or None where they need full forward passes."""
    if start.layer is not None:
        LOGGER.debug("Full forward passes: a filter of %r is explained.", start.layer)
        return None
    try:
        passes = IncrementalForward(network, x)
    except UntreatableError as reason:
        LOGGER.debug("Full forward passes: changes cannot be followed through %s.", reason)
        return None
    return start.drops(passes.clean_output, passes.outputs(corners, box, filling))


def _full_drops(
    network: nn.Module,
    volume: Tensor,
    start: Start,
    parts: Iterator[tuple[Tensor | tuple[slice, ...], Tensor]],
    batch_size: int,
) -> Tensor:
    """Return f(x) - f(x with a part replaced) for every part of one volume."""
    of_class = start.layer is None
    clean = network(volume[None, None]) if of_class else start.scores(network, volume[None, None])
    drops: list[Tensor] = []
    batch: list[Tensor] = []

    def flush() -> None:
        covered = torch.stack(batch)[:, None]
        if of_class:
            drops.append(start.drops(clean, network(covered)))
        else:
            drops.append(clean - start.scores(network, covered))
        batch.clear()

    for part, filling in parts:
        covered = volume.clone()
        covered[part] = filling[part]
        batch.append(covered)
        if len(batch) == batch_size:
            flush()
    if batch:
        flush()
    return torch.cat(drops) if drops else volume.new_zeros(0)


def _any_in_box(chosen: Tensor, box: Triple) -> Tensor:
    """Return whether any voxel of the box at a corner is chosen, bool, shape (x - box + 1, ...)."""
    return functional.max_pool3d(chosen[None, None].to(torch.float32), box, stride=1)[0, 0] > 0


def _cut(corner: list[int], box: Triple) -> tuple[slice, ...]:
    return tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))


def _sizes(values: Triple) -> str:
    return " x ".join(map(str, values))
