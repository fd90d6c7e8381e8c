"""Activation maximisation finds planted filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_xai.attribution.feature_visualisation import visualise_feature
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError

SHAPE = (6, 6, 6)


def planted() -> tuple[nn.Sequential, torch.Tensor]:
    """Build a network whose second class looks for one pattern, the first for its negative."""
    pattern = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).sign()
    model = nn.Sequential(nn.Conv3d(1, 2, 6), nn.Flatten())
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([-pattern, pattern])[:, None] / pattern.numel())
        model[0].bias.zero_()
    return model, pattern


@pytest.mark.parametrize(
    "start", [of_class(1, 1), Start(torch.zeros(1, dtype=torch.int64), layer="0", filter=1)]
)
def test_finds_the_planted_filter(start: Start) -> None:
    model, pattern = planted()
    found = visualise_feature(model, SHAPE, start, steps=60, total_variation=0.0)
    assert np.corrcoef(found.image.ravel(), pattern.numpy().ravel())[0, 1] > 0.99
    assert found.activations.shape == (61,)
    assert found.activations[-1] > found.activations[0] + 0.3
    with torch.no_grad():
        last = start.scores(model, torch.as_tensor(found.image)[None, None])
    np.testing.assert_allclose(found.activations[-1], last.item(), rtol=1e-5)
    assert found.image.min() >= 0
    assert found.image.max() <= 1


def test_the_other_class_finds_the_negative() -> None:
    model, pattern = planted()
    found = visualise_feature(model, SHAPE, of_class(0, 1), steps=60, total_variation=0.0)
    assert np.corrcoef(found.image.ravel(), pattern.numpy().ravel())[0, 1] < -0.99


def test_one_seed_gives_one_image() -> None:
    model, _ = planted()
    first, again, other = (
        visualise_feature(model, SHAPE, of_class(1, 1), steps=5, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.activations, again.activations)
    assert not np.array_equal(first.image, other.image)


def roughness(image: np.ndarray) -> float:
    return float(sum(np.abs(np.diff(image, axis=axis)).mean() for axis in range(3)))


def test_total_variation_and_blur_smooth_the_image_and_l2_shrinks_it() -> None:
    model, _ = planted()
    plain, smooth, blurred, small = (
        visualise_feature(model, SHAPE, of_class(1, 1), steps=60, bounds=None, **options).image
        for options in (
            {"l2": 0.1, "total_variation": 0.0},
            {"l2": 0.1, "total_variation": 2.0},
            {"l2": 0.1, "total_variation": 0.0, "blur": 0.7},
            {"l2": 10.0, "total_variation": 0.0},
        )
    )
    assert roughness(smooth) < 0.7 * roughness(plain)
    assert roughness(blurred) < 0.7 * roughness(plain)
    assert np.square(small).mean() < 0.3 * np.square(plain).mean()


def test_the_network_stays_as_it_was() -> None:
    model, _ = planted()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    visualise_feature(model, SHAPE, of_class(1, 1), steps=2)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_bad_settings_are_refused() -> None:
    model, _ = planted()
    with pytest.raises(InputError, match="2 targets"):
        visualise_feature(model, SHAPE, of_class(1, 2))
    with pytest.raises(InputError, match="steps=0"):
        visualise_feature(model, SHAPE, of_class(1, 1), steps=0)
    with pytest.raises(InputError, match="Bounds"):
        visualise_feature(model, SHAPE, of_class(1, 1), bounds=(1.0, 0.0))
