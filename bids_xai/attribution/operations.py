"""The linear operations of networks, as maps whose weights can be exchanged.

A layer computes y = L(x; w) + b. Rules of relevance propagation evaluate L and its transpose with parts of w
(its positive part, its square), so both take the weights as an argument. Poolings that average, and sums, are
L with the single weight 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.errors import InputError

MEANS = (nn.AvgPool3d, nn.AdaptiveAvgPool3d)
WEIGHTED = (nn.Conv3d, nn.Linear)
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Operation:
    """One evaluation y = L(x; w) + b of a linear layer.

    Parameters
    ----------
    x
        Input, first axis images.
    evaluated
        Returns L(x; w), on request: not every rule needs it.
    weight
        w.
    bias
        b, broadcast against z.
    linear
        ``linear(x, w)`` returns L(x; w).
    transposed
        ``transposed(s, w)`` returns sum_j dL_j/dx s_j in the shape of x, for s in the shape of z.
    weightless
        Whether L only averages or adds, with the weight 1.
    """

    x: Tensor
    evaluated: Callable[[], Tensor]
    weight: Tensor
    bias: Tensor
    linear: Callable[[Tensor, Tensor], Tensor]
    transposed: Callable[[Tensor, Tensor], Tensor]
    weightless: bool = False

    @cached_property
    def z(self) -> Tensor:
        """L(x; w)."""
        return self.evaluated()


@dataclass(frozen=True)
class Scale:
    """Batch normalisation in evaluation, y = factor x + shift per channel."""

    factor: Tensor
    shift: Tensor

    @classmethod
    def of(cls, name: str, module: nn.BatchNorm1d | nn.BatchNorm3d) -> Scale:
        """Read the stored statistics; InputError where there are none."""
        if module.running_mean is None or module.running_var is None:
            raise InputError(
                f"The batch normalisation {name!r} stores no statistics.",
                "one that scales every image alike in evaluation",
                "build it with track_running_stats=True",
            )
        factor = torch.rsqrt(module.running_var + module.eps)
        if module.weight is not None:
            factor = factor * module.weight.detach()
        shift = -module.running_mean * factor
        return cls(factor, shift if module.bias is None else shift + module.bias.detach())

    def applied(self, x: Tensor) -> Tensor:
        """Return factor x + shift along the channels, axis 1."""
        return along_channels(self.factor, x) * x + along_channels(self.shift, x)


@dataclass
class Weighted:
    """A convolution or dense layer in one forward, with the batch normalisations that it absorbs.

    Parameters
    ----------
    name, module
        The layer.
    x
        Its input, or that of the batch normalisation ``before`` it.
    y
        Its own output.
    before, after
        Batch normalisations merged into it.
    mirrored
        Whether its single unit z is to be two, -z and z.
    """

    name: str
    module: nn.Conv3d | nn.Linear
    x: Tensor
    y: Tensor = field(init=False)
    before: Scale | None = None
    after: Scale | None = None
    mirrored: bool = False

    def operation(self) -> Operation:
        """Return the layer and its batch normalisations as one linear operation; exact."""
        linear, transposed = _maps(self.name, self.module, self.x)
        weight, y = self.module.weight.detach(), self.y
        bias = y.new_zeros(1) if self.module.bias is None else self.module.bias.detach()
        bias = along_channels(bias, y)
        if self.before is not None:
            # At padded borders a shift of the input counts less: the bias is then a map, not a number.
            constant = along_channels(self.before.shift, self.x).expand(1, *self.x.shape[1:])
            bias = bias + linear(constant, weight)
            weight = weight * _per_input(self.before.factor, self.module)
        own, factor = bias, None
        if self.after is not None:
            factor = along_channels(self.after.factor, y)
            weight = weight * self.after.factor.reshape(-1, *[1] * (weight.ndim - 1))
            bias = factor * bias + along_channels(self.after.shift, y)
        if self.mirrored:
            weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias], 1)

        def evaluated() -> Tensor:
            z = y - own
            z = z if factor is None else factor * z
            return torch.cat([-z, z], 1) if self.mirrored else z

        return Operation(self.x, evaluated, weight, bias, linear, transposed)


def along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Return one value per channel, shape (c,), as (1, c, 1, ...) for arrays like x."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def mean_operation(x: Tensor, pool: Callable[[Tensor], Tensor]) -> Operation:
    """Return an average pooling, evaluated by ``pool``, as a linear operation."""

    def transposed(s: Tensor, weight: Tensor) -> Tensor:
        with torch.enable_grad():
            probe = torch.zeros_like(x).requires_grad_()
            (spread,) = torch.autograd.grad(pool(probe), probe, s)
        return spread * weight

    return Operation(
        x,
        lambda: pool(x),
        x.new_ones(()),
        x.new_zeros(()),
        lambda v, weight: pool(v) * weight,
        transposed,
        weightless=True,
    )


def sum_operation(parts: tuple[Tensor, ...]) -> Operation:
    """Return the sum of arrays as a linear operation on their stack, shape (n, parts, ...)."""
    x = torch.stack(parts, dim=1)
    return Operation(
        x,
        lambda: x.sum(dim=1),
        x.new_ones(()),
        x.new_zeros(()),
        lambda v, weight: v.sum(dim=1) * weight,
        lambda s, weight: (s * weight)[:, None].expand(x.shape),
        weightless=True,
    )


def _maps(
    name: str, module: nn.Conv3d | nn.Linear, x: Tensor
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    if isinstance(module, nn.Linear):
        return functional.linear, lambda s, weight: functional.linear(s, weight.mT)
    padding = _padding(name, module)
    stride, dilation, groups = module.stride, module.dilation, module.groups

    def linear(v: Tensor, weight: Tensor) -> Tensor:
        return functional.conv3d(v, weight, None, stride, padding, dilation, groups)

    def transposed(s: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.aten.convolution_backward(
            s, x, weight, None, stride, padding, dilation, False, [0, 0, 0], groups, (True, False, False)
        )[0]

    return linear, transposed


def _padding(name: str, module: nn.Conv3d) -> tuple[int, ...]:
    if module.padding_mode != "zeros":
        raise InputError(
            f"The convolution {name!r} pads with {module.padding_mode!r}.",
            "zeros: relevance that leaves through other padding has no voxel to go to",
            "use another explanation, such as saliency",
        )
    if not isinstance(module.padding, str):
        return tuple(module.padding)
    if module.padding == "valid":
        return (0, 0, 0)
    spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(span % 2 for span in spans):
        raise InputError(
            f"The convolution {name!r} has an even kernel and the padding 'same'.",
            "padding that is equal on both sides",
            "pad with a module of its own (torch.nn.ConstantPad3d)",
        )
    return tuple(span // 2 for span in spans)


def _per_input(factor: Tensor, module: nn.Conv3d | nn.Linear) -> Tensor:
    """Return one factor per input channel in a shape that multiplies the weights."""
    if isinstance(module, nn.Linear):
        return factor[None]
    groups = factor.reshape(module.groups, 1, -1)
    rows = groups.expand(-1, module.out_channels // module.groups, -1)
    return rows.reshape(module.out_channels, -1, 1, 1, 1)
