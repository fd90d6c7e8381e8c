"""What published datasets hold and BIDS allows: the query takes it, or says which file and why not."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.bids.names import is_asked, same_value
from bids_xai.bids.query import query as any_query
from bids_xai.errors import InputError
from tests.datasets import make_dataset, make_fmriprep

query = functools.partial(any_query, preproc="none")
SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def bids(tmp_path):
    return make_dataset(tmp_path / "bids", n_subjects=2)


@pytest.fixture
def derived(bids, tmp_path):
    root = make_fmriprep(bids, tmp_path / "fmriprep")
    return functools.partial(any_query, bids, derivatives=[root], preproc="derivatives", space=SPACE)


def events_of(bids):
    return sorted(bids.glob("sub-*/func/*_events.tsv"))


def edit(path, change):
    path.write_text(change(path.read_text()))


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def counts(subjects):
    return [(run.subject, run.run) for subject in subjects for run in subject.runs]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\t\n"),
        lambda text: "\n".join([text.split("\n")[0], *[f"{line}\t" for line in text.split("\n")[1:-1]]]),
        lambda text: text.replace("onset\tduration\ttrial_type", "onset \tduration \ttrial_type"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    ],
    ids=["tabs behind all lines", "tabs behind rows", "spaces around names", "mark and CRLF"],
)
def test_the_form_of_an_events_file_changes_nothing(bids, change):
    plain = query(bids)
    for path in events_of(bids):
        edit(path, change)
    (bids / "dataset_description.json").write_bytes(
        b"\xef\xbb\xbf" + (bids / "dataset_description.json").read_bytes().replace(b",", b",\r\n")
    )
    (bids / "task-look_bold.json").write_bytes(b"\xef\xbb\xbf" + (bids / "task-look_bold.json").read_bytes())
    assert query(bids) == plain


@pytest.mark.parametrize(
    ("pairs", "levels"),
    [
        ({"face": "1", "house": "2"}, {"1": "1.0", "2": "2.0"}),
        ({}, {"face": "Face"}),
        ({}, {"house": '"house"'}),
    ],
)
def test_levels_that_differ_only_in_form_are_warned_of(bids, caplog, pairs, levels):
    for path in events_of(bids):
        change = pairs | (levels if "run-2" in path.name else {})
        for old, new in [*pairs.items(), *(levels.items() if "run-2" in path.name else ())]:
            edit(path, lambda text, old=old, new=new: text.replace(f"\t{old}\n", f"\t{new}\n"))
        assert change is not None
    query(bids)
    found = [text for text in warned(caplog) if "differ only in" in text]
    assert len(found) == 1
    for old, new in levels.items():
        assert repr(old) in found[0]
        assert repr(new) in found[0]
    caplog.clear()
    names = [f"{name}={level}+{levels[level]}" for name, level in zip("ab", levels, strict=False)]
    query(bids, classes=[*names, *{"face", "house"}.difference(levels)][:2] if not pairs else names)
    assert not warned(caplog)


def test_labels_are_compared_as_labels(bids):
    assert not same_value("subject", "1", "01")
    assert not same_value("session", "1", "01")
    assert not same_value("task", "1", "01")
    assert same_value("run", "1", "01")
    assert is_asked("run", "01", ["run-1"])
    assert not is_asked("session", "01", ["1"])
    for label in ("1", "sub-1"):
        with pytest.raises(InputError, match="Unknown participant '1'"):
            query(bids, participant_label=[label])


def test_derivatives_of_another_subject_are_not_its_own(bids, tmp_path):
    root = make_fmriprep(bids, tmp_path / "fmriprep")
    (bids / "sub-01").rename(bids / "sub-1")
    for path in sorted(bids.glob("sub-1/func/*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-1")))
    with pytest.raises(InputError, match=r"No events file for .*sub-01"):
        any_query(bids, derivatives=[root], preproc="derivatives", space=SPACE)


def test_runs_may_differ_in_any_entity(bids, caplog):
    for path in sorted(bids.glob("sub-*/func/*_run-2_*")):
        path.rename(path.with_name(path.name.replace("run-2", "dir-PA_run-1")))
    for path in sorted(bids.glob("sub-*/func/*look_run-1_*")):
        path.rename(path.with_name(path.name.replace("look_run-1", "look_dir-AP_run-1")))
    subjects = query(bids)
    assert counts(subjects) == [(name, f"dir-{end}") for name in ("01", "02") for end in ("AP", "PA")]
    assert not warned(caplog)
    for path in sorted(bids.glob("sub-*/func/*_dir-*")):
        path.rename(path.with_name(path.name.replace("dir-AP", "rec-a").replace("dir-PA", "rec-b")))
    for path in sorted(bids.glob("sub-*/func/*_run-1_*")):
        path.rename(path.with_name(path.name.replace("_run-1_", "_")))
    for path in sorted(bids.glob("sub-*/func/*_rec-*")):
        name = path.name.replace("task-look_rec", "task-look_acq-x_rec")
        path.rename(path.with_name(name))
    assert counts(query(bids))[:2] == [("01", "rec-a"), ("01", "rec-b")]
    assert "reconstructions of one scan" in warned(caplog)[0]


def test_a_pattern_of_confounds_is_a_union_over_runs(bids, derived, caplog, tmp_path):
    tables = sorted((tmp_path / "fmriprep").glob("sub-*/func/*_timeseries.tsv"))
    for path in tables[:2]:
        edit(path, lambda text: "".join("\t".join(line.split("\t")[:2]) + "\n" for line in text.splitlines()))
    assert len(derived(confounds=["trans_x", "motion_outlier*"])) == 2
    assert len(warned(caplog)) == 1
    assert "'motion_outlier*' matches no column in 2 of 4 runs" in warned(caplog)[0]
    assert tables[0].name in warned(caplog)[0]
    with pytest.raises(InputError, match=r"No column of any of 4 tables of confounds matches .*'a_comp\*'"):
        derived(confounds=["a_comp*"])
    with pytest.raises(InputError, match=r"2 problems(.|\n)*matches the confound 'motion_outlier00'"):
        derived(confounds=["motion_outlier00"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "has 49 rows, its run 50 volumes"),
        (lambda text: text + text.split("\n")[-2] + "\n", "has 51 rows, its run 50 volumes"),
        (lambda text: text.replace("\t0.0\n", "\tno\n", 1), r"'motion_outlier00' .* is 'no' \(line 2\)"),
        (lambda text: text.replace("n/a\t0.0", "0.0"), r"2 cells in line 2 and names 3 columns"),
    ],
)
def test_a_confounds_table_that_does_not_fit_is_refused_at_the_start(derived, tmp_path, change, message):
    edit(sorted((tmp_path / "fmriprep").glob("sub-*/func/*_timeseries.tsv"))[1], change)
    with pytest.raises(InputError, match=message):
        derived(confounds=["trans_x", "motion_*"])


def with_tr(path, value):
    img = nb.load(path)
    new = nb.Nifti1Image(np.asanyarray(img.dataobj), img.affine, img.header)
    new.header.set_zooms((*img.header.get_zooms()[:3], value))
    new.header.set_xyzt_units("mm", "sec")
    nb.save(new, path)


def test_milliseconds_that_are_called_seconds_are_taken_with_one_warning(derived, tmp_path, caplog):
    paths = sorted((tmp_path / "fmriprep").glob("sub-*/func/*_bold.nii.gz"))
    for path in paths:
        with_tr(path, 2000.0)
    assert {run.tr for subject in derived() for run in subject.runs} == {2.0}
    assert len(warned(caplog)) == 1
    assert "4 images" in warned(caplog)[0]
    with_tr(paths[0], 2500.0)
    with pytest.raises(InputError, match="2500"):
        derived()


def test_volume_timing_is_named_where_there_is_no_repetition_time(bids):
    (bids / "task-look_bold.json").write_text(json.dumps({"TaskName": "look", "VolumeTiming": [0, 2.5, 5]}))
    with pytest.raises(InputError, match=r"VolumeTiming(.|\n)*not supported"):
        query(bids)


def test_an_onset_that_is_missing_matters_in_rows_of_a_class_only(bids):
    path = events_of(bids)[0]
    edit(path, lambda text: text + "n/a\tn/a\tresponse\n")
    assert len(query(bids, classes=["face", "house"])) == 2
    with pytest.raises(InputError, match=r"onset n/a of 'response' \(line \d+\)"):
        query(bids)


def test_files_of_no_participant_are_passed_over(bids):
    plain = query(bids)
    source = bids / "sub-01" / "func" / "sub-01_task-look_run-1_bold.nii.gz"
    for name in (
        "tpl-study/anat/tpl-study_T1w.nii.gz",
        "tpl-study/func/tpl-study_task-look_bold.nii.gz",
        "sub-01/func/._sub-01_task-look_run-1_bold.nii.gz",
        "sub-01/func/._sub-01_task-look_run-1_events.tsv",
        "._sub-01/func/sub-01_task-look_run-1_bold.nii.gz",
        "task-look_run-1_bold.nii.gz",
    ):
        path = bids / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    (bids / "._dataset_description.json").write_bytes(b"\x00\x05\x16\x07")
    assert query(bids) == plain


def test_a_name_that_is_not_utf8_stops_nothing(bids):
    plain = query(bids)
    for folder in (bids, bids / "sub-01" / "func", bids / "sub-02" / "func"):
        path = os.path.join(os.fsencode(folder), b"caf\xe9_bold.nii.gz")
        with open(path, "wb") as stream:
            stream.write(b"x")
    assert query(bids) == plain


def test_a_link_to_what_was_not_fetched_matters_of_chosen_participants_only(bids):
    for path in sorted(Path(bids / "sub-02" / "func").iterdir()):
        path.unlink()
        path.symlink_to("../../.git/annex/objects/absent")
    assert counts(query(bids, participant_label=["01"])) == [("01", "1"), ("01", "2")]
    with pytest.raises(InputError, match="datalad get"):
        query(bids)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_of_another_participant_stops_nothing(bids):
    (bids / "sub-02").chmod(0)
    try:
        assert counts(query(bids, participant_label=["01"])) == [("01", "1"), ("01", "2")]
    finally:
        (bids / "sub-02").chmod(0o755)


def test_a_kept_database_that_does_not_know_a_new_file_is_made_anew(bids, tmp_path):
    database = tmp_path / "db"
    assert len(query(bids, database_dir=database)) == 2
    folder = bids / "sub-03" / "func"
    folder.mkdir(parents=True)
    for path in sorted((bids / "sub-01" / "func").iterdir()):
        (folder / path.name.replace("sub-01", "sub-03")).write_bytes(path.read_bytes())
    assert len(query(bids, database_dir=database)) == 3
    (folder / "sub-03_task-look_run-1_bold.nii.gz").unlink()
    (folder / "sub-03_task-look_run-1_events.tsv").unlink()
    assert counts(query(bids, database_dir=database))[-1] == ("03", "2")


def test_query_and_plan_read_every_table_once(bids, tmp_path, monkeypatch):
    from bids_xai.cli.parser import parse
    from bids_xai.cli.participants import query_dataset
    from bids_xai.cli.plan import plan_group
    from bids_xai.cli.target import complete

    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda self, get=Path.read_bytes: read.append(self) or get(self))
    request = parse([str(bids), str(tmp_path / "out"), "participant", "group", "--preproc", "none"])
    settings = complete(request.settings)
    plan_group(settings, query_dataset(bids, settings), [], bids)
    assert sorted(path for path in read if path.suffix == ".tsv") == events_of(bids)
