"""Anatomical images as samples: people whole in splits, labels exchanged between them, files, sidecars."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main
from bids_xai.images.motion import rigid_matrix
from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.phantom.bids_dataset import make_dataset
from bids_xai.phantom.parameters import PhantomParameters
from tests.datasets import QUICK, make_anatomical_dataset
from tests.integration.test_command_line import _checksums, _validate

pytestmark = pytest.mark.slow

WORDS = ("participant", "group", "--modality", "T1w", "--target", "participants:group", "--resolution", "8")


def _run(bids: Path, out: Path, *words: str) -> int:
    return main([str(word) for word in (bids, out, *WORDS, *QUICK, "-w", out.parent / "work", *words)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("anatomical")
    bids = make_anatomical_dataset(folder / "bids", n_subjects=8, sessions=("1", "2"))
    before = _checksums(bids)
    assert _run(bids, folder / "out", "--n-updates", "3000", "--learning-rate", "0.005") == 0
    assert _checksums(bids) == before
    return {"bids": bids, "out": folder / "out"}


def test_people_are_whole_in_folds_and_exchange_their_labels(finished: dict[str, Path]) -> None:
    results = json.loads((finished["out"] / "group" / "results.json").read_text())
    # Folds of a patient and a control with their sessions, dealt five times.
    assert (results["n_samples"], results["n_folds"], results["n_repeats"]) == (16, 20, 5)
    assert results["permute"] == "between"
    tests = pd.read_csv(finished["out"] / "group" / results["tables"]["accuracy_tests"], sep="\t")
    assert tests.set_index("scope").loc["all", "mean"] > 0.75, "patients' heads are darker in one place"


def test_samples_are_one_scaled_image_each_on_one_grid(finished: dict[str, Path]) -> None:
    _validate(finished["out"])
    paths = sorted(finished["out"].glob("sub-*/ses-*/anat/*_desc-T1w_samples.nii.gz"))
    assert len(paths) == 16
    images = [nb.load(path) for path in paths]
    assert {image.shape for image in images} == {(25, 29, 25, 1)}
    for image in images:
        data = np.asarray(image.dataobj)
        assert (float(data.min()), float(data.max())) == (0.0, 1.0)
    sidecar = json.loads(paths[0].with_name(paths[0].name.replace(".nii.gz", ".json")).read_text())
    assert (sidecar["Modality"], sidecar["Scaling"], sidecar["Target"]) == (
        "T1w",
        "minmax",
        "participants:group",
    )
    assert "HighPass" not in sidecar


def test_pages_show_anatomical_samples(finished: dict[str, Path]) -> None:
    assert "control" in (finished["out"] / "sub-02.html").read_text()
    assert (finished["out"] / "group.html").exists()


def test_shape_and_other_scaling(finished: dict[str, Path], tmp_path: Path) -> None:
    words = ("--shape", "24", "30", "24", "--scaling", "max", "--participant-label", "01", "02", "03", "04")
    assert _run(finished["bids"], tmp_path / "out", *words) == 0
    path = next((tmp_path / "out").glob("sub-01/ses-1/anat/*_samples.nii.gz"))
    assert nb.load(path).shape == (24, 30, 24, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "participants:grop"), "did you mean 'group'"),
        (("--target", "trial_type"), "trial_type"),
        (("--target", "participants:age"), "two or more of every class"),
        (("--cv", "run"), "whole people"),
        (("--resolution", "0.5"), "finer"),
    ],
)
def test_what_cannot_be_right_is_refused(
    finished: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert _run(finished["bids"], tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def flair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of their own in T1w, and FLAIR images of them, of another contrast and in another position."""
    bids = tmp_path_factory.mktemp("flair") / "bids"
    make_dataset(
        bids, PhantomParameters(subjects=4, runs=1, anatomy=True, t1w_resolution=3.0, resolution=8.0)
    )
    rows = [f"sub-{number:02d}\t{'ab'[number % 2]}" for number in range(1, 5)]
    (bids / "participants.tsv").write_text("participant_id\tgroup\n" + "\n".join(rows) + "\n")
    for path in (bids / "participants.json", *bids.glob("task-*.json")):
        path.unlink()
    for path in sorted(bids.glob("sub-*/anat/*_T1w.nii.gz")):
        shutil.rmtree(path.parents[1] / "func")
        head = nb.load(path)
        data = head.get_fdata()
        other = np.where(data > 20, 300 - data, 5)
        moved = nb.Nifti1Image(np.clip(other, 0, None).astype(np.int16), MOVED @ head.affine)
        moved.set_qform(moved.affine, 1)
        moved.set_sform(moved.affine, 1)
        for suffix in ("FLAIR", "T2w"):
            nb.save(moved, path.with_name(path.name.replace("T1w", suffix)))
    return bids


MOVED = rigid_matrix(np.array([5.0, -4.0, 3.0, 0.06, -0.05, 0.08]), np.zeros(3))


@pytest.mark.long
@pytest.mark.parametrize("modality", ["FLAIR", "T2w"])
def test_other_contrasts_go_through_their_t1w_in_one_interpolation(
    flair: Path, tmp_path: Path, modality: str
) -> None:
    out = tmp_path / "out"
    words = ["participant", "--modality", modality, "--target", "participants:group", "--sloppy"]
    words += ["--registration", "affine", "--resolution", "4", "--participant-label", "01", "02", "03", "04"]
    assert main([str(word) for word in (flair, out, *words, "-w", tmp_path / "work")]) == 0
    _validate(out)
    for subject in ("sub-01", "sub-04"):
        folder = out / subject / "anat"
        # The transform maps points of the T1w to points of the FLAIR, which lies where MOVED put it.
        found = _field(folder / f"{subject}_from-{modality}_to-T1w_mode-image_xfm.h5", tmp_path)
        expected = nb.affines.apply_affine(MOVED, BRAIN_POINTS) - BRAIN_POINTS
        assert np.linalg.norm(found - expected, axis=1).mean() < 1.5, "mm"
        (image,) = folder.glob(f"*_space-MNI152NLin2009cAsym_desc-preproc_{modality}.nii.gz")
        sidecar = json.loads((image.parent / image.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["SkullStripped"]
        assert sidecar["RegistrationQuality"]["Passed"]
        (sample,) = folder.glob(f"*_desc-{modality}_samples.nii.gz")
        assert nb.load(sample).shape == (49, 58, 49, 1)
    assert modality in (out / "sub-01.html").read_text()


def test_a_t1w_that_sessions_share_is_processed_once_under_its_own_name(flair: Path, tmp_path: Path) -> None:
    bids, out, work = tmp_path / "bids", tmp_path / "out", tmp_path / "work"
    shutil.copytree(flair, bids)
    for path in list((bids / "sub-01/anat").glob("*_*.nii.gz")):
        for session in ("1", "2"):
            target = (
                bids / f"sub-01/ses-{session}/anat" / path.name.replace("sub-01", f"sub-01_ses-{session}")
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.rmtree(bids / "sub-01/anat")
    (bids / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").unlink()
    words = [
        "participant",
        "--modality",
        "FLAIR",
        "--target",
        "group",
        "--sloppy",
        "--registration",
        "affine",
    ]
    words += ["--resolution", "8", "--participant-label", "01", "--skip-bids-validation"]
    assert main([str(word) for word in (bids, out, *words, "-w", work)]) == 0
    made = sorted(path.name for path in out.glob("sub-01/**/anat/*") if "T1w" in path.name.split("to-T1w")[0])
    assert made
    assert {name[:12] for name in made} == {"sub-01_ses-2"}
    assert [path.name for path in sorted(out.glob("sub-01/**/*_samples.nii.gz"))] == [
        f"sub-01_ses-{session}_space-MNI152NLin2009cAsym_res-8_desc-FLAIR_samples.nii.gz" for session in "12"
    ]
    # Nodes over lists have a folder per element, numbered from 0.
    folders = [path for path in work.rglob("mapflow/_*") if path.is_dir()]
    assert {path.name[-1] for path in folders if "/t1w_wf/" in str(path)} == {"0"}
    assert {path.name[-1] for path in folders if "/flair_wf/" in str(path)} == {"0", "1"}
    assert len(list(out.glob("sub-01/figures/*ses-2_space-MNI*_T1w.svg"))) == 1
    assert not list(out.glob("sub-01/figures/*ses-1_*T1w.svg"))


BRAIN_POINTS = np.array(
    [[x, y, z] for x in (-40, 0, 40) for y in (-60, -20, 30) for z in (-10, 20, 50)], float
)


def _field(transform: Path, folder: Path) -> np.ndarray:
    """Return the displacement (RAS, mm) that a transform gives points of the brain."""
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = [-80, -110, -60]
    grid = folder / "grid.nii.gz"
    nb.save(nb.Nifti1Image(np.zeros((17, 20, 16), np.float32), affine), grid)
    ApplyTransforms(
        dimension=3,
        input_image=str(grid),
        reference_image=str(grid),
        transforms=[str(transform)],
        print_out_composite_warp_file=True,
        output_image=str(folder / "field.nii.gz"),
    ).run(cwd=str(folder))
    field = np.asarray(nb.load(folder / "field.nii.gz").dataobj).squeeze() * [-1, -1, 1]
    voxels = np.round(nb.affines.apply_affine(np.linalg.inv(affine), BRAIN_POINTS)).astype(int)
    return field[tuple(voxels.T)]
