"""Deletion curves against loops over voxels, and on a network whose curve is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from bids_xai.attribution.deletion import area_over_curve, deletion_curve
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError

SHAPE = (5, 4, 3)
FRACTIONS = (0.0, 0.1, 0.35, 0.5, 1.0)


@pytest.fixture
def network() -> nn.Module:
    weights = torch.randn((2, 60), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    dense = nn.Linear(60, 2).double()
    dense.weight.data.copy_(0.3 * weights)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.9), dense)


@pytest.fixture
def x() -> Tensor:
    return torch.randn((3, 1, *SHAPE), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def textbook(
    network: nn.Module, x: Tensor, start: Start, keys: npt.NDArray, mask: npt.NDArray, block: tuple[int, ...]
) -> npt.NDArray:
    """Delete blocks in the order of falling keys, one volume and fraction at a time."""
    curve = np.empty((len(x), len(FRACTIONS)))
    for i in range(len(x)):
        blocks: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for voxel in np.ndindex(SHAPE):
            if mask[voxel]:
                blocks.setdefault(tuple(v // b for v, b in zip(voxel, block, strict=True)), []).append(voxel)
        means = [(float(np.mean([keys[i][voxel] for voxel in own])), own) for own in blocks.values()]
        means.sort(key=lambda pair: -pair[0])
        for column, fraction in enumerate(FRACTIONS):
            deleted = x[i : i + 1].clone()
            for _, own in means[: round(fraction * len(means))]:
                for voxel in own:
                    deleted[(0, 0, *voxel)] = 0
            curve[i, column] = start.part(slice(i, i + 1)).scores(network.eval(), deleted).item()
    return curve


@pytest.mark.parametrize("block", [(1, 1, 1), (2, 2, 2), (3, 1, 2)])
@pytest.mark.parametrize("order", ["descending", "ascending"])
def test_curve_is_that_of_loops(
    network: nn.Module, x: Tensor, block: tuple[int, int, int], order: str, rng: np.random.Generator
) -> None:
    relevance = rng.standard_normal((3, *SHAPE))
    mask = rng.random(SHAPE) < 0.8
    start = of_class(1, 3, "probability")
    network.train()
    found = deletion_curve(
        network, x, start, relevance, fractions=FRACTIONS, order=order, block=block, mask=mask
    )
    assert all(module.training for module in network.modules())
    sign = 1 if order == "descending" else -1
    expected = textbook(network, x, start, sign * relevance, mask, block)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.ptp(found[0]) > 0.01


def test_ends_are_the_volume_and_the_baseline(network: nn.Module, x: Tensor) -> None:
    start = of_class(0, 3, "probability")
    reference = torch.full(SHAPE, 0.25, dtype=torch.float64)
    curve = deletion_curve(
        network, x, start, torch.zeros((3, *SHAPE)), fractions=(0, 1), order="random", reference=reference
    )
    network.eval()
    with torch.no_grad():
        np.testing.assert_allclose(curve[:, 0], start.scores(network, x))
        np.testing.assert_allclose(curve[:, 1], start.scores(network, torch.full_like(x, 0.25)))
    mean = deletion_curve(network, x, start, x[:, 0], fractions=(1,), baseline="mean")
    with torch.no_grad():
        flat = x.mean(dim=(1, 2, 3, 4), keepdim=True).expand_as(x)
        np.testing.assert_allclose(mean[:, 0], start.scores(network.eval(), flat))


def test_relevant_voxels_first_lose_more_than_random_than_irrelevant(network: nn.Module, x: Tensor) -> None:
    # Of a dense layer, weight x input is each voxel's exact share of the logit.
    dense = network[2]
    assert isinstance(dense, nn.Linear)
    start = of_class(1, 3)
    relevance = (x.flatten(1) * dense.weight[1].detach()).view(3, *SHAPE)
    curves = {
        order: deletion_curve(network, x, start, relevance, order=order)
        for order in ("descending", "random", "ascending")
    }
    areas = {order: area_over_curve(curve) for order, curve in curves.items()}
    assert (areas["descending"] > areas["random"]).all()
    assert (areas["random"] > areas["ascending"]).all()


def test_random_order_is_seeded_and_differs_between_volumes(network: nn.Module, x: Tensor) -> None:
    same = x[:1].expand(3, -1, -1, -1, -1)
    start = of_class(1, 3)
    first, again, other = (
        deletion_curve(network, same, start, torch.zeros((3, *SHAPE)), order="random", seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first[0], first[1])


def test_area_of_a_line_and_of_uneven_steps() -> None:
    fractions = (0.0, 0.1, 0.5, 1.0)
    line = 1 - 0.8 * np.array([fractions])
    np.testing.assert_allclose(area_over_curve(line, fractions), [0.4])
    np.testing.assert_allclose(area_over_curve(np.ones((2, 4)), fractions), [0, 0])
    step = np.array([[1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(area_over_curve(step, fractions), [0.95])


@pytest.mark.parametrize(
    "change",
    [
        {"fractions": (0.5, 0.2)},
        {"fractions": (0.5, 1.2)},
        {"fractions": ()},
        {"order": "upwards"},
        {"mask": np.zeros(SHAPE, bool)},
        {"mask": np.ones((2, 2, 2), bool)},
        {"relevance": np.zeros((2, *SHAPE))},
        {"reference": torch.zeros(2, 2, 2)},
    ],
    ids=str,
)
def test_bad_input_is_refused(network: nn.Module, x: Tensor, change: dict) -> None:
    arguments = {"relevance": np.zeros((3, *SHAPE)), **change}
    with pytest.raises(InputError):
        deletion_curve(network, x, of_class(1, 3), arguments.pop("relevance"), **arguments)


def test_area_of_too_few_points_is_refused() -> None:
    with pytest.raises(InputError):
        area_over_curve(np.ones((2, 3)), (0.0, 1.0))
