"""What the group level does where results of the participant level are missing or are not what they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_anatomical_dataset, make_dataset, write_mask, write_run

pytestmark = pytest.mark.slow


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


# One process: what is tried here is what is read and said.
HERE = (*QUICK[:-2], "--use-plugin", str(Path(__file__).with_name("linear.toml")))


def run(folder: Path, *words: str, quick: Sequence[str] = HERE) -> int:
    mask = ["--mask", str(folder / "mask.nii.gz"), "--skip-bids-validation"]
    folders = [str(folder / name) for name in ("bids", "out")]
    return main([*folders, *words, *quick, *mask, "-w", str(folder / "work")])


NETWORK = ("--preproc", "none", "--model", "patch-based", "--cv", "holdout", "--dry-run")


@pytest.mark.parametrize("words", [HERE, (*HERE, "--dry-run"), NETWORK])
def test_a_table_that_lost_a_row_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    table = next((copy / "out").glob("sub-02/**/*run-1*_samples.tsv"))
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:3] + lines[4:]))
    assert run(copy, "group", quick=words) == 2
    assert table.name in capsys.readouterr().err
    assert not (copy / "out/group").exists()


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "out/group/results.json").read_text())
    return content


def warnings_of_input(folder: Path) -> list[str]:
    """Return the warnings but that so few updates train nothing to its end."""
    return [text for text in results(folder)["warnings"] if "had not converged" not in text]


def test_who_is_missing_is_named_and_the_others_are_classified(
    copy: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copy / "out/sub-03")
    next((copy / "out").glob("sub-02/**/*run-2*_samples.json")).unlink()
    assert run(copy, "group", "--cv", "run", "--participant-label", "sub-01") == 0
    assert warnings_of_input(copy) == []
    # Asked for by name: 1.
    assert run(copy, "group", "--participant-label", "01", "02", "03") == 1
    [warning] = warnings_of_input(copy)
    assert warning.endswith("out: sub-03 (all 2 runs), sub-02_task-look_run-2.")
    assert "sub-03 was asked for (--participant-label) and has no results" in caplog.text
    assert results(copy)["subjects"] == ["01", "02"]
    # A task that the participant level left out is nobody's loss.
    for path in list((copy / "bids").glob("sub-01/func/*run-1*")):
        shutil.copy(path, path.with_name(path.name.replace("task-look", "task-other")))
    assert run(copy, "group") == 0
    assert warnings_of_input(copy) == [warning]
    assert "sub-03 (all 2 runs), sub-02_task-look_run-2." in (copy / "out/group.html").read_text()
    assert run(copy, "group", "--participant-label", "01", "07") == 2
    assert "Unknown participant '07'" in capsys.readouterr().err


def test_a_run_too_short_for_its_filter_says_so(copy: Path) -> None:
    for path in (copy / "bids").glob("sub-01/func/*run-1_bold.nii.gz"):
        image = nb.load(path)
        nb.save(image.slicer[..., :30], path)
    for path in (copy / "bids").glob("sub-01/func/*run-1_events.tsv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:6]))
    assert run(copy, "participant", "group") == 0
    [short] = (copy / "out").glob("sub-01/func/*run-1*_samples.json")
    [long] = (copy / "out").glob("sub-01/func/*run-2*_samples.json")
    assert json.loads(short.read_text())["HighPass"] is None
    assert json.loads(long.read_text())["HighPass"] == 1 / 128
    [warning] = warnings_of_input(copy)
    assert "run-1" in warning
    assert "No high-pass filter: the run lasts 60 s, and one of 0.007812 Hz takes 64 s or more." in warning
    assert "lasts 60 s" in (copy / "out/sub-01.html").read_text()
    text = (copy / "out/logs/CITATION.md").read_text()
    assert "Of 1 file of samples: " in text
    assert "These runs are too short for the high-pass filter." in text


def test_who_was_taken_out_of_the_dataset_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "bids/sub-02")
    assert run(copy, "group") == 0
    [warning] = warnings_of_input(copy)
    assert "no longer has them: sub-02." in warning
    assert results(copy)["subjects"] == ["01", "02", "03"]


def spoil(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Spoil an image once the plan has read it, as a disk may."""
    from bids_xai.cli import stages

    def read_and_spoil(*arguments: Any) -> Any:
        subjects = query_dataset(*arguments)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        return subjects

    query_dataset = stages.query_dataset
    monkeypatch.setattr(stages, "query_dataset", read_and_spoil)


def test_a_session_that_is_good_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_anatomical_dataset(tmp_path / "bids", n_subjects=6, sessions=("1", "2"))
    spoil(monkeypatch, tmp_path / "bids/sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz")
    words = ["--modality", "T1w", "--target", "group", "--resolution", "8", "--cv", "subject"]
    folders = [str(tmp_path / name) for name in ("bids", "out")]
    words += ["--skip-bids-validation", "-w", str(tmp_path / "work")]
    assert main([*folders, "participant", "group", *HERE, *words]) == 1
    assert results(tmp_path)["failed_subjects"] == ["02_ses-1"]
    assert results(tmp_path)["n_samples"] == 11
    assert [path.parent.parent.name for path in (tmp_path / "out/sub-02").rglob("*_samples.json")] == [
        "ses-2"
    ]
    assert "02_ses-1" in (tmp_path / "out/group.html").read_text()
    # The pages of the others show both sessions, whichever was written last.
    page = (tmp_path / "out/sub-01.html").read_text()
    assert all(f"ses-{session}" in page for session in "12")


def test_the_group_goes_on_without_who_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_dataset(tmp_path / "bids")
    write_mask(tmp_path / "mask.nii.gz")
    spoil(monkeypatch, tmp_path / "bids/sub-02/func/sub-02_task-look_run-1_bold.nii.gz")
    labels = ("--participant-label", "01", "02", "03")
    assert run(tmp_path, "participant", "group", *labels) == 1
    assert results(tmp_path)["failed_subjects"] == ["02"]
    assert results(tmp_path)["subjects"] == ["01", "03"]
    assert "sub-02 failed; see " in caplog.text
    # What is left cannot be classified: that is said with its cause.
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "work")
    write_run(tmp_path / "bids/sub-02/func/sub-02_task-look_run-1", np.random.default_rng(0))
    assert run(tmp_path, "participant", "group", "--participant-label", "01", "02") == 1
    assert "cannot be run without what failed (sub-02): --cv subject with one subject" in caplog.text
