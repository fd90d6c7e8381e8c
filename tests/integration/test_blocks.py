"""Pictures in blocks, one run of one person: merged, split by block, classified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, write_mask

BLOCKS = ("face", "house", "house", "face")
N_PICTURES = 8


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a dataset of one run whose events are pictures of 0.9 s, in four blocks of 8 s."""
    bids = make_dataset(tmp_path / "bids", n_subjects=1, n_runs=1)
    lines = ["onset\tduration\ttrial_type"]
    for block, name in enumerate(BLOCKS):
        lines += [f"{6 + 20 * block + picture}\t0.9\t{name}" for picture in range(N_PICTURES)]
    events = next(bids.glob("sub-01/func/*_events.tsv"))
    events.write_text("\n".join(lines) + "\n")
    return bids


@pytest.mark.slow
def test_blocks_are_left_out_whole(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--preproc", "none", "--sample", "volumes", "--merge-events", "2", "--cv", "event"]
    options += ["--mask", str(write_mask(tmp_path / "mask.nii.gz"))]
    work = ["--work-dir", str(tmp_path / "work"), "--skip-bids-validation"]
    assert main([str(pictures), str(out), "participant", "group", *options, *QUICK, *work]) == 0
    table = next(out.glob("sub-01/func/*_samples.tsv"))
    rows = pd.read_csv(table, sep="\t")
    assert sorted(set(rows["event"])) == [0, 8, 16, 24]
    assert rows.groupby("event").size().tolist() == [4] * 4
    np.testing.assert_allclose(rows["duration"], 7.9)
    assert json.loads(table.with_suffix(".json").read_text())["MergeEvents"] == 2
    manifest = json.loads((out / "group" / "results.json").read_text())
    assert (manifest["cv"], manifest["n_folds"], manifest["permute"]) == ("event", 2, "fold")
    assert manifest["smallest_p"] == pytest.approx(1 / 4)
    folds = pd.read_csv(out / "group" / manifest["tables"]["folds"], sep="\t")
    assert folds["fold"].tolist() == ["sub-01_event-1", "sub-01_event-2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "4", "8"], "of the same class"),
        (["--merge-events", "30"], "class 'house' has 1 event"),
        (["--merge-events", "2", "--window", "0", "24"], "share volume"),
    ],
)
def test_leaky_designs_are_refused(
    pictures: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(pictures), str(tmp_path / "out"), "participant", "group", "--preproc", "none"]
    assert main([*call, "--cv", "event", "--sample", "volumes", "--dry-run", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
