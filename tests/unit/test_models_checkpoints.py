"""Checkpoints come back as they were, and refuse what they are not for."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from bids_xai import __version__
from bids_xai.errors import InputError
from bids_xai.models import checkpoints
from bids_xai.models.build import build_network
from bids_xai.models.checkpoints import (
    Card,
    load_card,
    load_own_checkpoint,
    save_checkpoint,
    transfer_weights,
)

HERE = "test_models_checkpoints"
load_checkpoint = partial(checkpoints.load_checkpoint, factory=f"{HERE}:normed")
SHAPE = (6, 5, 4)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def normed(shape: Sequence[int], n_classes: int, *, filters: int = 3) -> nn.Sequential:
    size = filters * int(np.prod([n - 2 for n in shape]))
    body = nn.Sequential(nn.Conv3d(1, filters, 3), nn.BatchNorm3d(filters), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(size, 4), nn.ReLU(), nn.Linear(4, n_classes))


def card(**changes: Any) -> Card:
    base = {
        "model": f"{HERE}:normed", "model_options": {"filters": 3}, "shape": SHAPE, "affine": AFFINE,
        "classes": ["CN", "AD"], "input_scaling": "minmax", "training": {"learning_rate": 1e-4},
        "data": {"dataset": "phantom", "people": ["01", "02"]},
    }  # fmt: skip
    return Card(**{**base, **changes})


@pytest.fixture
def network() -> nn.Module:
    """Return a network whose batch normalisation has seen something."""
    network = build_network(f"{HERE}:normed", SHAPE, 2, seed=1)
    network(torch.randn(4, 1, *SHAPE, generator=torch.Generator().manual_seed(2)))
    return network


@pytest.mark.parametrize("ending", ["", ".safetensors", ".json"])
def test_a_network_and_its_card_come_back(network: nn.Module, tmp_path: Path, ending: str) -> None:
    # A name with dots is no extension.
    weights = save_checkpoint(tmp_path / "run-1_v1.0", network, card())
    assert weights == tmp_path / "run-1_v1.0.safetensors"
    back, described = load_checkpoint(
        tmp_path / f"run-1_v1.0{ending}", expect_grid=(SHAPE, AFFINE + 1e-5), expect_classes=["CN", "AD"]
    )
    assert not back.training
    for name, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert described == replace(card(), sha256=digest)
    assert described.version == __version__
    assert described == load_card(weights)
    x = torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        assert torch.equal(back(x), network.eval()(x))
    # The outside library reads the same tensors.
    with safe_open(weights, "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run-1_v1.0.json", "run-1_v1.0.safetensors",
    ]  # fmt: skip


def test_channels_last_weights_are_written_as_they_are_numbered(tmp_path: Path) -> None:
    layer = nn.Conv3d(2, 3, (1, 2, 3)).to(memory_format=torch.channels_last_3d)
    assert not layer.weight.is_contiguous()
    weights = save_checkpoint(tmp_path / "net", layer, card())
    assert torch.equal(load_file(weights)["weight"], layer.weight)


def test_altered_weights_are_refused(network: nn.Module, tmp_path: Path) -> None:
    weights = save_checkpoint(tmp_path / "net", network, card())
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"net\.safetensors was altered"):
        load_checkpoint(weights)
    with pytest.raises(InputError, match="was altered"):
        transfer_weights(network, weights)
    weights.unlink()
    with pytest.raises(InputError, match="There are no weights"):
        load_checkpoint(tmp_path / "net")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"expect_grid": ((6, 5, 5), AFFINE)}, r"is of the grid \(6, 5, 4\)"),
        ({"expect_grid": (SHAPE, AFFINE + np.eye(4, k=3) * 0.01)}, r"is of the grid \(6, 5, 4\)"),
        ({"expect_classes": 3}, "has the classes CN, AD"),
        ({"expect_classes": ["AD", "CN"]}, "has the classes CN, AD"),
    ],
)
def test_other_grids_and_classes_are_refused(
    network: nn.Module, tmp_path: Path, expected: dict[str, Any], message: str
) -> None:
    save_checkpoint(tmp_path / "net", network, card())
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "net", **expected)
    assert load_checkpoint(tmp_path / "net", expect_classes=2)


def test_damaged_cards_are_refused(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", network, card())
    path = tmp_path / "net.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "affine"}))
    with pytest.raises(InputError, match=r"net\.json lacks affine"):
        load_checkpoint(tmp_path / "net")
    path.write_text("{")
    with pytest.raises(InputError, match=r"net\.json is not valid JSON"):
        load_checkpoint(tmp_path / "net")
    path.unlink()
    with pytest.raises(InputError, match="There is no card"):
        load_checkpoint(tmp_path / "net")


def test_weights_of_another_model_are_refused(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", network, card(model_options={"filters": 5}))
    with pytest.raises(InputError, match=r"of another size \['0\.0\.weight'"):
        load_checkpoint(tmp_path / "net")
    save_checkpoint(tmp_path / "net", network[0], card())
    with pytest.raises(InputError, match=r"missing \['0\.0\.bias'.*not in the model \['0\.bias'"):
        load_checkpoint(tmp_path / "net")


def test_a_card_imports_nothing_that_was_not_named(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("open('ran', 'w').close()\n")
    save_checkpoint(tmp_path / "net", network, card(model="planted:factory"))
    for factory in (None, "another:factory", "boehle2019"):
        with pytest.raises(InputError, match=r"net\.json is of the model 'planted:factory'"):
            checkpoints.load_checkpoint(tmp_path / "net", factory=factory)
    assert "planted" not in sys.modules


def test_a_factory_runs_only_after_the_checksum(network: nn.Module, tmp_path: Path) -> None:
    weights = save_checkpoint(tmp_path / "net", network, card(model="no_such_module:factory"))
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(InputError, match="was altered"):
        checkpoints.load_checkpoint(tmp_path / "net", factory="no_such_module:factory")


def test_networks_of_this_run_are_loaded_whoever_made_them(network: nn.Module, tmp_path: Path) -> None:
    weights = save_checkpoint(tmp_path / "net", network, card())
    assert load_own_checkpoint(weights)[1].model == f"{HERE}:normed"


def test_cards_go_through_json() -> None:
    assert Card(**json.loads(json.dumps(asdict(card())))) == card()


def test_layers_are_transferred_by_name(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", network, card())
    source = network.state_dict()
    for names, copied in [
        (("all",), set(source)),
        (("0",), {name for name in source if name.startswith("0.")}),
        (("0.0", "2.bias"), {"0.0.weight", "0.0.bias", "2.bias"}),
    ]:
        fresh = build_network(f"{HERE}:normed", SHAPE, 2, seed=9)
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        assert set(transfer_weights(fresh, tmp_path / "net", names)) == copied
        for name, value in fresh.state_dict().items():
            assert torch.equal(value, source[name] if name in copied else before[name])


def test_the_output_layer_stays_fresh_where_classes_differ(network: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", network, card())
    fresh = build_network(f"{HERE}:normed", SHAPE, 3, seed=9)
    before = fresh[4].weight.clone()
    copied = transfer_weights(fresh, tmp_path / "net")
    assert set(copied) == {name for name in network.state_dict() if not name.startswith("4.")}
    assert torch.equal(fresh[4].weight, before)
    wide = build_network(f"{HERE}:normed", SHAPE, 2, seed=9, filters=5)
    with pytest.raises(InputError, match=r"0\.0\.weight is of shape \(3, 1, 3, 3, 3\)"):
        transfer_weights(wide, tmp_path / "net")
    with pytest.raises(InputError, match="no parameters 'features'"):
        transfer_weights(fresh, tmp_path / "net", ("features",))
