"""The comparison of two recordings tells everything that differs, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nb
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.same_outputs import compare_recordings, main, store

NAME = "haxby-slice"
MAP, TABLE, VALUES = "group/maps/class-a_map.nii.gz", "group/desc-accuracy_table.tsv", "group/results.json"
TRANSFORM, NETWORK, PAGE = "sub-01/anat/x_xfm.h5", "group/networks/x.safetensors", "group.html"


def _write(out: Path) -> Path:
    """Write outputs of every kind into a folder, whose path is in them."""
    for name in (MAP, TRANSFORM, NETWORK):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    data = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    data[0, 0, 1] = np.nan
    nb.save(nb.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), out / MAP)
    (out / TABLE).write_text("subject\taccuracy\n01\t0.5\n02\tn/a\n")
    maps = [{"path": "a.nii.gz", "alpha": 0.05}, {"path": "b.nii.gz", "alpha": None}]
    values = {
        "version": "0.1",
        "chance": 0.5,
        "settings": {"nprocs": 2, "mask": str(out / "mask.nii.gz"), "n_runs": 3},
        "maps": maps,
    }
    (out / VALUES).write_text(json.dumps(values))
    with h5py.File(out / TRANSFORM, "w") as file:
        file["TransformGroup/0/TransformParameters"] = np.arange(6.0)
        file["OSVersion"] = str(out)
    save_file({"0.weight": np.ones((2, 2), np.float32)}, out / NETWORK, {"classes": "a b"})
    (out / PAGE).write_text(f"<html><style>x</style><p>Accuracy was <b>0.5</b>. It is in\n{out}.</p></html>")
    (out / "logs").mkdir()
    (out / "logs" / "config.toml").write_text(f'work_dir = "{out}"')
    return out


def _record(out: Path, recording: Path) -> None:
    digests = store(out, recording / NAME, {str(out): "OUT"})
    notes = {"problem": None, "notes": [], "machine": {}, "files": digests}
    (recording / f"{NAME}.json").write_text(json.dumps(notes))


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that changes outputs, records them and says what differs from the unchanged ones."""
    _record(_write(tmp_path / "first"), tmp_path / "before")

    def compare(change: Callable[[Path], None], **options: bool) -> list[str]:
        out = _write(tmp_path / "second-run")
        change(out)
        _record(out, tmp_path / "after")
        return list(compare_recordings(tmp_path / "before", tmp_path / "after", NAME, **options))

    return compare


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        text = (out / name).read_text()
        assert old in text
        (out / name).write_text(text.replace(old, new))

    return change


def test_outputs_in_another_folder_by_another_version_are_equal(compared: Callable[..., list[str]]) -> None:
    def change(out: Path) -> None:
        _replace(VALUES, '"version": "0.1"', '"version": "0.2"')(out)
        _replace(VALUES, '"nprocs": 2', '"nprocs": 1')(out)
        _replace(PAGE, "<p>Accuracy", "<div>\n\nAccuracy")(out)

    assert compared(change) == []


def _voxel(out: Path) -> None:
    img = nb.load(out / MAP)
    data = np.array(img.dataobj)
    data[1, 2, 3] += 0.25
    data[1, 2, 0] = np.nextafter(data[1, 2, 0], np.float32(9))
    nb.save(nb.Nifti1Image(data, img.affine), out / MAP)


def _affine(out: Path) -> None:
    img = nb.load(out / MAP)
    nb.save(nb.Nifti1Image(np.array(img.dataobj), np.diag([2.0, 2, 3, 1])), out / MAP)


def _wider(out: Path) -> None:
    img = nb.load(out / MAP)
    nb.save(nb.Nifti1Image(img.get_fdata(), img.affine), out / MAP)


def _zero(out: Path) -> None:
    img = nb.load(out / MAP)
    img.header["cal_max"] = -0.0
    nb.save(img, out / MAP)


def _parameter(out: Path) -> None:
    with h5py.File(out / TRANSFORM, "a") as file:
        file["TransformGroup/0/TransformParameters"][2] = 2.5


def _weight(out: Path) -> None:
    tensors = load_file(out / NETWORK)
    tensors["0.weight"][0, 1] = 3
    save_file(tensors, out / NETWORK, {"classes": "b a"})


@pytest.mark.parametrize(
    ("change", "file", "told"),
    [
        (_voxel, MAP, ["voxels: largest difference 0.25; 2 of 24 differ, first (1, 2, 0): "]),
        (_affine, MAP, ["header pixdim: largest difference 1; ", "header srow_z: largest difference 1; "]),
        (_wider, MAP, ["header datatype: ", "header bitpix: ", "voxels: type float32 became float64; "]),
        (_zero, MAP, ["header cal_max: equal values in other bits"]),
        (
            _replace(TABLE, "0.5", "0.625"), TABLE,
            ["column accuracy: largest difference 0.125; 1 of 2 differ, first (0): 0.5 became 0.625"],
        ),
        (_replace(TABLE, "n/a", "1"), TABLE, ["column accuracy: 1 of 2 differ, first (1): n/a became 1"]),
        (_replace(TABLE, "01\t", "1\t"), TABLE, ["column subject: largest difference 0; 1 of 2 differ"]),
        (
            _replace(TABLE, "subject", "label"), TABLE,
            ["order of columns: ", "column subject: missing, ", "column label: new, "],
        ),
        (
            _replace(TABLE, "02\tn/a\n", ""), TABLE,
            [f"column {name}: shape (2,) became (1,)" for name in ("subject", "accuracy")],
        ),
        (_replace(VALUES, "0.5,", "0.75,"), VALUES, ["chance: largest difference 0.25; 0.5 became 0.75"]),
        (
            _replace(VALUES, '"n_runs"', '"n"'), VALUES,
            ["settings.n_runs: missing, was 3", "settings.n: new, 3"],
        ),
        (_replace(VALUES, "null", "0.01"), VALUES, ["maps[b.nii.gz].alpha: null became 0.01"]),
        (
            _replace(VALUES, "mask.nii", "m.nii"), VALUES,
            ['settings.mask: "OUT/mask.nii.gz" became "OUT/m.nii.gz"'],
        ),
        (
            _parameter, TRANSFORM,
            ["TransformGroup/0/TransformParameters: largest difference 0.5; 1 of 6 differ, first (2): "],
        ),
        (_weight, NETWORK, ["0.weight: largest difference 2; 1 of 4", "metadata classes: a b became b a"]),
        (
            _replace(PAGE, "<b>0.5", "<b>0.6"), PAGE,
            ["text: 2 sentences missing (-) or new (+)\n      -Accuracy"],
        ),
        (lambda out: (out / MAP).unlink(), MAP, ["missing"]),
        (lambda out: shutil.copy(out / TABLE, out / "group" / "new.tsv"), "group/new.tsv", ["new"]),
    ],
)  # fmt: skip
def test_what_differs_is_told(
    compared: Callable[..., list[str]], change: Callable[[Path], None], file: str, told: list[str]
) -> None:
    found = compared(change)
    assert len(found) == len(told), found
    for line, start in zip(found, told, strict=True):
        assert line.startswith(f"{NAME}: {file}: {start}")


def test_pages_can_be_left_out(compared: Callable[..., list[str]]) -> None:
    assert compared(_replace(PAGE, "0.5", "0.6"), pages=False) == []


def test_exit_codes_and_what_was_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = _write(tmp_path / "out")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        _record(out, tmp_path / name)
    words = ["compare", str(tmp_path / "before"), "--with", str(tmp_path / "after")]
    assert main([*words, "--only", NAME]) == 0
    assert capsys.readouterr().out.endswith("Everything is the same\n")
    assert main(words) == 1, "other analyses were not recorded"
    assert "demonstration: not recorded before" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["record", str(tmp_path / "before"), "--only", NAME])
    assert "remove it first" in capsys.readouterr().err
    notes = json.loads((tmp_path / "after" / f"{NAME}.json").read_text())
    for problem, code in (("failed", 1), ("skipped: no data", 1)):
        (tmp_path / "after" / f"{NAME}.json").write_text(json.dumps({**notes, "problem": problem}))
        assert main([*words, "--only", NAME]) == code
        assert f"{NAME}: before done; after {problem}" in capsys.readouterr().out
