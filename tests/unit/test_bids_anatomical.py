"""Anatomical samples, and the T1w of functional runs: what is found, and every bad input that is refused."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.bids.anatomical import anatomical_classes, anatomical_rows
from bids_xai.bids.confounds import ENGINE_COLUMNS
from bids_xai.bids.engines import choose_engine
from bids_xai.bids.events import ROW_COLUMNS
from bids_xai.bids.query import AnatomicalRecord, SubjectRecord, query
from bids_xai.decoding.design import make_design
from bids_xai.errors import InputError
from tests.datasets import make_anatomical_dataset, make_dataset, write_head, write_mask

GROUP = {"modality": "T1w", "target": "participants:group"}
SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return make_anatomical_dataset(tmp_path / "heads", n_subjects=4)


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    return make_anatomical_dataset(tmp_path / "visits", n_subjects=4, sessions=("1", "2"), flair=True)


def t1w(root: Path, subject: str = "01", ending: str = "_T1w.nii.gz") -> Path:
    return root / f"sub-{subject}" / "anat" / f"sub-{subject}{ending}"


def derived(root: Path, heads: Path, *, spaces: tuple[str, ...] = (f"_space-{SPACE}", "")) -> Path:
    root.mkdir()
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": root.name, "BIDSVersion": "1.10.0", "DatasetType": "derivative"})
    )
    rng = np.random.default_rng(1)
    for raw in sorted(heads.rglob("*_T1w.nii.gz")):
        for space in spaces:
            stem = str(root / raw.relative_to(heads)).removesuffix("_T1w.nii.gz") + space
            image = write_head(Path(f"{stem}_desc-preproc_T1w.nii.gz"), rng)
            mask = nb.Nifti1Image(np.ones(nb.load(image).shape, np.uint8), nb.load(image).affine)
            nb.save(mask, f"{stem}_desc-brain_mask.nii.gz")
    return root


def images_of(subjects: list[SubjectRecord]) -> list[AnatomicalRecord]:
    return [image for subject in subjects for image in subject.anatomical]


def levels_of(records: list[AnatomicalRecord]) -> list[str]:
    return [record.level for record in records]


def with_t1w(bids: Path) -> Path:
    """Add a T1w to every participant of a functional dataset."""
    rng = np.random.default_rng(2)
    for folder in bids.glob("sub-*"):
        write_head(folder / "anat" / f"{folder.name}_T1w.nii.gz", rng)
    return bids


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# What is found


def test_every_image_is_a_sample_with_its_level(heads: Path) -> None:
    subjects = query(heads, **GROUP)
    assert [subject.subject for subject in subjects] == ["01", "02", "03", "04"]
    [image] = subjects[0].anatomical
    assert (image.session, image.run, image.level, image.mask) == ("", "", "patient", None)
    assert image.image == image.t1w == t1w(heads)
    assert not subjects[0].runs
    assert pickle.loads(pickle.dumps(subjects)) == subjects
    json.dumps(image.entities)
    # A column without a table is one of participants.tsv, and raw images of any grid are accepted.
    image_of_another_grid(t1w(heads, "02"))
    assert query(heads, modality="T1w", target="group", preproc="none") == subjects


def image_of_another_grid(path: Path) -> None:
    img = nb.load(path)
    nb.save(nb.Nifti1Image(np.asarray(img.dataobj)[:18], img.affine), path)


def test_time_points_of_a_person_are_samples_of_one_subject(visits: Path) -> None:
    subjects = query(visits, modality="FLAIR", target="participants:group")
    assert [image.session for image in subjects[0].anatomical] == ["1", "2"]
    for image in subjects[1].anatomical:
        assert image.image.name == f"sub-02_ses-{image.session}_FLAIR.nii.gz"
        assert image.t1w == Path(str(image.image).replace("FLAIR", "T1w"))
    [first] = query(visits, modality="FLAIR", target="group", preproc="none", session_label=["ses-1"])[
        0
    ].anatomical
    assert first.t1w is None


def test_a_flair_takes_the_t1w_of_another_session(visits: Path) -> None:
    for path in visits.glob("sub-01/ses-1/anat/*_T1w.nii.gz"):
        path.unlink()
    subject = query(visits, modality="FLAIR", target="group")[0]
    assert {image.t1w.name for image in subject.anatomical} == {"sub-01_ses-2_T1w.nii.gz"}
    for path in visits.glob("sub-03/ses-*/anat/*_T1w.nii.gz"):
        path.unlink()
    with pytest.raises(InputError, match=r"No T1w image of sub-03(.|\n)*sub-03/\[ses-\*/\]anat"):
        query(visits, modality="FLAIR", target="group")


def test_levels_of_sessions_and_scans(visits: Path) -> None:
    subjects = query(visits, modality="T1w", target="sessions:state")
    assert [image.level for image in subjects[0].anatomical] == ["early", "late"]
    subjects = query(visits, modality="T1w", target="scans:quality")
    assert [image.level for image in images_of(subjects)] == [
        "good", "good", "poor", "poor", "good", "good", "poor", "poor",
    ]  # fmt: skip


def test_baseline_is_a_class_of_sessions(visits: Path) -> None:
    for path in visits.glob("sub-*/*_sessions.tsv"):
        replace_in(path, "early", "baseline")
    records = [
        image
        for subject in query(visits, modality="T1w", target="sessions:state")
        for image in subject.anatomical
    ]
    assert list(anatomical_classes(levels_of(records), "sessions:state")) == ["baseline", "late"]


def test_selection(visits: Path) -> None:
    subjects = query(visits, **GROUP, participant_label=["sub-01", "02", "03", "04"], session_label=["2"])
    assert [image.session for subject in subjects for image in subject.anatomical] == ["2"] * 4
    with pytest.raises(InputError, match=r"Unknown session '3'(.|\n)*one of 1, 2"):
        query(visits, **GROUP, session_label=["3"])
    with pytest.raises(InputError, match=r"Unknown run '1'(.|\n)*no runs"):
        query(visits, **GROUP, run_id=["1"])
    with pytest.raises(InputError, match=r"anatomical images have no task(.|\n)*leave out --task-id"):
        query(visits, **GROUP, task_id=["look"])
    with pytest.raises(InputError, match=r"Unknown participant '07'"):
        query(visits, **GROUP, participant_label=["07"])
    with pytest.raises(InputError, match=r"--confounds dvars with --modality T1w"):
        query(visits, **GROUP, confounds=["dvars"])


def test_classes_rename_merge_and_leave_out(visits: Path) -> None:
    (visits / "participants.tsv").write_text(
        "participant_id\tgroup\nsub-01\tAD\nsub-02\tHC\nsub-03\tlMCI\nsub-04\tother\n"
    )
    subjects = query(visits, **GROUP, classes=["ill=AD+lMCI", "HC"])
    assert [subject.subject for subject in subjects] == ["01", "02", "03"]
    records = images_of(subjects)
    classes = anatomical_classes(levels_of(records), "participants:group", ["ill=AD+lMCI", "HC"])
    rows = anatomical_rows(records, classes)
    assert list(rows.columns) == list(ROW_COLUMNS)
    assert rows["class"].tolist() == ["ill", "ill", "HC", "HC", "ill", "ill"]
    assert rows["trial_type"].tolist() == ["AD", "AD", "HC", "HC", "lMCI", "lMCI"]
    assert rows["session"].tolist() == ["1", "2"] * 3
    with pytest.raises(
        InputError,
        match=r"'lMCJ' of class 'ill' is not in the column 'group' of participants\.tsv(.|\n)*'lMCI'",
    ):
        query(visits, **GROUP, classes=["ill=AD+lMCJ", "HC"])


def test_the_classes_of_one_participant_are_those_of_all(visits: Path, heads: Path, tmp_path: Path) -> None:
    for target in ("participants:group", "sessions:state", "scans:quality"):
        of_all = query(visits, modality="FLAIR", target=target)
        for number, label in enumerate(("01", "04")):
            alone = query(visits, modality="FLAIR", target=target, participant_label=[label])
            assert alone == [of_all[3 * number]]
    replace_in(visits / "participants.tsv", "sub-04\t63\tF\tcontrol", "sub-04\t63\tF\tn/a")
    assert query(visits, **GROUP, participant_label=["04"]) == []
    # What is wrong with others stops nobody, and whoever has no image has no class.
    replace_in(visits / "participants.tsv", "sub-03\t62\tM\tpatient\n", "sub-09\t62\tM\tother\n")
    [alone] = query(visits, **GROUP, participant_label=["01"])
    assert alone.levels == ("control", "patient")
    with pytest.raises(InputError, match="Unknown class: the level 'other'"):
        query(visits, **GROUP, participant_label=["01"], classes=["patient", "other"])
    folder = derived(tmp_path / "derived", heads)
    options = {"derivatives": [folder], "space": SPACE}
    of_all = query(heads, **GROUP, **options)
    assert query(heads, **GROUP, **options, participant_label=["02"]) == [of_all[1]]


def test_rows_make_a_design(visits: Path) -> None:
    records = images_of(query(visits, **GROUP))
    design, kept = make_design(
        anatomical_rows(records, anatomical_classes(levels_of(records), "group")), cv="subject"
    )
    assert len(kept) == 8
    assert len(design.folds) == 4
    assert len(set(design.events.tolist())) == 8


def test_images_without_a_level_are_left_out(visits: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = (visits / "participants.tsv").read_text().splitlines()
    text[1] = text[1].replace("patient", "n/a")
    (visits / "participants.tsv").write_text("\n".join(text) + "\n")
    subjects = query(visits, **GROUP)
    assert [subject.subject for subject in subjects] == ["02", "03", "04"]
    assert "group of participants.tsv is n/a: sub-01_ses-1_T1w.nii.gz, sub-01_ses-2" in caplog.text


def test_the_first_run_is_taken(heads: Path, caplog: pytest.LogCaptureFixture) -> None:
    t1w(heads).rename(t1w(heads, ending="_run-2_T1w.nii.gz"))
    write_head(t1w(heads, ending="_run-10_T1w.nii.gz"), np.random.default_rng(0))
    [image] = query(heads, **GROUP)[0].anatomical
    assert image.run == "2"
    assert "2 images are of one session: the first, " in caplog.text


# Derivatives


def test_preprocessed_images_and_their_masks(heads: Path, tmp_path: Path) -> None:
    folder = derived(tmp_path / "smriprep", heads)
    assert choose_engine(None, [folder], "T1w") == "derivatives"
    assert choose_engine(None, [], "FLAIR") == choose_engine(None, [], "bold") == "ants"
    for modality in ("FLAIR", "bold"):
        with pytest.raises(InputError, match=rf"desc-preproc_{modality}\) in (.|\n)*\*_T1w \("):
            choose_engine(None, [folder], modality)
    assert choose_engine("fsl", [folder], "T1w") == "fsl"
    images = images_of(query(heads, **GROUP, derivatives=[folder], space=SPACE))
    for image in images:
        assert image.image.name == f"sub-{image.subject}_space-{SPACE}_desc-preproc_T1w.nii.gz"
        assert image.mask == Path(str(image.image).replace("desc-preproc_T1w", "desc-brain_mask"))
    computed = query(heads, **GROUP, derivatives=[folder], space=SPACE, mask="compute")
    assert all(image.mask is None for subject in computed for image in subject.anatomical)
    # The rows of scans.tsv name raw images.
    subjects = query(heads, modality="T1w", target="scans:quality", derivatives=[folder], space=SPACE)
    assert [image.level for image in images_of(subjects)] == ["good", "poor"] * 2
    with pytest.raises(InputError, match=rf"No --space is given(.|\n)*{SPACE}(.|\n)*choose one with --space"):
        query(heads, **GROUP, derivatives=[folder])
    with pytest.raises(InputError, match=r"'MNI152NLin6Asym'(.|\n)*MNI152NLin2009cAsym, native"):
        query(heads, **GROUP, derivatives=[folder], space="MNI152NLin6Asym")
    with pytest.raises(InputError, match=r"4 mm is finer"):
        query(heads, **GROUP, derivatives=[folder], space=SPACE, resolution=4)


def test_preprocessed_images_of_two_grids_are_refused(heads: Path, tmp_path: Path) -> None:
    folder = derived(tmp_path / "smriprep", heads)
    image_of_another_grid(folder / f"sub-03/anat/sub-03_space-{SPACE}_desc-preproc_T1w.nii.gz")
    with pytest.raises(InputError, match=r"different grids: .*sub-01.*sub-03"):
        query(heads, **GROUP, derivatives=[folder], space=SPACE)


def test_resolutions_are_chosen_by_size_or_filter(heads: Path, tmp_path: Path) -> None:
    folder = derived(tmp_path / "smriprep", heads, spaces=(f"_space-{SPACE}_res-1", f"_space-{SPACE}_res-2"))
    for path in folder.rglob("*res-1*.nii.gz"):
        img = nb.load(path)
        nb.save(nb.Nifti1Image(np.asarray(img.dataobj), np.diag([5.0, 5, 5, 1])), path)
    options = {**GROUP, "derivatives": [folder], "space": SPACE}
    with pytest.raises(InputError, match=r"differ in res: 1, 2(.|\n)*\{\"t1w\": \{\"res\": \"2\"\}\}"):
        query(heads, **options)
    with pytest.raises(InputError, match="differ in res"):
        query(heads, **options, resolution=9)
    assert query(heads, **options, resolution=5)[0].anatomical[0].entities["res"] == "1"
    chosen = query(heads, **options, bids_filters={"t1w": {"resolution": "2"}})
    assert chosen[0].anatomical[0].entities["res"] == "2"
    assert "_res-2_" in chosen[0].anatomical[0].mask.name


def test_an_image_in_two_datasets_is_refused(heads: Path, tmp_path: Path) -> None:
    folders = [derived(tmp_path / name, heads) for name in ("one", "two")]
    with pytest.raises(InputError) as refusal:
        query(heads, **GROUP, derivatives=folders, space=SPACE)
    assert all(str(folder) in str(refusal.value) for folder in folders)
    assert "leave one of the folders out of --derivatives" in refusal.value.remedy
    for path in folders[1].rglob("*_T1w.nii.gz"):
        path.unlink()
    with pytest.raises(InputError, match=r"2 files fit as the mask(.|\n)*out of --derivatives"):
        query(heads, **GROUP, derivatives=folders, space=SPACE)


# Functional runs that an engine registers


def test_runs_get_the_t1w_that_they_are_registered_through(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids"))
    subjects = query(bids, confounds=["trans_*", "framewise_displacement"])
    for subject in subjects:
        [image] = subject.anatomical
        assert image.image == image.t1w == t1w(bids, subject.subject)
        assert image.level == ""
        assert subject.t1w_index() == [0, 0]
        assert all(run.mask is None and run.confounds is None for run in subject.runs)
    assert query(bids, preproc="none")[0].anatomical == ()


def test_raw_runs_may_lie_on_different_grids(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids"))
    path = bids / "sub-02" / "func" / "sub-02_task-look_run-1_bold.nii.gz"
    img = nb.load(path)
    other = nb.Nifti1Image(np.asarray(img.dataobj)[:6], np.diag([4.0, 4, 5, 1]))
    other.header.set_zooms((4, 4, 5, 2))
    other.header.set_xyzt_units("mm", "sec")
    nb.save(other, path)
    assert len(query(bids, resolution=3)) == 3
    with pytest.raises(InputError, match="different grids"):
        query(bids, preproc="none")


def test_masks_of_runs_that_an_engine_registers(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids"))
    mask = write_mask(tmp_path / "mask.nii.gz")
    assert query(bids, mask=mask)[0].runs[0].mask == mask
    assert query(bids, mask="template")[0].runs[0].mask is None
    with pytest.raises(InputError, match=r"--mask derivatives with --preproc ants(.|\n)*leave out --mask"):
        query(bids, mask="derivatives")
    nb.save(nb.Nifti1Image(np.zeros((7, 7, 3), np.uint8), np.eye(4)), mask)
    with pytest.raises(InputError, match=r"No voxel is inside .*mask\.nii\.gz"):
        query(bids, mask=mask)


def test_confounds_of_engines_are_known(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids", n_subjects=2))
    assert len(ENGINE_COLUMNS) == 28
    assert ENGINE_COLUMNS[:4] == (
        "trans_x",
        "trans_x_derivative1",
        "trans_x_power2",
        "trans_x_derivative1_power2",
    )
    with pytest.raises(
        InputError, match=r"--preproc fsl computes matches the confound 'trans_w'(.|\n)*'trans_z'"
    ):
        query(bids, preproc="fsl", confounds=["trans_w"])


def test_a_run_takes_the_t1w_of_its_session_or_the_first(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1)
    rng = np.random.default_rng(0)
    (bids / "task-look_events.tsv").write_text(
        (bids / "sub-01/func/sub-01_task-look_run-1_events.tsv").read_text()
    )
    source = bids / "sub-01/func/sub-01_task-look_run-1_bold.nii.gz"
    for session in ("1", "2", "3"):
        path = bids / f"sub-01/ses-{session}/func/sub-01_ses-{session}_task-look_bold.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(source.read_bytes())
    for session in ("2", "3"):
        write_head(bids / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz", rng)
    [subject] = query(bids, session_label=["1", "3"])
    assert [image.session for image in subject.anatomical] == ["2", "3"]
    assert subject.t1w_index() == [0, 1]
    [subject] = query(bids, session_label=["3"])
    assert [image.session for image in subject.anatomical] == ["3"]


def test_a_participant_without_t1w_is_refused(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids"))
    t1w(bids, "02").unlink()
    with pytest.raises(InputError) as refusal:
        query(bids)
    text = str(refusal.value)
    for part in (
        "sub-02",
        "sub-02/[ses-*/]anat/*_T1w.nii.gz",
        "--participant-label",
        "--bids-filter-file",
        "--preproc none or derivatives",
    ):
        assert part in text
    assert len(query(bids, participant_label=["01", "03"])) == 2
    with pytest.raises(InputError, match=r"3 problems(.|\n)*the filter \{'acquisition': 'fast'\}"):
        query(with_t1w(bids), bids_filters={"t1w": {"acquisition": "fast"}})


def test_several_t1w_of_a_session_need_a_filter(tmp_path: Path) -> None:
    bids = with_t1w(make_dataset(tmp_path / "bids"))
    for subject in ("01", "02", "03"):
        write_head(t1w(bids, subject, "_acq-fast_T1w.nii.gz"), np.random.default_rng(0))
    with pytest.raises(
        InputError, match=r'3 problems(.|\n)*one session(.|\n)*\{"t1w": \{"acquisition": "fast"\}\}'
    ):
        query(bids)
    subjects = query(bids, bids_filters={"t1w": {"acquisition": "fast"}})
    assert subjects[0].anatomical[0].entities["acquisition"] == "fast"
    assert len(query(bids, bids_filters={"t1w": {"acquisition": None}})) == 3


def test_a_copy_of_an_image_is_refused(heads: Path) -> None:
    nb.save(nb.load(t1w(heads)), t1w(heads, ending="_T1w.nii"))
    with pytest.raises(InputError, match=r"2 images are of one session(.|\n)*remove the copy"):
        query(heads, **GROUP)


# Whole datasets


def test_nothing_of_the_modality(heads: Path) -> None:
    with pytest.raises(InputError, match=r"No FLAIR image \(FLAIR\.nii or .*(.|\n)*anat/\*_FLAIR\.nii\.gz"):
        query(heads, modality="FLAIR", target="group")
    with pytest.raises(InputError, match=r"Unknown modality 't1w'(.|\n)*did you mean 'T1w'"):
        query(heads, modality="t1w", target="group")


def test_bad_images_are_reported_together(heads: Path) -> None:
    t1w(heads, "01").write_text("no image")
    nb.save(nb.Nifti1Image(np.zeros((20, 20, 1), np.float32), np.eye(4)), t1w(heads, "02"))
    with pytest.raises(InputError, match=r"2 problems(.|\n)*sub-01_T1w(.|\n)*sub-02_T1w.*a slice or a slab"):
        query(heads, **GROUP)


def test_real_heads(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shared_data / "ds002748-anat"
    if not folder.is_dir():
        pytest.skip("the anatomical data are not there")
    subjects = query(folder, modality="T1w", target="participants:group")
    records = images_of(subjects)
    rows = anatomical_rows(records, anatomical_classes(levels_of(records), "participants:group"))
    assert rows["class"].value_counts().to_dict() == {"control": 4, "depr": 4}
    # Of one participant the sform is aligned to another space, 12 mm from the scanner's.
    assert len(re.findall(r"The qform \(scanner\) and sform \(aligned\) of .*sub-56", caplog.text)) == 1
    with pytest.raises(InputError, match=r"'age' of participants\.tsv is a number with 7 distinct values"):
        query(folder, modality="T1w", target="participants:age")
