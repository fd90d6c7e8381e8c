"""Where the cells of a network's layers lie, followed through the operations that run.

Every operation of torch on feature maps is seen as it runs, whether a module or a function of the user calls
it. Cells that an operation gave of which it is not known what it does (:mod:`.cell_operations`) have no known
position; its name is kept for the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bids_xai.attribution.cell_operations import (
    Call,
    Unknown,
    clear_mark,
    followed,
    mark_of,
    plain,
    set_mark,
    tensors_of,
)
from bids_xai.attribution.cells import Cells, Layout, voxels
from bids_xai.attribution.steps import triple
from bids_xai.errors import InputError
from bids_xai.models.patches import Merge, Split


class Tracing(TorchFunctionMode):
    """Follows the cells of feature maps while it is active (:func:`traced`)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        named = kwargs or {}
        # What runs in place changes its input: its cells are those before.
        marks = tuple((tensor, mark) for tensor in tensors_of((args, named)) if (mark := mark_of(tensor)))
        result = func(*args, **named)
        if marks:
            for output in tensors_of(result):
                set_mark(output, followed(Call(func, args, named, result, marks, output)))
        return result


@contextmanager
def traced(network: nn.Module, x: Tensor) -> Iterator[None]:
    """Follow cells while the context lasts: :func:`layout_of` knows the feature maps that come of ``x``.

    Parameters
    ----------
    network
        Runs on ``x`` within the context.
    x
        Volumes, shape (n, channels, x, y, z); its voxels are the first cells.
    """
    set_mark(x, (voxels(x.shape[1], triple(x.shape[2:])),))
    handles = [
        module.register_forward_hook(_PATCHES[type(module)])
        for module in network.modules()
        if type(module) in _PATCHES
    ]
    try:
        with Tracing():
            yield
    finally:
        clear_mark(x)
        for handle in handles:
            handle.remove()


def layout_of(features: Tensor, layer: str) -> Layout:
    """Return where the cells of feature maps lie that were computed while cells were followed.

    Raises
    ------
    InputError
        Their positions are not known.
    """
    mark = mark_of(features)
    fits = isinstance(mark, tuple) and sum(cells.channels for cells in mark) == features.shape[1]
    if isinstance(mark, tuple) and fits and all(cells.size == features.shape[2:] for cells in mark):
        return mark
    operation = f", after {mark.operation!r}" if isinstance(mark, Unknown) else ""
    raise InputError(
        f"It is not known where in the volume the cells of layer {layer!r} lie{operation}.",
        "a layer after convolutions, poolings, resizing, cutting and what works voxel by voxel",
        "name an earlier layer with layer=, or use an explanation of voxels such as lrp-alpha-beta",
    )


def _after_split(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Give the patches of a split their cells: those of the map, from each patch's first on."""
    assert isinstance(module, Split)
    mark = mark_of(inputs[0])
    if not isinstance(mark, tuple) or not plain(mark):
        _set_unknown(output, mark, "Split")
        return
    sets, found = [(module.grid, (0, 0, 0))], []
    if module.shift:
        sets.append((module.second, module.shift))
    for grid, start in sets:
        cells = replace(mark[0], channels=mark[0].channels * math.prod(grid))
        for axis in range(3):
            first = start[axis] + module.patch[axis] * np.arange(grid[axis])[:, None]
            at = (first + np.arange(module.patch[axis])).astype(np.float64)
            rows = mark[0].taken(axis, at.ravel(), mark[0].jump[axis]).centres[axis].reshape(at.shape)
            centres = list(cells.centres)
            centres[axis] = rows
            cells = replace(cells, centres=(centres[0], centres[1], centres[2]))
        found.append(cells)
    set_mark(output, tuple(found))


def _after_merge(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Give maps that were put together their cells: those of the patches, side by side."""
    assert isinstance(module, Merge)
    mark = mark_of(inputs[0])
    grids = [module.grid, module.second] if sum(module.second) else [module.grid]
    fits = isinstance(mark, tuple) and [cells.grid for cells in mark] == grids
    if output.ndim != 5 or not isinstance(mark, tuple) or not fits:
        _set_unknown(output, mark, "Merge")
        return
    found = []
    for number, cells in enumerate(mark):
        x, y, z = (rows.reshape(1, -1) for rows in cells.centres)
        joined = Cells(cells.channels // cells.n_patches, (x, y, z), cells.jump)
        if number and module.shift is not None:
            for axis in range(3):
                at = np.arange(output.shape[2 + axis]) - float(module.shift[axis])
                joined = joined.taken(axis, at, joined.jump[axis])
        found.append(joined)
    set_mark(output, tuple(found))


def _set_unknown(output: Tensor, mark: Layout | Unknown | None, name: str) -> None:
    if mark is not None:
        set_mark(output, mark if isinstance(mark, Unknown) else Unknown(name))


_PATCHES: dict[type[nn.Module], Callable[..., None]] = {Split: _after_split, Merge: _after_merge}
