"""Grad-CAM: which places of a layer of convolutions speak for what is explained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.gradients import guided_backprop
from bids_xai.attribution.modes import evaluating, leaves
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError
from bids_xai.models.patches import Merge, Split


def grad_cam(network: nn.Module, x: Tensor, start: Start, *, layer: str | None = None) -> Tensor:
    """Grad-CAM in 3-D, trilinearly upsampled to the grid of the volumes, shape (n, x, y, z).

    Formula: ``max(0, sum_k a_k A_k(u))``, ``a_k = mean_u df / dA_k(u)`` over all three axes u of the
    activation A of ``layer`` (a name of ``network.named_modules()``; by default the last convolution), in
    units of f.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.

    Raises
    ------
    InputError
        For an unknown layer, or one whose output is no set of volumes.
    """
    chosen = _chosen_layer(network, layer)
    found: list[Tensor] = []
    handle = network.get_submodule(chosen).register_forward_hook(
        lambda module, inputs, output: found.append(output)  # noqa: ARG005
    )
    try:
        with evaluating(network), torch.enable_grad():
            score = start.scores(network, x.detach().requires_grad_())
            activation = found[-1]
            if activation.ndim != 5:
                raise InputError(
                    f"The output of layer {chosen!r} has {activation.ndim} axes.",
                    "5 for Grad-CAM (images, channels and three of space)",
                    "name a convolution with layer=",
                )
            (gradient,) = torch.autograd.grad(score.sum(), activation, allow_unused=True)
    finally:
        handle.remove()
    if gradient is None:
        raise InputError(
            f"What is explained does not depend on the layer {chosen!r}.",
            "a layer between the volumes and what is explained",
            "name an earlier layer with layer=",
        )
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    coarse = (weights * activation.detach()).sum(dim=1, keepdim=True).clamp(min=0)
    return functional.interpolate(coarse, size=x.shape[2:], mode="trilinear", align_corners=False)[:, 0]


def guided_grad_cam(network: nn.Module, x: Tensor, start: Start, *, layer: str | None = None) -> Tensor:
    """Guided Grad-CAM, shape (n, x, y, z).

    Formula: Grad-CAM of ``layer`` times guided backpropagation, voxel by voxel.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.2.

    Raises
    ------
    InputError
        As :func:`grad_cam` and :func:`bids_xai.attribution.gradients.guided_backprop` do.
    """
    return grad_cam(network, x, start, layer=layer) * guided_backprop(network, x, start)


def last_convolution(network: nn.Module) -> str:
    """Return the name of the last convolution over whole volumes; InputError where there is none.

    Convolutions of single patches have others: their output counts where patches are put together to maps.
    """
    found, in_patches = None, False
    for name, module in leaves(network):
        if isinstance(module, Split):
            in_patches = True
        elif isinstance(module, Merge) and module.output == "map":
            found, in_patches = name, False
        elif isinstance(module, nn.Conv3d) and not in_patches:
            found = name
    if found is None:
        raise InputError(
            "Grad-CAM of a network without convolutions of whole volumes.",
            "a torch.nn.Conv3d",
            "name a layer with layer=, or use another explanation",
        )
    return found


def _chosen_layer(network: nn.Module, layer: str | None) -> str:
    if layer is None:
        return last_convolution(network)
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        raise InputError(f"Unknown layer {layer!r} for Grad-CAM.", f"one of {', '.join(names)}")
    return layer
