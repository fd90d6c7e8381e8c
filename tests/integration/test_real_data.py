"""Real data beside the checkout: Haxby et al. (2001), subject 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main


def _run(data: Path, out: Path, acquisition: str, *words: str) -> pd.DataFrame:
    bids = data / "ds-haxby2001"
    filters = out.parent / "filters.json"
    filters.write_text(json.dumps({"bold": {"acquisition": acquisition}}))
    command = [bids, out, "participant", "group", "--preproc", "none", "-w", out.parent / "work"]
    command += ["-d", bids / "derivatives" / "masks"]
    command += ["--bids-filter-file", filters, "--sample", "volumes", "--hrf-shift", "0", "--high-pass", "0"]
    command += ["--cv", "run", "--n-runs", "2", "--n-permutations", "19", "--n-null", "0", "--alpha", "0.05"]
    assert main([str(word) for word in [*command, *words]]) == 0
    results = json.loads((out / "group" / "results.json").read_text())
    assert results["n_samples"] == 864
    assert results["n_folds"] == 12
    return pd.read_csv(out / "group" / results["tables"]["accuracy_tests"], sep="\t").set_index("scope")


@pytest.mark.long
def test_one_slice_is_decoded_as_by_an_independent_program(shared_data: Path, tmp_path: Path) -> None:
    tests = _run(shared_data, tmp_path / "out", "slice", "--importance", "WX")
    # The data's README: .622 to .628 over two seeds, by another program.
    assert 0.60 < tests.loc["all", "mean"] < 0.65
    assert abs(tests.loc["all", "null_mean"] - 0.125) < 0.02
    assert tests.loc["all", "p"] == pytest.approx(1 / 20)


@pytest.mark.long
def test_a_coarse_whole_brain_runs_through_every_measure(shared_data: Path, tmp_path: Path) -> None:
    tests = _run(shared_data, tmp_path / "out", "25mm")
    assert tests.loc["all", "mean"] > 2 * 0.125
    assert (tmp_path / "out" / "group.html").exists()


@pytest.mark.long
def test_a_coarse_whole_brain_runs_through_emotion_occlusion(shared_data: Path, tmp_path: Path) -> None:
    bids, out = shared_data / "ds-haxby2001", tmp_path / "out"
    filters = tmp_path / "filters.json"
    filters.write_text(json.dumps({"bold": {"acquisition": "25mm"}}))
    words = [
        bids, out, "participant", "group", "--preset", "emotion-occlusion", "--preproc", "none",
        "-d", bids / "derivatives" / "masks", "--bids-filter-file", filters, "--hrf-shift", "0",
        "--cv", "kfold", "--n-folds", "2", "--max-epochs", "15", "--samples-per-class", "60",
        "--explain-samples", "2", "--explain-above", "0", "--strongest-positions", "40", "--no-trust",
        "-w", tmp_path / "work",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    results = json.loads((out / "group" / "results.json").read_text())
    tables = {
        name: pd.read_csv(out / "group" / path, sep="\t")
        for name, path in results["tables"].items()
        if name != "regions"
    }
    scores = tables["scores"]
    assert set(scores["model"]) == {"network", "logistic-regression"}
    overall = scores[(scores["metric"] == "balanced_accuracy") & (scores["model"] == "logistic-regression")]
    # So few volumes of so few voxels teach the network little; that they can be told apart is seen here, at
    # more than two standard errors above chance.
    assert overall["value"].item() > 0.16
    assert len(tables["positions"]) == 8 * 40
    assert len(tables["rdm"]) == 2 * 8 * 8
    assert tables["mantel"]["p"].between(1e-4, 1).all()


STUDYFORREST = ("--sample", "volumes", "--merge-events", "2", "--cv", "event")


def test_a_wrong_repetition_time_is_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = tmp_path / "bids"
    shutil.copytree(shared_data / "ds-studyforrest-localizer", bids, copy_function=_link)
    (sidecar,) = bids.glob("sub-02/func/*_bold.json")
    content = json.loads(sidecar.read_text())
    sidecar.parent.chmod(0o755)
    sidecar.unlink()
    sidecar.write_text(json.dumps({**content, "RepetitionTime": 1.79}))
    assert main([str(word) for word in (bids, tmp_path / "out", "participant", *STUDYFORREST)]) == 2
    message = capsys.readouterr().err
    assert "1.79" in message
    assert str(sidecar) in message
    assert not (tmp_path / "out").exists()


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


@pytest.mark.long
def test_a_raw_run_is_registered_and_its_blocks_are_decoded(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [shared_data / "ds-studyforrest-localizer", out, "participant", "group", "-w", tmp_path / "work"]
    words += [*STUDYFORREST, "--sloppy", "--registration", "affine", "--resolution", "4"]
    words += ["--n-updates", "3000", "--importance", "WX", "--n-null", "0", "--alpha", "0.05"]
    assert main([str(word) for word in words]) == 0
    results = json.loads((out / "group" / "results.json").read_text())
    assert (results["n_samples"], results["n_folds"], results["permute"]) == (96, 2, "fold")
    tests = pd.read_csv(out / "group" / results["tables"]["accuracy_tests"], sep="\t").set_index("scope")
    # Two blocks a class: few relabelings, but above chance (1/6) in every setting that was tried.
    assert tests.loc["all", "mean"] > 0.2
    (faces,) = (out / "group" / "maps").glob("*class-face_stat-t_map.nii.gz")
    img = nb.load(faces)
    peak = nb.affines.apply_affine(img.affine, np.unravel_index(np.argmax(img.get_fdata()), img.shape))
    assert peak[1] < -40, "faces differ from other categories in the back of the brain"


@pytest.mark.long
def test_real_heads_come_to_lie_on_the_template(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [shared_data / "ds002748-anat", out, "participant", "-w", tmp_path / "work", "--sloppy"]
    words += ["--modality", "T1w", "--target", "participants:group", "--registration", "affine"]
    words += ["--participant-label", "01", "04", "52", "56", "--resolution", "4"]
    assert main([str(word) for word in words]) == 0
    qualities = [
        json.loads(path.read_text())["RegistrationQuality"]
        for path in sorted(out.glob("sub-*/anat/*_space-MNI152NLin2009cAsym_desc-preproc_T1w.json"))
    ]
    assert len(qualities) == 4
    for quality in qualities:
        assert quality["Before"] < 0.25
        assert quality["After"] > 0.4
