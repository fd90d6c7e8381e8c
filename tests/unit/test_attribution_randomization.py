"""The test by drawing parameters anew, and structural similarity against loops."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import nn

from bids_xai.attribution.gradients import saliency
from bids_xai.attribution.randomization import draw_anew, randomization_test, ssim
from bids_xai.attribution.starts import of_class
from bids_xai.errors import InputError

SHAPE = (8, 9, 7)


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return nn.Sequential(
            nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ELU(), nn.Flatten(), nn.Linear(630, 4), nn.Linear(4, 2)
        ).eval()


def gradients(network: nn.Module) -> npt.NDArray:
    x = torch.randn((2, 1, *SHAPE), generator=torch.Generator().manual_seed(8))
    return saliency(network, x, of_class(1, 2), absolute=False).detach().numpy()


def textbook_ssim(a: npt.NDArray, b: npt.NDArray, window: int, span: float) -> npt.NDArray:
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    half = window // 2
    wide_a, wide_b = (np.pad(values, half, mode="symmetric") for values in (a, b))
    result = np.empty(a.shape)
    for i, j, k in np.ndindex(a.shape):
        cube = (slice(i, i + window), slice(j, j + window), slice(k, k + window))
        own, other = wide_a[cube].ravel(), wide_b[cube].ravel()
        (va, cov), (_, vb) = np.cov(own, other)
        top = (2 * own.mean() * other.mean() + c1) * (2 * cov + c2)
        result[i, j, k] = top / ((own.mean() ** 2 + other.mean() ** 2 + c1) * (va + vb + c2))
    return result


@pytest.mark.parametrize("window", [3, 5])
def test_ssim_is_that_of_loops(window: int, rng: np.random.Generator) -> None:
    a = rng.uniform(-1, 1, (6, 8, 7))
    b = 0.6 * a + 0.3 * rng.uniform(-1, 1, a.shape)
    for span in (1.0, 2.0):
        expected = textbook_ssim(a, b, window, span)
        np.testing.assert_allclose(ssim(a, b, window=window, span=span), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ssim(a, a, window=window), 1)
    np.testing.assert_allclose(ssim(a, b, window=window), ssim(b, a, window=window))
    with pytest.raises(InputError):
        ssim(a, b[:-1])
    with pytest.raises(InputError):
        ssim(a, b, window=4)


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_records_are_those_of_steps_by_hand(network: nn.Module, mode: str) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[1:-1, 2:, :] = True
    records = randomization_test(network, gradients, seed=3, mode=mode, mask=mask)
    assert [record.layer for record in records] == ["5", "4", "1", "0"]
    before = gradients(network)
    generator = torch.Generator().manual_seed(3)
    changed = copy.deepcopy(network)
    for record in records:
        if mode == "independent":
            changed = copy.deepcopy(network)
        draw_anew(changed.get_submodule(record.layer), generator)
        after = gradients(changed)
        pairs = list(zip(before, after, strict=True))
        plain = np.mean([stats.spearmanr(a[mask], b[mask]).statistic for a, b in pairs])
        absolute = np.mean([stats.spearmanr(np.abs(a[mask]), np.abs(b[mask])).statistic for a, b in pairs])
        alike = np.mean(
            [textbook_ssim(a / np.abs(a).max(), b / np.abs(b).max(), 7, 2.0)[mask].mean() for a, b in pairs]
        )
        np.testing.assert_allclose(
            (record.spearman, record.spearman_abs, record.ssim), (plain, absolute, alike), rtol=1e-6
        )


def test_network_stays_and_results_repeat(network: nn.Module) -> None:
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    first, again, other = (randomization_test(network, gradients, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], values) for key, values in network.state_dict().items())
    # A gradient depends on the weights: nothing of it is left.
    assert abs(first[-1].spearman) < 0.5


def test_an_explanation_of_the_image_alone_is_found_out(network: nn.Module, rng: np.random.Generator) -> None:
    edges = rng.standard_normal((2, *SHAPE))
    for record in randomization_test(network, lambda _: edges, seed=1):
        np.testing.assert_allclose((record.spearman, record.spearman_abs, record.ssim), 1)


def test_maps_that_are_the_same_everywhere_have_no_correlation(network: nn.Module) -> None:
    (record, *_) = randomization_test(network, lambda _: np.zeros((1, *SHAPE)), seed=1)
    assert np.isnan(record.spearman)
    assert record.ssim == 1


def test_everything_of_a_layer_is_drawn(network: nn.Module) -> None:
    for index in (0, 1, 4):
        layer = copy.deepcopy(network[index])
        before = copy.deepcopy(layer.state_dict())
        draw_anew(layer, torch.Generator().manual_seed(1))
        for key, values in layer.state_dict().items():
            assert torch.isfinite(values).all()
            assert values.is_floating_point() != bool((values == before[key]).any()), key
    bound = 1 / np.sqrt(27)
    layer = nn.Conv3d(1, 300, 3)
    draw_anew(layer, torch.Generator().manual_seed(1))
    for values in (layer.weight, layer.bias):
        assert values is not None
        assert 0.95 * bound < values.abs().max() <= bound


def test_bad_input_is_refused(network: nn.Module) -> None:
    with pytest.raises(InputError, match="mode"):
        randomization_test(network, gradients, seed=1, mode="upwards")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="without parameters"):
        randomization_test(nn.Sequential(nn.ReLU()), gradients, seed=1)
