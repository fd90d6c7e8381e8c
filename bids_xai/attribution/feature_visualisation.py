"""Feature visualisation: the image that a filter or class answers to most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError


@dataclass(frozen=True)
class Visualisation:
    """The image found, and how it was reached.

    Parameters
    ----------
    image
        Shape (x, y, z), float32, in the units of the network's input.
    activations
        What was maximised before every step and after the last, without the penalties, shape (steps + 1,).
    """

    image: npt.NDArray[np.float32]
    activations: npt.NDArray[np.float64]


def visualise_feature(
    network: nn.Module,
    shape: Sequence[int],
    start: Start,
    *,
    steps: int = 200,
    rate: float = 0.05,
    l2: float = 1e-3,
    total_variation: float = 1e-3,
    blur: float = 0.0,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    initial: float = 0.1,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Visualisation:
    """Find the image that maximises what ``start`` names, by gradient ascent from noise.

    Formula: ``x* = argmax_x f(x) / s - l2 mean_u x(u)^2 - total_variation mean_u,d |x(u + e_d) - x(u)|``, f a
    class's score or the sum of a filter's activation, s = 1 or the number of its positions; steps of Adam
    with ``rate``, after each one a Gaussian blur of ``blur`` voxels (standard deviation), and values kept
    within ``bounds``.

    Source: Erhan et al. 2009; Simonyan et al. 2014, arXiv:1312.6034, section 2; Mahendran and Vedaldi 2015,
    arXiv:1412.0035, section 2 (total variation); Yosinski et al. 2015, arXiv:1506.06579, section 3 (blur).

    Parameters
    ----------
    network
        Network on ``device``; evaluated, and unchanged afterwards.
    shape
        Voxels per axis.
    start
        One class or filter: a start of one volume (:func:`bids_xai.attribution.starts.of_class` with n = 1).
    steps, rate, l2, total_variation, blur, bounds
        See the formula; no bounds with None.
    initial
        Standard deviation of the noise around the middle of the bounds (0 without) that the ascent begins
        with.
    seed
        Of the noise; one seed gives one image.

    Raises
    ------
    InputError
        Not one target, or settings outside of their range.
    """
    _check(start, steps, rate, blur, bounds)
    generator = torch.Generator().manual_seed(seed)
    middle = 0.0 if bounds is None else sum(bounds) / 2
    noise = torch.randn((1, 1, *shape), generator=generator) * initial + middle
    image = _kept(noise, bounds).to(device).requires_grad_()
    optimiser = torch.optim.Adam([image], lr=rate)
    kernel = _gaussian(blur).to(device)
    activations = []
    with evaluating(network), torch.enable_grad():
        scale = _positions(network, image, start)
        for _ in range(steps):
            activation = start.scores(network, image)[0]
            activations.append(float(activation.detach()))
            loss = l2 * (image**2).mean() + total_variation * _variation(image) - activation / scale
            # Weights take no part: their gradients are neither computed nor kept.
            (image.grad,) = torch.autograd.grad(loss, image)
            optimiser.step()
            with torch.no_grad():
                image.copy_(_kept(_blurred(image, kernel), bounds))
        with torch.no_grad():
            activations.append(float(start.scores(network, image)[0]))
    found = image.detach()[0, 0].cpu().numpy().astype(np.float32)
    return Visualisation(found, np.array(activations))


def _check(start: Start, steps: int, rate: float, blur: float, bounds: tuple[float, float] | None) -> None:
    if start.target.shape != (1,):
        raise InputError(f"{len(start.target)} targets for one image.", "a start of one volume")
    if steps < 1 or rate <= 0 or blur < 0:
        raise InputError(f"steps={steps}, rate={rate}, blur={blur}.", "steps >= 1, rate > 0, blur >= 0")
    if bounds is not None and bounds[0] >= bounds[1]:
        raise InputError(f"Bounds {bounds}.", "the smaller before the larger")


def _positions(network: nn.Module, image: Tensor, start: Start) -> int:
    """Return the number of positions that a filter's activation is summed over, 1 for a class."""
    if start.layer is None:
        return 1
    found: list[int] = []
    handle = network.get_submodule(start.layer).register_forward_hook(
        lambda module, inputs, output: found.append(output[0, 0].numel())  # noqa: ARG005
    )
    try:
        with torch.no_grad():
            network(image)
    finally:
        handle.remove()
    return found[0]


def _kept(image: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    return image if bounds is None else image.clamp(*bounds)


def _variation(image: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours, over axes and voxels."""
    differences = [image.diff(dim=axis).abs().sum() for axis in (2, 3, 4)]
    return torch.stack(differences).sum() / (3 * image.numel())


def _gaussian(width: float) -> Tensor:
    """Return the weights of a Gaussian of standard deviation ``width`` over three of them; [1] for 0."""
    if width == 0:
        return torch.ones(1)
    reach = max(1, round(3 * width))
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    return weights / weights.sum()


def _blurred(image: Tensor, kernel: Tensor) -> Tensor:
    """Return a separable blur; borders repeat the outermost voxel."""
    reach = len(kernel) // 2
    if reach == 0:
        return image
    for axis in range(3):
        sizes = [1, 1, 1]
        sizes[axis] = len(kernel)
        pads = [0] * 6
        pads[4 - 2 * axis : 6 - 2 * axis] = [reach, reach]
        padded = functional.pad(image, pads, mode="replicate")
        image = functional.conv3d(padded, kernel.reshape(1, 1, *sizes))
    return image
