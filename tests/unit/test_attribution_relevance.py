"""Relevance propagation against textbook loops in float64 and zennit, and on the networks of the papers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.gradients import gradient_x_input
from bids_xai.attribution.relevance import (
    conservation,
    deep_taylor,
    lrp_0,
    lrp_alpha_beta,
    lrp_composite,
    lrp_epsilon,
    lrp_gamma,
)
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError
from bids_xai.models import NETWORKS
from bids_xai.models.layers import Residual
from bids_xai.models.patches import PatchIndividualFilters
from tests.outside import zennit

SHAPE = (6, 5, 7)
OURS = [name for name in EXPLANATIONS if name.startswith("lrp") or name == "deep-taylor"]


def textbook(z: Tensor, bias: Tensor, R: Tensor, rule: str, options: dict[str, Any]) -> Tensor:
    """R_i of one layer from all contributions z_ij, shape (inputs, outputs), one output at a time."""
    found = torch.zeros(z.shape[0], dtype=z.dtype)
    for j in range(z.shape[1]):
        contributions, b = z[:, j], float(bias[j]) if options.get("bias") == "include" else 0.0
        if rule == "epsilon":
            total = float(contributions.sum()) + b
            if total + options["epsilon"] == 0:
                continue
            found += contributions / (total + options["epsilon"] * (1 if total >= 0 else -1)) * R[j]
        elif rule == "gamma":
            total, g = float(contributions.sum()) + b, options["gamma"]
            kept = (lambda v: v.clamp(min=0)) if total > 0 else (lambda v: v.clamp(max=0))
            weighed = contributions + g * kept(contributions)
            if total:
                found += weighed / (weighed.sum() + b + g * kept(torch.tensor(b, dtype=z.dtype))) * R[j]
        else:
            found += textbook_alpha_beta(contributions, b, float(R[j]), **options)
    return found


def textbook_alpha_beta(
    z: Tensor, b: float, R: float, *, beta: float = 0.0, one_sided: str = "plain", bias: str = "ignore"
) -> Tensor:
    positive, negative = z.clamp(min=0), z.clamp(max=0)
    above, below = float(positive.sum()) + max(b, 0), float(negative.sum()) + min(b, 0)
    alpha = 1 + beta
    if one_sided == "boehle" and above == 0:
        alpha, beta = 1, -1 if beta else 0
    elif one_sided == "conserve" and above == 0:
        beta = -1
    elif one_sided != "plain" and below == 0:
        alpha = 1
    found = torch.zeros_like(z)
    if above:
        found += alpha * positive / above * R
    if below:
        found -= beta * negative / below * R
    return found


RULES: list[tuple[str, Callable[..., Tensor], dict[str, Any]]] = [
    ("epsilon", lrp_epsilon, {"epsilon": 0.1}),
    ("epsilon", lrp_epsilon, {"epsilon": 0.1, "bias": "include"}),
    ("epsilon", lrp_0, {}),
    ("alpha-beta", lrp_alpha_beta, {}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 1.0}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 0.5, "bias": "include"}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 0.5, "one_sided": "boehle"}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 0.0, "one_sided": "boehle"}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 0.5, "one_sided": "conserve"}),
    ("alpha-beta", lrp_alpha_beta, {"beta": 0.0, "one_sided": "conserve"}),
    ("gamma", lrp_gamma, {"gamma": 0.3}),
    ("gamma", lrp_gamma, {"gamma": 0.3, "bias": "include"}),
]
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(210, 4)),
    "conv": lambda: nn.Sequential(nn.Conv3d(1, 3, 3, stride=2, padding=1), nn.Flatten()),
    "conv, even": lambda: nn.Sequential(nn.Conv3d(1, 2, (2, 3, 2), padding="valid"), nn.Flatten()),
    "conv, same": lambda: nn.Sequential(nn.Conv3d(1, 2, 3, padding="same", dilation=2), nn.Flatten()),
    "patches": lambda: nn.Sequential(
        PatchIndividualFilters(SHAPE, 1, 2, patch=4, kernel=3, overlap="half"), nn.Flatten()
    ),
}


def jacobian(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of a linear network, from its outputs of unit volumes."""
    zero = torch.zeros((1, *x.shape[1:]), dtype=x.dtype)
    units = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    with torch.no_grad():
        bias = layer(zero)[0]
        return layer(units) - bias, bias


def volumes(
    n: int = 2,
    *,
    signed: bool = True,
    seed: int = 3,
    shape: tuple[int, ...] = SHAPE,
    empty: bool = True,
) -> Tensor:
    x = torch.randn((n, 1, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x if signed else x.clamp(min=0)
    if empty:
        x[0, 0, :3] = 0
    return x


def weighted(network: nn.Module, seed: int = 0, *, bias: bool = True, scale: float = 1.0) -> nn.Module:
    """Draw weights, and statistics of batch normalisation that do something (some factors negative)."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    for module in network.modules():
        for name, values in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if not values.is_floating_point():
                continue
            drawn = torch.randn(values.shape, generator=generator, dtype=values.dtype)
            fan = values[0].numel() if values.ndim > 1 else 1
            with torch.no_grad():
                values.copy_(drawn.abs() + 0.5 if name == "running_var" else scale * drawn / fan**0.5)
            if not bias and name in {"bias", "running_mean"}:
                values.data.zero_()
    return network


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("rule", "function", "options"), RULES)
def test_layer_equals_textbook(
    rule: str, function: Callable[..., Tensor], options: dict[str, Any], layer: str, signed: bool
) -> None:
    network, x = weighted(LAYERS[layer]()), volumes(signed=signed)
    W, b = jacobian(network, x)
    code = W.shape[1] - 2
    found = function(network, x, of_class(code, 2), **options)
    for image, relevance in zip(x, found, strict=True):
        z = image.flatten()[:, None] * W
        R = torch.zeros_like(b)
        R[code] = (z.sum(dim=0) + b)[code]
        expected = textbook(z, b, R, rule, {"epsilon": 0.0, **options} if rule == "epsilon" else options)
        torch.testing.assert_close(relevance.flatten(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("rule", "function", "options"), RULES)
@pytest.mark.parametrize("inner", ["grouped", "depthwise", "average", "adaptive", "residual", "dense"])
def test_two_layers_equal_textbook(
    rule: str, function: Callable[..., Tensor], options: dict[str, Any], inner: str, signed: bool
) -> None:
    """Relevance of every output of a second layer, by contributions between both layers' activations."""
    second = {
        "grouped": lambda: nn.Conv3d(4, 6, 2, stride=2, groups=2),
        "depthwise": lambda: nn.Conv3d(4, 8, 3, groups=4, padding=1),
        "average": lambda: nn.AvgPool3d(2, padding=1),
        "adaptive": lambda: nn.AdaptiveAvgPool3d((2, 1, 2)),
        "residual": lambda: Residual(nn.Conv3d(4, 4, 3, padding=1)),
        "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 5)),
    }[inner]()
    first = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Identity() if signed else nn.ReLU())
    shape = (4, 4, 5)
    network = weighted(nn.Sequential(first, second, nn.Flatten()))
    x = volumes(1, shape=shape)
    x[0, 0, :3] = 0.5
    with torch.no_grad():
        middle = first(x)
    W, b = jacobian(nn.Sequential(second, nn.Flatten()), middle)
    code = W.shape[1] - 1
    z = middle.flatten()[:, None] * W
    R = torch.zeros_like(b)
    R[code] = (z.sum(dim=0) + b)[code]
    given = {"epsilon": 0.0, **options} if rule == "epsilon" else dict(options)
    if inner in {"average", "adaptive"} and rule == "alpha-beta":
        given["one_sided"] = "conserve"
    if inner == "residual":
        into = split_of_sum(network, middle, rule, given, code)
    else:
        into = textbook(z, b, R, rule, given)
    W, b = jacobian(nn.Sequential(first[0], nn.Flatten()), x)
    given = {"epsilon": 0.0, **options} if rule == "epsilon" else options
    expected = textbook(x.flatten()[:, None] * W, b, into, rule, given)
    found = function(network, x, of_class(code, 1), **options)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-7, atol=1e-10)


def split_of_sum(network: nn.Module, middle: Tensor, rule: str, given: dict[str, Any], code: int) -> Tensor:
    """Return R_i of x + body(x): the sum shares between both, then body's share goes through body."""
    conv = network[1].body
    W, b = jacobian(nn.Sequential(conv, nn.Flatten()), middle)
    body = conv(middle).detach().flatten()
    n = body.numel()
    parts = torch.stack([middle.flatten(), body])
    R = torch.zeros(n, dtype=middle.dtype)
    R[code] = parts[:, code].sum()
    adding = {**given, "one_sided": "conserve"} if rule == "alpha-beta" else given
    shares = torch.stack(
        [textbook(parts[:, j : j + 1], torch.zeros(1), R[j : j + 1], rule, adding) for j in range(n)], dim=1
    )
    through = textbook(middle.flatten()[:, None] * W, b, shares[1], rule, given)
    return shares[0] + through


@pytest.mark.parametrize("first", ["zb", "w2", "flat"])
def test_first_layer_rules_equal_textbook(first: str) -> None:
    network, x = weighted(nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Flatten())), volumes().clamp(-2, 3)
    W, b = jacobian(network, x)
    low, high = -2.0, 3.0
    found = lrp_composite(network, x, of_class(7, 2), first=first, low=low, high=high)
    # Weights of voxels that padding stands for are zero in W; flat counts the others alone.
    for image, relevance in zip(x, found, strict=True):
        z = image.flatten()[:, None] * W
        share = {
            "zb": z - low * W.clamp(min=0) - high * W.clamp(max=0),
            "w2": W**2,
            "flat": (W != 0).double(),
        }[first][:, 7]
        score = float(z[:, 7].sum() + b[7])
        torch.testing.assert_close(relevance.flatten(), share / share.sum() * score, rtol=1e-9, atol=1e-12)


def test_deep_taylor_takes_another_rule_in_the_first_layer_alone() -> None:
    network, x = weighted(plain_network(), bias=False), volumes(signed=False)
    start = of_class(1, 2)
    torch.testing.assert_close(deep_taylor(network, x, start), lrp_alpha_beta(network, x, start))
    torch.testing.assert_close(
        deep_taylor(network, x, start, first="w2"),
        lrp_composite(network, x, start, first="w2", dense="z+"),
    )
    assert not torch.allclose(deep_taylor(network, x, start, first="zb"), deep_taylor(network, x, start))


def plain_network(activation: type[nn.Module] = nn.ReLU, *, bias: bool = True, classes: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv3d(1, 4, 3, padding=1, bias=bias), activation(), nn.MaxPool3d(2)),
        nn.Sequential(nn.Conv3d(4, 6, 2, bias=bias), activation(), nn.AvgPool3d((2, 1, 2)), nn.Dropout(0.5)),
        nn.Flatten(),
        nn.Linear(6, 5, bias=bias),
        activation(),
        nn.Linear(5, classes, bias=bias),
    )


def rules_of_zennit() -> dict[str, tuple[Any, Callable[..., Tensor], dict[str, Any]]]:
    zennit()
    from zennit import composites, rules, types

    tiny = 1e-12
    base = composites.layer_map_base(tiny)

    def everywhere(rule: Any) -> Any:
        return composites.LayerMapComposite([*base, (types.Linear, rule)])

    def epsilon(rule: Any) -> Any:
        # Average pooling is a linear layer here.
        return composites.LayerMapComposite([(types.AvgPool, rule), *base, (types.Linear, rule)])

    include = {"bias": "include"}
    return {
        "epsilon": (epsilon(rules.Epsilon(0.05)), lrp_epsilon, {"epsilon": 0.05, **include}),
        "epsilon, no bias": (epsilon(rules.Epsilon(0.05, "bias")), lrp_epsilon, {"epsilon": 0.05}),
        "z+": (everywhere(rules.ZPlus(tiny)), deep_taylor, include),
        "z+, no bias": (everywhere(rules.ZPlus(tiny, "bias")), deep_taylor, {}),
        "alpha-beta": (everywhere(rules.AlphaBeta(2.0, 1.0, tiny)), lrp_alpha_beta, {"beta": 1.0, **include}),
        "alpha-beta, no bias": (
            everywhere(rules.AlphaBeta(1.5, 0.5, tiny, "bias")), lrp_alpha_beta, {"beta": 0.5},
        ),
        "gamma": (everywhere(rules.Gamma(0.25, tiny)), lrp_gamma, {"gamma": 0.25, **include}),
        "EpsilonPlus": (
            composites.EpsilonPlus(epsilon=1e-3, stabilizer=tiny),
            lrp_composite,
            {"epsilon": 1e-3, **include},
        ),
        "EpsilonPlusFlat": (
            composites.EpsilonPlusFlat(epsilon=1e-3, stabilizer=tiny),
            lrp_composite,
            {"first": "flat", "epsilon": 1e-3, **include},
        ),
        "EpsilonAlpha2Beta1": (
            composites.EpsilonAlpha2Beta1(epsilon=1e-3, stabilizer=tiny),
            lrp_composite,
            {"conv": "alpha-beta", "epsilon": 1e-3, **include},
        ),
        "EpsilonGammaBox": (
            composites.EpsilonGammaBox(
                torch.zeros(1, 1, 1, 1, 1).double(), torch.full((1, 1, 1, 1, 1), 4.0).double(),
                epsilon=1e-3, stabilizer=tiny,
            ),
            lrp_composite,
            {"first": "zb", "low": 0.0, "high": 4.0, "conv": "gamma", "epsilon": 1e-3, "bias": "ignore"},
        ),
    }  # fmt: skip


ZENNIT = (
    "epsilon", "epsilon, no bias", "z+", "z+, no bias", "alpha-beta", "alpha-beta, no bias", "gamma",
    "EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonGammaBox",
)  # fmt: skip


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", ZENNIT)
def test_network_equals_zennit(name: str, signed: bool) -> None:
    composite, function, options = rules_of_zennit()[name]
    # Gamma of zennit judges signs with the bias even where it leaves it out: compare without one.
    network, x = weighted(plain_network(), bias=name != "EpsilonGammaBox"), volumes(signed=signed)
    inputs = x.clone().requires_grad_()
    with composite.context(network) as hooked:
        output = hooked(inputs)
        seed = torch.zeros_like(output)
        seed[:, 2] = output.detach()[:, 2]
        (expected,) = torch.autograd.grad(output, inputs, seed)
    found = function(network, x, of_class(2, 2), **options)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-6, atol=1e-9)


def test_lrp_0_with_biases_is_gradient_x_input() -> None:
    network, x = weighted(plain_network()), volumes()
    start = of_class(1, 2)
    torch.testing.assert_close(lrp_0(network, x, start, bias="include"), gradient_x_input(network, x, start))


@pytest.mark.parametrize("max_pool", ["winner", "even"])
@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.ELU])
@pytest.mark.parametrize("bias", [True, False])
def test_relevance_is_conserved(bias: bool, activation: type[nn.Module], kind: str, max_pool: str) -> None:
    """Also with biases: rules leave them out, but for outputs that have nothing else (around the brain)."""
    network, x = weighted(plain_network(activation), bias=bias), volumes(empty=not bias)
    for function, options in (
        (lrp_0, {}),
        (lrp_alpha_beta, {"beta": 0.5, "one_sided": "conserve"}),
        (lrp_alpha_beta, {"one_sided": "conserve"}),
        (lrp_gamma, {}),
    ):
        for code in range(3):
            start = of_class(code, 2, kind)
            found = function(network, x, start, max_pool=max_pool, **options)
            assert found.abs().sum() > 0
            assert conservation(network, x, start, found).max() < 1e-9


def test_max_pooling_gives_to_the_winner_or_to_all_alike() -> None:
    kernel, stride, padding = (2, 3, 2), (2, 2, 1), (1, 1, 0)
    network = nn.Sequential(nn.MaxPool3d(kernel, stride, padding), nn.Flatten()).double()
    x = volumes(empty=False)
    sizes = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(SHAPE, kernel, stride, padding, strict=True)]
    for code, place in enumerate(itertools.product(*(range(size) for size in sizes))):
        box = tuple(
            slice(max(0, i * s - p), min(n, i * s - p + k))
            for i, n, k, s, p in zip(place, SHAPE, kernel, stride, padding, strict=True)
        )
        window = x[(slice(None), 0, *box)]
        top = window.amax(dim=(1, 2, 3), keepdim=True)
        winner, even = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
        winner[(slice(None), *box)] = top * (window == top)
        even[(slice(None), *box)] = top / window[0].numel()
        torch.testing.assert_close(lrp_0(network, x, of_class(code, 2)), winner)
        torch.testing.assert_close(lrp_0(network, x, of_class(code, 2), max_pool="even"), even)


def test_conservation_is_the_relative_residual() -> None:
    network, x = weighted(plain_network()), volumes()
    start = Start(torch.tensor([0, 2]))
    scores = network(x).detach()[[0, 1], [0, 2]]
    maps = torch.zeros((2, *SHAPE), dtype=torch.float64)
    maps[:, 0, 0, 0] = scores * torch.tensor([1.0, 1.25])
    torch.testing.assert_close(conservation(network, x, start, maps), torch.tensor([0.0, 0.25]).double())
    assert conservation(network, x, start, lrp_epsilon(network, x, start, bias="include")).min() > 1e-3
    dead = nn.Sequential(nn.Flatten(), nn.Linear(210, 2, bias=False)).double()
    nn.init.zeros_(dead[1].weight)
    assert conservation(dead, x, of_class(0, 2), 0 * maps).tolist() == [0, 0]
    assert conservation(dead, x, of_class(0, 2), maps).isinf().all()


def test_boehle_loses_outputs_with_negative_contributions_alone_where_beta_is_zero() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0, -3.0], [2.0, 2.0]]))
    x = torch.ones((1, 1, 1, 1, 2), dtype=torch.float64)
    start = of_class(0, 1)
    expected = {
        ("plain", 0.5): [0.5 * 1, 0.5 * 3], ("boehle", 0.5): [-1, -3], ("conserve", 0.5): [-1, -3],
        ("plain", 0.0): [0, 0], ("boehle", 0.0): [0, 0], ("conserve", 0.0): [-1, -3],
    }  # fmt: skip
    for (one_sided, beta), values in expected.items():
        found = lrp_alpha_beta(network, x, start, beta=beta, one_sided=one_sided).flatten()
        torch.testing.assert_close(found, torch.tensor(values, dtype=torch.float64))
    both = lrp_alpha_beta(network, x, of_class(1, 1), beta=0.5, one_sided="boehle").flatten()
    torch.testing.assert_close(both, torch.tensor([2.0, 2.0], dtype=torch.float64))


NORMALISED = {
    "conv-bn": lambda: [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()],
    "bn-conv": lambda: [nn.BatchNorm3d(1), nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()],
    "bn-conv-bn": lambda: [nn.BatchNorm3d(1), nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ELU()],
    "conv-conv-bn-grouped": lambda: [
        nn.Conv3d(1, 4, 3),
        nn.Dropout3d(),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.BatchNorm3d(4),
        nn.Conv3d(4, 6, 2, groups=2, padding=1),
    ],
}


def merged_by_hand(layers: list[nn.Module]) -> nn.Module:
    """One convolution with a bias for every chain of batch normalisations around it (no padding before)."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    done: list[nn.Module] = []
    for module in (copy.deepcopy(layer) for layer in layers if not isinstance(layer, nn.Dropout3d)):
        if isinstance(module, nn.BatchNorm3d) and done and isinstance(done[-1], nn.Conv3d):
            done[-1] = fuse_conv_bn_eval(done[-1], module)
        elif isinstance(module, nn.Conv3d) and done and isinstance(done[-1], nn.BatchNorm3d):
            norm = done.pop()
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * factor
            per = module.in_channels // module.groups
            for row in range(module.out_channels):
                first = row // (module.out_channels // module.groups) * per
                own = slice(first, first + per)
                module.bias.data[row] += (module.weight[row].sum(dim=(1, 2, 3)) * shift[own]).sum().detach()
                module.weight.data[row] *= factor[own, None, None, None].detach()
            done.append(module)
        else:
            done.append(module)
    return nn.Sequential(*done)


@pytest.mark.parametrize("bias", ["ignore", "include"])
@pytest.mark.parametrize("chain", NORMALISED)
def test_merged_batch_norm_is_one_convolution(chain: str, bias: str) -> None:
    layers = NORMALISED[chain]()
    for layer in layers:
        if isinstance(layer, nn.Conv3d):
            # By hand the bias is one number, so that padding is left out here (tested below).
            layer.padding = (0, 0, 0)
    network = weighted(nn.Sequential(*layers, nn.Flatten()))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    byhand, x = nn.Sequential(merged_by_hand(layers), nn.Flatten()), volumes()
    torch.testing.assert_close(network(x), byhand(x))
    for function, options in ((lrp_0, {}), (lrp_alpha_beta, {"beta": 1.0}), (lrp_gamma, {})):
        found = function(network, x, of_class(9, 2), bias=bias, **options)
        expected = function(byhand, x, of_class(9, 2), bias=bias, **options)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_norm_before_padding_has_a_bias_per_voxel() -> None:
    """bias="include" of LRP-0: relevance is x times the gradient, whatever the padding."""
    network = weighted(
        nn.Sequential(nn.BatchNorm3d(1), nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3), nn.Flatten())
    )
    x, start = volumes(empty=False), of_class(0, 2)
    found = lrp_0(network, x, start, bias="include")
    torch.testing.assert_close(found, gradient_x_input(network, x, start))
    kept = lrp_0(network, x, start)
    assert conservation(network, x, start, kept).max() < 1e-9


def test_dense_layer_merges_with_batch_norm_on_both_sides() -> None:
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(210, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.BatchNorm1d(5)
    )
    network, x, start = weighted(layers), volumes(empty=False), of_class(3, 2)
    found = lrp_0(network, x, start, bias="include")
    torch.testing.assert_close(found, gradient_x_input(network, x, start))
    assert conservation(network, x, start, lrp_0(network, x, start)).max() < 1e-9


def test_batch_norm_can_pass_relevance() -> None:
    """Passing ignores the sign of the factor, merging does not."""
    layers = [nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Linear(240, 2)]
    network, x, start = weighted(nn.Sequential(*layers)), volumes(), of_class(1, 2)
    passed = lrp_alpha_beta(network, x, start, batch_norm="pass")
    assert not torch.allclose(passed, lrp_alpha_beta(network, x, start))
    with torch.no_grad():
        layers[1].weight.abs_()
    passed = lrp_alpha_beta(network, x, start, batch_norm="pass")
    torch.testing.assert_close(passed, lrp_alpha_beta(network, x, start))


def test_batch_norm_alone_conserves_or_absorbs() -> None:
    network = weighted(
        nn.Sequential(
            nn.Conv3d(1, 3, 3), nn.ReLU(), nn.BatchNorm3d(3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 2)
        )
    )
    x, start = volumes(empty=False), of_class(1, 2)
    assert conservation(network, x, start, lrp_0(network, x, start)).max() < 1e-9
    found = lrp_0(network, x, start, bias="include")
    torch.testing.assert_close(found, gradient_x_input(network, x, start))


def test_branches_do_not_merge_with_batch_norm() -> None:
    """What enters a residual block also leaves beside it: LRP-0 stays x times gradient."""
    body = nn.Sequential(nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4))
    network = weighted(
        nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), Residual(body), nn.ReLU(), nn.Flatten(), nn.Linear(840, 2)
        )
    )
    x, start = volumes(empty=False), of_class(1, 2)
    found = lrp_0(network, x, start, bias="include")
    torch.testing.assert_close(found, gradient_x_input(network, x, start))
    assert conservation(network, x, start, lrp_0(network, x, start)).max() < 1e-8


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize("options", [{}, {"beta": 1.0}, {"bias": "include", "beta": 0.5}])
def test_one_logit_is_explained_as_two(options: dict[str, Any], kind: str) -> None:
    """The first class of a network with one logit z is explained as a unit -z of its own."""
    single = weighted(plain_network(classes=1))
    double = copy.deepcopy(single)
    double[-1] = nn.Linear(5, 2).double()
    with torch.no_grad():
        # softmax of (-z / 2, z / 2) is sigmoid of z; a rule cares for the share alone.
        double[-1].weight.copy_(torch.cat([-single[-1].weight, single[-1].weight]) / 2)
        double[-1].bias.copy_(torch.cat([-single[-1].bias, single[-1].bias]) / 2)
    x, start = volumes(), Start(torch.tensor([0, 1]), kind)
    found = lrp_alpha_beta(single, x, start, **options)
    expected = lrp_alpha_beta(double, x, start, **options)
    torch.testing.assert_close(found, expected * (2 if kind == "logit" else 1))


@pytest.mark.parametrize("layer", ["0.0", "0.1", "1.0", "1.1", "1"])
def test_single_filters_of_inner_layers(layer: str) -> None:
    network, x = weighted(plain_network(nn.ELU)), volumes(empty=False)
    start = Start(torch.zeros(2, dtype=torch.int64), layer=layer, filter=3)
    found = lrp_0(network, x, start)
    assert conservation(network, x, start, found).max() < 1e-9
    modules: dict[str, nn.Module] = dict(network.named_modules())
    before = list(itertools.takewhile(lambda name: name != layer, (n for n in modules if n.count(".") == 1)))
    if "." in layer:
        cut = nn.Sequential(*[modules[name] for name in before], modules[layer])
        R = cut(x)[:, 3].flatten(1)
        filters = range(R.shape[1])
        flat = nn.Sequential(cut, nn.Flatten())
        parts = [lrp_alpha_beta(flat, x, of_class(3 * R.shape[1] + j, 2)) for j in filters]
        torch.testing.assert_close(lrp_alpha_beta(network, x, start), torch.stack(parts).sum(dim=0))


def test_inner_convolution_is_explained_without_the_batch_norm_after_it() -> None:
    network = weighted(nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Flatten()))
    start = Start(torch.zeros(2, dtype=torch.int64), layer="0", filter=2)
    alone = nn.Sequential(network[0])
    for bias in ("ignore", "include"):
        found = lrp_epsilon(network, volumes(), start, bias=bias)
        torch.testing.assert_close(found, lrp_epsilon(alone, volumes(), start, bias=bias))


@pytest.mark.parametrize("name", OURS)
def test_the_network_stays_as_it_was(name: str) -> None:
    network, x = weighted(plain_network()).train(), volumes()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    function = EXPLANATIONS[name].load()
    first = function(network, x, of_class(1, 2))
    assert torch.equal(first, function(network, x, of_class(1, 2)))
    assert first.shape == (2, *SHAPE)
    assert not first.requires_grad
    assert modes == [module.training for module in network.modules()]
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    for module in network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.ELU])
def test_rectifiers_in_place_change_nothing(activation: type[nn.Module]) -> None:
    network, x = weighted(plain_network(activation)), volumes()
    inplace = copy.deepcopy(network)
    for module in inplace.modules():
        if isinstance(module, activation):
            module.inplace = True
    for name in OURS:
        function = EXPLANATIONS[name].load()
        assert torch.equal(function(network, x, of_class(1, 2)), function(inplace, x, of_class(1, 2)))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(420, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(torch.flatten(functional.relu(self.conv(x)) + x, 1))


def test_what_no_rule_is_known_for_is_refused() -> None:
    x, start = volumes(), of_class(0, 2)
    with pytest.raises(InputError, match="'dense' comes from no module"):
        lrp_0(Functional().double(), x, start)
    with pytest.raises(InputError, match="'1', a Softmax"):
        lrp_0(nn.Sequential(nn.Flatten(), nn.Softmax(1)).double(), x, start)
    with pytest.raises(InputError, match="pads with 'circular'"):
        lrp_0(
            nn.Sequential(nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()).double(),
            x,
            start,
        )
    with pytest.raises(InputError, match="stores no statistics"):
        lrp_0(nn.Sequential(nn.BatchNorm3d(1, track_running_stats=False), nn.Flatten()).double(), x, start)
    with pytest.raises(InputError, match=r"alpha = 1 \+ beta"):
        lrp_alpha_beta(plain_network().double(), x, start, alpha=3.0, beta=1.0)
    for options in ({"first": "z"}, {"conv": "w2"}, {"low": 1.0, "high": 0.0}):
        with pytest.raises(InputError):
            lrp_composite(plain_network().double(), x, start, **options)


def test_views_between_modules_are_followed() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = nn.Conv3d(1, 2, 3), nn.Linear(120, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.dense(y.view(len(y), -1))

    network, x = weighted(Viewing()), volumes()
    start = of_class(1, 2)
    found = lrp_epsilon(network, x, start)
    modules = nn.Sequential(network.conv, nn.Flatten(), network.dense)
    torch.testing.assert_close(found, lrp_epsilon(modules, x, start))


class PatchLoop(nn.Module):
    """A convolution per patch as modules of their own, called in a loop."""

    def __init__(self, layer: PatchIndividualFilters) -> None:
        super().__init__()
        self.split, self.merge, conv, n = layer.split, layer.merge, layer.conv, layer.n_patches
        self.n, self.channels = n, conv.in_channels // n
        self.convs = nn.ModuleList(nn.Conv3d(self.channels, conv.out_channels // n, 3) for _ in range(n))
        for part, weight, bias in zip(self.convs, conv.weight.chunk(n), conv.bias.chunk(n), strict=True):
            part.weight, part.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())


def loop_relevance(layer: PatchIndividualFilters, dense: nn.Linear, x: Tensor, code: int) -> Tensor:
    """z+ rule of dense layer and patches, a patch at a time; overlaps add up."""
    loop = PatchLoop(layer)
    middle = layer(x).detach()
    W, b = dense.weight.detach().T, dense.bias.detach()
    found = []
    for image, activation in zip(x, middle, strict=True):
        flat = activation.flatten()
        R = torch.zeros_like(b)
        R[code] = flat @ W[:, code] + b[code]
        into = textbook(flat[:, None] * W, b, R, "z+", {})
        probe = image[None].clone().requires_grad_()
        patches = loop.split(probe)
        given = torch.zeros_like(loop.split(image[None]))
        size = middle[0].numel() // loop.n
        for p, conv in enumerate(loop.convs):
            own = slice(p * loop.channels, (p + 1) * loop.channels)
            patch = patches[:, own].detach()
            V, c = jacobian(nn.Sequential(conv, nn.Flatten()), patch)
            R = textbook(patch.flatten()[:, None] * V, c, into[p * size : (p + 1) * size], "z+", {})
            given[0, own] = R.reshape(patch.shape[1:])
        found.append(torch.autograd.grad(patches, probe, given)[0][0, 0])
    return torch.stack(found)


def test_patch_individual_filters_equal_a_loop_over_patches() -> None:
    layer = PatchIndividualFilters((7, 5, 7), 1, 2, patch=5, kernel=3, overlap="half", output="flat")
    network = weighted(nn.Sequential(layer, nn.Linear(layer.n_out, 2)))
    x = volumes(shape=(7, 5, 7))
    found = lrp_alpha_beta(network, x, of_class(1, 2))
    torch.testing.assert_close(found, loop_relevance(layer, network[1], x, 1))


SIZES = {"boehle2019": 78, "eitel2019": 71, "emotion": 16, "adni-a": 71, "adni-a-pif": 66}


@pytest.mark.parametrize("name", SIZES)
def test_networks_of_the_papers_conserve_relevance(name: str) -> None:
    shape = (SIZES[name],) * 3
    factory = NETWORKS[name].load()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = factory(shape, 2).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
    x = torch.rand((1, 1, *shape), generator=generator)
    start = of_class(0, 1)
    found = lrp_alpha_beta(network, x, start, beta=0.5, one_sided="conserve")
    assert found.isfinite().all()
    assert found.abs().sum() > 0
    assert conservation(network, x, start, found).item() < 1e-3


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    beta=st.floats(0, 4),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.integers(1, 2),
    signed=st.booleans(),
)
def test_alpha_beta_conserves_whatever_the_layer(
    seed: int, beta: float, kernel: tuple[int, int, int], stride: int, signed: bool
) -> None:
    network = weighted(conv_and_dense(kernel, stride), seed)
    x = volumes(seed=seed, empty=False)
    x = x if signed else x.abs()
    start = of_class(seed % 2, 2)
    found = lrp_alpha_beta(network, x, start, beta=beta, one_sided="conserve")
    assert conservation(network, x, start, found).max() < 1e-7


def conv_and_dense(kernel: tuple[int, int, int], stride: int) -> nn.Module:
    conv = nn.Conv3d(1, 3, kernel, stride)
    with torch.no_grad():
        n = conv(torch.zeros(1, 1, *SHAPE)).numel()
    return nn.Sequential(conv, nn.ELU(), nn.Flatten(), nn.Linear(n, 2))
