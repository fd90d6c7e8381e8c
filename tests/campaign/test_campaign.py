"""Hundreds of bad inputs: each ends with words and a code, without a traceback, and changes nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.campaign.inputs import CASES, Case
from tests.datasets import QUICK, make_anatomical_dataset, make_dataset, write_mask

LIMIT_S = 60


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with a good dataset each, one of them with finished results."""
    folder = tmp_path_factory.mktemp("bases")
    write_mask(folder / "mask.nii.gz")
    made = {name: folder / name for name in ("bold", "anat", "group")}
    make_dataset(made["bold"] / "bids", n_subjects=3, n_runs=1)
    make_anatomical_dataset(made["anat"] / "bids")
    make_dataset(made["group"] / "bids", n_subjects=3, n_runs=1)
    words = ["participant", "group", "-w", folder / "work", "--mask", folder / "mask.nii.gz", *QUICK]
    out = made["group"] / "out"
    call = [sys.executable, "-m", "bids_xai.cli.run", made["group"] / "bids", out, *words]
    subprocess.run([*map(str, call), "--skip-bids-validation"], check=True, capture_output=True)
    return made | {"network": made["bold"], "reports": made["group"]}


def _linked(source: Path, target: Path) -> None:
    """Copy a folder by links; a case gives the files that it changes a life of their own."""
    shutil.copytree(source, target, copy_function=os.link)


def _fingerprint(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _call(case: Case, folder: Path, more: list[str]) -> list[str]:
    words = [str(folder / "bids"), str(folder / "out")]
    given = " ".join(more)
    if case.base == "reports":
        return [*words, "group", "--reports-only", *more]
    levels = ["group"] if case.base == "group" else ["participant", "group"]
    words += [*levels, "--dry-run", "--skip-bids-validation"]
    if " -w " not in f" {given} ":
        words += ["-w", str(folder / "work")]
    if "--preproc" not in given and case.base != "group":
        words += ["--preproc", "none"]
    if case.base == "anat" and "--modality" not in given:
        words += ["--modality", "T1w"]
    if case.base == "anat" and "--target" not in given:
        words += ["--target", "participants:group"]
    if case.base == "network" and "--model" not in given:
        words += ["--model", "tests.campaign.tiny:network"]
    if case.base in ("bold", "network") and "--mask" not in given:
        words += ["--mask", str(folder / "all.nii.gz")]
    return [*words, *more]


@pytest.mark.timeout(LIMIT_S, func_only=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.base}, {case.name}"[:80])
def test_a_bad_input_ends_with_words(
    case: Case,
    bases: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "case"
    _linked(bases[case.base], folder)
    write_mask(folder / "all.nii.gz")
    more = case.damage(folder)
    monkeypatch.syspath_prepend(str(folder / "files"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = _fingerprint(folder)
    code = main(_call(case, folder, more))
    said = capsys.readouterr()
    text = said.out + said.err + caplog.text
    assert "Traceback" not in text
    assert not list(tmp_path.rglob("crash-*")), text
    assert code == case.code, text
    assert case.words in text, text
    kept = {name: mark for name, mark in _fingerprint(folder).items() if not name.startswith("work")}
    assert kept == {name: mark for name, mark in before.items() if not name.startswith("work")}
    assert not (tmp_path / "ran").exists()


def test_the_campaign_is_large() -> None:
    assert len(CASES) >= 200
    names = [(case.base, case.name) for case in CASES]
    assert len(set(names)) == len(names)


def teardown_module() -> None:
    """Give nipype's loggers back what this process's calls set."""
    logging.getLogger("nipype").setLevel(logging.INFO)
    sys.modules.pop("leaving_module", None)
