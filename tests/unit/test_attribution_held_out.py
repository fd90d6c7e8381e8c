"""Heatmaps of a fold against a plain loop over samples, groups and trainings."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bids_xai.attribution.explain import explain, parse_explanation
from bids_xai.attribution.held_out import HeldOut, explain_fold
from bids_xai.attribution.starts import Start, of_class

SHAPE = (4, 3, 2)
NAMES = ("gradient-x-input", "saliency")


def network(seed: int, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[3].weight *= scale
        net[3].bias *= scale
    return net


@pytest.fixture
def held_out(rng: np.random.Generator) -> HeldOut:
    true = np.array([0, 1, 1, 0, 1])
    said = np.array([[0, 1, 0, 1, 1], [0, 0, 1, 0, 1]])
    return HeldOut(rng.normal(size=(5, *SHAPE)).astype(np.float32), true, said, n_classes=2)


@pytest.mark.parametrize(
    ("map_values", "shown_values"), [("share", "share"), ("share", "raw"), ("raw", "raw")]
)
def test_every_heatmap_is_divided_before_it_is_averaged(held_out, map_values: str, shown_values: str) -> None:
    inside = np.ones(SHAPE, dtype=bool)
    inside[0, 0, 0] = False
    loads = [partial(network, 1), partial(network, 2, 30.0)]
    result = explain_fold(
        loads, held_out, [parse_explanation(name) for name in NAMES], inside, of_class=1,
        map_values=map_values, shown_values=shown_values,
    )  # fmt: skip
    for m, name in enumerate(NAMES):
        shown, tested = [], []
        for load in loads:
            maps = explain(load(), held_out.volumes, np.ones(5, int), parse_explanation(name))[:, inside]
            sums = np.array([sum(abs(value) for value in own) for own in maps])[:, None]
            shown.append(maps / sums if shown_values == "share" else maps)
            tested.append(np.abs(maps) / sums if map_values == "share" else maps)
        np.testing.assert_allclose(result.heatmaps[m], np.mean(shown, axis=0), rtol=1e-4, atol=1e-7)
        for run in range(2):
            for code in range(2):
                members = held_out.true == code
                expected = tested[run][members].sum(axis=0)
                np.testing.assert_allclose(result.tested[run, m, code], expected, rtol=1e-4, atol=1e-6)
                expected = shown[run][members].sum(axis=0)
                np.testing.assert_allclose(result.sums[run, m, code], expected, rtol=1e-4, atol=1e-6)
    assert not result.silent.any()


def test_a_network_of_large_outputs_counts_no_more_than_another(held_out) -> None:
    inside = np.ones(SHAPE, dtype=bool)
    explanations = [parse_explanation("gradient-x-input")]
    one = explain_fold([partial(network, 2)], held_out, explanations, inside, of_class=1)
    other = explain_fold([partial(network, 2, 500.0)], held_out, explanations, inside, of_class=1)
    np.testing.assert_allclose(one.heatmaps, other.heatmaps, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(one.tested[0], other.tested[0], rtol=1e-4, atol=1e-6)
    assert np.abs(other.totals).max() > 100 * np.abs(one.totals).max()


def test_heatmaps_of_zeros_are_counted_and_not_divided(held_out) -> None:
    dead = network(3)
    with torch.no_grad():
        dead[1].bias.fill_(-1000.0)  # no unit is ever active
    inside = np.ones(SHAPE, dtype=bool)
    result = explain_fold([lambda: dead], held_out, [parse_explanation("saliency")], inside, of_class=1)
    assert result.silent.all()
    assert not result.tested.any()
    assert np.isfinite(result.heatmaps).all()


@pytest.mark.parametrize("largest", [2.0, 30.0, 80.0])
def test_the_gradient_of_a_probability_that_rounds_to_one_is_not_lost(held_out, largest: float) -> None:
    """Against float64; log-odds of 30 are a probability of 1 - 1e-13, which rounds to 1."""
    x = torch.from_numpy(held_out.volumes)[:, None]
    with torch.no_grad():
        first = network(4)(x)
    net = network(4, largest / float((first[:, 1] - first[:, 0]).abs().max()))
    for code in (0, 1):
        inputs = x.clone().requires_grad_()
        scores = of_class(code, 5, "probability").scores(net, inputs)
        (found,) = torch.autograd.grad(scores.sum(), inputs)
        exact, inputs = net.double(), x.double().requires_grad_()
        output = exact(inputs)
        margin = output[:, code] - output[:, 1 - code]
        (slope,) = torch.autograd.grad(margin.sum(), inputs)
        factor = torch.sigmoid(margin) * torch.sigmoid(-margin)
        net.float()
        np.testing.assert_allclose(scores.detach(), torch.sigmoid(margin).detach(), rtol=1e-4)
        expected = (factor[:, None, None, None, None] * slope).detach().numpy()
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())


def test_drops_of_a_probability_that_rounds_to_one_are_not_lost() -> None:
    clean, covered = torch.tensor([[0.0, 40.0]]), torch.tensor([[0.0, 38.0], [0.0, 41.0], [40.0, 0.0]])
    start = Start(torch.tensor([1]), "probability")
    p = [1 / (1 + np.exp(-z)) for z in (40.0, 38.0, 41.0, -40.0)]
    small = [np.exp(-38.0) - np.exp(-40.0), np.exp(-41.0) - np.exp(-40.0)]
    np.testing.assert_allclose(start.drops(clean, covered), [*small, p[0] - p[3]], rtol=1e-5)
    logit = Start(torch.tensor([1]))
    np.testing.assert_allclose(logit.drops(clean, covered), [2.0, -1.0, 40.0])
