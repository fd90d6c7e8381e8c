"""Explanations from gradients of what is explained, f(x), with respect to the voxels x.

Every function returns a value per voxel, shape (n, x, y, z), for volumes of shape (n, 1, x, y, z).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bids_xai.attribution.modes import Forward, evaluating, leaves, replaced_forwards
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.ELU)


def saliency(network: nn.Module, x: Tensor, start: Start, *, absolute: bool = True) -> Tensor:
    """Saliency: how much the output changes with a voxel; its sign kept where ``absolute`` is false.

    Formula: ``|df / dx_i|``, in units of f per unit of x.

    Source: Simonyan et al. 2014, arXiv:1312.6034, section 3.1.
    """
    found = gradient(network, x, start)
    return found.abs() if absolute else found


def gradient_x_input(network: nn.Module, x: Tensor, start: Start) -> Tensor:
    """Gradient x input.

    Formula: ``x_i df / dx_i``, in units of f.

    Source: Shrikumar et al. 2016, arXiv:1605.01713.
    """
    return (x * gradient(network, x, start)[:, None]).sum(dim=1)


def integrated_gradients(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    steps: int = 50,
    baseline: Literal["zero", "mean", "minimum"] = "zero",
) -> Tensor:
    """Integrated gradients; they sum to f(x) - f(b) as the number of steps grows.

    Formula: ``(x_i - b_i) mean_k df / dx_i (b + (k - 1/2) / steps (x - b))``, k = 1 .. steps, in units of f;
    b is 0, or the mean or minimum of each volume.

    Source: Sundararajan et al. 2017, arXiv:1703.01365, equation 3 (here at the middle of every step).
    """
    if steps < 1:
        raise InputError(f"steps={steps} for integrated-gradients.", "a whole number >= 1")
    flat = x.flatten(1)
    values = {"zero": torch.zeros_like(flat[:, 0]), "mean": flat.mean(dim=1), "minimum": flat.amin(dim=1)}
    if baseline not in values:
        raise InputError(f"baseline={baseline} for integrated-gradients.", f"one of {', '.join(values)}")
    way = x - values[baseline].reshape(-1, *[1] * (x.ndim - 1))
    total = torch.zeros_like(x[:, 0])
    for step in range(steps):
        total += gradient(network, x - (1 - (step + 0.5) / steps) * way, start)
    return (way * total[:, None]).sum(dim=1) / steps


def guided_backprop(network: nn.Module, x: Tensor, start: Start, *, absolute: bool = False) -> Tensor:
    """Guided backpropagation; absolute values with ``absolute``, as in Böhle et al. 2019.

    Formula: the gradient df / dx_i, but every rectifier a = g(z) hands back ``g'(z) max(0, R)`` for the R
    that it receives: ``1[z > 0] max(0, R)`` for ReLU, ``1[0 < z < 6] max(0, R)`` for ReLU6, and ``max(0, R)``
    times ``alpha exp(z)`` where z < 0 for ELU, which the paper does not treat.

    Source: Springenberg et al. 2015, arXiv:1412.6806, section 3.4; Böhle et al. 2019,
    doi:10.3389/fnagi.2019.00194, section 2.3.2.

    Raises
    ------
    InputError
        For a network with other nonlinearities, or without a rectifier.
    """
    check_rectifiers(network)
    with replaced_forwards(network, _guided):
        found = gradient(network, x, start)
    return found.abs() if absolute else found


def gradient(network: nn.Module, x: Tensor, start: Start) -> Tensor:
    """Return df / dx, shape (n, x, y, z), of the evaluated network."""
    inputs = x.detach().requires_grad_()
    with evaluating(network), torch.enable_grad():
        (found,) = torch.autograd.grad(start.scores(network, inputs).sum(), inputs)
    return found.sum(dim=1)


class _Clipped(torch.autograd.Function):
    """Identity whose backward keeps positive gradients only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0].clamp(min=0)


def _guided(name: str, module: nn.Module) -> Forward | None:
    del name
    original = module.forward
    if not isinstance(module, RECTIFIERS):
        return None
    # A rectifier that works in place would overwrite what the layer before it needs.
    return lambda x: _Clipped.apply(original(x.clone() if module.inplace else x))


def check_rectifiers(network: nn.Module, *_: Any, **__: Any) -> None:
    """Raise InputError unless a network's nonlinearities are those that guided backpropagation knows."""
    modules = leaves(network)
    expected = f"rectifiers ({', '.join(kind.__name__ for kind in RECTIFIERS)})"
    remedy = "use another explanation, such as integrated-gradients"
    for name, module in modules:
        nonlinear = any(kind.__module__ == "torch.nn.modules.activation" for kind in type(module).__mro__)
        if nonlinear and not isinstance(module, RECTIFIERS):
            raise InputError(
                f"Guided backpropagation of a network with {type(module).__name__} ({name!r}).",
                f"no other nonlinearities than {expected}",
                remedy,
            )
    if not any(isinstance(module, RECTIFIERS) for _, module in modules):
        raise InputError(
            "Guided backpropagation of a network without a rectifier among its modules.", expected, remedy
        )
