"""What operations on feature maps do to the positions of their cells.

Windows (convolutions, poolings), resizing, padding and cutting move cells; what works voxel by voxel or over
channels keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bids_xai.attribution.cells import Cells, Floats, Layout, Triple
from bids_xai.attribution.steps import triple

_MARK = "_bids_xai_cells"
_WINDOWS: dict[str, tuple[str, ...]] = {
    "conv3d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "max_pool3d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "max_pool3d_with_indices": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool3d": ("input", "kernel_size", "stride", "padding", "ceil_mode"),
    "lp_pool3d": ("input", "norm_type", "kernel_size", "stride", "ceil_mode"),
}
_ADAPTIVE = ("adaptive_avg_pool3d", "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_RESIZED = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
# A voxel of the output comes of the same voxel of the inputs, and of numbers that count for all voxels.
_VOXELWISE = """
    abs add addcdiv addcmul alpha_dropout batch_norm bfloat16 celu clamp clamp_max clamp_min clip clone
    contiguous cos cpu cuda detach div double dropout dropout1d dropout2d dropout3d elu erf exp expm1
    feature_alpha_dropout float fmax fmin gelu glu group_norm half hardshrink hardsigmoid hardswish hardtanh
    instance_norm layer_norm leaky_relu lerp local_response_norm log log1p log_softmax logsigmoid masked_fill
    maximum minimum mish mul multiply nan_to_num neg negative normalize pow prelu radd rdiv relu relu6
    requires_grad rmul rrelu rsqrt rsub selu sigmoid sign silu sin softmax softmin softplus softshrink
    softsign sqrt square sub subtract tanh tanhshrink threshold to true_divide truediv type type_as where
"""
_OVER_CHANNELS = "amax amin logsumexp max mean median min norm std sum var"
_MOVED = "chunk flip getitem movedim narrow permute reshape roll split swapaxes tensor_split transpose view"


@dataclass(frozen=True)
class Unknown:
    """Cells whose positions are not known, for what an operation did."""

    operation: str


@dataclass(frozen=True)
class Call:
    """One operation that ran on feature maps.

    Parameters
    ----------
    func, args, kwargs, result
        The operation, what it took, and what it gave.
    marks
        What is known of the cells of the feature maps that it took.
    output
        One of the tensors of the result.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    marks: tuple[tuple[Tensor, Layout | Unknown], ...]
    output: Tensor

    @property
    def name(self) -> str:
        """Name of the operation; that in place has the same."""
        return getattr(self.func, "__name__", str(self.func)).strip("_")

    @property
    def maps(self) -> list[tuple[Tensor, Layout]]:
        """Feature maps whose cells are known."""
        return [(tensor, mark) for tensor, mark in self.marks if isinstance(mark, tuple)]

    @property
    def sizes(self) -> Triple:
        """Cells of the output along every axis."""
        return triple(self.output.shape[2:])

    def named(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return what the operation took by the names of its parameters."""
        return {**dict(zip(names, self.args, strict=False)), **self.kwargs}

    def second(self, name: str, default: Any = None) -> Any:
        """Return the second parameter, given by place or by name."""
        return self.args[1] if len(self.args) > 1 else self.kwargs.get(name, default)


def set_mark(tensor: Tensor, mark: Layout | Unknown) -> None:
    """Note the cells of feature maps, for as long as the tensor lives."""
    setattr(tensor, _MARK, mark)


def clear_mark(tensor: Tensor) -> None:
    """Forget the cells of feature maps."""
    delattr(tensor, _MARK)


def mark_of(tensor: Tensor) -> Layout | Unknown | None:
    """Return the cells of feature maps; None for tensors that nothing was noted of."""
    mark: Layout | Unknown | None = getattr(tensor, _MARK, None)
    return mark


def tensors_of(values: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_of(value)
    elif isinstance(values, dict):
        yield from tensors_of(list(values.values()))


def followed(call: Call) -> Layout | Unknown:
    """Return the layout of the output of an operation."""
    unknown = next((mark for _, mark in call.marks if isinstance(mark, Unknown)), Unknown(call.name))
    operation = _OPERATIONS.get(call.name)
    if call.output.ndim != 5 or not call.maps or operation is None:
        return unknown
    joins = operation in (_joined, _concatenated)
    if not joins and len(call.marks) > 1:
        return unknown
    return operation(call) or unknown


def plain(layout: Layout) -> bool:
    """Tell whether all channels are of the same places: one set, and no patches."""
    return len(layout) == 1 and layout[0].n_patches == 1


def _joined(call: Call) -> Layout | Unknown | None:
    """Return the cells of what works voxel by voxel: where those of several maps differ, the middle."""
    output = call.output
    for tensor in tensors_of((call.args, call.kwargs)):
        # One number per channel joins maps wherever it comes from; a map must lie somewhere.
        if tensor.ndim != 5 or tensor.shape[2:] != output.shape[2:] or output.shape[2:].numel() == 1:
            continue
        mark = mark_of(tensor)
        if isinstance(mark, Unknown):
            return mark
        if mark is None and tensor.grad_fn is not None:  # neither data nor a parameter
            return Unknown(type(tensor.grad_fn).__name__)
    kept = [mark for tensor, mark in call.maps if tensor.ndim == 5 and tensor.shape[2:] == output.shape[2:]]
    whole = [mark for mark in kept if sum(cells.channels for cells in mark) == output.shape[1]]
    single = [(replace(mark[0], channels=output.shape[1]),) for mark in kept if plain(mark)]
    if not (whole or single):
        return None
    layout = (whole or single)[0]
    for other in kept:
        if len(layout) == len(other) and all(a.equals(b) for a, b in zip(layout, other, strict=True)):
            continue
        if not (plain(layout) and plain(other)):
            return None
        layout = (layout[0].mean_with(other[0]),)
    return layout


def _concatenated(call: Call) -> Layout | None:
    """Return the cells of maps side by side along the channels."""
    if call.second("dim", 0) not in (1, -4) or len(call.maps) != len(list(tensors_of(call.args[0]))):
        return None
    return tuple(cells for _, mark in call.maps for cells in mark)


def _over_channels(call: Call) -> Layout | None:
    """Return the cells of what is left of maps when channels are summed up."""
    layout = call.maps[0][1]
    over = call.second("dim") in (1, -4, [1], (1,), [-4], (-4,))
    return (replace(layout[0], channels=1),) if over and plain(layout) else None


def _windowed(call: Call) -> Layout | None:
    """Return the cells of a convolution or pooling."""
    given, layout = call.named(_WINDOWS[call.name]), call.maps[0][1]
    if call.name == "conv3d":
        mixed = _mixed(layout, int(given.get("groups", 1)), call.output.shape[1])
        kernel = triple(given["weight"].shape[2:])
        stride = triple(given.get("stride", 1))
    else:
        mixed, kernel = layout, triple(given["kernel_size"])
        stride = triple(given.get("stride") or kernel)
    if mixed is None:
        return None
    dilation, padding = triple(given.get("dilation", 1)), given.get("padding", 0)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    # torch puts what 'same' has too much of at the end.
    before = {"same": triple([span // 2 for span in spans]), "valid": (0, 0, 0)}
    pads = before[padding] if isinstance(padding, str) else triple(padding)
    for axis in range(3):
        first = np.arange(call.sizes[axis]) * stride[axis] - float(pads[axis])
        jumps = [cells.jump[axis] * stride[axis] for cells in mixed]
        mixed = tuple(
            cells.taken(axis, first, jump).mean_with(cells.taken(axis, first + spans[axis], jump))
            for cells, jump in zip(mixed, jumps, strict=True)
        )
    return mixed


def _mixed(layout: Layout, groups: int, channels: int) -> Layout | None:
    """Return the layout of the channels of a convolution of one voxel: what its groups keep apart, or mix."""
    total = sum(cells.channels for cells in layout)
    apart = all(
        cells.channels * groups % (total * cells.n_patches) == 0 and cells.channels * channels % total == 0
        for cells in layout
    )
    if apart:
        return tuple(replace(cells, channels=cells.channels * channels // total) for cells in layout)
    if any(cells.n_patches > 1 for cells in layout):
        return None
    middle = [
        np.asarray(np.mean([cells.centres[axis] for cells in layout], axis=0), dtype=np.float64)
        for axis in range(3)
    ]
    return (Cells(channels, (middle[0], middle[1], middle[2]), layout[0].jump),)


def _transposed(call: Call) -> Layout | None:
    """Return the cells of a transposed convolution: the mean of the inputs that reach them."""
    given = call.named(_TRANSPOSED)
    mixed = _mixed(call.maps[0][1], int(given.get("groups", 1)), call.output.shape[1])
    kernel, stride = triple(given["weight"].shape[2:]), triple(given.get("stride", 1))
    padding, dilation = triple(given.get("padding", 0)), triple(given.get("dilation", 1))
    for axis, step in enumerate(stride):
        taps = dilation[axis] * np.arange(kernel[axis])
        sources = np.arange(call.sizes[axis])[:, None] + padding[axis] - taps
        reaching = sources % step == 0
        # Where no input reaches, between those that reach its neighbours.
        counted = np.where(reaching.any(axis=1, keepdims=True), reaching, True)
        at = (sources * counted).sum(axis=1) / counted.sum(axis=1) / step
        mixed = mixed and tuple(cells.taken(axis, at, cells.jump[axis] / step) for cells in mixed)
    return mixed


def _adapted(call: Call) -> Layout:
    """Return the cells of adaptive pooling: windows from floor(i n / m) to ceil((i + 1) n / m) - 1."""
    return tuple(_at(cells, call.sizes, _middle_of_share) for cells in call.maps[0][1])


def _resized(call: Call) -> Layout:
    """Return the cells of resized maps: where torch takes their values from."""
    given = call.named(_RESIZED)
    mode, layout = given.get("mode", "nearest"), call.maps[0][1]
    factor = None if given.get("recompute_scale_factor") else given.get("scale_factor")
    factors = iter(factor if isinstance(factor, (tuple, list)) else [factor] * 3)

    def source(n: int, m: int) -> Floats:
        i, scale = np.arange(m, dtype=np.float64), next(factors) or m / n
        if mode == "area":
            return _middle_of_share(n, m)
        if mode == "nearest":
            return np.floor(i / scale).clip(0, n - 1)
        if mode == "nearest-exact":
            return np.floor((i + 0.5) / scale).clip(0, n - 1)
        found = i * ((n - 1) / max(m - 1, 1)) if given.get("align_corners") else (i + 0.5) / scale - 0.5
        return found.clip(0, n - 1)

    return tuple(_at(cells, call.sizes, source) for cells in layout) if len(layout) == 1 else ()


def _middle_of_share(n: int, m: int) -> Floats:
    i = np.arange(m, dtype=np.float64)
    return np.asarray((np.floor(i * n / m) + np.ceil((i + 1) * n / m) - 1) / 2)


def _at(cells: Cells, sizes: Triple, source: Callable[[int, int], Floats]) -> Cells:
    for axis, (n, m) in enumerate(zip(cells.size, sizes, strict=True)):
        cells = cells.taken(axis, source(n, m), cells.jump[axis] * n / m)
    return cells


def _padded(call: Call) -> Layout | None:
    """Return the cells of padded or cropped maps."""
    pads = [int(size) for size in call.second("pad", ())]
    if any(pads[6:]):
        return None
    layout = call.maps[0][1]
    for axis, before in zip((2, 1, 0), pads[::2], strict=False):
        at = np.arange(call.sizes[axis]) - float(before)
        layout = tuple(cells.taken(axis, at, cells.jump[axis]) for cells in layout)
    return layout


def _moved(call: Call) -> Layout | None:
    """Return the cells of what is only moved: their positions go the same way; None where no grid is left."""
    tensor, layout = call.maps[0]
    if tensor.ndim != 5 or not plain(layout) or layout[0].size != tensor.shape[2:]:
        return None
    place = next(number for number, one in enumerate(tensors_of(call.result)) if one is call.output)
    centres, jumps = [], []
    for axis in range(3):
        line = torch.as_tensor(layout[0].centres[axis][0])
        moving = line.reshape([-1 if other == axis + 2 else 1 for other in range(5)]).expand(tensor.shape)
        args, kwargs = _swapped((call.args, call.kwargs), tensor, moving)
        try:
            moved = list(tensors_of(call.func(*args, **kwargs)))[place]
        except RuntimeError:  # indices that lie on another device
            return None
        along = moved[:1, :1].movedim(2 + axis, 0).flatten(1)
        first = along[:, :1]
        # Along this axis as along no other, for all images and channels: else the axes were mixed.
        if moved.numel() == 0 or not torch.equal(along, first.expand_as(along)):
            return None
        if not torch.equal(moved, moved[:1, :1].expand_as(moved)):
            return None
        steps = np.abs(np.diff(first[:, 0].numpy()))
        jumps.append(float(steps.mean()) if len(steps) else layout[0].jump[axis])
        centres.append(first.numpy().T)
    channels = call.output.shape[1]
    return (Cells(channels, (centres[0], centres[1], centres[2]), (jumps[0], jumps[1], jumps[2])),)


def _swapped(values: Any, tensor: Tensor, by: Tensor) -> Any:
    if values is tensor:
        return by
    if isinstance(values, dict):
        return {key: _swapped(value, tensor, by) for key, value in values.items()}
    return tuple(_swapped(value, tensor, by) for value in values) if isinstance(values, tuple) else values


_OPERATIONS: dict[str, Callable[[Call], Layout | Unknown | None]] = {
    **dict.fromkeys(_VOXELWISE.split(), _joined),
    **dict.fromkeys(_OVER_CHANNELS.split(), _over_channels),
    **dict.fromkeys(_MOVED.split(), _moved),
    **dict.fromkeys(_WINDOWS, _windowed),
    **dict.fromkeys(_ADAPTIVE, _adapted),
    "cat": _concatenated,
    "conv_transpose3d": _transposed,
    "interpolate": _resized,
    "pad": _padded,
}
