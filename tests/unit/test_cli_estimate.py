"""The estimate of the time: what is measured, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bids_xai.cli import estimate
from bids_xai.cli.estimate import Size, estimate_seconds, measure_repetition
from bids_xai.decoding.design import make_design
from bids_xai.settings import Settings, resolve


def size(n_voxels: int, n_procs: int = 1) -> Size:
    rows = pd.DataFrame({"subject": np.repeat(["01", "02", "03"], 8), "session": "", "task": "look"})
    rows["run"], rows["event"], rows["class"] = "1", np.tile(np.arange(8), 3), np.tile(["a", "b"], 12)
    design, _ = make_design(rows, classes=("a", "b"), cv="subject", n_folds=3, seed=0)
    return Size(n_voxels, design, n_procs)


def settings(**sections: dict[str, Any]) -> Settings:
    few = {"n_runs": 40, "n_permutations": 100, "n_null": 20, "alpha": (0.05,), "importance": ("W", "OD")}
    return resolve(
        {"inference": few, "decoding": {"n_updates": 100}, "execution": {"device": "cpu"}}, sections
    )


@pytest.mark.parametrize("n_voxels", [10, 24, 300, 100_000])
def test_a_repetition_is_measured_with_more_and_with_fewer_voxels_than_samples(n_voxels: int) -> None:
    assert 0 < measure_repetition(settings(), size(n_voxels)) < 60


def test_a_hundred_times_the_updates_take_longer() -> None:
    few, many = (settings(decoding={"n_updates": n}) for n in (1000, 100_000))
    assert measure_repetition(many, size(50)) > 10 * measure_repetition(few, size(50))


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a repetition take a second, and what is not a repetition no time."""
    monkeypatch.setattr(estimate, "measure_repetition", lambda *_: 1.0)
    for name in ("_START_SECONDS", "_NODE_SECONDS", "_REPORT_SECONDS", "_MAP_SECONDS"):
        monkeypatch.setattr(estimate, name, 0.0)


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize(
    ("n_procs", "sections", "seconds"),
    [
        (1, {}, 160),
        (2, {}, 80),
        (4, {}, 40),
        # No stage is shorter than a chunk.
        (1000, {}, 10 + 10),
        (1000, {"execution": {"chunk_size": 50}}, 50 + 40),
        (1, {"inference": {"stop_after_exceedances": 5}}, 200),
        (1, {"inference": {"n_null": 0}}, 140),
        (4, {"execution": {"omp_nthreads": 4}}, 40),
    ],
)
def test_stages_are_shared_by_the_processors(
    n_procs: int, sections: dict[str, dict[str, Any]], seconds: float
) -> None:
    assert estimate_seconds(settings(**sections), size(50, n_procs)) == pytest.approx(seconds, abs=0.1)
