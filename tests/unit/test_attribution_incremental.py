"""Passes of which only what a box changes is computed, against full forward passes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bids_xai.attribution.incremental import IncrementalForward
from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.steps import UntreatableError, steps_of
from bids_xai.models import NETWORKS
from bids_xai.models.build import build_network
from bids_xai.models.layers import Residual
from bids_xai.models.patches import PatchIndividualFilters

Triple = tuple[int, int, int]
# The smallest volumes that the networks take, with a little room along one axis.
SHAPES: dict[str, Triple] = {
    "boehle2019": (78, 97, 79),
    "eitel2019": (71, 72, 71),
    "adni-a": (71, 75, 72),
    "adni-b": (71, 71, 72),
    "ukb-a": (98, 99, 98),
    "ukb-b": (80, 80, 81),
    "ms-a": (71, 80, 72),
    "ms-b": (71, 72, 71),
    "adni-a-pif": (41, 57, 43),
    "adni-b-pif": (41, 57, 43),
    "ukb-a-pif": (53, 60, 54),
    "ukb-b-pif": (53, 60, 54),
    "ms-a-pif": (41, 57, 43),
    "ms-b-pif": (14, 22, 13),
    "patch-based": (75, 112, 75),
    "emotion": (15, 18, 17),
}


def randomised(network: nn.Module, seed: int = 3) -> nn.Module:
    """Give the statistics of batch normalisation values that matter; ready for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    network = network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(0.2 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
            module.bias.data.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return network


def volume(shape: Triple, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full_outputs(network: nn.Module, x: Tensor, corners: Tensor, box: Triple, filling: Tensor) -> Tensor:
    """Return the outputs of one full forward pass per box."""
    outputs = []
    for corner in corners.tolist():
        part = tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))
        covered = x.clone()
        covered[part] = filling[part]
        outputs.append(network(covered[None, None])[0])
    return torch.stack(outputs)


def places(shape: Triple, box: Triple, n: int, seed: int = 1) -> Tensor:
    """Return both ends of the volume, and n boxes drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor([s - b for s, b in zip(shape, box, strict=True)])
    drawn = (torch.rand((n, 3), generator=generator, dtype=torch.float64) * (ends + 1)).long()
    return torch.cat([torch.zeros((1, 3), dtype=torch.int64), ends[None], drawn])


def check(network: nn.Module, shape: Triple, corners: Tensor, box: Triple, **options: int) -> None:
    kind = next(network.parameters()).dtype
    x, filling = volume(shape).to(kind), 10 * volume(shape, seed=11).to(kind)
    exact = 1e-10 if kind == torch.float64 else 1e-4
    with torch.no_grad():
        passes = IncrementalForward(network, x[None, None], **options)
        found = passes.outputs(corners, box, filling)
        expected = full_outputs(network, x, corners, box, filling)
        torch.testing.assert_close(passes.clean_output, network(x[None, None]), rtol=exact, atol=exact)
    changes = (expected - passes.clean_output).abs().max()
    assert changes > 1e-7
    torch.testing.assert_close(found, expected, rtol=0, atol=float(exact * changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_gives_the_outputs_of_full_passes(name: str) -> None:
    shape, box = SHAPES[name], (3, 2, 4)
    network = randomised(build_network(name, shape, 2, seed=5))
    # Double precision where it is quick: it tells rounding from mistakes.
    network = network.double() if math.prod(shape) < 2e5 else network
    check(network, shape, places(shape, box, 2), box)


def test_every_position_of_a_small_network() -> None:
    shape, box = (13, 9, 8), (2, 2, 2)
    network = randomised(
        nn.Sequential(
            nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.MaxPool3d(2)),
            nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ELU(), nn.MaxPool3d(3, 2, 1)),
            nn.Flatten(),
            nn.LazyLinear(3),
        ).double()
    )
    network(volume(shape)[None, None])
    corners = torch.cartesian_prod(*(torch.arange(n - 1) for n in shape))
    check(network, shape, corners, box)
    # Chunks of one box, and of a few.
    check(network, shape, corners[::7], box, chunk_bytes=1)
    check(network, shape, corners[::3], box, chunk_bytes=2**16)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv3d(1, 4, 3, stride=2, padding=2)],
        [nn.Conv3d(1, 4, (3, 1, 2), stride=(1, 2, 3), padding=(1, 0, 1), dilation=(2, 1, 1))],
        [nn.Conv3d(1, 4, 3), nn.Conv3d(4, 8, 3, groups=4, padding=1), nn.Conv3d(8, 2, 1), nn.ReLU6()],
        [nn.Conv3d(1, 4, 2), nn.MaxPool3d(3, stride=2, padding=1, ceil_mode=True), nn.Conv3d(4, 2, 2)],
        [nn.Conv3d(1, 4, 2), nn.AvgPool3d(3, stride=2, padding=1), nn.ELU(inplace=True)],
        [nn.ReLU(inplace=True), nn.Conv3d(1, 4, 1, stride=3), nn.BatchNorm3d(4), nn.Dropout3d()],
        [
            nn.Conv3d(1, 4, 3, padding=1),
            Residual(nn.Sequential(nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4))),
            Residual(nn.Sequential(nn.Conv3d(4, 4, 1), nn.ReLU6(inplace=True))),
        ],
        [nn.Conv3d(1, 4, 3), Residual(Residual(nn.Conv3d(4, 4, 5, padding=2))), nn.MaxPool3d(2)],
        [nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(2)],
        [nn.Conv3d(1, 4, 3), nn.AvgPool3d(2, padding=1, count_include_pad=False)],
        [nn.Conv3d(1, 4, 3), Residual(nn.GroupNorm(2, 4))],
        # The branch changes its input in place: x + body(x) is relu(x) + relu(x).
        [nn.Conv3d(1, 4, 3), Residual(nn.Sequential(nn.Dropout(), nn.ReLU(inplace=True)))],
    ],
    ids=str,
)
@pytest.mark.parametrize("last", ["flat", "mean"])
def test_kinds_of_layers(layers: list[nn.Module], last: str) -> None:
    shape = (9, 11, 10)
    ends = [nn.Flatten()] if last == "flat" else [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    torch_state = torch.get_rng_state()
    network = randomised(copy.deepcopy(nn.Sequential(*layers, *ends)).double())
    for box in ((1, 1, 1), (2, 3, 4)):
        check(network, shape, places(shape, box, 25), box)
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("overlap", [None, "half", "full"])
@pytest.mark.parametrize("output", ["flat", "map"])
@pytest.mark.parametrize("padding", [0, 1])
def test_patches_with_filters_of_their_own(overlap: str | None, output: str, padding: int) -> None:
    shape = (11, 7, 9)
    layer = PatchIndividualFilters(
        (9, 5, 7), 2, 3, patch=(4, 5, 3), kernel=(3, 2, 3), padding=padding, overlap=overlap, output=output
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        first = nn.Conv3d(1, 2, 3)
    network = nn.Sequential(first, layer, nn.ELU(inplace=True), nn.Flatten()).double().eval()
    for box in ((1, 1, 1), (3, 2, 4)):
        check(network, shape, places(shape, box, 40), box)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        if draw(st.booleans()):
            layers += [nn.Conv3d(channels, 3, kernel, stride, padding), nn.ELU()]
            channels = 3
        elif draw(st.booleans()):
            layers.append(nn.MaxPool3d(kernel, stride, padding))
        else:
            layers.append(nn.AvgPool3d(kernel, stride, padding))
    return nn.Sequential(*layers, nn.Flatten())


@settings(max_examples=40, deadline=None)
@given(network=networks(), box=st.tuples(*[st.integers(1, 4)] * 3), seed=st.integers(0, 99))
def test_any_stack_of_windows(network: nn.Module, box: Triple, seed: int) -> None:
    shape = (14, 12, 13)
    x, filling = volume(shape, seed), volume(shape, seed + 1)
    network = network.double().eval()
    corners = places(shape, box, 12, seed)
    with torch.no_grad():
        try:
            expected = full_outputs(network, x, corners, box, filling)
        except RuntimeError:  # too many strides for the volume
            return
        found = IncrementalForward(network, x[None, None]).outputs(corners, box, filling)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_only_what_changes_is_computed() -> None:
    # The windows stay small: the box, and what convolutions and poolings reach around it.
    sizes: list[tuple[int, ...]] = []
    network = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.ELU(), nn.MaxPool3d(2), nn.Conv3d(2, 2, 3), nn.Sigmoid(), nn.Flatten()
    ).eval()
    x = volume((30, 30, 30)).float()
    with torch.no_grad():
        passes = IncrementalForward(network, x[None, None])
        for at in (1, 4):
            network[at].register_forward_hook(lambda *passed: sizes.append(tuple(passed[2].shape[2:])))
        passes.outputs(torch.tensor([[12, 12, 12], [13, 13, 13]]), (2, 2, 2), torch.zeros(30, 30, 30))
    assert sizes == [(4, 4, 4), (5, 5, 5)]


def test_same_bits_again_and_input_untouched() -> None:
    shape = (20, 21, 22)
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool3d(2), nn.Flatten()).eval()
    x, filling = volume(shape).float(), volume(shape, 9).float()
    before = x.clone()
    corners = places(shape, (2, 2, 2), 300)
    with torch.no_grad():
        first, second = (
            IncrementalForward(network, x[None, None]).outputs(corners, (2, 2, 2), filling) for _ in range(2)
        )
    assert torch.equal(first, second)
    assert torch.equal(x, before)


def test_module_of_the_user_runs_on_whole_maps() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x**2 / x.std(dim=(2, 3, 4), keepdim=True)

    network = randomised(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), Squared(), nn.Flatten()).double())
    steps, tail = steps_of(network)
    assert [step.kind for step in steps] == ["input", "windowed", "voxelwise"]
    assert [type(module).__name__ for module in tail] == ["Squared", "Flatten"]
    check(network, (7, 8, 9), places((7, 8, 9), (2, 2, 2), 9), (2, 2, 2))


def test_untreatable_networks_are_refused() -> None:
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    class Odd(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(2))

    x = volume((6, 6, 6))[None, None]
    for network in (
        Whole(),
        Odd(nn.Conv3d(1, 1, 3)),
        nn.BatchNorm3d(1, track_running_stats=False),
        nn.Conv3d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool3d(2),
    ):
        with pytest.raises(UntreatableError), evaluating(network), torch.no_grad():
            IncrementalForward(network, x)
