"""Descriptions and whole files; the BIDS validator accepts what is written."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.atomic import whole_file
from bids_xai.bids.descriptions import (
    read_description,
    write_description,
    write_json,
    write_text,
    write_tsv,
)
from bids_xai.bids.names import group_map_path, group_table_path, mask_path, participant_path, samples_path
from bids_xai.errors import InputError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def fail():
        with whole_file(tmp_path / "deep" / "x.nii.gz") as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "deep").iterdir()) == []
    path = write_text(tmp_path / "x.txt", "all")
    assert path.read_text() == "all"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_tables_and_their_sidecars(tmp_path):
    table = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", ""]})
    path = write_tsv(tmp_path / "t.tsv", table, {"a": {"Description": "first", "Units": "s"}, "b": "second"})
    assert path.read_text() == "a\tb\n1.5\tx\nn/a\t\n"
    assert json.loads((tmp_path / "t.json").read_text())["b"] == {"Description": "second"}
    with pytest.raises(ValueError, match=r"\['b'\]"):
        write_tsv(tmp_path / "u.tsv", table, {"a": "first"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no dataset_description"),
        ("{", "not valid JSON"),
        ('{"Name": "x"}', "lacks BIDSVersion"),
        ("[]", "holds a list"),
    ],
)
def test_what_is_not_a_bids_dataset(tmp_path, content, message):
    if content is not None:
        (tmp_path / "dataset_description.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_description(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_description(tmp_path / "absent")


def validator() -> str | None:
    beside = Path(sys.executable).with_name("bids-validator-deno")
    return str(beside) if beside.exists() else shutil.which("bids-validator-deno")


@pytest.mark.skipif(validator() is None, reason="bids-validator-deno is not installed")
def test_the_validator_accepts_an_output(tmp_path):
    out = tmp_path / "out"
    source = tmp_path / "source"
    write_json(
        source / "dataset_description.json", {"Name": "s", "BIDSVersion": "1.10.0", "DatasetDOI": "10.1/x"}
    )
    write_description(
        out,
        name="bids_xai outputs",
        version="0.1.0",
        sources={"raw": source, "my derivatives": "https://example.org/x"},
        container={"Type": "docker", "Tag": "bids_xai:0.1.0"},
    )
    described = read_description(out)
    assert described["DatasetLinks"]["myderivatives"] == "https://example.org/x"
    assert described["SourceDatasets"][0] == {"URL": source.as_uri(), "DOI": "10.1/x"}
    entities = {"subject": "01", "task": "x", "run": "1", "space": "MNI152NLin2009aSym", "resolution": "4"}
    image = nb.Nifti1Image(np.ones((3, 3, 3, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    maps = nb.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    table = pd.DataFrame({"a": [1]})
    of_all_tasks = {key: entities[key] for key in ("subject", "space", "resolution")}
    for path in (samples_path(entities, "events"), mask_path(entities), mask_path(of_all_tasks)):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        nb.save(image if "samples" in str(path) else maps, out / path)
        write_json(
            out / str(path).replace(".nii.gz", ".json"),
            {"RepetitionTime": 2.0, "Type": "Brain", "Resolution": "4 mm"},
        )
    write_tsv(out / samples_path(entities, "events", ".tsv"), table)
    head = {"subject": "01", "space": "MNI152NLin2009aSym", "resolution": "4"}
    nb.save(maps, out / samples_path(head, "T1w"))
    ends = {"subject": "01", "from": "T1w", "to": "MNI152NLin2009aSym", "mode": "image"}
    write_text(out / participant_path(ends, suffix="xfm", extension=".h5"), "x")
    for path in (group_map_path("mean", label="face", method="W"), group_map_path("p", alpha=0.05)):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        nb.save(maps, out / path)
    write_tsv(out / group_table_path("accuracy"), table, {"a": "first"})
    for name in ("group.html", "sub-01.html", "logs/config.toml", "sub-01/figures/a.svg"):
        write_text(out / name, "x")
    done = subprocess.run(
        [validator(), str(out), "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert done.returncode == 0, [issue for issue in issues if issue["severity"] == "error"]
