"""Targets of anatomical images: tables and columns, and every one that does not say what an image is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bids_xai.bids.query import query
from bids_xai.bids.targets import check_levels, parse_target
from bids_xai.errors import InputError
from tests.datasets import make_anatomical_dataset


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return make_anatomical_dataset(tmp_path / "heads", n_subjects=4)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "participants.tsv"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def keep(_: Path) -> None:
    pass


def garbage(root: Path) -> None:
    (root / "participants.tsv").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("target", "modality", "message"),
    [
        (
            "participants:group",
            "bold",
            r"participants:group with --modality bold(.|\n)*--modality T1w",
        ),
        ("events:trial_type", "T1w", r"anatomical images have no events(.|\n)*participants:COLUMN"),
        ("participant:group", "FLAIR", r"did you mean 'participants'"),
        ("scans:", "T1w", r"name a column after the colon"),
    ],
)
def test_targets_that_do_not_fit_the_images(target: str, modality: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_target(target, modality)


def test_targets() -> None:
    assert parse_target("trial_type", "bold") == ("events", "trial_type")
    assert parse_target("a:b", "bold") == ("events", "a:b")
    assert parse_target("group", "T1w") == ("participants", "group")
    assert parse_target("scans:dx:2020", "T1w") == ("scans", "dx:2020")


def drop_row(root: Path) -> None:
    lines = (root / "participants.tsv").read_text().splitlines()
    (root / "participants.tsv").write_text("\n".join(lines[:2] + lines[3:]) + "\n")


def contradict(root: Path) -> None:
    with (root / "participants.tsv").open("a") as handle:
        handle.write("sub-01\t60\tM\tcontrol\n")


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        (
            keep,
            "participants:grup",
            r"participants\.tsv has no column 'grup'(.|\n)*age, sex, group(.|\n)*'group'",
        ),
        (keep, "trial_type", r"no column 'trial_type'(.|\n)*choose a column with --target"),
        (
            keep,
            "participants:age",
            r"'age' of participants\.tsv is a number with 4 distinct(.|\n)*low=60\+61",
        ),
        (keep, "sessions:state", r"4 problems(.|\n)*is of no session(.|\n)*participants:COLUMN or scans"),
        (keep, "scans:qualty", r"4 problems(.|\n)*did you mean 'quality'"),
        (remove("participants.tsv"), "group", r"participants\.tsv does not exist(.|\n)*--target"),
        (remove("sub-02/sub-02_scans.tsv"), "scans:quality", r"sub-02_scans\.tsv does not exist"),
        (garbage, "group", r"participants\.tsv cannot be read"),
        (drop_row, "group", r"no row for sub-02, which .*sub-02_T1w\.nii\.gz is of(.|\n)*sub-01, sub-03"),
        (contradict, "group", r"group 'control' \(line 6\) and 'patient' for sub-01"),
        (edit("control", "n/a"), "group", r"Only 1 class \(patient\)"),
        (edit("participant_id", "id"), "group", r"no column 'participant_id'"),
    ],
)
def test_tables_that_do_not_say_what_an_image_is(heads: Path, change, target: str, message: str) -> None:
    change(heads)
    with pytest.raises(InputError, match=message):
        query(heads, modality="T1w", target=target)


def test_a_class_of_one_image_is_refused(heads: Path) -> None:
    lines = (heads / "participants.tsv").read_text().splitlines()
    lines[1] = lines[1].replace("patient", "other")
    (heads / "participants.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"Too few samples: other has 1, patient has 1 in all images"):
        query(heads, modality="T1w", target="group")


def test_ages_can_be_merged_into_classes(heads: Path) -> None:
    subjects = query(heads, modality="T1w", target="age", classes=["young=60+61", "old=62+63"])
    assert [subject.anatomical[0].level for subject in subjects] == ["60", "61", "62", "63"]


def test_labels_without_prefix_are_understood(heads: Path) -> None:
    edit("sub-0", "0")(heads)
    assert len(query(heads, modality="T1w", target="group")) == 4


@pytest.mark.parametrize(
    ("levels", "refused"),
    [
        (["1", "2", "3"] * 2, False),
        ([str(n % 10) for n in range(40)], False),
        ([str(n % 11) for n in range(40)], True),
        (["1.5", "2.5", "3.5", "3.5"], True),
        (["0", "1"], False),
        ([f"site{n}" for n in range(40)], False),
    ],
)
def test_measurements_are_told_from_levels(levels: list[str], refused: bool) -> None:
    if not refused:
        check_levels(levels, ("participants", "x"))
        return
    with pytest.raises(InputError, match="merge the values into classes"):
        check_levels(levels, ("participants", "x"))
