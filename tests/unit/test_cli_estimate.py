"""The estimate of the time: what is measured, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.bids.results import SampleSet
from bids_xai.cli import estimate
from bids_xai.cli.estimate import Size, estimate_seconds, measure_repetition, trained_falls
from bids_xai.decoding.convergence import convergence_warning
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


def test_written_samples_tell_whether_training_will_converge(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nb.save(nb.Nifti1Image(np.ones((4, 5, 1), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    found, rows = [], []
    for subject in "123":
        labels = np.arange(60) % 4
        x = rng.standard_normal((20, 60)) + 0.5 * rng.standard_normal((20, 4))[:, labels]
        x += 3 * rng.standard_normal((20, 2)) @ rng.standard_normal((2, 60))
        path = tmp_path / f"{subject}.nii.gz"
        nb.save(nb.Nifti1Image(x.reshape(4, 5, 1, 60).astype(np.float32), np.eye(4)), path)
        found.append(SampleSet(path, path, tmp_path / "mask.nii.gz", subject, "", "x", "1", {}))
        own = {"subject": subject, "session": "", "task": "x", "run": "1", "event": range(60)}
        rows.append(pd.DataFrame({**own, "class": [f"c{label}" for label in labels]}))
    design, kept = make_design(pd.concat(rows, ignore_index=True))
    few, many = (
        trained_falls(resolve({"decoding": {"n_updates": n}}), design, found, kept) for n in (200, 50_000)
    )
    assert "had not converged" in convergence_warning(few)[0]
    assert convergence_warning(many) == []
    # Nothing is known of samples that are not written.
    assert convergence_warning(trained_falls(resolve({}), design, [], kept)) == []
