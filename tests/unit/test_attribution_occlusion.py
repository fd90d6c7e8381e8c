"""Occlusion of boxes and regions, against loops over boxes and voxels and against captum."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.explain import explain, parse_explanation
from bids_xai.attribution.occlusion import (
    box_corners,
    box_drops,
    drop_maps,
    occlusion,
    region_drops,
    region_occlusion,
    replacement,
)
from bids_xai.attribution.starts import Start, of_class
from bids_xai.errors import InputError
from bids_xai.models.build import build_network

Triple = tuple[int, int, int]
SHAPE = (8, 7, 9)
N = 3


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        layers = nn.Sequential(
            nn.Sequential(nn.Conv3d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool3d(2)),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(3 * 3 * 2 * 3, 4),
        )
    return layers.double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn((N, 1, *SHAPE), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def start() -> Start:
    return Start(torch.tensor([2, 0, 3]), "probability")


def textbook_corners(shape: Triple, box: Triple, stride: int) -> list[Triple]:
    """Return every box that fits at multiples of the stride, or that ends with an axis."""
    kept = []
    for corner in np.ndindex(*(n - b + 1 for n, b in zip(shape, box, strict=True))):
        if all(c % stride == 0 or c == n - b for c, n, b in zip(corner, shape, box, strict=True)):
            kept.append(corner)
    return kept  # type: ignore[return-value]


def textbook(
    network: nn.Module, x: Tensor, start: Start, filling: Tensor, corners: list[Triple], box: Triple
) -> tuple[Tensor, Tensor]:
    """Return drops and maps, one forward pass per box and volume."""
    network = copy.deepcopy(network).eval()
    drops = torch.zeros((len(x), len(corners)), dtype=x.dtype)
    sums, counts = torch.zeros((len(x), *x.shape[2:]), dtype=x.dtype), torch.zeros(x.shape[2:])
    with torch.no_grad():
        clean = start.scores(network, x)
        for at, corner in enumerate(corners):
            part = tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))
            covered = x.clone()
            covered[(slice(None), 0, *part)] = filling[(slice(None), 0, *part)]
            drops[:, at] = clean - start.scores(network, covered)
            sums[(slice(None), *part)] += drops[:, at, None, None, None]
            counts[part] += 1
    return drops, sums / counts.clamp(min=1)


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize(
    ("box", "stride", "baseline"),
    [((2, 2, 2), 1, "zero"), ((3, 2, 4), 2, "mean"), ((3, 3, 3), 3, "noise"), ((8, 7, 9), 1, "zero")],
)
def test_maps_and_drops_are_those_of_loops(
    network: nn.Module, x: Tensor, box: Triple, stride: int, baseline: str, incremental: bool
) -> None:
    corners = textbook_corners(SHAPE, box, stride)
    drops, maps = textbook(network, x, start(), replacement(x, baseline, seed=5), corners, box)
    options = {"box": box, "stride": stride, "baseline": baseline, "seed": 5, "incremental": incremental}
    network.train()
    state = torch.get_rng_state()
    before = x.clone()
    found_corners, found = box_drops(network, x, start(), **options)
    assert found_corners.tolist() == [list(corner) for corner in corners]
    torch.testing.assert_close(found, drops, rtol=1e-9, atol=1e-12)
    assert float(drops.abs().max()) > 1e-4
    torch.testing.assert_close(occlusion(network, x, start(), **options), maps, rtol=1e-9, atol=1e-12)
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)


def test_boxes_that_touch_the_mask(network: nn.Module, x: Tensor) -> None:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[2:4, 3, 5:7] = True
    box = (2, 3, 2)
    corners = [
        corner
        for corner in textbook_corners(SHAPE, box, 1)
        if mask[tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))].any()
    ]
    _, maps = textbook(network, x, start(), torch.zeros_like(x), corners, box)
    found = occlusion(network, x, start(), mask, box=box)
    torch.testing.assert_close(found, maps, rtol=1e-9, atol=1e-12)
    assert 0 < int((found[0] != 0).sum()) < 5 * 7 * 5


def test_reference_volume_replaces(network: nn.Module, x: Tensor) -> None:
    reference = x[1, 0] + 0.5
    corners = textbook_corners(SHAPE, (2, 2, 2), 2)
    filling = reference.expand_as(x)
    drops, _ = textbook(network, x, start(), filling, corners, (2, 2, 2))
    _, found = box_drops(network, x, start(), None, reference, stride=2)
    torch.testing.assert_close(found, drops, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("incremental", [True, False])
def test_boxes_that_change_nothing_drop_nothing(network: nn.Module, x: Tensor, incremental: bool) -> None:
    x = x.float()
    x[..., :5] = 0
    passed: list[int] = []
    handle = network.float().register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    corners, drops = box_drops(network, x, of_class(1, N), batch_size=7, incremental=incremental)
    handle.remove()
    still = corners[:, 2] + 2 <= 5
    assert torch.equal(drops[:, still], torch.zeros_like(drops[:, still]))
    assert (drops[:, ~still] != 0).any()
    # One pass of the clean volume, and one per box that changes.
    assert sum(passed) == (0 if incremental else N * (1 + int((~still).sum())))
    assert max(passed, default=0) <= 7


@pytest.mark.parametrize("step", ["tiles", "every voxel"])
def test_same_maps_as_captum(network: nn.Module, x: Tensor, step: str) -> None:
    captum = pytest.importorskip("captum.attr")
    network, box = network.eval(), (4, 7, 3)
    strides = (1, *box) if step == "tiles" else 1
    target = start().target
    # captum adds up in single precision, whatever the network's.
    expected = captum.Occlusion(network).attribute(
        x, sliding_window_shapes=(1, *box), strides=strides, target=target, baselines=0
    )
    corners, drops = box_drops(network, x, Start(target), box=box, stride=1)
    kept = (corners % torch.tensor(box) == 0).all(dim=1) | torch.tensor(step != "tiles")
    found = drop_maps(corners[kept], drops[:, kept], box, SHAPE).float()
    torch.testing.assert_close(found, expected[:, 0].float(), rtol=1e-5, atol=1e-6)
    assert float(found.abs().max()) > 0.1


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    box=st.tuples(*[st.integers(1, 6)] * 3),
    stride=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_maps_of_any_boxes(shape: Triple, box: Triple, stride: int, seed: int) -> None:
    box = tuple(min(b, n) for b, n in zip(box, shape, strict=True))  # type: ignore[assignment]
    expected = textbook_corners(shape, box, stride)
    counts = torch.zeros(shape)
    for corner in expected:
        counts[tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))] += 1
    if not counts.all():
        with pytest.raises(InputError, match="would never be covered"):
            box_corners(shape, box, stride)
        return
    corners = box_corners(shape, box, stride)
    assert corners.tolist() == [list(corner) for corner in expected]
    drops = torch.randn((2, len(corners)), generator=torch.Generator().manual_seed(seed))
    sums = torch.zeros((2, *shape), dtype=torch.float64)
    for at, corner in enumerate(corners.tolist()):
        part = tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))
        sums[(slice(None), *part)] += drops[:, at, None, None, None]
    torch.testing.assert_close(drop_maps(corners, drops, box, shape), sums / counts)


def test_regions_are_covered_one_by_one(network: nn.Module, x: Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    regions = torch.randint(0, 6, SHAPE, generator=generator, dtype=torch.int32) * 7
    codes, drops = region_drops(network, x, start(), regions=regions, baseline="mean", batch_size=2)
    maps = region_occlusion(network, x, start(), regions=regions, baseline="mean", batch_size=4)
    assert codes.tolist() == [7, 14, 21, 28, 35]
    network.eval()
    with torch.no_grad():
        for code, column in zip(codes, drops.T, strict=True):
            covered = torch.where(regions == code, x.mean(dim=(1, 2, 3, 4), keepdim=True), x)
            expected = start().scores(network, x) - start().scores(network, covered)
            torch.testing.assert_close(column, expected, rtol=1e-9, atol=1e-12)
            inside = maps[:, regions == code]
            torch.testing.assert_close(inside, expected[:, None].expand_as(inside), rtol=1e-9, atol=1e-12)
    assert (maps[:, regions == 0] == 0).all()


def test_replacements(x: Tensor) -> None:
    assert torch.equal(replacement(x), torch.zeros_like(x))
    mean, noise = replacement(x, "mean"), replacement(x, "noise", seed=2)
    for i in range(N):
        torch.testing.assert_close(mean[i], x[i].mean().expand_as(x[i]))
        assert abs(noise[i].mean() - x[i].mean()) < 4 * x[i].std() / 504**0.5
        assert 0.85 < noise[i].std() / x[i].std() < 1.15
    assert torch.equal(noise, replacement(x, "noise", seed=2))
    assert not torch.equal(noise, replacement(x, "noise", seed=3))
    # A volume's own noise, whatever the batch.
    assert torch.equal(noise[1:2], replacement(x[1:2], "noise", seed=2))


def test_full_passes_where_changes_cannot_be_followed(
    network: nn.Module, x: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    box = (3, 3, 3)
    expected = occlusion(network, x, start(), box=box, stride=3)
    with caplog.at_level(logging.DEBUG, "bids_xai.attribution.occlusion"):
        found = occlusion(Whole(), x, start(), box=box, stride=3)
    assert "cannot be followed through Whole" in caplog.text
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    caplog.clear()
    inner = Start(torch.zeros(N, dtype=torch.int64), layer="0.0", filter=1)
    with caplog.at_level(logging.DEBUG, "bids_xai.attribution.occlusion"):
        drops = box_drops(network, x, inner, box=box, stride=3)[1]
    assert "filter of '0.0'" in caplog.text
    corners = textbook_corners(SHAPE, box, 3)
    plain = copy.deepcopy(network)
    torch.testing.assert_close(
        drops, textbook(plain, x, inner, torch.zeros_like(x), corners, box)[0], rtol=1e-9, atol=1e-12
    )


def test_one_output_unit_explains_both_classes() -> None:
    shape = (22, 14, 13)
    network = build_network("ms-b-pif", shape, 2, seed=3)
    x = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(1))
    first, second = (occlusion(network, x, of_class(code, 1), box=(6, 6, 6), stride=6) for code in (0, 1))
    assert torch.equal(first, -second)
    assert float(second.abs().max()) > 0


def test_through_the_registry(network: nn.Module, x: Tensor) -> None:
    explanation = parse_explanation("occlusion:box=3x2x2,stride=2,baseline=noise,seed=4")
    network = network.float()
    found = explain(network, x.float(), start().target, explanation, kind="probability", batch_size=2)
    expected = occlusion(network, x.float(), start(), box=(3, 2, 2), stride=2, baseline="noise", seed=4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert EXPLANATIONS["region-occlusion"].load() is region_occlusion


@pytest.mark.parametrize(
    "options",
    [{"box": (9, 1, 1)}, {"box": (0, 1, 1)}, {"stride": 0}, {"stride": 3}, {"baseline": "grey"}],
    ids=str,
)
def test_bad_options_are_refused(network: nn.Module, x: Tensor, options: dict) -> None:
    with pytest.raises(InputError):
        occlusion(network, x, start(), **options)


def test_grids_that_do_not_fit_are_refused(network: nn.Module, x: Tensor) -> None:
    small = torch.ones((2, 2, 2))
    with pytest.raises(InputError, match="mask"):
        occlusion(network, x, start(), small > 0)
    with pytest.raises(InputError, match="reference"):
        occlusion(network, x, start(), None, small)
    with pytest.raises(InputError, match="Regions"):
        region_occlusion(network, x, start(), regions=small)
