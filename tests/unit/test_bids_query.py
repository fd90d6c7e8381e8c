"""The query: what it finds in raw and derivative datasets, and every bad input that it refuses."""

from __future__ import annotations

import functools
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.bids import query as queries
from bids_xai.bids.confounds import read_confounds
from bids_xai.bids.filters import read_filter_file
from bids_xai.errors import InputError
from bids_xai.images.cleaning import clean_run
from bids_xai.images.masking import load_mask, masked_series
from bids_xai.images.windows import take_samples

# Images as they are, unless a test says otherwise.
query = functools.partial(queries.query, preproc="none")

SHARED = Path(__file__).resolve().parents[3] / "shared"
HAXBY = SHARED / "data" / "ds-haxby2001"

AFFINE = np.diag([3.0, 3, 3, 1])
EVENTS = "onset\tduration\ttrial_type\n0\t4\tface\n8\t4\thouse\n16\t4\tface\n24\t4\thouse\n"
BOLD = "sub-{0}/func/sub-{0}_task-view_run-{1}_bold.nii.gz"


def save(path, shape=(4, 5, 3, 20), *, affine=AFFINE, tr=2.0, data=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = np.random.default_rng(seed).normal(100, 5, size=shape)
    img = nb.Nifti1Image(data.astype(np.float32), affine)
    if img.ndim == 4:
        img.header.set_zooms((*img.header.get_zooms()[:3], tr))
    img.header.set_xyzt_units("mm", "sec")
    nb.save(img, path)


def describe(root, **extra):
    root.mkdir(parents=True, exist_ok=True)
    content = {"Name": "test", "BIDSVersion": "1.10.0", **extra}
    (root / "dataset_description.json").write_text(json.dumps(content))


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    describe(root, DatasetType="raw")
    (root / "task-view_bold.json").write_text('{"RepetitionTime": 2.0, "TaskName": "view"}')
    for subject in ("01", "02"):
        for run in ("1", "2"):
            path = root / BOLD.format(subject, run)
            save(path)
            Path(str(path).replace("_bold.nii.gz", "_events.tsv")).write_text(EVENTS)
    return root


@pytest.fixture
def fmriprep(tmp_path, raw):
    root = tmp_path / "fmriprep"
    describe(root, DatasetType="derivative", GeneratedBy=[{"Name": "fMRIPrep"}])
    for subject in ("01", "02"):
        for run in ("1", "2"):
            stem = root / f"sub-{subject}/func/sub-{subject}_task-view_run-{run}"
            for space in ("_space-MNI152NLin2009cAsym_res-2", "_space-T1w", ""):
                save(Path(f"{stem}{space}_desc-preproc_bold.nii.gz"))
                save(Path(f"{stem}{space}_desc-brain_mask.nii.gz"), data=np.ones((4, 5, 3)))
            table = pd.DataFrame({"trans_x": np.arange(20.0), "framewise_displacement": [np.nan, *range(19)]})
            table.to_csv(f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
    return root


def first_bold(raw, subject="01", run="1"):
    return raw / BOLD.format(subject, run)


def rewrite_events(raw, text, subject="01", run="1"):
    Path(str(first_bold(raw, subject, run)).replace("_bold.nii.gz", "_events.tsv")).write_text(text)


def test_raw_dataset(raw):
    subjects = query(raw)
    assert [record.subject for record in subjects] == ["01", "02"]
    run = subjects[0].runs[1]
    assert (run.session, run.task, run.run, run.tr, run.n_volumes) == ("", "view", "2", 2.0, 20)
    assert run.bold == first_bold(raw, "01", "2")
    assert run.events.name == "sub-01_task-view_run-2_events.tsv"
    assert run.mask is None
    assert run.confounds is None
    assert pickle.loads(pickle.dumps(subjects)) == subjects
    json.dumps(run.entities)


def test_selection(raw):
    subjects = query(raw, participant_label=["sub-02"], task_id=["view"], run_id=["01"])
    assert [(run.subject, run.run) for run in subjects[0].runs] == [("02", "1")]
    assert len(subjects) == 1


def test_sessions_and_inherited_events(raw):
    for session in ("a", "b"):
        save(raw / f"sub-03/ses-{session}/func/sub-03_ses-{session}_task-view_bold.nii.gz")
    (raw / "task-view_events.tsv").write_text(EVENTS)
    [subject] = query(raw, participant_label=["03"])
    assert [run.session for run in subject.runs] == ["a", "b"]
    assert {run.events for run in subject.runs} == {raw / "task-view_events.tsv"}
    [subject] = query(raw, participant_label=["03"], session_label=["ses-b"])
    assert len(subject.runs) == 1
    # The more specific file wins.
    assert query(raw, participant_label=["01"])[0].runs[0].events.parent.name == "func"


def test_nearer_sidecar_wins(raw):
    save(first_bold(raw), tr=1.5)
    Path(str(first_bold(raw)).replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 1.5}')
    runs = query(raw, participant_label=["01"], hrf_shift=0)[0].runs
    assert [run.tr for run in runs] == [1.5, 2.0]


def test_database_is_made_and_read(raw, tmp_path):
    first = query(raw, database_dir=tmp_path / "db")
    assert list((tmp_path / "db").rglob("*.sqlite"))
    assert query(raw, database_dir=tmp_path / "db") == first
    other = tmp_path / "other"
    describe(other)
    with pytest.raises(InputError, match=r"is of the dataset .*raw"):
        query(other, database_dir=tmp_path / "db")


def test_a_database_that_was_being_made_is_none(raw, tmp_path):
    # pybids has filled its file with the first half of what there is when the process is killed.
    code = (
        "import os, sys; from bids_xai.bids import layout\n"
        "layout.BIDSLayoutIndexer.__call__ = lambda self, layout: os.kill(os.getpid(), 9)\n"
        "layout.Dataset(sys.argv[1], database_dir=sys.argv[2])\n"
    )
    database = tmp_path / "db" / "raw"
    done = subprocess.run([sys.executable, "-c", code, str(raw), str(database)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(database.rglob("*.sqlite")), "it was being made"
    assert query(raw, database_dir=tmp_path / "db") == query(raw)
    assert [path.name for path in database.iterdir()] == ["layout_index.sqlite"]


def test_phase_images_are_left_out(raw):
    save(raw / "sub-01/func/sub-01_task-view_run-1_part-phase_bold.nii.gz")
    assert len(query(raw)[0].runs) == 2


@pytest.mark.parametrize("space", [None, "T1w", "MNI152NLin2009cAsym"])
def test_preprocessed_images(raw, fmriprep, space):
    subjects = query(
        raw,
        derivatives=[fmriprep],
        preproc="derivatives",
        space=space,
        confounds=["trans_*"],
        mask="derivatives",
    )
    run = subjects[1].runs[0]
    assert run.entities.get("space") == space
    assert run.bold.is_relative_to(fmriprep)
    assert run.mask == Path(str(run.bold).replace("desc-preproc_bold", "desc-brain_mask"))
    assert run.confounds.name == "sub-02_task-view_run-1_desc-confounds_timeseries.tsv"
    assert run.events.is_relative_to(raw)
    assert run.tr == 2.0
    values, names = read_confounds(run.confounds, ["*"], run.n_volumes)
    assert names == ["trans_x", "framewise_displacement"]
    assert np.isnan(values[0, 1])


def test_folder_of_several_derivatives(raw, fmriprep, tmp_path):
    # Beside raw data, and as old as fMRIPrep's outputs that do not say what they are.
    describe(fmriprep)
    assert query(raw, derivatives=[tmp_path / "fmriprep"], preproc="derivatives") == query(
        raw, derivatives=[tmp_path], preproc="derivatives", participant_label=["01", "02"]
    )


def test_absent_space_names_those_present(raw, fmriprep):
    with pytest.raises(InputError, match=r"'MNI152Lin'(.|\n)*MNI152NLin2009cAsym, T1w, native"):
        query(raw, derivatives=[fmriprep], preproc="derivatives", space="MNI152Lin")


def test_what_derivatives_lack_is_named(raw, fmriprep, caplog):
    for path in fmriprep.glob("sub-02/func/*run-2_space-MNI*_bold.nii.gz"):
        path.unlink()
    options = {"derivatives": [fmriprep], "preproc": "derivatives", "space": "MNI152NLin2009cAsym"}
    options["bids_filters"] = {"bold": {"res": "2"}, "mask": {"res": "2"}}
    assert [len(subject.runs) for subject in query(raw, **options)] == [2, 1]
    assert "no desc-preproc_bold in space MNI152NLin2009cAsym of: sub-02_task-view_run-2." in caplog.text
    caplog.clear()
    for path in fmriprep.glob("sub-02/func/*_bold.nii.gz"):
        path.unlink()
    assert [subject.subject for subject in query(raw, **options)] == ["01"]
    assert "of: sub-02 (all 2 runs)." in caplog.text
    with pytest.raises(
        InputError, match=r"No functional image \(desc-preproc_bold.* in .*fmriprep of sub-02"
    ):
        query(raw, **options, participant_label=["02"])
    # Nobody misses what has no events, or was not selected.
    caplog.clear()
    save(raw / "sub-01/func/sub-01_task-rest_bold.nii.gz")
    query(raw, **options, participant_label=["01"])
    query(raw, **options, run_id=["1"], participant_label=["01"])
    assert not caplog.text


def renamed(fmriprep, new):
    for path in list(fmriprep.glob("sub-*/func/*_desc-preproc_bold.nii.gz")):
        path.rename(path.with_name(new(path.name)))


def test_derivatives_of_another_desc_are_never_passed_over(raw, fmriprep, tmp_path):
    renamed(fmriprep, lambda name: name.replace("desc-preproc", "desc-denoised"))
    message = r"\(desc-preproc_bold\) in .*fmriprep.*: desc-denoised_bold \(12\)(.|\n)*\"desc\": \"denoised\""
    for preproc in (None, "derivatives"):
        with pytest.raises(InputError, match=message):
            query(raw, derivatives=[fmriprep], preproc=preproc, space="T1w")
    for desc in ("denoised", ["preproc", "denoised"], "*"):
        chosen = {"bold": {"desc": desc}}
        subjects = query(raw, derivatives=[fmriprep], preproc=None, space="T1w", bids_filters=chosen)
        assert [run.bold.name for run in subjects[0].runs] == [
            f"sub-01_task-view_run-{run}_space-T1w_desc-denoised_bold.nii.gz" for run in "12"
        ]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (lambda name: name.replace("_desc-preproc", ""), r"bold without desc \(12\)(.|\n)*\"desc\": null"),
        (
            lambda name: name.replace("_desc-preproc_bold", "_preproc").replace("run-", "bold_run-"),
            r"names of before BIDS derivatives, such as sub-01_task-view_bold_run-1_preproc",
        ),
        (lambda name: name.replace("_bold.nii.gz", "_boldref.nii.gz"), r"there: \*_mask \(12\), \*_boldref"),
    ],
)
def test_what_is_there_instead_is_said(raw, fmriprep, new, words):
    renamed(fmriprep, new)
    with pytest.raises(InputError, match=words):
        query(raw, derivatives=[fmriprep], preproc=None)


def test_two_resolutions_are_told_apart_by_a_filter(raw, fmriprep):
    for subject in ("01", "02"):
        for run in ("1", "2"):
            stem = f"sub-{subject}_task-view_run-{run}_space-MNI152NLin2009cAsym_res-1"
            save(fmriprep / f"sub-{subject}/func/{stem}_desc-preproc_bold.nii.gz")
    options = {"derivatives": [fmriprep], "preproc": "derivatives", "space": "MNI152NLin2009cAsym"}
    with pytest.raises(InputError, match="differ in res: 1, 2"):
        query(raw, **options)
    subjects = query(raw, **options, bids_filters={"bold": {"resolution": "2"}})
    assert subjects[0].runs[0].entities["res"] == "2"


def test_filters_choose_and_refuse(raw, tmp_path):
    for subject in ("01", "02"):
        for run in ("1", "2"):
            save(raw / f"sub-{subject}/func/sub-{subject}_task-view_acq-fast_run-{run}_bold.nii.gz")
            save(raw / f"sub-{subject}/func/sub-{subject}_task-view_run-{run}_echo-2_bold.nii.gz")
    with pytest.raises(InputError, match=r"2 images are of one run(.|\n)*echo: 2, None"):
        query(raw)
    for path in raw.glob("sub-*/func/*_echo-2_bold.nii.gz"):
        path.unlink()
    assert "acquisition" not in query(raw, bids_filters={"bold": {"acquisition": None}})[0].runs[0].entities
    fast = query(raw, bids_filters={"bold": {"acquisition": "*"}})[0].runs[0]
    assert fast.entities["acquisition"] == "fast"
    assert fast.events.name == "sub-01_task-view_run-1_events.tsv"
    with pytest.raises(InputError, match="did you mean 'acquisition'"):
        query(raw, bids_filters={"bold": {"acq": "fast"}})
    with pytest.raises(InputError, match=r"Unknown query 'bald'(.|\n)*did you mean 'bold'"):
        query(raw, bids_filters={"bald": {}})
    with pytest.raises(InputError, match="No functional image"):
        query(raw, bids_filters={"bold": {"acquisition": "slow"}})
    path = tmp_path / "filter.json"
    path.write_text('{"bold": {"acquisition": "fast"}, "t1w": {"datatype": "anat"}}')
    assert read_filter_file(path)["bold"] == {"acquisition": "fast"}
    path.write_text('{"bold": "fast"}')
    with pytest.raises(InputError, match="object of objects"):
        read_filter_file(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"filter\.json is not valid JSON"):
        read_filter_file(path)


def test_masks(raw, tmp_path):
    derived = tmp_path / "masks"
    describe(derived, DatasetType="derivative", GeneratedBy=[{"Name": "x"}])
    stem = "sub-{0}/func/sub-{0}_task-view_desc-{1}_mask.nii.gz"
    for subject in ("01", "02"):
        save(derived / stem.format(subject, "brain"), data=np.ones((4, 5, 3)))
        save(derived / stem.format(subject, "VT"), data=np.ones((4, 5, 3)))
    assert {run.mask.name for run in query(raw, derivatives=[derived])[0].runs} == {
        "sub-01_task-view_desc-brain_mask.nii.gz"
    }
    found = query(raw, derivatives=[derived], bids_filters={"mask": {"desc": "VT"}})
    assert found[1].runs[0].mask == derived / stem.format("02", "VT")
    assert query(raw, derivatives=[derived], mask="compute")[0].runs[0].mask is None
    given = derived / stem.format("01", "VT")
    assert query(raw, mask=given)[1].runs[1].mask == given
    with pytest.raises(InputError, match=r"2 files fit as the mask(.|\n)*\"desc\": "):
        query(raw, derivatives=[derived], bids_filters={"mask": {"desc": ["brain", "VT"]}})
    with pytest.raises(InputError, match=r"No mask for .*sub-01_task-view_run-1_bold"):
        query(raw, mask="derivatives")
    (derived / stem.format("02", "brain")).unlink()
    assert all(run.mask is None for subject in query(raw, derivatives=[derived]) for run in subject.runs)


def test_mask_of_the_template(raw, tmp_path):
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = (-20, -20, 0)
    for subject in ("01", "02"):
        for run in ("1", "2"):
            save(first_bold(raw, subject, run), affine=affine)
    with pytest.raises(InputError, match="no space is given"):
        query(raw, mask="template", work_dir=tmp_path / "w")
    [first, _] = query(raw, mask="template", space="MNI152NLin6Asym", work_dir=tmp_path / "w")
    assert load_mask(first.runs[0].mask).shape == (4, 5, 3)
    assert first.runs[0].mask.is_relative_to(tmp_path / "w")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"participant_label": ["03"]}, r"Unknown participant '03'(.|\n)*01, 02"),
        ({"task_id": ["viw"]}, r"Unknown task 'viw'(.|\n)*did you mean 'view'"),
        ({"run_id": ["7"]}, r"Unknown run '7'(.|\n)*one of 1, 2"),
        ({"session_label": ["a"]}, r"Unknown session 'a'(.|\n)*no sessions"),
        ({"space": "MNI152NLin2009cAsim"}, r"Unknown space(.|\n)*did you mean 'MNI152NLin2009cAsym'"),
        ({"classes": ["face", "hause"]}, r"Unknown class: the level 'hause'(.|\n)*did you mean 'house'"),
        ({"classes": ["face"]}, "Only 1 class"),
        ({"target": "trial_typ"}, r"no column 'trial_typ'(.|\n)*did you mean 'trial_type'"),
        ({"window": (0, 40)}, r"4 problems(.|\n)*leaves (.|\n)*--max-events-outside"),
        ({"window": (-3, 4), "max_events_outside": 0.2}, r"1 of 4 events .*window -3 to 4 s"),
        ({"hrf_shift": 14, "max_events_outside": 0}, r"leaves the run, which lasts 40 s"),
        ({"resolution": 2}, r"2 mm is finer"),
        ({"preproc": "derivatives"}, "needs a folder of derivatives"),
        ({"confounds": ["trans_x"]}, "No confounds file"),
        ({"mask": "absent.nii.gz"}, r"absent\.nii\.gz does not exist"),
        ({"derivatives": ["absent"]}, "absent is not a folder"),
    ],
)
def test_bad_options_are_refused(raw, options, message):
    with pytest.raises(InputError, match=message):
        query(raw, **options)


def test_what_is_not_a_dataset(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        query(tmp_path / "absent")
    with pytest.raises(InputError, match="not a BIDS dataset"):
        query(tmp_path)
    describe(tmp_path)
    with pytest.raises(InputError, match="No functional image"):
        query(tmp_path)


def test_absent_events(raw):
    Path(str(first_bold(raw)).replace("_bold.nii.gz", "_events.tsv")).unlink()
    with pytest.raises(InputError, match=r"No events file for .*sub-01_task-view_run-1_bold"):
        query(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EVENTS.replace("8\t4\thouse", "n/a\t4\thouse"), r"onset n/a of 'house' \(line 3\)"),
        (EVENTS.replace("24\t", "44\t"), r"1 of 4 events .* onset 44 s, window 49 to 53 s"),
        (EVENTS.replace("8\t4\thouse", "-8\t4\thouse"), r"onset -8 s, window -3 to 1 s"),
        (EVENTS.replace("trial_type", "condition"), "no column 'trial_type'"),
    ],
)
def test_bad_events(raw, text, message):
    rewrite_events(raw, text)
    with pytest.raises(InputError, match=message):
        query(raw, max_events_outside=0)


def test_an_event_that_leaves_its_run_is_left_out_and_named(raw, caplog):
    rewrite_events(raw, EVENTS.replace("24\t", "44\t"))
    query(raw)
    found = [record.getMessage() for record in caplog.records if "Left out" in record.getMessage()]
    assert len(found) == 1
    assert "1 of 4 events of" in found[0]
    assert "onset 44 s" in found[0]


def test_class_with_too_few_samples(raw):
    rewrite_events(raw, EVENTS.replace("24\t4\thouse", "24\t4\ttool"))
    with pytest.raises(InputError, match="Too few samples: tool has 1"):
        query(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), r"run-1_bold\.nii\.gz"),
        (lambda path: path.write_text("no image"), "not a readable NIfTI"),
        (lambda path: save(path, (4, 5, 3)), r"3 dimensions"),
        (lambda path: save(path, data=np.full((4, 5, 3, 20), 7.0)), "are constant"),
        (lambda path: save(path, affine=np.diag([3, 3, 3.1, 1])), r"different grids: .*run-1.*run-2"),
        (lambda path: save(path, (4, 5, 4, 20)), "different grids"),
        (lambda path: save(path, tr=2.5), r"2 s in .*task-view_bold\.json but 2\.5 .*run-1_bold"),
    ],
)
def test_bad_images(raw, change, message):
    change(first_bold(raw))
    with pytest.raises(InputError, match=message):
        query(raw)


def test_participants_on_different_grids(raw):
    for run in ("1", "2"):
        save(first_bold(raw, "02", run), affine=np.diag([3, 3, 4.0, 1]))
    with pytest.raises(InputError, match=r"different grids: .*sub-01.*sub-02"):
        query(raw)
    assert query(raw, participant_label=["02"])


def test_no_repetition_time(raw):
    (raw / "task-view_bold.json").write_text('{"TaskName": "view"}')
    with pytest.raises(InputError, match=r"No sidecar of .* has a RepetitionTime"):
        query(raw)
    (raw / "task-view_bold.json").write_text("{")
    with pytest.raises(InputError, match=r"task-view_bold\.json is not valid JSON"):
        query(raw)


@pytest.mark.parametrize(
    ("data", "affine", "message"),
    [
        (np.zeros((4, 5, 3)), AFFINE, r"No voxel is inside .*m_mask"),
        (np.ones((4, 5, 3)), np.diag([3, 3, 3.2, 1]), r"different grids: .*bold.*m_mask"),
        (np.ones((4, 5, 3, 2)), AFFINE, "a 3-D image"),
    ],
)
def test_bad_masks(raw, tmp_path, data, affine, message):
    save(tmp_path / "m_mask.nii.gz", data=data, affine=affine)
    with pytest.raises(InputError, match=message):
        query(raw, mask=tmp_path / "m_mask.nii.gz")


def test_mistakes_in_several_files_come_together(raw):
    first_bold(raw).write_text("no image")
    save(first_bold(raw, "02", "2"), tr=9)
    with pytest.raises(InputError, match=r"2 problems(.|\n)*not a readable NIfTI(.|\n)*9 \(unit: sec\)"):
        query(raw)


def test_bad_confounds(raw, fmriprep):
    with pytest.raises(InputError, match=r"'trans_w'(.|\n)*did you mean 'trans_x'"):
        query(raw, derivatives=[fmriprep], preproc="derivatives", confounds=["trans_w"])


@pytest.mark.skipif(not HAXBY.exists(), reason="the shared data are not on this machine")
def test_haxby_by_filter_and_derived_mask():
    [subject] = query(
        HAXBY,
        derivatives=[HAXBY / "derivatives" / "masks"],
        bids_filters={"bold": {"acquisition": "slice"}},
        sample="volumes",
        hrf_shift=0,
    )
    assert len(subject.runs) == 12
    n_samples, labels = 0, []
    for run in subject.runs:
        assert run.mask.name == "sub-01_task-objectviewing_acq-slice_desc-brain_mask.nii.gz"
        rows, windows = _rows(run)
        series = clean_run(masked_series(nb.load(run.bold), load_mask(run.mask)), run.tr)
        samples, _ = take_samples(series, windows, "volumes")
        assert samples.shape == (72, 530)
        n_samples += len(samples)
        labels += rows["class"].tolist()
    assert n_samples == 864
    assert set(pd.Series(labels).value_counts()) == {108}


def _rows(run):
    from bids_xai.bids.events import resolve_classes, sample_rows

    classes = resolve_classes([run.events])
    return sample_rows(run, target="trial_type", classes=classes, sample="volumes")
