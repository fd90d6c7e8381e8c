"""Raw phantoms through the default engine: positions against the truth, files, reports, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.bids.confounds import ENGINE_COLUMNS
from bids_xai.cli.run import main
from bids_xai.phantom.bids_dataset import make_dataset
from bids_xai.phantom.parameters import PhantomParameters
from tests.integration.test_command_line import _checksums, _validate
from tests.registration_truth import run_errors, t1w_errors

pytestmark = pytest.mark.slow

PARAMETERS = PhantomParameters(
    subjects=2,
    runs=1,
    classes=2,
    trials_per_class=4,
    resolution=5.0,
    t1w_resolution=3.0,
    anatomy=True,
    motion=True,
)
SPACE = "MNI152NLin2009aSym"
WORDS = (
    "--sloppy",
    "--space",
    SPACE,
    "--n-runs",
    "3",
    "--n-permutations",
    "19",
    "--n-null",
    "3",
    "--alpha",
    "0.05",
)


def _run(bids: Path, out: Path, work: Path, *words: str, levels: tuple[str, ...] = ("participant",)) -> int:
    return main([str(word) for word in (bids, out, *levels, "-w", work, *WORDS, *words)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("raw")
    bids = make_dataset(folder / "bids", PARAMETERS)
    before = _checksums(bids)
    assert _run(bids, folder / "out", folder / "work", "--confounds", "trans_*", "rot_*") == 0
    assert _checksums(bids) == before, "the input dataset is never written to"
    return {"bids": bids, "out": folder / "out", "work": folder / "work"}


def test_the_output_is_valid_and_complete(finished: dict[str, Path]) -> None:
    out = finished["out"]
    _validate(out)
    for ending in (
        f"anat/sub-01_from-T1w_to-{SPACE}_mode-image_xfm.h5",
        f"anat/sub-01_from-{SPACE}_to-T1w_mode-image_xfm.h5",
        "anat/sub-01_desc-preproc_T1w.nii.gz",
        "anat/sub-01_desc-brain_mask.nii.gz",
        f"anat/sub-01_space-{SPACE}_desc-preproc_T1w.nii.gz",
        f"func/sub-01_task-objects_run-1_space-{SPACE}_res-5_desc-preproc_bold.nii.gz",
        "func/sub-01_task-objects_run-1_from-boldref_to-T1w_mode-image_xfm.h5",
        "func/sub-01_task-objects_run-1_from-orig_to-boldref_mode-image_xfm.txt",
    ):
        path = out / "sub-01" / ending
        assert path.exists(), ending
        sidecar = json.loads((path.parent / (path.name.split(".")[0] + ".json")).read_text())
        assert sidecar["Sources"][0].startswith("bids:raw:sub-01/")


def test_confounds_are_named_as_fmriprep_names_them(finished: dict[str, Path]) -> None:
    (path,) = (finished["out"] / "sub-01" / "func").glob("*desc-confounds_timeseries.tsv")
    table = pd.read_csv(path, sep="\t")
    assert set(table.columns) == set(ENGINE_COLUMNS)
    (bold,) = (finished["bids"] / "sub-01" / "func").glob("*_bold.nii.gz")
    assert len(table) == nb.load(bold).shape[3]
    assert table["framewise_displacement"].isna().tolist() == [True] + [False] * (len(table) - 1)
    truth = finished["bids"] / "derivatives" / "truth" / "sub-01" / "func"
    (motion,) = truth.glob("*desc-motion_timeseries.tsv")
    expected = pd.read_csv(motion, sep="\t")["framewise_displacement"]
    assert np.corrcoef(table["framewise_displacement"][1:], expected[1:])[0, 1] > 0.9


@pytest.mark.parametrize("subject", [1, 2])
def test_brains_and_volumes_come_to_lie_where_they_belong(finished: dict[str, Path], subject: int) -> None:
    anatomical, unregistered = t1w_errors(finished["out"], PARAMETERS, subject, SPACE)
    assert unregistered > 5
    assert anatomical < 3.0, "mm, mean over grey and white matter"
    assert max(run_errors(finished["out"], finished["bids"], PARAMETERS, subject, SPACE)) < 3.0


def test_the_report_shows_anatomy_and_runs(finished: dict[str, Path]) -> None:
    page = (finished["out"] / "sub-01.html").read_text()
    for text in ("Anatomy", "Functional runs", "<svg", "ramewise displacement"):
        assert text in page


def test_a_second_call_computes_nothing_again(finished: dict[str, Path]) -> None:
    def moments() -> dict[Path, int]:
        results = finished["work"].rglob("result_*.pklz")
        return {path: path.stat().st_mtime_ns for path in results if "write" not in path.name}

    before, files = moments(), _checksums(finished["out"])
    words = ("--confounds", "trans_*", "rot_*")
    assert _run(finished["bids"], finished["out"], finished["work"], *words) == 0
    assert moments() == before
    assert {k: v for k, v in _checksums(finished["out"]).items() if not k.startswith("logs")} == {
        k: v for k, v in files.items() if not k.startswith("logs")
    }


@pytest.mark.long
def test_a_repeat_gives_the_same_bits(finished: dict[str, Path], tmp_path: Path) -> None:
    words = ("--confounds", "trans_*", "rot_*", "--nprocs", "1", "--participant-label", "02")
    assert _run(finished["bids"], tmp_path / "out", tmp_path / "work", *words) == 0
    again = {k: v for k, v in _checksums(tmp_path / "out" / "sub-02").items() if k.endswith(".nii.gz")}
    first = _checksums(finished["out"] / "sub-02")
    assert again == {k: first[k] for k in again}
    assert len(again) >= 6


def test_a_registration_that_fails_is_flagged_and_not_used_and_the_other_session_is(
    finished: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids = tmp_path / "bids"
    shutil.copytree(finished["bids"], bids)
    shutil.rmtree(bids / "sub-02")
    for session in ("1", "2"):
        for source in sorted((bids / "sub-01").glob("*/*")):
            target = bids / f"sub-02/ses-{session}" / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target.with_name(source.name.replace("sub-01", f"sub-02_ses-{session}")))
    path = bids / "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz"
    image = nb.load(path)
    # A head that stands on its crown is no head that a registration can bring back.
    upside_down = np.asarray(image.dataobj)[:, :, ::-1]
    nb.save(nb.Nifti1Image(upside_down, image.affine, image.header), path)
    assert (
        _run(
            bids, tmp_path / "out", tmp_path / "work", "--registration", "rigid", "--participant-label", "02"
        )
        == 1
    )
    assert "sub-02_ses-1 failed" in caplog.text
    page = (tmp_path / "out" / "sub-02.html").read_text()
    assert "Not used in the analysis: ses-1" in page
    samples = (tmp_path / "out").glob("sub-02/**/*_samples.nii.gz")
    assert {path.parent.parent.name for path in samples} == {"ses-2"}
    (crash,) = (tmp_path / "out" / "logs").glob("crash-*.txt")
    assert "sub-02_ses-1_T1w.nii.gz" in crash.read_text()
