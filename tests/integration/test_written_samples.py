"""What the group level does where results of the participant level are missing or are not what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, write_mask


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset of three participants and the results of their participant level."""
    folder = tmp_path_factory.mktemp("written")
    make_dataset(folder / "bids")
    write_mask(folder / "mask.nii.gz")
    assert run(folder, "participant") == 0
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may spoil."""
    shutil.copytree(written, tmp_path / "copy", ignore=shutil.ignore_patterns("work"))
    return tmp_path / "copy"


def run(folder: Path, *words: str) -> int:
    mask = ["--mask", str(folder / "mask.nii.gz"), "--skip-bids-validation"]
    folders = [str(folder / name) for name in ("bids", "out")]
    return main([*folders, *words, *QUICK, *mask, "-w", str(folder / "work")])


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--model", "patch-based", "--cv", "holdout")])
def test_a_table_that_lost_a_row_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    table = next((copy / "out").glob("sub-02/**/*run-1*_samples.tsv"))
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:3] + lines[4:]))
    assert run(copy, "group", *more) == 2
    assert table.name in capsys.readouterr().err
    assert not (copy / "out/group").exists()
