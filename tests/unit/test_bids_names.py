"""Names of outputs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_xai.bids.names import (
    alpha_label,
    bids_name,
    common_entities,
    group_map_path,
    group_table_path,
    mask_path,
    participant_path,
    samples_path,
    sanitize,
    sanitize_all,
)
from bids_xai.errors import InputError


def test_labels_of_letters_and_digits():
    assert sanitize("low-level_face") == "lowlevelface"
    with pytest.raises(InputError, match="neither letters nor digits"):
        sanitize("+-")


def test_collisions_are_numbered_and_clean_labels_keep_their_name():
    assert sanitize_all(["face-1", "face1", "Face1", "house"]) == {
        "face-1": "face13",
        "face1": "face1",
        "Face1": "Face12",
        "house": "house",
    }


@given(
    st.lists(st.text(st.sampled_from("aAb1-+_ "), min_size=1).filter(lambda t: t.strip("-+_ ")), unique=True)
)
def test_sanitized_labels_are_distinct_on_any_file_system(labels):
    names = sanitize_all(labels)
    assert list(names) == labels
    assert all(re.fullmatch(r"[0-9A-Za-z]+", name) for name in names.values())
    assert len({name.lower() for name in names.values()}) == len(labels)


@pytest.mark.parametrize(("alpha", "label"), [(0.001, "001"), (0.05, "05"), (0.1, "1"), (1e-7, "0000001")])
def test_alpha_labels(alpha, label):
    assert alpha_label(alpha) == label


def test_names_of_participants():
    runs = [
        {"subject": "01", "session": "a", "task": "x", "acquisition": "s", "run": run, "desc": "preproc",
         "suffix": "bold", "datatype": "func"}
        for run in ("1", "2")
    ]  # fmt: skip
    assert str(samples_path({**runs[0], "space": "MNI152NLin2009cAsym", "resolution": "4"}, "events")) == (
        "sub-01/ses-a/func/sub-01_ses-a_task-x_acq-s_run-1_space-MNI152NLin2009cAsym_res-4"
        "_desc-events_samples.nii.gz"
    )
    shared = common_entities(runs)
    assert "run" not in shared
    assert str(mask_path(shared)) == "sub-01/ses-a/func/sub-01_ses-a_task-x_acq-s_desc-brain_mask.nii.gz"
    assert mask_path({"subject": "01", "session": ""}).parts[:2] == ("sub-01", "anat")


def test_names_of_anatomical_images():
    image = {"subject": "01", "session": "x", "acquisition": "iso", "suffix": "T1w", "datatype": "anat"}
    grid = {"space": "MNI152NLin2009cAsym", "resolution": "2"}
    assert str(samples_path({**image, **grid}, "T1w")) == (
        "sub-01/ses-x/anat/sub-01_ses-x_acq-iso_space-MNI152NLin2009cAsym_res-2_desc-T1w_samples.nii.gz"
    )
    ends = {"from": "T1w", "to": "MNI152NLin2009cAsym", "mode": "image"}
    assert str(participant_path({**image, **ends}, suffix="xfm", extension=".h5")) == (
        "sub-01/ses-x/anat/sub-01_ses-x_acq-iso_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"
    )
    run = {"subject": "01", "task": "x", "run": "1", "from": "boldref", "to": "T1w", "mode": "image"}
    assert str(participant_path(run, suffix="xfm", extension=".h5", desc="coreg")) == (
        "sub-01/func/sub-01_task-x_run-1_from-boldref_to-T1w_mode-image_desc-coreg_xfm.h5"
    )


def test_resolution_of_the_analysis_replaces_that_of_the_source():
    entities = {"subject": "1", "res": "2", "resolution": "4"}
    assert "_res-4_" in str(mask_path(entities))
    assert "_res-2_" in str(mask_path({**entities, "resolution": None}))


def test_names_of_the_group():
    path = group_map_path(
        "fwer", label="face", method="LRP-W2", alpha=0.05, entities={"task": "x", "space": "T", "run": "1"}
    )
    assert str(path) == "group/maps/task-x_space-T_class-face_method-LRPW2_stat-fwer_alpha-05_map.nii.gz"
    assert str(group_table_path("accuracy", entities={"task": "x"})) == "group/task-x_desc-accuracy_table.tsv"


def test_unknown_entities_are_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="flavour"):
        bids_name({"flavour": "x"}, "map", ".nii")
