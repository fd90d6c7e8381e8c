"""Grad-CAM in 3-D against loops and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bids_xai.attribution.gradcam import grad_cam, guided_grad_cam, last_convolution
from bids_xai.attribution.gradients import guided_backprop
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError
from bids_xai.models.build import build_network
from bids_xai.models.patches import PatchIndividualFilters

SHAPE = (9, 7, 8)


def network(seed: int = 2) -> nn.Sequential:
    built = nn.Sequential(
        nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.MaxPool3d(2)),
        nn.Sequential(nn.Conv3d(4, 5, (2, 1, 2)), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(40, 3),
    ).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return built.eval()


def volumes(n: int = 2) -> Tensor:
    return torch.randn((n, 1, *SHAPE), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


# First cells and jumps of the layers of network(): windows of 3, 2, and (2, 1, 2), none of them padded.
CELLS = {"0.0": ((1, 1, 1), (1, 1, 1)), "1.0": ((2.5, 1.5, 2.5), (2, 2, 2))}


def placed(coarse: Tensor, layer: str) -> Tensor:
    """Put cells (n, 1, x, y, z) where they lie: linear between centres, and to cells of 0 around them."""
    result = coarse[:, 0].numpy()
    for axis, (first, jump) in enumerate(zip(*CELLS[layer], strict=True)):
        centres = first + jump * np.arange(-1, result.shape[1 + axis] + 1)

        def line(values: np.ndarray, centres: np.ndarray = centres, axis: int = axis) -> np.ndarray:
            return np.interp(np.arange(SHAPE[axis]), centres, [0, *values, 0])

        result = np.apply_along_axis(line, 1 + axis, result)
    return torch.as_tensor(result)


def test_equals_a_loop_over_maps_and_voxels() -> None:
    model, x, target = network(), volumes(), torch.tensor([0, 2])
    A = model[1][0](model[0](x)).detach().requires_grad_()
    scores = model[3](model[2](model[1][1](A)))
    slopes = torch.autograd.grad(scores[0, 0] + scores[1, 2], A)[0]
    coarse = torch.zeros((2, 1, *A.shape[2:]), dtype=torch.float64)
    for image in range(2):
        for k in range(5):
            total, voxels = 0.0, 0
            for place in torch.cartesian_prod(*(torch.arange(size) for size in A.shape[2:])).tolist():
                total += float(slopes[(image, k, *place)])
                voxels += 1
            coarse[image, 0] += total / voxels * A[image, k].detach()
    expected = placed(coarse.clamp(min=0), "1.0")
    assert expected.amax(dim=(1, 2, 3)).min() > 0
    found = grad_cam(model, x, Start(target))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(grad_cam(model, x, Start(target), layer="1.0"), expected)
    guided = guided_backprop(model, x, Start(target))
    torch.testing.assert_close(guided_grad_cam(model, x, Start(target)), expected * guided)


@pytest.mark.parametrize("layer", ["0.0", "0.1", "1.0", "1.1"])
def test_captum_agrees(layer: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x, target = network(), volumes(), torch.tensor([2, 1])
    coarse = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(
        x, target=target, relu_attributions=True
    )
    expected = placed(coarse.detach(), f"{layer[0]}.0")
    torch.testing.assert_close(grad_cam(model, x, Start(target), layer=layer), expected)


def test_cells_that_tile_the_volume_are_resized() -> None:
    """Only in the outer half of the outermost cells, where resizing repeats them, values fall."""
    model = nn.Sequential(nn.AvgPool3d((2, 3, 2)), nn.Conv3d(1, 3, 1), nn.ReLU(), nn.Flatten()).double()
    model.append(nn.Linear(3 * 4 * 2 * 4, 2).double())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -1.0, 0.5]).reshape(3, 1, 1, 1, 1))
        model[4].weight.copy_(torch.linspace(-1, 2, 192).reshape(2, 96))
    x = torch.rand((1, 1, 8, 6, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    attr = pytest.importorskip("captum.attr")
    coarse = attr.LayerGradCam(model, model[1]).attribute(x, target=1, relu_attributions=True)
    resized = attr.LayerAttribution.interpolate(coarse, x.shape[2:], "trilinear")[:, 0].detach()
    assert resized.max() > 0
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(grad_cam(model, x, of_class(1, 1), layer="1")[inner], resized[inner])


def test_finds_the_place_that_speaks_for_the_class() -> None:
    model = nn.Sequential(
        nn.Conv3d(1, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1, 1))
        model[4].weight.copy_(torch.eye(2))
    x = torch.zeros((1, 1, 6, 6, 6))
    x[0, 0, 4, 1, 2], x[0, 0, 1, 3, 5] = 1, -1
    bright, dark = (grad_cam(model, x, of_class(code, 1), layer="1")[0] for code in (0, 1))
    assert bright.argmax() == x.argmax()
    assert dark.argmax() == x.argmin()


def test_networks_of_patches_alone_take_the_last_convolution_of_patches() -> None:
    model = build_network("patch-based", (60, 60, 60), 2, patches=(1, 1, 1), seed=0)
    assert last_convolution(model) == "features.3.0"


def test_patches_count_where_they_are_a_map_again() -> None:
    shape = (10, 10, 5)
    mapped = PatchIndividualFilters(shape, 2, 2, patch=5, kernel=3, overlap="half")
    assert last_convolution(nn.Sequential(nn.Conv3d(1, 2, 1), mapped)) == "1.merge"
    flat = PatchIndividualFilters(shape, 2, 2, patch=5, kernel=3, overlap="half", output="flat")
    model = nn.Sequential(nn.Conv3d(1, 2, 1), flat, nn.Linear(flat.n_out, 2))
    assert last_convolution(model) == "0"
    assert grad_cam(model, torch.rand((1, 1, *shape)), of_class(0, 1)).shape == (1, *shape)


def test_refuses_layers_that_are_no_maps() -> None:
    model, x, start = network(), volumes(), of_class(0, 2)
    with pytest.raises(InputError, match="has 2 axes"):
        grad_cam(model, x, start, layer="3")
    with pytest.raises(InputError, match="Unknown layer 'conv9'"):
        grad_cam(model, x, start, layer="conv9")
    with pytest.raises(InputError, match="without convolutions"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(504, 2)).double(), x, start)
    inner = Start(torch.zeros(2, dtype=torch.int64), layer="0.0", filter=1)
    with pytest.raises(InputError, match="does not depend"):
        grad_cam(model, x, inner, layer="1.0")
    assert all(not module._forward_hooks for module in model.modules())
