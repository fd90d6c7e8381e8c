"""The page of one subject."""

from __future__ import annotations

import json
import re

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from test_reports_results import brain, sample_rows

from bids_xai.errors import InputError
from bids_xai.reports import write_subject_report
from bids_xai.reports.preprocessing import motion_summary
from bids_xai.reports.reportlets import bold_summary, mask_overlay, registration_flicker

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
            "PreprocessingDescription": "Taken <as they are> [@nilearn2014].", "task": "Task label",
            "Sources": [f"bids:raw:sub-{label}/func/sub-{label}_task-objectviewing_run-{run}_bold.nii.gz"],
            "Confounds": [f"rot_{'xyz'[int(run)]}"], "onset": {"Description": "of the event", "Units": "s"},
        }  # fmt: skip
        if named_mask:
            sidecar["Mask"] = f"sub-{label}/func/sub-{label}_task-objectviewing_desc-brain_mask.nii.gz"
        (folder / f"{stem}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    return out


def make_preprocessing(out, *, label="01", passed=True, session="", runs=("1", "2")):
    """Write what the participant level writes about preprocessing; return the subject's folder."""
    folder = out / f"sub-{label}" / session
    figures = out / f"sub-{label}" / "figures"
    anat, func = folder / "anat", folder / "func"
    for path in (anat, func, figures):
        path.mkdir(parents=True, exist_ok=True)
    start = f"sub-{label}_{session}_" if session else f"sub-{label}_"
    mask, background = brain()
    image_file, mask_file = anat / f"{start}desc-preproc_T1w.nii.gz", anat / f"{start}desc-brain_mask.nii.gz"
    background.to_filename(image_file)
    mask.to_filename(mask_file)
    quality = {
        "Measure": "correlation <inside>", "Before": 0.41, "After": 0.87 if passed else 0.31, "Floor": 0.5,
        "Passed": passed,
    }  # fmt: skip
    done = {"Registration": "syn", "SkullStripped": True, "Sources": ["bids:raw:secret"]}
    write_json(anat / f"{start}desc-preproc_T1w.json", {"BiasFieldCorrection": "N4"})
    write_json(
        anat / f"{start}space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w.json",
        {**done, "RegistrationQuality": quality},
    )
    mask_overlay(image_file, mask_file, figures / f"{start}desc-brain_T1w.svg")
    registration_flicker(
        image_file, image_file, figures / f"{start}space-MNI152NLin2009cAsym_T1w.svg", mask=mask_file
    )
    for run in runs if passed else ():
        _make_run(f"{start}task-objectviewing_run-{run}", func, figures, image_file, mask_file, quality)
    return out / f"sub-{label}"


def _make_run(stem, func, figures, image_file, mask_file, quality):
    image = nb.load(image_file)
    data = np.random.default_rng(0).standard_normal((*image.shape, 4)).astype(np.float32)
    nb.Nifti1Image(data, image.affine).to_filename(func / f"{stem}_bold.nii.gz")
    confounds = pd.DataFrame({
        "trans_x": [0, 0.1, -0.7, 0.2], "rot_z": [0, 0.01, 0.02, 0], "other": ["n/a", "a", "b", "c"],
        "framewise_displacement": [np.nan, 0.25, 0.75, 1.25],
    })  # fmt: skip
    tsv = func / f"{stem}_desc-confounds_timeseries.tsv"
    confounds.to_csv(tsv, sep="\t", index=False, na_rep="n/a")
    write_json(tsv.with_suffix(".json"), {"trans_x": {"Units": "mm"}})
    write_json(func / f"{stem}_space-T1w_desc-preproc_bold.json", {"RegistrationQuality": quality})
    registration_flicker(image_file, image_file, figures / f"{stem}_desc-coreg_bold.svg", mask=mask_file)
    bold_summary(
        func / f"{stem}_bold.nii.gz", mask_file, tsv, figures / f"{stem}_desc-carpetplot_bold.svg", tr=2.0
    )


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def make_anatomical_samples(out, label="01"):
    """Write the sample of one T1w image as the participant level does; return ``out``."""
    folder = out / f"sub-{label}" / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    mask, background = brain()
    stem = f"sub-{label}_space-MNI152NLin2009cAsym_desc-images_samples"
    nb.Nifti1Image(background.get_fdata(dtype=np.float32)[..., None], mask.affine).to_filename(
        folder / f"{stem}.nii.gz"
    )
    mask.to_filename(folder / f"sub-{label}_desc-brain_mask.nii.gz")
    rows = pd.DataFrame({"subject": [label], "class": ["patient"]})
    rows.to_csv(folder / f"{stem}.tsv", sep="\t", index=False)
    sidecar = {"Modality": "T1w", "Sample": "images", "Target": "group", "Space": "MNI152NLin2009cAsym"}
    write_json(folder / f"{stem}.json", {**sidecar, "Classes": {"control": [], "patient": []}})
    return out


def sections(text):
    """Return the text of each section by its title."""
    found = re.findall(r"<section.*?<h2[^>]*>(.*?)</h2>(.*?)</section>", text, re.S)
    return {title: re.sub(r"data:image[^\"]*", "", content) for title, content in found}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_subject_report(make_subject(tmp_path_factory.mktemp("out")), "sub-01")


def test_subject_page_says_what_was_taken(page):
    text = page.read_text(encoding="utf-8")
    assert page.name == "sub-01.html"
    assert "Subject report: sub-01" in text
    assert re.search(r"<dt>Samples</dt><dd>24</dd>", text)
    assert re.search(r"<dt>Repetition time</dt><dd>2.5 s</dd>", text)
    assert "Taken &lt;as they are&gt; (" in text
    assert "[@" not in text
    assert '<th scope="row">High Pass</th><td>0.0078125</td>' in text
    assert "Confounds" in text.split("What differs")[-1]
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


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    out = make_subject(tmp_path_factory.mktemp("out"))
    make_preprocessing(out)
    return write_subject_report(out, "01")


def test_page_shows_preprocessing(preprocessed):
    parts = sections(preprocessed.read_text(encoding="utf-8"))
    assert list(parts) == [
        "Summary", "Anatomy", "Functional runs", "Samples", "Images", "Settings"
    ]  # fmt: skip
    anatomy, runs = parts["Anatomy"], parts["Functional runs"]
    assert [anatomy.count("<svg"), runs.count("<svg")] == [2, 4]
    assert anatomy.index("sub-01_desc-brain_T1w") < anatomy.index("sub-01_space-MNI152NLin2009cAsym_T1w")
    row = "<td>correlation &lt;inside&gt;</td><td>0.41</td><td>0.87</td><td>0.5</td><td>yes</td>"
    assert row in anatomy
    assert runs.count(row) == 2
    assert '<th scope="row">BiasFieldCorrection</th><td>N4</td>' in anatomy
    assert "secret" not in anatomy
    for run in ("1", "2"):
        name = f"task-objectviewing run-{run}"
        assert f"<h3>{name}</h3>" in runs
        assert (
            f'row">{name}</th><td>4</td><td>0.75</td><td>1.25</td><td>2</td><td>0.7</td><td>1.15</td>' in runs
        )
        assert runs.index(f"run-{run}_desc-coreg") < runs.index(f"run-{run}_desc-carpetplot")
    assert "alert failure" not in parts["Summary"]


def test_page_stands_alone_and_its_names_are_unique(preprocessed):
    text = preprocessed.read_text(encoding="utf-8")
    names = re.findall(r'\sid="([^"]+)"', text)
    assert len(names) == len(set(names))
    links = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert set(links) <= set(names)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    pictures = re.findall(r"<svg[^>]*>", text)
    assert len(pictures) == 6
    assert all('role="img"' in picture and "aria-label=" in picture for picture in pictures)


def test_figures_of_preprocessing_outlive_the_page(preprocessed):
    figures = preprocessed.parent / "sub-01" / "figures"
    before = {path: path.read_bytes() for path in figures.glob("*_T1w.svg")}
    (figures / "sub-01_desc-samples7.png").write_text("of an earlier page")
    text = preprocessed.read_bytes()
    assert write_subject_report(preprocessed.parent, "01").read_bytes() == text
    assert len(before) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(figures.iterdir())) == 8
    assert not (figures / "sub-01_desc-samples7.png").exists()


def test_subject_whose_registration_failed_is_shown_as_unused(tmp_path):
    make_preprocessing(tmp_path, passed=False)
    parts = sections(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))
    assert list(parts) == ["Summary", "Anatomy"]
    first = parts["Summary"].strip()
    assert first.startswith('<div class="alert failure" role="note">This subject is not used in the analysis')
    assert escape("correlation <inside>: 0.41 before, 0.31 after, at least 0.5 expected") in first
    assert "<dt>Samples</dt><dd>0</dd>" in first
    assert "<dt>Preprocessed T1w images</dt><dd>1</dd>" in first
    assert parts["Anatomy"].count("<svg") == 2
    assert "<td>no</td>" in parts["Anatomy"]


def test_failed_registration_is_said_although_there_are_samples(tmp_path):
    make_preprocessing(make_subject(tmp_path), passed=False)
    first = sections(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))["Summary"].strip()
    assert first.startswith('<div class="alert failure" role="note">Registration failed')
    assert "not used" not in first


def test_preprocessed_subject_without_samples_is_unused(tmp_path):
    make_preprocessing(tmp_path)
    first = sections(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))["Summary"]
    assert "not used in the analysis: no samples were made" in first


def test_sessions_have_parts_of_their_own(tmp_path):
    for session in ("ses-A", "ses-B"):
        make_preprocessing(tmp_path, session=session, runs=("1",))
    parts = sections(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))
    assert re.findall(r"<h3>(.*?)</h3>", parts["Anatomy"]) == ["ses-A", "ses-B"]
    assert re.findall(r"<h3>(.*?)</h3>", parts["Functional runs"]) == [
        "ses-A task-objectviewing run-1", "ses-B task-objectviewing run-1"
    ]  # fmt: skip


def test_broken_figure_is_named_and_the_page_is_written(tmp_path):
    folder = make_preprocessing(tmp_path)
    (folder / "figures" / "sub-01_desc-brain_T1w.svg").write_text("<svg")
    anatomy = sections(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))["Anatomy"]
    assert re.search(r"alert warning.*sub-01_desc-brain_T1w.svg cannot be read", anatomy)
    assert anatomy.count("<svg") == 1


def test_anatomical_samples_are_images(tmp_path):
    make_preprocessing(make_anatomical_samples(tmp_path), runs=())
    page = write_subject_report(tmp_path, "01")
    parts = sections(page.read_text(encoding="utf-8"))
    assert list(parts) == ["Summary", "Anatomy", "Samples", "Images", "Settings"]
    assert "<dt>A sample is</dt><dd>one T1w image</dd>" in parts["Summary"]
    assert "<dt>Images</dt><dd>1</dd>" in parts["Summary"]
    assert "Repetition time" not in parts["Summary"]
    assert '<th scope="row">T1w</th><td>1</td><td>1</td>' in parts["Samples"]
    assert "Timeline" not in parts["Samples"]
    assert "The sample, on the analysis grid" in parts["Images"]
    assert "sub-01_desc-timeline.svg" not in {path.name for path in (tmp_path / "sub-01/figures").iterdir()}


def test_motion_is_summed_up_over_what_is_known():
    table = pd.DataFrame({"framewise_displacement": [np.nan, 0.4, 0.6], "rot_y": [0.0, -0.1, np.nan]})
    n, mean, largest, above, translation, rotation = motion_summary(table)
    assert (n, above) == (3, 1)
    assert (mean, largest, rotation) == pytest.approx((0.5, 0.6, np.rad2deg(0.1)))
    assert np.isnan(translation)
    assert np.isnan(motion_summary(pd.DataFrame({"framewise_displacement": [np.nan]}))[1:4]).all()
