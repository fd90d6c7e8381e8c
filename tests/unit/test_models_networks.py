"""Networks of the papers: published sizes, shapes, and modules that explanations can treat one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bids_xai.errors import InputError
from bids_xai.models import NETWORKS
from bids_xai.models.build import build_network, parameter_count
from bids_xai.models.layers import Add, Residual, features_shape
from bids_xai.models.patches import Merge, PatchConvolution, PatchIndividualFilters, Split

MM1, MM2, UKB = (193, 229, 193), (96, 114, 96), (182, 218, 182)
LEAVES = (
    nn.Conv3d,
    PatchConvolution,
    nn.BatchNorm3d,
    nn.ReLU,
    nn.ReLU6,
    nn.ELU,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool3d,
    nn.Dropout,
    nn.Dropout3d,
    nn.Flatten,
    nn.Linear,
    Split,
    Merge,
)
SMALLEST = {
    "boehle2019": 78,
    "eitel2019": 71,
    "adni-a": 71,
    "adni-b": 71,
    "ukb-a": 98,
    "ukb-b": 80,
    "ms-a": 71,
    "ms-b": 71,
    "adni-a-pif": 41,
    "adni-b-pif": 41,
    "ukb-a-pif": 53,
    "ukb-b-pif": 53,
    "ms-a-pif": 41,
    "ms-b-pif": 11,
    "emotion": 1,
}


@pytest.mark.parametrize(
    ("name", "shape", "n_classes", "parameters"),
    [("boehle2019", MM1, 2, 728_898), ("eitel2019", MM2, 2, 333_889), ("emotion", (64, 64, 64), 5, 424_549)],
)
def test_parameters_are_published(
    name: str, shape: tuple[int, int, int], n_classes: int, parameters: int
) -> None:
    assert parameter_count(build_network(name, shape, n_classes)) == parameters


def test_both_variants_of_emotion_differ_in_the_rectifier() -> None:
    paper, code = (build_network("emotion", (16, 16, 9), 5, variant=v, seed=0) for v in ("paper", "code"))
    assert parameter_count(paper) == parameter_count(code)
    kinds = [{type(m) for m in network.modules()} for network in (paper, code)]
    assert kinds[0] - kinds[1] == {nn.ReLU}
    assert kinds[1] - kinds[0] == {nn.ReLU6}
    with pytest.raises(InputError, match="did you mean 'paper'"):
        build_network("emotion", (16, 16, 9), 5, variant="papers")


@pytest.mark.parametrize(
    ("name", "shape", "inputs", "hidden"),
    [
        ("boehle2019", MM1, 5120, 128),
        ("eitel2019", MM2, 128, 1),
        ("adni-a", MM2, 1296, 80),
        ("adni-b", MM2, 1296, 80),
        ("ukb-a", UKB, 11200, 100),
        ("ukb-b", UKB, 6144, 100),
        ("ms-a", MM2, 2880, 100),
        ("ms-b", MM2, 2880, 100),
        ("adni-a-pif", MM2, 1134, 100),
        ("adni-b-pif", MM2, 1134, 100),
        ("ukb-a-pif", UKB, 7776, 100),
        ("ukb-b-pif", UKB, 1458, 100),
        ("ms-a-pif", MM2, 1512, 100),
        ("ms-b-pif", MM2, 1512, 100),
    ],
)
def test_inputs_of_the_first_dense_layer_are_published(
    name: str, shape: tuple[int, int, int], inputs: int, hidden: int
) -> None:
    dense = [m for m in build_network(name, shape, 2).modules() if isinstance(m, nn.Linear)]
    assert (dense[0].in_features, dense[0].out_features) == (inputs, hidden)
    assert dense[-1].out_features == (2 if name == "boehle2019" else 1)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_smallest_volume_works_and_none_below(name: str) -> None:
    with pytest.raises(InputError, match="at least") as caught:
        build_network(name, (0, 0, 0) if name == "emotion" else (1, 1, 1), 2)
    smallest = tuple(
        int(n) for n in caught.value.expected.split(" voxels")[0].split("at least ")[1].split(" x ")
    )
    for axis in range(3):
        short = [n - (a == axis) for a, n in enumerate(smallest)]
        with pytest.raises(InputError, match="too small"):
            build_network(name, short, 2)
    assert build_network(name, smallest, 3) is not None
    assert smallest == ((75, 112, 75) if name == "patch-based" else (SMALLEST[name],) * 3)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_are_chains_of_modules(name: str) -> None:
    """The leaves run once each, in the order of ``named_modules``, each on the output of the one before."""
    side = {"boehle2019": 78, "ukb-a": 98, "ukb-b": 80, "ms-b": 71, "patch-based": 86}.get(name, 72)
    options = {"patches": (2, 2, 1)} if name == "patch-based" else {}
    network = build_network(name, (side, side, side), 3, seed=2, **options).eval()
    leaves = [m for m in network.modules() if not list(m.children())]
    assert {type(m) for m in leaves} <= set(LEAVES)
    x = torch.rand((1, 1, side, side, side), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        step = x
        for leaf in leaves:
            step = leaf(step)
        torch.testing.assert_close(step, network(x))
    assert step.shape == (1, 3)


def test_penalties_of_eitel2019_are_on_its_last_two_convolutions() -> None:
    network = build_network("eitel2019", (71, 71, 71), 2)
    convolutions = [n for n, m in network.named_modules() if isinstance(m, nn.Conv3d)]
    assert network.penalties == {f"{name}.weight": 0.01 for name in convolutions[2:]}
    assert set(network.penalties) <= dict(network.named_parameters()).keys()
    assert set(build_network("eitel2019", (71, 71, 71), 2, penalty=0.5).penalties.values()) == {0.5}


def test_dropout_is_where_the_papers_have_it() -> None:
    def rates(name: str, **options: float) -> list[tuple[str, float]]:
        found = build_network(name, (100, 112, 100), 2, **options).modules()
        return [(type(m).__name__, m.p) for m in found if isinstance(m, (nn.Dropout, nn.Dropout3d))]

    assert rates("boehle2019") == [("Dropout", 0.4)] * 2
    assert rates("eitel2019") == [("Dropout", 0.3)] * 3
    assert rates("ukb-a") == [("Dropout3d", 0.3)] * 3
    assert rates("ukb-b-pif") == [("Dropout3d", 0.3)] * 2
    assert rates("emotion", dropout=0.1) == [("Dropout", 0.1)]
    assert rates("patch-based") == [("Dropout3d", 0.1)] * 3 + [("Dropout3d", 0.2), ("Dropout", 0.4)]


@pytest.mark.parametrize("overlap", ["none", "half", "full"])
def test_overlap_is_an_option_of_networks(overlap: str) -> None:
    network = build_network("adni-a-pif", (96, 114, 96), 2, overlap=overlap)
    assert isinstance(network.pif, PatchIndividualFilters)
    assert network.pif.n_patches == {"none": 12, "half": 14, "full": 14}[overlap]
    assert network.pif.split.shift == {"none": None, "half": (2, 2, 2), "full": (5, 5, 5)}[overlap]


def test_patches_of_the_patch_based_network_are_apart() -> None:
    """A change within one patch reaches the features of its own group only."""
    network = build_network("patch-based", (86, 86, 43), 2, patches=(2, 2, 1), seed=3).eval()
    x = torch.rand((1, 1, 86, 86, 43), generator=torch.Generator().manual_seed(1))
    y = x.clone()
    y[0, 0, 50:60, 3:9, 20:30] += 3.0
    with torch.no_grad():
        change = (network.features(network.split(x)) - network.features(network.split(y))).abs()
    assert [bool(part.max()) for part in change.reshape(4, 50, -1)] == [False, False, True, False]


def test_shape_of_features_is_that_of_a_forward() -> None:
    features = nn.Sequential(
        nn.Conv3d(1, 2, (3, 2, 1), stride=(1, 2, 1), padding=(0, 1, 2), dilation=(2, 1, 1)),
        nn.AvgPool3d(2),
        nn.Sequential(nn.ELU(), nn.MaxPool3d(3, 2, 1)),
    )
    for shape in ((15, 14, 13), (9, 9, 20)):
        assert features_shape(features, shape, "net") == tuple(features(torch.zeros(1, 1, *shape)).shape[2:])
    with pytest.raises(InputError, match="2 axes"):
        features_shape(features, (15, 14), "net")


def test_residual_adds_its_input() -> None:
    block = Residual(nn.Conv3d(2, 2, 3, padding=1))
    seen: list[tuple[torch.Tensor, ...]] = []
    block.add.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    x = torch.rand((1, 2, 4, 4, 4))
    assert torch.equal(block(x), x + block.body(x))
    assert isinstance(block.add, Add)
    assert torch.equal(seen[0][0], x)
