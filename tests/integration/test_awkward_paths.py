"""Folders may be called anything: nothing in their names is read as a command, a pattern or a setting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, write_mask

pytestmark = pytest.mark.slow

NAME = "a b; $(touch EXECUTED) `touch EXECUTED2` 'q' \"d\" [x], é脳 %s & {} #1 *"


def _executed(folder: Path) -> list[Path]:
    return [*folder.rglob("EXECUTED*"), *Path.cwd().glob("EXECUTED*")]


def _command(*words: object) -> int:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ).returncode


def test_a_whole_analysis_runs_in_folders_called_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.chdir(folder)
    bids = make_dataset(folder / "bids", n_subjects=2)
    words = [*QUICK, "--mask", str(write_mask(folder / "mask.nii.gz")), "--skip-bids-validation"]
    folders = [str(bids), str(folder / "out")]
    assert main([*folders, "participant", "group", *words, "-w", str(folder / "work"), "--write-graph"]) == 0
    assert (folder / "out" / "group.html").is_file()
    assert not list((folder / "out/logs").glob("crash*"))
    assert not _executed(tmp_path)


@pytest.mark.long
def test_the_demonstration_runs_in_folders_called_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registration with ANTs, whose brackets nipype does not quote."""
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = [
        "--subjects", 2, "--runs", 2, "--classes", 2, "--trials-per-class", 4, "--anatomy", "--motion",
        "--t1w-resolution", 3, "--seed", 1,
    ]  # fmt: skip
    assert _command("bids_xai.cli.phantom", folder / "bids", *made) == 0
    words = ["participant", "group", "--cv", "run", "--sloppy", "--skip-bids-validation", "--nprocs", 1]
    run = ["bids_xai.cli.run", folder / "bids", folder / "out", *words, "-w", folder / "work"]
    assert _command(*run) == 0
    assert (folder / "out" / "group.html").is_file()
    assert len(list((folder / "out").glob("sub-*/anat/*_desc-brain_mask.nii.gz"))) == 2
    assert not list((folder / "out/logs").glob("crash*"))
    assert not _executed(tmp_path)
