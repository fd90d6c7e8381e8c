"""The validator: its errors stop what they are of, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from bids_xai.bids.validation import is_of_use, run_validator
from bids_xai.errors import InputError
from tests.datasets import make_anatomical_dataset, make_dataset

VALIDATOR = "bids-validator-deno"
pytestmark = pytest.mark.skipif(
    not Path(sys.executable).with_name(VALIDATOR).exists() and shutil.which(VALIDATOR) is None,
    reason="bids-validator-deno is not installed",
)


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_what_was_not_fetched_stops_only_those_who_read_it(tmp_path, caplog):
    bids = make_dataset(tmp_path / "bids", n_subjects=3)
    for path in sorted(bids.glob("sub-0[23]/func/*_bold.nii.gz")):
        path.unlink()
        path.symlink_to(f"../../.git/annex/objects/{path.name}")
    assert run_validator(bids, ["01"]) == VALIDATOR
    assert len(warned(caplog)) == 1
    assert "4 BIDS errors in what is not read" in warned(caplog)[0]
    with pytest.raises(InputError, match=r"has 2 BIDS errors(.|\n)*SYMLINK_BROKEN /sub-02/func"):
        run_validator(bids, ["01", "02"])


def test_templates_and_stray_files_are_named_and_stop_nothing(tmp_path, caplog):
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    for name in (
        "tpl-x/anat/tpl-x_T1w.nii.gz",
        "notes.docx",
        "sub-01/func/._sub-01_task-look_run-1_bold.nii.gz",
    ):
        path = bids / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert run_validator(bids, ["01"]) == VALIDATOR
    assert "NOT_INCLUDED" in warned(caplog)[0]


def test_a_name_that_is_not_utf8_is_named(tmp_path, caplog):
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    with open(os.path.join(os.fsencode(bids), b"caf\xe9_bold.nii.gz"), "wb") as stream:
        stream.write(b"x")
    assert run_validator(bids, ["01"]) is None
    assert "could not check" in warned(caplog)[0]
    assert "caf" in warned(caplog)[0]


def test_values_of_a_table_that_its_description_does_not_list_stop_nothing(tmp_path, caplog):
    # As ds002748 is published: gender M and F, described as m and f.
    bids = make_anatomical_dataset(tmp_path / "bids", n_subjects=2)
    table = (bids / "participants.tsv").read_text().replace("sex", "gender")
    (bids / "participants.tsv").write_text(table)
    described = {"gender": {"Levels": {"m": "male", "f": "female"}}}
    (bids / "participants.json").write_text(json.dumps(described))
    assert run_validator(bids, ["01", "02"]) == VALIDATOR
    assert "TSV_VALUE_INCORRECT_TYPE gender" in warned(caplog)[0]


def test_the_form_of_tables_and_of_json_is_ours_to_judge(tmp_path, caplog):
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    for path in sorted(bids.glob("sub-01/func/*_events.tsv")):
        path.write_text(path.read_text().replace("\t", " \t "))
    path = bids / "dataset_description.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run_validator(bids, ["01"]) == VALIDATOR
    assert "INVALID_JSON_ENCODING" in warned(caplog)[0]


def test_what_is_read_and_wrong_is_refused(tmp_path):
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    (bids / "sub-01" / "func" / "sub-01_task-look_run-1_bold.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"BIDS errors(.|\n)*sub-01_task-look_run-1_bold"):
        run_validator(bids, ["01"])


def test_whose_errors_count():
    issue = {"code": "EMPTY_FILE", "location": "/sub-01/anat/sub-01_T1w.nii.gz"}
    assert is_of_use(issue, ["01"])
    assert is_of_use(issue, [])
    assert not is_of_use(issue, ["1", "011", "02"])
    assert is_of_use({"code": "MISSING_DATASET_DESCRIPTION"}, ["02"])
