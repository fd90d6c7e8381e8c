"""Explanations by name and options, in batches, within the memory there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.explain import Explanation, describe, explain, parse_explanation
from bids_xai.attribution.explanation import options_of
from bids_xai.attribution.relevance import conservation, lrp_alpha_beta
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError

SHAPE = (6, 5, 4)
OURS = [name for name in EXPLANATIONS if "occlusion" not in name]


def network(classes: int = 3) -> nn.Sequential:
    built = nn.Sequential(
        nn.Conv3d(1, 3, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, classes)
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in built.parameters():
        with torch.no_grad():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return built


def volumes(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "label", "title"),
    [
        ("saliency", "Saliency", "Saliency"),
        ("lrp-alpha-beta:beta=0.5", "LRPAlphaBetaBeta0p5", "LRP alpha-beta (beta = 0.5)"),
        (
            "lrp-alpha-beta:one-sided=boehle, beta=1",
            "LRPAlphaBetaBeta1OneSidedBoehle",
            "LRP alpha-beta (beta = 1, one sided = boehle)",
        ),
        ("lrp-epsilon:epsilon=1e-06", "LRPEpsilonEpsilon1em06", "LRP epsilon (epsilon = 1e-06)"),
        ("lrp-0", "LRP0", "LRP-0"),
        ("lrp-composite:first=z+", "LRPCompositeFirstZplus", "LRP composite (first = z+)"),
        ("guided-grad-cam:layer=0", "GuidedGradCAMLayer0", "Guided Grad-CAM (layer = 0)"),
        ("gradient-x-input", "GradientXInput", "Gradient x input"),
        ("deep-taylor", "DeepTaylor", "Deep Taylor"),
        ("integrated-gradients:steps=7", "IntegratedGradientsSteps7", "Integrated gradients (steps = 7)"),
        ("guided-backprop:absolute=yes", "GuidedBackpropAbsoluteTrue", "Guided backprop (absolute = true)"),
        ("lrp-composite:low=-1.5", "LRPCompositeLowM1p5", "LRP composite (low = -1.5)"),
    ],
)
def test_names_of_explanations(text: str, label: str, title: str) -> None:
    found = parse_explanation(text)
    assert found.label == label
    assert found.label.isalnum()
    assert found.title == title
    assert parse_explanation(found.spelling) == found


def test_options_have_the_types_of_the_function() -> None:
    found = parse_explanation("lrp-alpha-beta:beta=1,alpha=2,batch_norm=pass")
    assert found.options == (("beta", 1.0), ("alpha", 2.0), ("batch_norm", "pass"))
    assert isinstance(found.options[0][1], float)
    assert parse_explanation("integrated-gradients:steps=7").options == (("steps", 7),)
    assert parse_explanation("grad-cam:layer=features.0").options == (("layer", "features.0"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrp-alfa-beta", "did you mean 'lrp-alpha-beta'"),
        ("lrp-alpha-beta:bta=1", "did you mean 'beta'"),
        ("lrp-alpha-beta:one_sided=boehl", "did you mean 'boehle'"),
        ("lrp-alpha-beta:beta=high", "a value of type float"),
        ("lrp-alpha-beta:beta=nan", "a value of type float"),
        ("lrp-alpha-beta:beta", "option=value"),
        ("lrp-alpha-beta:beta=1,beta=2", "twice"),
        ("integrated-gradients:steps=1.5", "a value of type int"),
        ("guided-backprop:absolute=maybe", "a value of type bool"),
        ("gradient-x-input:beta=1", "without options"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_explanation(text)


@pytest.mark.parametrize("name", OURS)
def test_every_method_is_described_with_formula_and_source(name: str) -> None:
    text = describe(Explanation(name))
    assert text.startswith(Explanation(name).title)
    assert "Formula: " in text
    assert "Source: " in text
    assert "``" not in text
    options_of(EXPLANATIONS[name].load())


@pytest.mark.parametrize("name", OURS)
def test_batches_do_not_change_the_maps(name: str) -> None:
    model, x, targets = network().train(), volumes(), np.array([0, 1, 2, 1, 0])
    one = explain(model, x, targets, Explanation(name), batch_size=1)
    all_at_once = explain(model, x[:, None], targets, Explanation(name), batch_size=5)
    assert one.dtype == np.float32
    assert one.shape == x.shape
    np.testing.assert_allclose(one, all_at_once, rtol=1e-3, atol=1e-5 * np.abs(one).max())
    assert model.training
    assert model[2].training


def test_explains_with_the_options_given() -> None:
    model, x, targets = network(), volumes(), np.array([0, 1, 2, 1, 0])
    found = explain(
        model, x, targets, parse_explanation("lrp-alpha-beta:beta=0.5"), kind="probability", batch_size=2
    )
    start = Start(torch.as_tensor(targets), "probability")
    expected = lrp_alpha_beta(model, torch.as_tensor(x)[:, None], start, beta=0.5)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-7)
    inner = explain(model, x, targets, parse_explanation("lrp-0"), layer="1", filter=2)
    start = Start(torch.as_tensor(targets), layer="1", filter=2)
    maps = torch.as_tensor(inner)
    # The bias of the convolution takes no share: what is left out is positive or negative relevance of it.
    assert conservation(model, torch.as_tensor(x)[:, None], start, maps).max() < 1e-3


class Greedy(nn.Module):
    """Asks for 2^45 float32 values (128 TiB) for every volume beyond ``free``: no machine has them."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free, self.sizes = free, []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        torch.empty(max(0, len(x) - self.free) * 2**45)
        return x


def test_batches_are_halved_until_they_fit() -> None:
    greedy = Greedy(1)
    model, x, targets = nn.Sequential(greedy, network()), volumes(7), np.zeros(7, int)
    found = explain(model, x, targets, Explanation("saliency"), batch_size=7)
    np.testing.assert_allclose(
        found, explain(model[1], x, targets, Explanation("saliency")), rtol=1e-5, atol=1e-7
    )
    # The first is one volume that shows how many classes there are.
    assert greedy.sizes == [1, 7, 3, 1, 1, 1, 1, 1, 1, 1]


def test_too_little_memory_for_one_volume_says_how_much_is_needed() -> None:
    class GreedyBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:  # noqa: ARG004
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # noqa: ARG004
            return grad + torch.empty(2**46)[: len(grad)]

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return GreedyBackward.apply(x)

    with pytest.raises(InputError, match=r"Saliency of one volume of 6 x 5 x 4 .*1.31e\+05 GiB"):
        explain(nn.Sequential(Greedy(0), network()), volumes(3), np.zeros(3, int), Explanation("saliency"))
    model = nn.Sequential(Layer(), network())
    with pytest.raises(InputError, match=r"Saliency of one volume of 6 x 5 x 4 .*2.62e\+05 GiB"):
        explain(model, volumes(3), np.zeros(3, int), Explanation("saliency"))


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        explain(
            nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), volumes(), np.zeros(5, int), Explanation("saliency")
        )


def test_bad_input_is_refused() -> None:
    model, x = network(), volumes()
    with pytest.raises(InputError, match="Class 3 of a network with 3 classes"):
        explain(model, x, np.array([0, 1, 2, 3, 0]), Explanation("saliency"))
    with pytest.raises(InputError, match="Class 2 of a network with 2 classes"):
        explain(network(1), x, np.array([0, 1, 2, 1, 0]), Explanation("saliency"))
    with pytest.raises(InputError, match="targets of shape"):
        explain(model, x, np.array([0, 1]), Explanation("saliency"))
    with pytest.raises(InputError, match="Unknown layer 'conv'"):
        explain(model, x, np.zeros(5, int), Explanation("saliency"), layer="conv")
