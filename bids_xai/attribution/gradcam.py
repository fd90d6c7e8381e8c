"""Grad-CAM: which cells of a layer of convolutions speak for what is explained, and where they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bids_xai.attribution.cells import Layout, on_voxels
from bids_xai.attribution.gradients import check_rectifiers, guided_backprop
from bids_xai.attribution.modes import evaluating, leaves
from bids_xai.attribution.starts import Start
from bids_xai.attribution.steps import triple
from bids_xai.attribution.tracing import layout_of, traced
from bids_xai.errors import InputError
from bids_xai.models.patches import Merge, Split


def grad_cam(network: nn.Module, x: Tensor, start: Start, *, layer: str | None = None) -> Tensor:
    """Grad-CAM in 3-D on the grid of the volumes, shape (n, x, y, z).

    Formula: ``max(0, sum_k a_k A_k(u))``, ``a_k = mean_u df / dA_k(u)`` over all three axes u of the
    activation A of ``layer`` (a name of ``network.named_modules()``; by default the last convolution, for a
    filter of an inner layer the last up to that one), in units of f. Every cell u lies at the centre of its
    receptive field; voxels between centres are interpolated linearly, and beyond the outermost centres values
    fall to 0 over one step between cells (:func:`bids_xai.attribution.cells.on_voxels`).

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2 (which stretch A over the image: the
    same where its cells tile it, else up to centimetres off).

    Where patches have filters of their own, k counts those of one patch, and u the cells of that patch.
    Where cells of one activation lie at two sets of positions (two sets of patches), the sets are added at
    the voxels before what is negative becomes 0.

    Raises
    ------
    InputError
        For an unknown layer, one whose output is no set of volumes, one that what is explained does not
        depend on, or one of whose cells it is not known where in the volume they lie.
    """
    activation, gradient, layout = _explained_layer(network, x, start, layer)
    weighted = gradient.mean(dim=(2, 3, 4), keepdim=True) * activation
    own = weighted.split([cells.channels for cells in layout], dim=1)
    maps = [
        part.unflatten(1, (cells.n_patches, -1)).sum(dim=2) for part, cells in zip(own, layout, strict=True)
    ]
    shape = triple(x.shape[2:])
    if len(layout) == 1:
        return on_voxels(maps[0].clamp(min=0), layout[0], shape)
    placed = [on_voxels(part, cells, shape) for part, cells in zip(maps, layout, strict=True)]
    return torch.stack(placed).sum(dim=0).clamp(min=0)


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


def check_grad_cam(network: nn.Module, x: Tensor, start: Start, *, layer: str | None = None) -> None:
    """Raise InputError where :func:`grad_cam` would; ``x`` and the network may be without data ("meta")."""
    _explained_layer(network, x, start, layer)


def check_guided_grad_cam(network: nn.Module, x: Tensor, start: Start, *, layer: str | None = None) -> None:
    """Raise InputError where :func:`guided_grad_cam` would; see :func:`check_grad_cam`."""
    check_rectifiers(network)
    check_grad_cam(network, x, start, layer=layer)


def _explained_layer(
    network: nn.Module, x: Tensor, start: Start, layer: str | None
) -> tuple[Tensor, Tensor, Layout]:
    """Return the activation of a layer, the gradient with respect to it, and where its cells lie."""
    chosen = _chosen_layer(network, layer, start)
    found: list[Tensor] = []
    handle = network.get_submodule(chosen).register_forward_hook(
        lambda module, inputs, output: found.append(output)  # noqa: ARG005
    )
    inputs = x.detach().requires_grad_()
    try:
        with evaluating(network), torch.enable_grad():
            with traced(network, inputs):
                score = start.scores(network, inputs)
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
    return activation.detach(), gradient, layout_of(activation, chosen)


def last_convolution(network: nn.Module, until: str | None = None) -> str:
    """Return the name of the last convolution over whole volumes; InputError where there is none.

    Convolutions of single patches count where patches are put together to maps (the name is then that of
    :class:`bids_xai.models.patches.Merge`), and in networks that have no other convolutions.

    Parameters
    ----------
    network
        Its modules, in their order.
    until
        Name of the last module that counts; None: all.
    """
    whole, of_patches, in_patches = None, None, False
    for name, module in _up_to(network, until):
        if isinstance(module, Split):
            in_patches = True
        elif isinstance(module, Merge) and module.output == "map":
            whole, in_patches = name, False
        elif isinstance(module, nn.Conv3d) and in_patches:
            of_patches = name
        elif isinstance(module, nn.Conv3d):
            whole = name
    found = whole or of_patches
    if found is None:
        raise InputError(
            f"Grad-CAM of a network without convolutions of volumes{f' up to {until!r}' if until else ''}.",
            "a torch.nn.Conv3d",
            "name a layer with layer=, or use another explanation",
        )
    return found


def _up_to(network: nn.Module, until: str | None) -> list[tuple[str, nn.Module]]:
    """Return the leaves of a network up to a module, those of that module with them."""
    found = leaves(network)
    if until is None:
        return found
    names = [name for name, _ in network.named_modules()]
    last = max(place for place, name in enumerate(names) if name == until or name.startswith(f"{until}."))
    counted = set(names[: last + 1])
    return [(name, module) for name, module in found if name in counted]


def _chosen_layer(network: nn.Module, layer: str | None, start: Start) -> str:
    if layer is None:
        return last_convolution(network, start.layer)
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        raise InputError(f"Unknown layer {layer!r} for Grad-CAM.", f"one of {', '.join(names)}")
    return layer
