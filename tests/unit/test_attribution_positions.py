"""Where networks look is where maps say: receptive fields are measured, and blobs are planted."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.cells import Cells, Layout, interpolation
from bids_xai.attribution.explanation import options_of
from bids_xai.attribution.gradcam import grad_cam, guided_grad_cam, last_convolution
from bids_xai.attribution.starts import Start, of_class
from bids_xai.attribution.tracing import layout_of, traced
from bids_xai.errors import InputError
from bids_xai.models import NETWORKS, boehle2019, eitel2019, emotion, pif
from bids_xai.models.build import build_network
from bids_xai.models.layers import Residual
from bids_xai.models.patches import PatchIndividualFilters
from tests.references import receptive_fields

pytestmark = pytest.mark.slow

Triple = tuple[int, int, int]
MM1, MM2, UKB = (193, 229, 193), (96, 114, 96), (182, 218, 182)
PUBLISHED: dict[str, Triple] = {"boehle2019": MM1, "emotion": (64, 64, 64)} | {
    name: UKB if name.startswith("ukb") else MM2 for name in NETWORKS if name not in {"boehle2019", "emotion"}
}
# As small as the networks allow, anisotropic, of odd and of even size.
SMALL: dict[str, Triple] = {
    "boehle2019": (90, 103, 84), "ukb-a": (107, 98, 116), "ukb-b": (92, 80, 97), "emotion": (41, 52, 48),
    "patch-based": (86, 113, 90), "ms-b-pif": (38, 47, 30), "ukb-a-pif": (62, 53, 71),
    "ukb-b-pif": (62, 53, 71), "adni-a-pif": (50, 47, 61), "adni-b-pif": (50, 47, 61),
    "ms-a-pif": (50, 47, 61),
}  # fmt: skip
FEW = 4


def small(name: str) -> Triple:
    return SMALL.get(name, (76, 83, 72))


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let registered networks have few filters: where their cells lie does not depend on how many."""
    monkeypatch.setattr(boehle2019, "FILTERS", (FEW,) * 4)
    monkeypatch.setattr(eitel2019, "FILTERS", FEW)
    monkeypatch.setattr(emotion, "STEM", FEW)
    monkeypatch.setattr(emotion, "WIDTHS", ((FEW, FEW),) * 4)
    plans = {
        name: dataclasses.replace(
            plan, blocks=tuple(dataclasses.replace(block, filters=FEW) for block in plan.blocks)
        )
        for name, plan in pif.PLANS.items()
    }
    monkeypatch.setattr(pif, "PLANS", plans)


def features_of(network: nn.Module, x: Tensor, layer: str) -> Tensor:
    """Return what a layer gives for volumes, its cells followed."""
    found: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: found.append(output)  # noqa: ARG005
    )
    with traced(network, x):
        network(x)
    handle.remove()
    return found[0]


def layout(network: nn.Module, shape: Triple, layer: str, device: str = "cpu") -> Layout:
    """Return where the cells of a layer lie; on the device "meta" nothing is computed."""
    with torch.no_grad():
        return layout_of(features_of(network, torch.zeros((1, 1, *shape), device=device), layer), layer)


def bounds_of_patch(cells: Cells, network: nn.Module, number: int, shape: Triple) -> list[tuple[int, int]]:
    """Return first and last voxel that cells of a patch can see: of the volume, or of the patch."""
    if cells.n_patches == 1:
        return [(0, n - 1) for n in shape]
    split = network.get_submodule("split")
    index = np.unravel_index(number, cells.grid)
    return [
        (int(i) * p, min(int(i) * p + p, n) - 1) for i, p, n in zip(index, split.patch, shape, strict=True)
    ]


def seen(network: nn.Module, shape: Triple, half: list[float]) -> list[float]:
    """Compare the cells of a network with what gradients say that they see, at corners and in the middle.

    All see as much to either side of their centres, ``half``, cut at borders; returns the most that any does.
    """
    layer = last_convolution(network)
    (cells,) = layout(copy.deepcopy(network).to("meta"), shape, layer, "meta")
    steps = [tuple(i if i >= 0 else n + i for n in cells.size) for i in (0, -1)]
    steps.append(tuple(n // 2 for n in cells.size))
    features, x = network.get_submodule(layer), torch.zeros((1, 1, *shape))
    chosen = [(number, *step) for number in sorted({0, cells.n_patches - 1}) for step in steps]
    fields = receptive_fields(network, features, x, chosen)
    most = [max((field[axis][1] - field[axis][0]) / 2 for field in fields) for axis in range(3)]
    half = [max(own, given) for own, given in zip(most, half, strict=True)]
    for (number, *step), field in zip(chosen, fields, strict=True):
        place = np.unravel_index(number, cells.grid)
        for axis, (low, high) in enumerate(bounds_of_patch(cells, network, number, shape)):
            centre = float(cells.centres[axis][place[axis], step[axis]])
            first, last = field[axis]
            nominal = math.ceil(centre - half[axis]), math.floor(centre + half[axis])
            assert first == nominal[0] or nominal[0] < low <= first, (axis, number, step)
            assert last == nominal[1] or nominal[1] > high >= last, (axis, number, step)
    return half


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.usefixtures("_narrow")
def test_cells_lie_in_the_middle_of_what_they_see(name: str) -> None:
    """At published and at small sizes, against gradients of the layers with all weights 1."""
    half = [0.0] * 3
    for shape in (PUBLISHED[name], small(name)):
        half = seen(build_network(name, shape, 2).eval(), shape, half)


def test_offsets_and_jumps_are_those_of_a_hand_computation() -> None:
    """Offset + i jump, from the published windows; what stretching says instead is centimetres off."""
    expected = {"boehle2019": (26.5, 12), "eitel2019": (26, 9), "emotion": (0, 16)}
    off = {"boehle2019": (-19.4, 26.4), "eitel2019": (-18.4, 25.4), "emotion": (7.5, 7.5)}
    for name, (offset, jump) in expected.items():
        shape = PUBLISHED[name]
        network = copy.deepcopy(build_network(name, shape, 2)).to("meta").eval()
        (cells,) = layout(network, shape, last_convolution(network), "meta")
        differences = []
        for rows, n_voxels, step in zip(cells.centres, shape, cells.jump, strict=True):
            i = np.arange(rows.size)
            np.testing.assert_allclose(rows[0], offset + jump * i)
            assert step == jump
            differences.append((i + 0.5) * n_voxels / rows.size - 0.5 - rows[0])
        extremes = min(map(np.min, differences)), max(map(np.max, differences))
        np.testing.assert_allclose(extremes, off[name], atol=0.05)


def sighted(name: str, shape: Triple) -> nn.Module:
    """Build a network that answers to brightness: weights that smooth, no biases, all to the second class."""
    network = build_network(name, shape, 2).eval().requires_grad_(False)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    smooth = line[:, None, None] * line[None, :, None] * line[None, None, :]
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            kernel = smooth if module.kernel_size == (3, 3, 3) else torch.ones(module.kernel_size)
            module.weight.copy_(kernel.expand_as(module.weight) / module.weight.shape[1])
        if isinstance(module, nn.Linear):
            module.weight.fill_(1 / module.in_features)
            if module.out_features == 2:
                module.weight[0] = 0
        if isinstance(module, (nn.Conv3d, nn.Linear)) and module.bias is not None:
            module.bias.zero_()
    return network


def blob(shape: Triple, centre: Triple) -> Tensor:
    """Return a volume of one Gaussian blob (standard deviation 1.5 voxels, nothing beyond 4)."""
    lines = [torch.arange(n) - float(c) for n, c in zip(shape, centre, strict=True)]
    x, y, z = (torch.exp(-(line**2) / 4.5) * (line.abs() <= 4) for line in lines)
    return (x[:, None, None] * y[None, :, None] * z[None, None, :])[None, None]


def peak(heatmap: Tensor) -> npt.NDArray[np.float64]:
    """Return the middle of the voxels that share the largest value."""
    return (heatmap >= heatmap.max() * (1 - 1e-5)).nonzero().double().mean(dim=0).numpy()


def steps_between(cells: Cells) -> list[float]:
    """Return the voxels between neighbouring cells: the jump; of one cell a patch, from patch to patch."""
    lines = [np.unique(rows) for rows in cells.centres]
    return [
        float(np.diff(line).min()) if line.size > 1 else j for line, j in zip(lines, cells.jump, strict=True)
    ]


def covered(cells: Cells, shape: Triple, shares: tuple[float, float, float]) -> Triple:
    """Return a centre at these shares of the range that cells cover, where a whole blob fits the volume."""
    centre = []
    for rows, step, n, share in zip(cells.centres, steps_between(cells), shape, shares, strict=True):
        low = math.ceil(max(rows.min() - step / 2, 4))
        high = math.floor(min(rows.max() + step / 2, n - 5))
        centre.append(round(low + share * (high - low)))
    x, y, z = centre
    return x, y, z


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.usefixtures("_narrow")
def test_grad_cam_peaks_within_half_a_jump_of_a_blob(name: str) -> None:
    """At the middle, and off-centre up to the borders of what is covered."""
    shape = small(name)
    network = sighted(name, shape)
    (cells,) = layout(network, shape, last_convolution(network))
    for shares in ((0.5, 0.5, 0.5), (0.3, 0.75, 0.45), (0.0, 1.0, 0.1), (0.95, 0.02, 0.6), (1.0, 0.4, 0.9)):
        centre = covered(cells, shape, shares)
        heatmap = grad_cam(network, blob(shape, centre), of_class(1, 1))[0]
        distance = np.abs(peak(heatmap) - centre)
        assert (distance <= np.array(steps_between(cells)) / 2).all(), (centre, peak(heatmap))


@pytest.mark.parametrize("method", list(EXPLANATIONS))
@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.usefixtures("_narrow")
def test_every_method_peaks_within_half_a_jump_of_a_blob(name: str, method: str) -> None:
    shape = small(name)
    network = sighted(name, shape)
    (cells,) = layout(network, shape, last_convolution(network))
    centre = covered(cells, shape, (0.3, 0.72, 0.45))
    function = EXPLANATIONS[method].load()
    x = blob(shape, centre)
    if name == "patch-based":
        # Joined by dense layers alone, patches are all as sensitive unless they answer to what is bright.
        with torch.no_grad():
            x *= 40 / features_of(network, x, "features.3.0").max()
        network.get_submodule("features.3.0").bias.fill_(-20)
    fast = {"steps": 2, "box": (3, 3, 3), "stride": 3}
    options = {key: value for key, value in fast.items() if key in options_of(function)}
    if method == "region-occlusion":
        cubes = torch.meshgrid(*(torch.arange(n) // 5 for n in shape), indexing="ij")
        inside = sum((cube - c // 5).abs() for cube, c in zip(cubes, centre, strict=True)) <= 1
        options["regions"] = torch.where(inside, 1 + cubes[0] + 100 * cubes[1] + 10_000 * cubes[2], 0)
    heatmap = function(network, x, of_class(1, 1), **options)[0]
    assert heatmap.max() > 0
    distance = np.abs(peak(heatmap) - centre)
    assert (distance <= np.array(steps_between(cells)) / 2).all(), (centre, peak(heatmap))


class Functional(nn.Module):
    """A network of the user's, of functions: residual, strided, padded, cut, resized, with gates."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding="same")
        self.gate = nn.Linear(4, 4)
        self.deep = nn.Sequential(nn.Conv3d(4, 4, (3, 2, 3), stride=2, dilation=(1, 2, 1)), nn.GELU())
        self.skip = Residual(nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.SiLU()))
        self.up = nn.ConvTranspose3d(4, 4, 2, 2)
        self.last = nn.Conv3d(8, 4, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu_(self.first(x))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3, 4))))[:, :, None, None, None]
        y = functional.max_pool3d(functional.pad(y, (1, 0, 2, 1, 0, 0)), 3, 2, ceil_mode=True)
        deep = self.skip(self.deep(y))[:, :, 1:]
        up = self.up(deep)
        near = functional.interpolate(y, up.shape[2:], mode="trilinear")
        return self.last(torch.cat([up, near * 2 + 1], dim=1)).flatten(1)[:, :2]


def test_networks_of_functions_are_followed() -> None:
    """Every cell sees as much to either side of its centre: measured one axis at a time."""
    shape = (45, 52, 49)
    network = Functional().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    for layer in ("first", "deep.0", "skip.add", "up"):
        x = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(3)).requires_grad_()
        features = features_of(network, x, layer)
        (cells,) = layout_of(features, layer)
        middle = tuple(n // 2 for n in features.shape[2:])
        (seen,) = torch.autograd.grad(features[(0, slice(None), *middle)].sum(), x)
        weight = seen[0, 0].abs()
        for axis in range(3):
            line = weight.sum(dim=[other for other in range(3) if other != axis])
            balance = float((line * torch.arange(len(line))).sum() / line.sum())
            assert abs(float(cells.centres[axis][0, middle[axis]]) - balance) < cells.jump[axis] / 2
    assert all(not module._forward_hooks for module in network.modules())


def test_operations_that_nobody_knows_are_refused_by_name() -> None:
    class Rotated(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.how, self.conv, self.dense = how, nn.Conv3d(1, 2, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            turned = {
                "cumsum": lambda: x.cumsum(2),
                "transpose": lambda: x.transpose(2, 3),
                "fft": lambda: torch.fft.fftn(x).real,
                "einsum": lambda: x + torch.einsum("ncxyz,xw->ncwyz", x, torch.rand(8, 8)),
            }[self.how]()
            return self.dense(self.conv(turned).mean((2, 3, 4)))

    for how, name in (
        ("cumsum", "cumsum"),
        ("transpose", "transpose"),
        ("fft", "fft_fftn"),
        ("einsum", "einsum"),
    ):
        with pytest.raises(
            InputError, match=f"where in the volume the cells of layer 'conv' lie, after '{name}'"
        ):
            grad_cam(Rotated(how), torch.rand((1, 1, 8, 8, 8)), of_class(1, 1))


def test_turned_and_cut_volumes_are_followed() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = nn.Conv3d(1, 2, 1, bias=False), nn.Linear(2, 2)
            nn.init.ones_(self.conv.weight)
            nn.init.ones_(self.dense.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.dense(self.conv(x.flip(2)[:, :, 1:, :, ::2].narrow(3, 2, 5)).mean((2, 3, 4)))

    x = torch.zeros((1, 1, 8, 9, 10))
    x[0, 0, 2, 4, 6] = 1
    assert peak(grad_cam(Turned(), x, of_class(1, 1))[0]).tolist() == [2, 4, 6]


def test_patches_of_both_sets_are_put_where_they_lie() -> None:
    """As maps and as patches; the second set is shifted by half a patch, and added."""
    shape = (20, 15, 10)
    torch.manual_seed(0)
    pool = PatchIndividualFilters(shape, 1, 2, patch=5, kernel=3, overlap="half")
    network = nn.Sequential(pool, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        line = torch.tensor([1.0, 2.0, 1.0])
        smooth = line[:, None, None] * line[None, :, None] * line[None, None, :]
        pool.conv.weight.copy_(smooth.expand_as(pool.conv.weight))
        pool.conv.bias.zero_()
        network[3].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
    first, second = layout(network, shape, "0.merge")
    np.testing.assert_array_equal(first.centres[0][0], [1, 2, 3, 6, 7, 8, 11, 12, 13, 16, 17, 18])
    np.testing.assert_array_equal(second.centres[0][0, 1:-2], [3, 4, 5, 8, 9, 10, 13, 14, 15])
    for centre in ((7, 7, 3), (12, 2, 6), (4, 9, 5), (5, 5, 5)):
        x = torch.zeros((1, 1, *shape))
        x[(0, 0, *centre)] = 1
        for layer in ("0.merge", "0.conv"):
            distance = np.abs(peak(grad_cam(network, x, of_class(1, 1), layer=layer)[0]) - centre)
            assert distance.max() <= 1, (centre, layer)


def test_a_filter_of_an_inner_layer_is_shown_where_it_answers() -> None:
    """Grad-CAM of a filter takes the last convolution that the filter sees, and not one after it."""
    network = sighted("eitel2019", (76, 83, 72))
    shape, centre = (76, 83, 72), (31, 49, 36)
    start = Start(torch.zeros(1, dtype=torch.int64), layer="features.block2.1", filter=1)
    (cells,) = layout(network, shape, "features.block2.0")
    assert last_convolution(network, start.layer) == "features.block2.0"
    for function in (grad_cam, guided_grad_cam):
        distance = np.abs(peak(function(network, blob(shape, centre), start)[0]) - centre)
        assert (distance <= np.array(cells.jump) / 2).all()


def test_weights_between_cells() -> None:
    expected = [[0, 0], [0.25, 0], [0.75, 0], [0.75, 0.25], [0.25, 0.75], [0, 0.75], [0, 0.25], [0, 0]]
    np.testing.assert_allclose(interpolation(np.array([2.5, 4.5]), 2, 8), expected)
    # Cells in any order, two at one position, and one alone.
    np.testing.assert_allclose(interpolation(np.array([4.5, 2.5]), 2, 8), np.array(expected)[:, ::-1])
    np.testing.assert_allclose(interpolation(np.array([1.0, 1.0, 2.0]), 1, 3)[1], [0.5, 0.5, 0])
    np.testing.assert_allclose(interpolation(np.array([1.0]), 2, 5)[:, 0], [0.5, 1, 0.5, 0, 0])
