"""The page of one subject."""

from __future__ import annotations

import json
import re

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from test_reports_results import brain, sample_rows

from bids_xai.errors import InputError
from bids_xai.reports import write_subject_report

CLASSES = ["face", "house", "tool"]


def make_subject(out, *, mask=None, label="01", classes=CLASSES, named_mask=True):
    """Write the samples of two runs as the participant level does; return ``out``."""
    rng = np.random.default_rng(1)
    mask = mask or brain()[0]
    folder = out / f"sub-{label}" / "func"
    folder.mkdir(parents=True)
    mask.to_filename(folder / f"sub-{label}_task-objectviewing_desc-brain_mask.nii.gz")
    inside = np.asarray(mask.dataobj)[..., None] > 0
    rows = pd.DataFrame(sample_rows(classes, (label,)))
    for run, table in rows.groupby("run"):
        stem = f"sub-{label}_task-objectviewing_run-{run}_desc-events_samples"
        data = np.where(inside, rng.standard_normal((*mask.shape, len(table))), 0)
        nb.Nifti1Image(data.astype(np.float32), mask.affine).to_filename(folder / f"{stem}.nii.gz")
        table.to_csv(folder / f"{stem}.tsv", sep="\t", index=False, na_rep="n/a")
        sidecar = {
            "Sample": "events", "Target": "trial_type",
            "Classes": {name: [name] for name in reversed(classes)}, "WindowAnchor": "onset",
            "HrfShift": 5.0, "HighPass": 0.0078125, "Standardize": True,
            "RepetitionTime": 2.5, "Space": None,
            "Warnings": [f"run <{run}> is short"] if run == "02" else [], "task": "Task label",
            "Sources": [f"bids:raw:sub-{label}/func/sub-{label}_task-objectviewing_run-{run}_bold.nii.gz"],
            "NumberOfVolumesUsed": 100 + int(run), "onset": {"Description": "of the event", "Units": "s"},
        }  # fmt: skip
        if named_mask:
            sidecar["Mask"] = f"sub-{label}/func/sub-{label}_task-objectviewing_desc-brain_mask.nii.gz"
        (folder / f"{stem}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_subject_report(make_subject(tmp_path_factory.mktemp("out")), "sub-01")


def test_subject_page_says_what_was_taken(page):
    text = page.read_text(encoding="utf-8")
    assert page.name == "sub-01.html"
    assert "Subject report: sub-01" in text
    assert re.search(r"<dt>Samples</dt><dd>24</dd>", text)
    assert re.search(r"<dt>Repetition time</dt><dd>2.5 s</dd>", text)
    assert "run &lt;02&gt; is short" in text
    assert '<th scope="row">High Pass</th><td>0.0078125</td>' in text
    assert "Number Of Volumes Used" in text.split("What differs")[-1]
    assert "Task label" not in text
    assert "of the event" not in text


def test_classes_keep_the_order_of_the_sidecar(page):
    header = re.search(r"Samples by run and class.*?</thead>", page.read_text(encoding="utf-8"), re.S)
    assert re.findall(r'col">(\w+)', header.group()) == ["Run", "tool", "house", "face", "all"]


def test_counts_are_those_of_the_table(page):
    cells = re.findall(
        r'<th scope="row">task-objectviewing run-0\d</th>(.*?)</tr>', page.read_text(encoding="utf-8")
    )
    assert [re.findall(r"<td>(\d+)</td>", row) for row in cells] == [["4", "4", "4", "12"]] * 2


def test_figures_are_files_too(page):
    names = {path.name for path in (page.parent / "sub-01" / "figures").iterdir()}
    assert names == {"sub-01_desc-timeline.svg", "sub-01_desc-samples1.png"}


def test_mask_is_found_beside_the_samples(tmp_path):
    text = write_subject_report(make_subject(tmp_path, named_mask=False), "01").read_text(encoding="utf-8")
    voxels = np.count_nonzero(np.asarray(brain()[0].dataobj))
    assert f"<dt>Voxels in the mask</dt><dd>{voxels:,}".replace(",", "\u202f") in text


def test_unknown_subject_is_refused(tmp_path):
    with pytest.raises(InputError, match="sub-99 holds no samples"):
        write_subject_report(tmp_path, "99")


def test_runs_are_in_natural_order(tmp_path):
    make_subject(tmp_path)
    for path in sorted((tmp_path / "sub-01" / "func").glob("*run-02*")):
        renamed = path.rename(path.with_name(path.name.replace("run-02", "run-10")))
        if renamed.suffix == ".tsv":
            renamed.write_text(renamed.read_text().replace("\t02\t", "\t10\t"))
    for path in sorted((tmp_path / "sub-01" / "func").glob("*run-01*")):
        renamed = path.rename(path.with_name(path.name.replace("run-01", "run-2")))
        if renamed.suffix == ".tsv":
            renamed.write_text(renamed.read_text().replace("\t01\t", "\t2\t"))
    text = write_subject_report(tmp_path, "01").read_text(encoding="utf-8")
    assert re.findall(r'row">task-objectviewing (run-\d+)</th>', text) == ["run-2", "run-10"]
