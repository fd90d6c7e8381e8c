"""Every wrong input: exit code 2, a message that says what is wrong, nothing written, the input untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.cli import stages
from bids_xai.cli.run import main
from tests.datasets import QUICK, SHAPE, make_dataset, write_mask


def _bold(bids: Path, subject: str = "01", run: int = 1) -> Path:
    return bids / f"sub-{subject}" / "func" / f"sub-{subject}_task-look_run-{run}_bold.nii.gz"


def _events(bids: Path, subject: str = "01", run: int = 1) -> Path:
    return Path(str(_bold(bids, subject, run)).replace("_bold.nii.gz", "_events.tsv"))


def _rewrite(
    path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None
) -> None:
    image = nb.load(path)
    new = nb.Nifti1Image(
        change(image.get_fdata(dtype=np.float32)), image.affine if affine is None else affine
    )
    new.header.set_xyzt_units("mm", "sec")
    if new.ndim == 4:
        new.header.set_zooms((*new.header.get_zooms()[:3], 2.0))
    nb.save(new, path)


def _no_description(bids: Path) -> list[str]:
    (bids / "dataset_description.json").unlink()
    return []


def _no_events(bids: Path) -> list[str]:
    _events(bids).unlink()
    return []


def _edit_events(old: str, new: str) -> Callable[[Path], list[str]]:
    def edit(bids: Path) -> list[str]:
        text = _events(bids).read_text()
        assert old in text
        _events(bids).write_text(text.replace(old, new, 1))
        return []

    return edit


def _rare_class(bids: Path) -> list[str]:
    for path in bids.glob("sub-*/func/*_events.tsv"):
        path.write_text(path.read_text().replace("house", "face"))
    text = _events(bids).read_text()
    _events(bids).write_text(text.replace("face", "house", 1))
    return []


def _late_events(bids: Path) -> list[str]:
    # Three of eleven.
    lines = _events(bids).read_text().splitlines()
    late = [f"{600 + number}.0\t" + line.split("\t", 1)[1] for number, line in enumerate(lines[1:4])]
    _events(bids).write_text("\n".join([lines[0], *late, *lines[4:]]) + "\n")
    return []


def _everywhere(old: str, new: str) -> Callable[[Path], list[str]]:
    def edit(bids: Path) -> list[str]:
        for path in bids.glob("sub-*/func/*_events.tsv"):
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        return []

    return edit


def _config(text: str) -> Callable[[Path], list[str]]:
    def write(bids: Path) -> list[str]:
        (bids.parent / "config.toml").write_text(text)
        return ["--config-file", str(bids.parent / "config.toml")]

    return write


def _folder(name: str) -> Callable[[Path], list[str]]:
    def make(bids: Path) -> list[str]:
        (bids.parent / "out" / name).mkdir(parents=True)
        return []

    return make


def _file(name: str) -> Callable[[Path], list[str]]:
    def make(bids: Path) -> list[str]:
        (bids.parent / "out").mkdir()
        (bids.parent / "out" / name).touch()
        return []

    return make


def _derivative(bids: Path) -> list[str]:
    content = {"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (bids / "dataset_description.json").write_text(json.dumps(content))
    return []


def _sidecar_tr(bids: Path) -> list[str]:
    (bids / "task-look_bold.json").write_text(json.dumps({"TaskName": "look", "RepetitionTime": 1.79}))
    return []


def _constant(bids: Path) -> list[str]:
    _rewrite(_bold(bids), np.ones_like)
    return []


def _truncated(bids: Path) -> list[str]:
    content = _bold(bids).read_bytes()
    _bold(bids).write_bytes(content[: len(content) // 2])
    return []


def _not_nifti(bids: Path) -> list[str]:
    _bold(bids).write_text("this is no image")
    return []


def _other_affine(bids: Path) -> list[str]:
    _rewrite(_bold(bids, run=2), lambda data: data, np.diag([5.0, 4.0, 4.0, 1.0]))
    return []


def _three_d(bids: Path) -> list[str]:
    _rewrite(_bold(bids), lambda data: data[..., 0])
    return []


def _empty_mask(bids: Path) -> list[str]:
    path = bids.parent / "empty.nii.gz"
    nb.save(nb.Nifti1Image(np.zeros(SHAPE, np.uint8), nb.load(_bold(bids)).affine), path)
    return ["--mask", str(path)]


def _misspelt(bids: Path) -> list[str]:
    path = bids.parent / "config.toml"
    path.write_text("[samples]\nclases = ['face', 'house']\n")
    return ["--config-file", str(path)]


def _words(*words: str) -> Callable[[Path], list[str]]:
    return lambda _: list(words)


CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "not a BIDS dataset": (_no_description, "dataset_description.json"),
    "unknown participant": (_words("--participant-label", "99"), "99"),
    "unknown task": (_words("--task-id", "lok"), "look"),
    "unknown class": (_words("--classes", "face", "hause"), "did you mean 'house'"),
    "unknown space": (_words("--space", "MNI152NLin2009cAsim"), "MNI152NLin2009cAsym"),
    "unknown atlas": (_words("--atlas", "all"), "atlas"),
    "no events": (_no_events, "events"),
    "no target column": (_words("--target", "emotion"), "trial_type"),
    "events beyond the end": (_late_events, "--max-events-outside"),
    "a window that leaves the run": (_words("--window", "0", "40"), "leaves"),
    "NaN onset": (_edit_events("\n6.0\t", "\nn/a\t"), "onset"),
    "a class without letters": (_words("--classes", "\u8138=face", "house"), "neither letters nor digits"),
    "a class of 300 letters": (_words("--classes", f"{'x' * 300}=face", "house"), "at most 60"),
    "a class that is called as all samples are": (_words("--classes", "all=face", "house"), "'all'"),
    "a class that is called as a missing value is": (_words("--classes", "NaN=face", "house"), "'NaN'"),
    "a level without letters": (_everywhere("face", "\U0001f600"), "neither letters nor digits"),
    "no finite number": (_words("--clip", "nan"), "--clip = nan"),
    "an infinite factor": (_words("--map-scale", "inf"), "--map-scale = inf"),
    "a number beyond all bounds": (_words("--random-seed", "1" + "0" * 400), "--random-seed"),
    "no finite number in a file": (_config("[decoding]\nlearning_rate = nan\n"), "learning_rate = nan"),
    "a folder where the report goes": (_folder("group.html"), "group.html is a folder"),
    "a file where a folder goes": (_file("group"), "group is a file"),
    "a folder where a table goes": (_folder("group/samples_table.tsv"), "samples_table.tsv is a folder"),
    "derivatives as BIDS": (_derivative, "--derivatives"),
    "too few samples of a class": (_rare_class, "house"),
    "TR of sidecar and header": (_sidecar_tr, "1.79"),
    "constant voxels": (_constant, "run-1_bold.nii.gz"),
    "truncated image": (_truncated, "run-1_bold.nii.gz"),
    "not an image": (_not_nifti, "run-1_bold.nii.gz"),
    "mismatched affines": (_other_affine, "affine"),
    "3-D instead of 4-D": (_three_d, "4-D"),
    "empty mask": (_empty_mask, "empty.nii.gz"),
    "misspelt key": (_misspelt, "did you mean 'classes'"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused_before_anything_is_written(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=2)
    spoil, message = CASES[case]
    words = spoil(bids)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    mask = (
        [] if "--mask" in words else ["--mask", str(write_mask(tmp_path.parent / f"{tmp_path.name}.nii.gz"))]
    )
    engine = [] if "--preproc" in words else ["--preproc", "none"]
    levels = ["participant", "group"]
    code = main(
        [str(bids), str(tmp_path / "out"), *levels, *words, *mask, *engine, "-w", str(tmp_path / "w")]
    )
    error = capsys.readouterr().err
    assert code == 2, error
    assert message in error
    assert "Expected" in error or "What to do" in error
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("inside", ["", "derivatives", "code/out", "sub-01/out"])
def test_output_in_the_input_is_refused(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    assert main([str(bids), str(bids / inside), "participant"]) == 2
    assert "lies in the input" in capsys.readouterr().err
    assert not (bids / inside / "logs").exists()


def test_an_output_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    mask = str(write_mask(tmp_path / "mask.nii.gz"))
    words = ["participant", "--preproc", "none", "--mask", mask, "-w", str(tmp_path / "w")]
    # Not even root can make a folder there.
    assert main([str(bids), "/proc/bids_xai_out", *words]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "system"])
def test_a_work_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    mask = write_mask(tmp_path / "mask.nii.gz")
    work = mask if kind == "file" else Path("/proc/bids_xai_work")
    words = ["participant", "--preproc", "none", "--mask", str(mask), "-w", str(work)]
    assert main([str(bids), str(tmp_path / "out"), *words]) == 2
    assert f"work folder {work}" in capsys.readouterr().err


def test_group_without_participant_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    assert main([str(bids), str(tmp_path / "out"), "group", "-w", str(tmp_path / "w")]) == 2
    assert "participant" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_subject_cannot_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    mask = write_mask(tmp_path / "mask.nii.gz")
    words = [bids, tmp_path / "out", "participant", "group", "--preproc", "none", "--mask", mask]
    words += ["-w", tmp_path / "w"]
    assert main([str(word) for word in words]) == 2
    assert "--cv run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_subject_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=3)
    query = stages.query_dataset

    def query_and_spoil(*arguments: object) -> object:
        found = query(*arguments)  # type: ignore[arg-type]
        # The file goes bad between the check and the run, as on a failing disk.
        _truncated_middle(_bold(bids, "02"))
        return found

    monkeypatch.setattr(stages, "query_dataset", query_and_spoil)
    mask = write_mask(tmp_path / "mask.nii.gz")
    words = [bids, tmp_path / "out", "participant", "group", "--mask", mask, "-w", tmp_path / "w", *QUICK]
    assert main([str(word) for word in [*words, "--skip-bids-validation"]]) == 1
    assert "sub-02 failed; see " in caplog.text
    assert (tmp_path / "out" / "group.html").exists()
    results = json.loads((tmp_path / "out" / "group" / "results.json").read_text())
    assert results["failed_subjects"] == ["02"]
    assert results["subjects"] == ["01", "03"]


def _truncated_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
