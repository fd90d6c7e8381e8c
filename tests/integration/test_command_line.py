"""The command line from end to end on a small dataset."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, write_mask


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _validate(folder: Path) -> None:
    program = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "the test extra brings the BIDS validator"
    done = subprocess.run(
        [program, str(folder), "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both levels in one call, on a dataset whose files are compared before and after."""
    folder = tmp_path_factory.mktemp("run")
    bids = make_dataset(folder / "bids")
    before = _checksums(bids)
    mask = write_mask(folder / "mask.nii.gz")
    words = [bids, folder / "out", "participant", "group", "--mask", mask, "-w", folder / "work", *QUICK]
    assert main([str(word) for word in words]) == 0
    assert _checksums(bids) == before, "the input dataset is never written to"
    return {"bids": bids, "out": folder / "out", "work": folder / "work", "mask": mask}


def _table(out: Path, name: str) -> pd.DataFrame:
    results = json.loads((out / "group" / "results.json").read_text())
    return pd.read_csv(out / "group" / results["tables"][name], sep="\t")


def test_planted_effects_are_found(finished: dict[str, Path]) -> None:
    tests = _table(finished["out"], "accuracy_tests").set_index("scope")
    assert tests.loc["all", "mean"] > 0.8
    assert tests.loc["all", "p"] == pytest.approx(1 / 20)
    assert abs(tests.loc["all", "null_mean"] - 0.5) < 0.1


def test_maps_lie_on_the_grid_of_the_samples_and_show_the_planted_voxels(finished: dict[str, Path]) -> None:
    group = finished["out"] / "group"
    results = json.loads((group / "results.json").read_text())
    mask = nb.load(finished["mask"])
    for entry in results["maps"]:
        image = nb.load(group / entry["path"])
        assert image.shape == mask.shape
        np.testing.assert_array_equal(image.affine, mask.affine)
    for number, name in enumerate(("face", "house")):
        for method in ("WX", "OD"):
            (path,) = [
                entry["path"]
                for entry in results["maps"]
                if (entry["class"], entry["method"], entry["stat"]) == (name, method, "mean")
            ]
            mean = nb.load(group / path).get_fdata()
            assert mean[number].mean() > 5 * np.abs(mean[3:]).mean()


def test_outputs_are_valid_bids_derivatives(finished: dict[str, Path]) -> None:
    _validate(finished["out"])


def test_reports_stand_alone(finished: dict[str, Path]) -> None:
    pages = sorted(finished["out"].glob("*.html"))
    assert [page.name for page in pages] == ["group.html", "sub-01.html", "sub-02.html", "sub-03.html"]
    for page in pages:
        text = page.read_text()
        assert 'src="http' not in text
        assert 'href="http' not in re.sub(r"<a .*?>", "", text)


def test_tables_have_sidecars_that_explain_every_column(finished: dict[str, Path]) -> None:
    for path in (finished["out"] / "group").glob("*.tsv"):
        columns = pd.read_csv(path, sep="\t", nrows=0).columns
        assert set(json.loads(path.with_suffix(".json").read_text())) == set(columns)


@pytest.mark.slow
def test_the_written_settings_rerun_the_analysis(finished: dict[str, Path], tmp_path: Path) -> None:
    config = finished["out"] / "logs" / "config.toml"
    words = [finished["bids"], tmp_path / "again", "participant", "group", "--config-file", config]
    assert main([str(word) for word in [*words, "-w", tmp_path / "work"]]) == 0
    first, again = (_checksums(folder / "group") for folder in (finished["out"], tmp_path / "again"))
    assert {key: value for key, value in first.items() if key != "results.json"} == {
        key: value for key, value in again.items() if key != "results.json"
    }


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes(finished: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished["out"], out, ignore=shutil.ignore_patterns("group*"))
    words = [finished["bids"], out, "group", "-w", tmp_path / "work", *QUICK, "--nprocs", "1"]
    assert main([str(word) for word in words]) == 0
    maps = finished["out"] / "group" / "maps"
    assert _checksums(maps) == _checksums(out / "group" / "maps")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(finished: dict[str, Path], tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    shutil.copytree(finished["out"], out, ignore=shutil.ignore_patterns("group*"))
    words = [str(word) for word in [finished["bids"], out, "group", "-w", work, *QUICK]]
    process = subprocess.Popen([sys.executable, "-m", "bids_xai.cli.run", *words], start_new_session=True)
    deadline = time.monotonic() + 120
    # Two nodes have written that they are done: the kill can catch one of them at it, not both.
    finished_nodes = "**/null/mapflow/*/result_*.pklz"
    while len(list(work.glob(finished_nodes))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    chunks = [path.with_name("chunk.npz") for path in work.glob(finished_nodes)]
    done = {path: path.stat().st_mtime_ns for path in chunks}
    assert done
    assert not (out / "group").exists(), "nothing half-written"
    assert main(words) == 0
    kept = [path for path, moment in done.items() if path.stat().st_mtime_ns == moment]
    assert kept, "finished chunks are not computed again"
    assert _checksums(finished["out"] / "group" / "maps") == _checksums(out / "group" / "maps")


def test_reports_only_makes_the_reports_again(
    finished: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = finished["out"] / "group.html"
    report.unlink()
    words = [str(finished["bids"]), str(finished["out"]), "group", "--reports-only"]
    assert main(words) == 0
    assert report.exists()
    assert str(report) in capsys.readouterr().out


def test_dry_run_says_what_would_be_done_and_writes_nothing(
    finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        finished["bids"],
        tmp_path / "out",
        "participant",
        "group",
        "--preproc",
        "none",
        "--mask",
        finished["mask"],
        "--dry-run",
    ]
    assert main([str(word) for word in [*words, "--n-permutations", "50", "-w", tmp_path / "work"]]) == 0
    text = capsys.readouterr().out
    for part in (
        "face",
        "house",
        "3 folds",
        "0.0196",
        "alpha 0.001 cannot be reached",
        "147 voxels",
        "Time of",
    ):
        assert part in text
    assert list(tmp_path.iterdir()) == []
