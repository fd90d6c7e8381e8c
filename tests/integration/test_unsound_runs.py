"""Runs with volumes that hold no image, dummies or motion: left out, counted, named; or refused."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main
from tests.datasets import N_VOLUMES, QUICK, make_dataset, make_fmriprep, write_mask

pytestmark = pytest.mark.slow

SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    write_mask(tmp_path / "mask.nii.gz")
    return make_dataset(tmp_path / "bids", n_subjects=2)


def bold(bids: Path, subject: str = "01", run: int = 1) -> Path:
    return bids / f"sub-{subject}/func/sub-{subject}_task-look_run-{run}_bold.nii.gz"


def change(path: Path, how: Any, **header: float) -> None:
    img = nb.load(path)
    data = how(np.array(img.dataobj))
    out = nb.Nifti1Image(data, img.affine, None if np.iscomplexobj(data) else img.header)
    out.header.set_data_dtype(data.dtype)
    out.header.set_zooms(img.header.get_zooms())
    out.header.set_xyzt_units("mm", "sec")
    nb.save(out, path)


def run(bids: Path, *words: str, level: str = "participant", out: str = "out") -> int:
    folder = bids.parent
    own = ["--skip-bids-validation", "-w", str(folder / "work" / out), *QUICK]
    return main([str(bids), str(folder / out), *level.split(), *own, *words])


def none(bids: Path) -> list[str]:
    return ["--preproc", "none", "--mask", str(bids.parent / "mask.nii.gz")]


def sidecar(bids: Path, subject: str = "01", number: int = 1, out: str = "out") -> dict[str, Any]:
    (path,) = (bids.parent / out).glob(f"sub-{subject}/**/*run-{number}*_samples.json")
    return json.loads(path.read_text())


def samples(bids: Path, number: int, out: str) -> pd.DataFrame:
    (path,) = (bids.parent / out).glob(f"sub-01/**/*run-{number}*_samples.tsv")
    return pd.read_csv(path, sep="\t")


def deviation(bids: Path, number: int, out: str) -> float:
    (path,) = (bids.parent / out).glob(f"sub-01/**/*run-{number}*_samples.nii.gz")
    data = nb.load(path).get_fdata()
    return float(data[data != 0].std())


def zeros_first(data: np.ndarray) -> np.ndarray:
    data[..., :4] = 0
    return data


def nan_volume(data: np.ndarray) -> np.ndarray:
    data[..., 10] = np.nan
    return data


def test_lost_volumes_do_not_shrink_the_run_and_are_named(bids: Path) -> None:
    """A volume of NaN took the SD of samples to .34 of the clean run's, four of zeros to .65."""
    assert run(bids, *none(bids), out="clean") == 0
    change(bold(bids, run=1), zeros_first)
    change(bold(bids, run=2), nan_volume)
    assert run(bids, *none(bids), level="participant group") == 0
    for number in (1, 2):
        assert deviation(bids, number, "out") / deviation(bids, number, "clean") == pytest.approx(1, abs=0.1)
    found = sidecar(bids, number=1)
    assert found["VolumesLeftOut"] == 4
    assert "4 volumes (0, 1, 2, 3; counted from 0)" in found["Warnings"][0]
    assert "constant" in found["Warnings"][0]
    found = sidecar(bids, number=2)
    assert found["VolumesLeftOut"] == 1
    assert "Volume 10 of sub-01_task-look_run-2_bold.nii.gz" in found["Warnings"][0]
    assert "Warnings" not in sidecar(bids, subject="02")
    results = json.loads((bids.parent / "out/group/results.json").read_text())
    assert any("Volume 10 of sub-01_task-look_run-2_bold.nii.gz" in text for text in results["warnings"])
    page = (bids.parent / "out/sub-01.html").read_text()
    assert "Volume 10 of sub-01_task-look_run-2_bold.nii.gz" in page


def test_a_run_that_is_nan_throughout_fails_its_participant(
    bids: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(bold(bids), lambda data: np.where(np.arange(N_VOLUMES) < 2, data, np.nan).astype(np.float32))
    assert run(bids, *none(bids)) == 1
    crash = "".join(path.read_text() for path in (bids.parent / "out/logs").glob("crash*.txt"))
    assert "48 of the 50 volumes of sub-01_task-look_run-1_bold.nii.gz hold no image" in crash
    assert not list((bids.parent / "out").glob("sub-01/**/*_samples.json"))
    assert list((bids.parent / "out").glob("sub-02/**/*_samples.json"))


def test_dummy_scans_are_left_out_with_the_events_in_them(bids: Path) -> None:
    assert run(bids, *none(bids), "--dummy-scans", "8") == 0
    assert run(bids, *none(bids), "--dummy-scans", "0", out="all") == 0
    found, whole = samples(bids, 1, "out"), samples(bids, 1, "all")
    assert len(found) < len(whole)
    assert (found["first_volume"] >= 8).all()
    metadata = sidecar(bids)
    assert metadata["VolumesLeftOut"] == 8
    assert "The first 8 volumes of sub-01_task-look_run-1_bold.nii.gz are left out" in metadata["Warnings"][0]
    n_lost = len(whole) - len(found)
    assert metadata["Warnings"][1].startswith(f"{n_lost} events give no sample, as most of the volumes")


def confounds(bids: Path, edit: Any) -> Path:
    derivatives = make_fmriprep(bids, bids.parent / "fmriprep")
    for path in derivatives.glob("sub-*/func/*confounds_timeseries.tsv"):
        table = pd.read_csv(path, sep="\t", na_values=["n/a"])
        edit(table).to_csv(path, sep="\t", index=False, na_rep="n/a")
    return derivatives


def moved(table: pd.DataFrame) -> pd.DataFrame:
    table["framewise_displacement"] = 0.1
    table.loc[0, "framewise_displacement"] = np.nan
    table.loc[20:29, "framewise_displacement"] = 0.9
    return table


def unsteady(table: pd.DataFrame) -> pd.DataFrame:
    for number in range(3):
        table[f"non_steady_state_outlier{number:02d}"] = (np.arange(len(table)) == number).astype(float)
    return table


def test_samples_of_moments_of_motion_are_left_out_counted_and_named(bids: Path) -> None:
    derivatives = ["-d", str(confounds(bids, moved)), "--space", SPACE, "--preproc", "derivatives"]
    assert run(bids, *derivatives, out="all") == 0
    assert run(bids, *derivatives, "--fd-threshold", "0.5") == 0
    found, whole = samples(bids, 1, "out"), samples(bids, 1, "all")
    inside = (whole["first_volume"] >= 20) & (whole["last_volume"] <= 29)
    assert inside.sum() >= 2
    assert not set(found["event"]) & set(whole["event"][inside])
    metadata = sidecar(bids)
    assert metadata["FramewiseDisplacementThreshold"] == 0.5
    assert metadata["VolumesLeftOut"] == 10
    assert "10 of 50 volumes of sub-01_task-look_run-1" in metadata["Warnings"][0]
    assert "events give no sample" in metadata["Warnings"][1]


def test_volumes_that_fmriprep_marks_are_left_out(bids: Path) -> None:
    derivatives = ["-d", str(confounds(bids, unsteady)), "--space", SPACE, "--preproc", "derivatives"]
    assert run(bids, *derivatives) == 0
    assert sidecar(bids)["VolumesLeftOut"] == 3
    assert run(bids, *derivatives, "--dummy-scans", "1", out="one") == 0
    assert sidecar(bids, out="one")["VolumesLeftOut"] == 1


def test_displacement_needs_what_tells_it(bids: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bids, *none(bids), "--fd-threshold", "0.5") == 2
    assert "--fd-threshold" in capsys.readouterr().err
    table = confounds(bids, lambda table: table.drop(columns="framewise_displacement"))
    assert (
        run(bids, "-d", str(table), "--space", SPACE, "--preproc", "derivatives", "--fd-threshold", "0.5")
        == 2
    )
    assert "framewise_displacement" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["participant", "participant group --dry-run"])
def test_what_is_no_real_number_is_refused_at_the_start(
    bids: Path, capsys: pytest.CaptureFixture[str], level: str
) -> None:
    change(bold(bids), lambda data: data.astype(np.complex64) * (1 + 1j))
    assert run(bids, *none(bids), level=level) == 2
    assert "the imaginary part would be lost" in capsys.readouterr().err


@pytest.mark.parametrize("slope", [1e38, 1e-38, np.inf])
def test_a_scaling_beyond_numbers_is_refused(
    bids: Path, capsys: pytest.CaptureFixture[str], slope: float
) -> None:
    path = bold(bids)
    change(path, lambda data: data.astype(np.int16))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:116] = np.float32(slope).tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    code = run(bids, *none(bids), level="participant --dry-run")
    if np.isinf(slope):  # NIfTI has no such scaling: it is none
        assert code in (0, 2)
        return
    assert code == 2
    assert "scl_slope" in capsys.readouterr().err


def test_damaged_content_of_a_mask_is_refused(bids: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bids.parent / "mask.nii.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # of the checksum
    path.write_bytes(bytes(content))
    assert run(bids, *none(bids), level="participant --dry-run") == 2
    # A small file is read to its end at once: nibabel finds it, else the check of the whole content.
    assert re.search(r"mask\.nii\.gz is (damaged|not a readable)", capsys.readouterr().err)


def test_damaged_content_of_a_run_fails_its_participant(bids: Path) -> None:
    path = bold(bids)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    assert run(bids, *none(bids)) == 1
    crash = "".join(path.read_text() for path in (bids.parent / "out/logs").glob("crash*.txt"))
    assert "run-1_bold.nii.gz is damaged" in crash
