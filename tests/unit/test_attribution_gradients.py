"""Gradients, guided backpropagation and integrated gradients against finite differences, loops and captum."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bids_xai.attribution.gradients import (
    gradient,
    gradient_x_input,
    guided_backprop,
    integrated_gradients,
    saliency,
)
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError

SHAPE = (5, 6, 4)


def network(activation: type[nn.Module] = nn.ReLU, *, classes: int = 3, seed: int = 0) -> nn.Sequential:
    built = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        activation(),
        nn.MaxPool3d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 6),
        activation(),
        nn.Linear(6, classes),
    ).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return built.eval()


def volumes(n: int = 2) -> Tensor:
    return torch.randn((n, 1, *SHAPE), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_is_the_finite_difference(classes: int, kind: str) -> None:
    model, x = network(nn.ELU, classes=classes), volumes(1)
    start = of_class(0, 1, kind)
    found, step = gradient(model, x, start)[0], 1e-6
    for place in [(0, 0, 0), (2, 3, 1), (4, 5, 3)]:
        moved = torch.zeros_like(x)
        moved[(0, 0, *place)] = step
        with torch.no_grad():
            slope = (start.scores(model, x + moved) - start.scores(model, x - moved)) / (2 * step)
        torch.testing.assert_close(found[place], slope[0], rtol=1e-5, atol=1e-8)


def test_saliency_and_gradient_x_input_follow_from_the_gradient() -> None:
    model, x, start = network(), volumes(), Start(torch.tensor([0, 2]))
    slopes = gradient(model, x, start)
    assert torch.equal(saliency(model, x, start), slopes.abs())
    assert torch.equal(saliency(model, x, start, absolute=False), slopes)
    torch.testing.assert_close(gradient_x_input(model, x, start), slopes * x[:, 0])


def test_gradients_of_a_filter_of_an_inner_layer() -> None:
    model, x = network(), volumes()
    start = Start(torch.zeros(2, dtype=torch.int64), layer="0", filter=2)
    W = model[0].weight.detach()[2, 0]
    # Away from the border every voxel meets every weight once.
    torch.testing.assert_close(gradient(model, x, start)[:, 2, 2, 2], W.sum().expand(2))


@pytest.mark.parametrize("baseline", ["zero", "mean", "minimum"])
def test_integrated_gradients_sum_to_the_difference(baseline: str) -> None:
    model, x, start = network(nn.ELU), volumes(), Start(torch.tensor([1, 2]))
    b = {"zero": 0 * x, "mean": x.mean(dim=(1, 2, 3, 4), keepdim=True) + 0 * x}.get(
        baseline, x.amin(dim=(1, 2, 3, 4), keepdim=True) + 0 * x
    )
    with torch.no_grad():
        difference = start.scores(model, x) - start.scores(model, b)
    found = integrated_gradients(model, x, start, steps=400, baseline=baseline)
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), difference, rtol=1e-2, atol=1e-3)
    rough = integrated_gradients(model, x, start, steps=1, baseline=baseline)
    torch.testing.assert_close(rough, (x - b)[:, 0] * gradient(model, (x + b) / 2, start))


def test_integrated_gradients_of_a_linear_network_are_exact_in_one_step() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(120, 2)).double()
    x, start = volumes(), of_class(1, 2)
    found = integrated_gradients(model, x, start, steps=1)
    torch.testing.assert_close(found.flatten(1), x.flatten(1) * model[1].weight[1].detach())


def backward_by_hand(model: nn.Sequential, x: Tensor, code: int) -> Tensor:
    """Guided backpropagation a module at a time."""
    values = [x]
    with torch.no_grad():
        for module in model:
            values.append(module(values[-1]))
    R = torch.zeros_like(values[-1])
    R[:, code] = 1
    for module, value in zip(reversed(model), reversed(values[:-1]), strict=True):
        probe = value.clone().requires_grad_()
        R = R.clamp(min=0) if isinstance(module, (nn.ReLU, nn.ReLU6, nn.ELU)) else R
        (R,) = torch.autograd.grad(module(probe), probe, R)
    return R[:, 0]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.ELU])
def test_guided_backprop_equals_modules_by_hand(activation: type[nn.Module]) -> None:
    model, x = network(activation), volumes()
    expected = backward_by_hand(model, x, 2)
    assert not torch.allclose(expected, gradient(model, x, of_class(2, 2)))
    torch.testing.assert_close(guided_backprop(model, x, of_class(2, 2)), expected)
    torch.testing.assert_close(guided_backprop(model, x, of_class(2, 2), absolute=True), expected.abs())
    for module in model:
        module.inplace = True
    torch.testing.assert_close(guided_backprop(model, x, of_class(2, 2)), expected)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.GELU])
def test_guided_backprop_refuses_other_nonlinearities(activation: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=rf"{activation.__name__} \('2'\)"):
        guided_backprop(network(activation), volumes(), of_class(0, 2))


def test_guided_backprop_refuses_a_network_without_rectifiers() -> None:
    with pytest.raises(InputError, match="without a rectifier"):
        guided_backprop(nn.Sequential(nn.Flatten(), nn.Linear(120, 2)).double(), volumes(), of_class(0, 2))


def test_integrated_gradients_refuse_what_they_do_not_know() -> None:
    with pytest.raises(InputError, match="steps=0"):
        integrated_gradients(network(), volumes(), of_class(0, 2), steps=0)
    with pytest.raises(InputError, match="baseline=noise"):
        integrated_gradients(network(), volumes(), of_class(0, 2), baseline="noise")  # type: ignore[arg-type]


def test_captum_agrees() -> None:
    attr = pytest.importorskip("captum.attr")
    model, x, target = network(), volumes(), torch.tensor([2, 0])
    start = Start(target)
    pairs = [
        (saliency(model, x, start), attr.Saliency(model), {}),
        (gradient_x_input(model, x, start), attr.InputXGradient(model), {}),
        (
            integrated_gradients(model, x, start, steps=20),
            attr.IntegratedGradients(model),
            {"n_steps": 20, "method": "riemann_middle"},
        ),
    ]
    # Captum's hooks need a module per rectifier, and no view between.
    pairs.append((guided_backprop(model, x, start), attr.GuidedBackprop(copy.deepcopy(model)), {}))
    for found, method, options in pairs:
        expected = method.attribute(x.clone().requires_grad_(), target=target, **options)
        torch.testing.assert_close(found, expected[:, 0].detach())


@pytest.mark.parametrize("function", [saliency, integrated_gradients, guided_backprop])
def test_modes_and_forwards_are_as_before(function: object) -> None:
    model, x = network().train(), volumes()
    model[4].eval()
    modes = [module.training for module in model.modules()]
    first = function(model, x, of_class(1, 2))  # type: ignore[operator]
    assert torch.equal(first, function(model, x, of_class(1, 2)))  # type: ignore[operator]
    assert modes == [module.training for module in model.modules()]
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
