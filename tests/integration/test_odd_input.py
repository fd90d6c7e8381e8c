"""Inputs that are odd and right: the command line takes them, says what it left out, and changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, make_fmriprep, write_mask

pytestmark = pytest.mark.slow

SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "bids", n_subjects=3)


def content(root: Path) -> dict[str, str]:
    """Return the checksum of every file."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()
    }


def dry_run(bids: Path, *words: str, mask: bool = True) -> int:
    folder = bids.parent
    words += ("--mask", str(write_mask(folder / "mask.nii.gz")), "--preproc", "none") if mask else ()
    common = [
        str(bids),
        str(folder / "out"),
        "participant",
        "--dry-run",
        "--skip-bids-validation",
        "-w",
        str(folder / "w"),
    ]
    return main([*common, "--n-permutations", "19", "--alpha", ".05", *words])


def edited(pattern: str, change: Callable[[str], str]) -> Callable[[Path], tuple[str, ...]]:
    def edit(bids: Path) -> tuple[str, ...]:
        for path in sorted(bids.glob(pattern)):
            path.write_bytes(change(path.read_text()).encode())
        return ()

    return edit


EVENTS, RUN_2, FIRST = (
    "sub-*/func/*_events.tsv",
    "sub-*/func/*run-2_events.tsv",
    "sub-01/func/*run-1_events.tsv",
)


def _unanswered(bids: Path) -> tuple[str, ...]:
    edited(FIRST, lambda text: text + "n/a\tn/a\tresponse\n")(bids)
    return ("--classes", "face", "house")


def _directions(bids: Path) -> tuple[str, ...]:
    for path in sorted(bids.glob("sub-*/func/*")):
        path.rename(path.with_name(path.name.replace("run-1", "dir-AP").replace("run-2", "dir-PA")))
    return ()


# What is done to the dataset -> what the log says; None: nothing.
CASES: dict[str, tuple[Callable[[Path], tuple[str, ...]], str | None]] = {
    "tabs behind lines": (
        edited(EVENTS, lambda text: text.replace("\n", "\t\n").replace("\t\n", "\n", 1)),
        None,
    ),
    "spaces around names": (edited(EVENTS, lambda text: text.replace("\t", " \t ")), None),
    "marks and CRLF": (edited(EVENTS, lambda text: "\ufeff" + text.replace("\n", "\r\n")), None),
    "a description with a mark": (edited("dataset_description.json", lambda text: "\ufeff" + text), None),
    "an onset of n/a of no class": (_unanswered, None),
    "levels in two cases": (edited(RUN_2, lambda text: text.replace("face", "Face")), "'Face' and 'face'"),
    "an event behind the end": (
        edited(FIRST, lambda text: text + "99\t4\thouse\n"),
        "Left out: 1 of 11 events",
    ),
    "runs that differ in direction": (_directions, None),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_input_is_taken(
    case: str, bids: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    spoil, message = CASES[case]
    words = spoil(bids)
    before = content(bids)
    assert dry_run(bids, *words) == 0, capsys.readouterr().err
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == (message is not None), found
    assert message is None or message in found[0]
    assert content(bids) == before


def test_results_may_lie_among_the_derivatives(bids: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_fmriprep(bids, bids / "derivatives" / "fmriprep")
    before = content(bids)
    out = bids / "derivatives" / "maps"
    words = ["--derivatives", str(bids / "derivatives"), "--space", SPACE, "-w", str(bids.parent / "w")]
    options = [word for word in QUICK if word not in ("--preproc", "none")]
    command = [str(bids), str(out), "participant", "group", *words, *options, "--preproc", "derivatives"]
    for _ in range(2):  # the second time the results are among what is looked at
        assert main(command) == 0, capsys.readouterr().err
    manifest = json.loads((out / "group" / "results.json").read_text())
    assert manifest["subjects"] == ["01", "02", "03"]
    assert {path: value for path, value in content(bids).items() if not path.startswith(f"{out}/")} == before
    for other in (bids / "derivatives", bids / "derivatives" / "fmriprep", bids / "code"):
        assert main([str(bids), str(other), *command[2:]]) == 2
    error = capsys.readouterr().err
    assert error.count("lies in the input") == 2
    assert "holds a dataset by fMRIPrep" in error


def test_names_of_classes_reach_the_reports_as_they_are(
    bids: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(EVENTS, lambda text: text.replace("face", '$a$ "x" <b>').replace("house", "_#1 $\\frac{$"))(bids)
    words = [
        str(bids),
        str(bids.parent / "out"),
        "participant",
        "group",
        *QUICK,
        "-w",
        str(bids.parent / "w"),
    ]
    mask = write_mask(bids.parent / "mask.nii.gz")
    assert main([*words, "--mask", str(mask)]) == 0
    group = bids.parent / "out" / "group"
    manifest = json.loads((group / "results.json").read_text())
    assert manifest["classes"] == ['$a$ "x" <b>', "_#1 $\\frac{$"]
    assert set(manifest["samples_per_class"]) == set(manifest["classes"])
    page = (bids.parent / "out" / "group.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "_#1 $\\frac{$" in page


def test_what_was_left_out_is_in_the_results(bids: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(FIRST, lambda text: text + "99\t4\thouse\n")(bids)
    edited(
        EVENTS,
        lambda text: text.replace("\n", "\tsite\n", 1).replace("\n", "\t1\n").replace("\tsite\t1", "\tsite"),
    )(bids)
    edited(RUN_2, lambda text: text.replace("\t1\n", "\t1.0\n"))(bids)
    out, mask = bids.parent / "out", write_mask(bids.parent / "mask.nii.gz")
    words = ["participant", "group", *QUICK, "-w", str(bids.parent / "w"), "--mask", str(mask)]
    assert main([str(bids), str(out), *words, "--exchange-within", "site", "--skip-bids-validation"]) == 0
    warnings = json.loads((out / "group" / "results.json").read_text())["warnings"]
    assert sum("Left out: 1 of 11 events" in text for text in warnings) == 1
    assert any("different blocks: '1' and '1.0'" in text for text in warnings)
    assert "Left out: 1 of 11 events" in (out / "group.html").read_text(encoding="utf-8")
