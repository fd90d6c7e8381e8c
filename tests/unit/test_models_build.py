"""Networks by name and by the user's factory: what is refused, and randomness of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bids_xai.errors import InputError
from bids_xai.models.build import build_network, parameter_count

MINE = """
import torch
from torch import nn

NUMBER = 3

def small(shape, n_classes, *, width=4):
    return nn.Sequential(nn.Conv3d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
                         nn.Linear(width, n_classes))

def one_unit(shape, n_classes):
    return small(shape, 1)

def five(shape, n_classes):
    return small(shape, 5)

def maps(shape, n_classes):
    return nn.Conv3d(1, n_classes, 3)

def other_size(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(7, n_classes))

def plain(shape, n_classes, width=4):
    return small(shape, n_classes, width=width)

def raising(shape, n_classes):
    raise KeyError("weights")

def leaving(shape, n_classes):
    raise SystemExit(0)

class Forward(nn.Module):
    def forward(self, x):
        raise TypeError("of the forward")

def forward(shape, n_classes):
    return Forward()

def alone(shape):
    return small(shape, 2)

def rows(shape, n_classes):
    return "a network"

def free(shape, n_classes, **options):
    return small(shape, n_classes, width=options["wide"])

class Pair(nn.Module):
    def __init__(self, shape, n_classes):
        super().__init__()
        self.body = small(shape, n_classes)

    def forward(self, x):
        return self.body(x), x

def checked(shape, n_classes):
    network = small(shape, n_classes)
    network.calls = []
    network.register_forward_hook(lambda m, i, o: network.calls.append((m.training, tuple(i[0].shape))))
    return network
"""
SHAPE = (6, 5, 4)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module of a user, and return its name."""
    (tmp_path / "networks_of_mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "networks_of_mine", raising=False)
    yield "networks_of_mine"
    sys.modules.pop("networks_of_mine", None)


def test_a_factory_of_the_user_builds(mine: str) -> None:
    network = build_network(f"{mine}:small", SHAPE, 3, width=2)
    assert parameter_count(network) == (27 + 1) * 2 + (2 + 1) * 3
    assert build_network(f"{mine}:free", SHAPE, 3, wide=2)(torch.zeros(1, 1, *SHAPE)).shape == (1, 3)
    assert parameter_count(build_network(f"{mine}:plain", SHAPE, 3, width=2)) == 65
    assert build_network(f"{mine}:one_unit", SHAPE, 2)(torch.zeros(1, 1, *SHAPE)).shape == (1, 1)


def test_frozen_parameters_are_not_counted(mine: str) -> None:
    network = build_network(f"{mine}:small", SHAPE, 3, width=2)
    network[0].requires_grad_(False)
    assert parameter_count(network) == (2 + 1) * 3


def test_the_check_is_one_forward_in_evaluation_mode(mine: str) -> None:
    network = build_network(f"{mine}:checked", SHAPE, 3)
    assert network.calls == [(False, (2, 1, *SHAPE))]
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("name", "n_classes", "options", "message"),
    [
        ("boehle", 2, {}, "did you mean 'boehle2019'"),
        ("no_such_package:small", 2, {}, "cannot be imported: No module named 'no_such_package'"),
        (":small", 2, {}, "cannot be imported"),
        ("networks_of_mine:raising", 2, {}, "code of 'networks_of_mine:raising' failed: KeyError: 'weights'"),
        ("networks_of_mine:leaving", 2, {}, "failed: SystemExit: 0"),
        (
            "networks_of_mine:forward",
            2,
            {},
            "fails on volumes of 6 x 5 x 4 .*: TypeError: of the forward",
        ),
        ("networks_of_mine:smal", 2, {}, "did you mean 'small'"),
        ("networks_of_mine:", 2, {}, "has no ''"),
        ("networks_of_mine:NUMBER", 2, {}, "is a int, which cannot be called"),
        ("networks_of_mine:rows", 2, {}, "returned a str"),
        ("networks_of_mine:small", 2, {"widht": 3}, "did you mean 'width'"),
        ("networks_of_mine:one_unit", 2, {"width": 3}, "no options"),
        ("boehle2019", 2, {"droput": 0.3}, "did you mean 'dropout'"),
        ("networks_of_mine:five", 3, {}, r"output of shape \(n, 5\).*6 x 5 x 4(?s:.*)\(n, 3\) for 3 classes"),
        ("networks_of_mine:five", 2, {}, r"shape \(n, 2\) or \(n, 1\) for 2 classes"),
        ("networks_of_mine:one_unit", 3, {}, r"output of shape \(n, 1\)"),
        ("networks_of_mine:maps", 2, {}, r"output of shape \(n, 2, 4, 3, 2\)"),
        ("networks_of_mine:Pair", 2, {}, "gives a tuple"),
        ("networks_of_mine:other_size", 2, {}, "fails on volumes of 6 x 5 x 4 voxels: .*mat1 and mat2"),
        ("networks_of_mine:alone", 2, {}, "cannot be called with a shape and a number of classes: too many"),
        ("networks_of_mine:small", 1, {}, "at least 2 classes"),
    ],
)
def test_bad_input_is_refused(
    mine: str, name: str, n_classes: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_network(name, SHAPE, n_classes, **options)


def test_an_error_inside_the_users_module_is_shown(mine: str, tmp_path: Path) -> None:
    (tmp_path / "broken_of_mine.py").write_text("import not_there\n", encoding="utf-8")
    with pytest.raises(InputError, match="not_there") as caught:
        build_network("broken_of_mine:small", SHAPE, 2)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_same_seed_same_bits_and_the_generator_of_torch_is_left_alone() -> None:
    def weights(seed: int | None) -> list[torch.Tensor]:
        return list(build_network("adni-a-pif", (41, 41, 41), 2, seed=seed).parameters())

    before = torch.get_rng_state()
    first, second, other, free = (weights(seed) for seed in (4, 4, 5, None))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], free[0])
    torch.rand(1)
    assert torch.equal(first[0], weights(4)[0])


def test_batch_statistics_are_untouched_by_the_check() -> None:
    network = build_network("emotion", (8, 8, 8), 2)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert all(m.num_batches_tracked == 0 for m in norms)
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())
