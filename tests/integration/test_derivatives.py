"""Preprocessed runs as fMRIPrep lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.cli.run import main
from tests.datasets import N_VOLUMES, QUICK, TR, make_dataset, write_mask

pytestmark = pytest.mark.slow

SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def raw_and_derivatives(tmp_path: Path) -> tuple[Path, Path]:
    raw = make_dataset(tmp_path / "bids")
    root = tmp_path / "fmriprep"
    root.mkdir()
    description = {
        "Name": "fMRIPrep outputs",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "fMRIPrep", "Version": "25.0.0"}],
    }
    (root / "dataset_description.json").write_text(json.dumps(description))
    rng = np.random.default_rng(0)
    for bold in sorted(raw.glob("sub-*/func/*_bold.nii.gz")):
        stem = root / bold.relative_to(raw).parent / bold.name.removesuffix("_bold.nii.gz")
        stem.parent.mkdir(parents=True, exist_ok=True)
        image = nb.load(bold)
        motion = rng.standard_normal(N_VOLUMES)
        data = image.get_fdata(dtype=np.float32) + 30 * motion
        preprocessed = nb.Nifti1Image(data.astype(np.float32), image.affine, image.header)
        nb.save(preprocessed, f"{stem}_space-{SPACE}_res-2_desc-preproc_bold.nii.gz")
        Path(f"{stem}_space-{SPACE}_res-2_desc-preproc_bold.json").write_text(
            json.dumps({"RepetitionTime": TR, "SkullStripped": False})
        )
        write_mask(Path(f"{stem}_space-{SPACE}_res-2_desc-brain_mask.nii.gz"))
        lines = ["trans_x\tframewise_displacement"]
        lines += [f"{value}\t{'n/a' if row == 0 else 0.1}" for row, value in enumerate(motion)]
        Path(f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(lines) + "\n")
    return raw, root


def _accuracy(out: Path) -> float:
    results = json.loads((out / "group" / "results.json").read_text())
    assert results["space"] == SPACE
    lines = (out / "group" / results["tables"]["accuracy_tests"]).read_text().splitlines()
    header, row = (line.split("\t") for line in lines[:2])
    return float(row[header.index("mean")])


def test_space_mask_and_confounds_are_found_and_confounds_regressed_out(
    raw_and_derivatives: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, derivatives = raw_and_derivatives
    words = ["participant", "group", *QUICK, "-d", derivatives, "--preproc", "derivatives", "--space", SPACE]
    spoiled, mended = tmp_path / "spoiled", tmp_path / "mended"
    assert main([str(word) for word in [raw, spoiled, *words, "-w", tmp_path / "w1"]]) == 0
    confounds = ["--confounds", "trans_*", "framewise_displacement", "-w", tmp_path / "w2"]
    assert main([str(word) for word in [raw, mended, *words, *confounds]]) == 0
    assert _accuracy(mended) > 0.8
    assert _accuracy(spoiled) < _accuracy(mended) - 0.1
    (sidecar, *_) = sorted(mended.glob("sub-01/func/*_samples.json"))
    metadata = json.loads(sidecar.read_text())
    assert metadata["Space"] == SPACE
    assert metadata["Confounds"] == ["trans_*", "framewise_displacement"]


def test_an_absent_space_is_refused_naming_those_present(
    raw_and_derivatives: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, derivatives = raw_and_derivatives
    words = [raw, tmp_path / "out", "participant", "-d", derivatives, "--preproc", "derivatives"]
    assert main([str(word) for word in [*words, "--space", "MNI152NLin6Asym"]]) == 2
    assert SPACE in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
