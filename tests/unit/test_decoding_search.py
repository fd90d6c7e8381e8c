"""Random search draws what it may and chooses by validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.search import EITEL_2021, draw_parameters, random_search
from bids_xai.errors import InputError

TRAIN, VALIDATION = np.arange(12), np.arange(12, 20)
LABELS = np.arange(20) % 2


def flat(shape: Sequence[int], n_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), n_classes))


BASE = NetworkParameters(
    model="test_decoding_search:flat", max_epochs=2, monitor="loss", input_scaling="none", flip=0.0, shift=0
)


@settings(max_examples=30, deadline=None)
@given(n_draws=st.integers(1, 30), seed=st.integers(0, 99))
def test_draws_differ_while_they_can_and_models_are_dealt_evenly(n_draws: int, seed: int) -> None:
    drawn = draw_parameters(
        BASE, space={**EITEL_2021, "model": ("adni-a", "adni-b")}, n_draws=n_draws, seed=seed
    )
    assert len(drawn) == n_draws
    counts = Counter(one.model for one in drawn)
    assert abs(counts["adni-a"] - counts["adni-b"]) <= 1
    distinct = {(one.model, one.batch_size, one.learning_rate, one.patience) for one in drawn}
    assert len(distinct) == min(n_draws, 12 * 2)
    assert {one.batch_size for one in drawn} <= {4, 6, 12}
    assert {one.learning_rate for one in drawn} <= {1e-4, 5e-5}
    assert {one.patience for one in drawn} <= {12, 16}
    assert {one.max_epochs for one in drawn} == {2}


def test_all_values_are_drawn_about_equally_often() -> None:
    drawn = [one for seed in range(200) for one in draw_parameters(BASE, n_draws=2, seed=seed)]
    sizes = Counter(one.batch_size for one in drawn)
    # 400 draws; a binomial standard deviation is 9.4.
    assert all(abs(sizes[size] - 400 / 3) < 47 for size in (4, 6, 12))


@pytest.fixture
def volumes(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    data = rng.standard_normal((20, 3, 3, 3)).astype(np.float32)
    data[LABELS == 1] += 0.7
    return data


def test_the_draw_with_the_best_validation_is_chosen(volumes: npt.NDArray, tmp_path: Path) -> None:
    def search(folder: Path | None, seed: int = 3) -> Any:
        return random_search(
            volumes, LABELS, TRAIN, VALIDATION, base=BASE, space={"learning_rate": (1e-6, 1e-2, 1e-4)},
            n_draws=3, n_classes=2, seed=seed, folder=folder,
        )  # fmt: skip

    found = search(tmp_path)
    assert sorted(found.table["learning_rate"]) == [1e-6, 1e-4, 1e-2]
    best = found.table["validation"].idxmin()
    assert found.table["chosen"].tolist() == [row == best for row in range(3)]
    assert found.parameters.learning_rate == found.table["learning_rate"][best]
    record = found.trained.history[found.trained.best_epoch - 1]
    assert record["validation_loss"] == found.table["validation"][best]
    again = search(None)
    assert torch.equal(again.trained.network[1].weight, found.trained.network[1].weight)
    # The state of every training is there: nothing is trained again.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("draw-*/*")}
    assert len(before) == 3
    search(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("draw-*/*")} == before


@pytest.mark.parametrize(
    ("space", "n_draws", "message"),
    [
        ({"batchsize": (4,)}, 2, "did you mean 'batch_size'"),
        ({"batch_size": ()}, 2, "Search over 'batch_size' with values"),
        ({"batch_size": (4,)}, 0, "A search with 0 draws"),
        ({"monitor": ("loss", "auc")}, 2, "A search over 'monitor'"),
    ],
)
def test_wrong_searches_are_refused(
    volumes: npt.NDArray, space: dict[str, Any], n_draws: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        random_search(
            volumes, LABELS, TRAIN, VALIDATION, base=BASE, space=space, n_draws=n_draws, n_classes=2, seed=0
        )
