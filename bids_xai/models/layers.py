"""Parts that networks share: residual blocks, and the arithmetic of their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from bids_xai.errors import InputError

Shape = tuple[int, int, int]
_WINDOWED = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d)
# No network here needs an axis longer than this to have one value left.
_LARGEST = 4096


class Add(nn.Module):
    """Sum of two tensors of one shape: a module, so that hooks and rules of explanations see it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x + y."""
        return x + y


class Residual(nn.Module):
    """Return x + body(x) (He et al. 2016, equation 1).

    Parameters
    ----------
    body
        A module whose output has the shape of its input. The sum is the child module ``add`` (:class:`Add`),
        called as ``add(x, body(x))``.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        """Return x + body(x)."""
        return self.add(x, self.body(x))


def units(n_classes: int) -> int:
    """Return the output units of networks with a sigmoid: one for two classes, else one per class."""
    return 1 if n_classes == 2 else n_classes


def features_shape(features: nn.Module, shape: Sequence[int], name: str, *, cut: Shape = (1, 1, 1)) -> Shape:
    """Return the spatial shape after ``features``.

    A window of size k, stride s, padding p and dilation d makes floor((n + 2 p - d (k - 1) - 1) / s) + 1
    values of n, axis by axis.

    Parameters
    ----------
    features
        Convolutions and poolings (also within :class:`torch.nn.Sequential`), and modules that keep the shape.
    shape
        Voxels per axis of the input.
    name
        The network, for the error.
    cut
        Parts of every axis: ``features`` see patches of ceil(n / cut) voxels.

    Raises
    ------
    InputError
        A volume too small for the network; names the smallest that is large enough.
    """
    if len(shape) != 3:
        raise InputError(f"Volumes of {len(shape)} axes, {tuple(shape)}.", f"3 axes for {name}")
    windows = list(_windows(features))
    found = [_after(windows, axis, -(-int(n) // cut[axis])) for axis, n in enumerate(shape)]
    if min(found) < 1:
        least = (cut[axis] * (_smallest(windows, axis) - 1) + 1 for axis in range(3))
        smallest = " x ".join(map(str, least))
        raise InputError(
            f"Volumes of {' x '.join(map(str, shape))} voxels are too small for {name}.",
            f"at least {smallest} voxels",
            "use smaller voxels, or a network with less pooling",
        )
    return (found[0], found[1], found[2])


def _windows(module: nn.Module) -> Iterable[nn.Module]:
    return (part for part in module.modules() if isinstance(part, _WINDOWED))


def _after(windows: Iterable[nn.Module], axis: int, n: int) -> int:
    """Return the values left along an axis; 0 where a window does not fit."""
    for window in windows:
        k, s, p, d = (_of_axis(window, key, axis) for key in ("kernel_size", "stride", "padding", "dilation"))
        if n + 2 * p < d * (k - 1) + 1:
            return 0
        n = (n + 2 * p - d * (k - 1) - 1) // s + 1
    return n


def _of_axis(window: nn.Module, key: str, axis: int) -> int:
    value = getattr(window, key, 1)
    return int(value[axis] if isinstance(value, tuple) else value)


def _smallest(windows: list[nn.Module], axis: int) -> int:
    return next(n for n in range(1, _LARGEST) if _after(windows, axis, n) >= 1)
