"""Sidecars of samples hold what had a part in them, and what is classified together must agree in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_xai.bids.descriptions import write_json
from bids_xai.bids.names import samples_path
from bids_xai.bids.preprocessed import OF_RUN, OF_T1W, image_metadata, of_contrast
from bids_xai.bids.results import find_samples
from bids_xai.bids.sidecars import samples_metadata, with_notes
from bids_xai.cli.groups import warnings_of
from bids_xai.errors import InputError

SETTINGS = {
    "modality": "T1w",
    "preproc": "ants",
    "sample": "events",
    "target": "participants:group",
    "classes": {"AD": ["AD"], "HC": ["HC"]},
    "window_anchor": "onset",
    "hrf_shift": 5.0,
    "detrend": True,
    "standardize": True,
    "scaling": "minmax",
    "registration": "syn",
    "registration_profile": "quick",
    "template": None,
}
FILES = {"bids_dir": "/data", "source": "/data/sub-01/x.nii.gz", "mask": "m", "space": "S", "resolution": 2.0}


def test_sidecar_of_an_anatomical_image() -> None:
    sidecar = samples_metadata(settings=SETTINGS, **FILES)
    assert sidecar["Sample"] == sidecar["Modality"] == "T1w"
    assert sidecar["Registration"] == "syn"
    assert sidecar["RegistrationProfile"] == "quick"
    assert sidecar["Scaling"] == "minmax"
    assert sidecar["Sources"] == ["bids:raw:sub-01/x.nii.gz"]
    assert not {"Template", "HrfShift", "Detrend", "Standardize", "RepetitionTime"} & set(sidecar)


@pytest.mark.parametrize("preproc", ["none", "derivatives"])
def test_sidecar_of_a_run_that_was_not_registered(preproc: str) -> None:
    sidecar = samples_metadata(
        settings={**SETTINGS, "modality": "bold", "preproc": preproc}, **FILES, repetition_time=2.0
    )
    assert sidecar["Sample"] == "events"
    assert sidecar["RepetitionTime"] == 2.0
    assert sidecar["HrfShift"] == 5.0
    assert "MergeEvents" not in sidecar
    assert not {"Scaling", "Registration", "RegistrationProfile"} & set(sidecar)


@pytest.mark.parametrize(
    ("setting", "value", "key"),
    [
        ("registration", "affine", "Registration"),
        ("registration_profile", "full", "RegistrationProfile"),
        ("scaling", "max", "Scaling"),
        ("template", "other", "Template"),
    ],
)
def test_images_made_in_two_ways_are_not_classified_together(
    tmp_path: Path, setting: str, value: str, key: str
) -> None:
    for subject, settings in (("01", SETTINGS), ("02", SETTINGS), ("03", {**SETTINGS, setting: value})):
        path = tmp_path / samples_path({"subject": subject, "session": "a", "space": "S"}, "T1w", ".json")
        write_json(path, samples_metadata(settings=settings, **FILES))
        assert json.loads(path.read_text())["Sample"] == "T1w"
    found = find_samples(tmp_path, participant_label=["01", "02"], sample="T1w")
    assert [(item.subject, item.session, item.task) for item in found] == [("01", "a", ""), ("02", "a", "")]
    with pytest.raises(InputError, match=f"different {key}:"):
        find_samples(tmp_path, sample="T1w")


def test_runs_with_other_blocks_are_not_classified_together(tmp_path: Path) -> None:
    bold = {**SETTINGS, "modality": "bold", "preproc": "none"}
    for subject, seconds in (("01", 2.0), ("02", 2.0), ("03", None)):
        path = tmp_path / samples_path({"subject": subject, "task": "x", "space": "S"}, "events", ".json")
        sidecar = samples_metadata(settings={**bold, "merge_events": seconds}, **FILES, repetition_time=2.0)
        assert sidecar.get("MergeEvents") == seconds
        write_json(path, sidecar)
    assert len(find_samples(tmp_path, participant_label=["01", "02"])) == 2
    with pytest.raises(InputError, match="different MergeEvents:"):
        find_samples(tmp_path)


def test_a_filter_that_had_no_effect_is_not_listed_and_no_other_setting(tmp_path: Path) -> None:
    bold = {
        **SETTINGS,
        "modality": "bold",
        "preproc": "none",
        "high_pass": 1 / 128,
        "description": "Drifts removed.",
    }
    for run, notes in (("1", {}), ("2", {"HighPass": None, "Warnings": ["No high-pass filter"]})):
        path = tmp_path / samples_path({"subject": "01", "task": "x", "run": run}, "events", ".json")
        sidecar = with_notes(samples_metadata(settings=bold, **FILES, repetition_time=2.0), notes)
        write_json(path, sidecar)
    first, second = find_samples(tmp_path)
    assert (first.metadata["HighPass"], second.metadata["HighPass"]) == (1 / 128, None)
    assert "Warnings" not in first.metadata
    assert warnings_of([first, second]) == ["sub-01_task-x_run-2_desc-events_samples: No high-pass filter"]
    assert first.metadata["PreprocessingDescription"] == "Drifts removed."
    assert second.metadata["PreprocessingDescription"].endswith(
        "removed. These runs are too short for the high-pass filter."
    )
    write_json(path, {**sidecar, "HighPass": 0.01})
    with pytest.raises(InputError, match="different HighPass:"):
        find_samples(tmp_path)


@pytest.mark.parametrize(
    "output", [output for output in (*OF_T1W, *of_contrast("FLAIR"), *OF_RUN) if output.suffix == "xfm"]
)
def test_transforms_say_whose_they_are(output):
    flirt, itk = (
        image_metadata(output, sources=[], settings={"preproc": engine}, quality=None, extension=extension)
        for engine, extension in (("fsl", ".mat"), ("ants", ".h5"))
    )
    assert flirt["Description"].startswith("FLIRT matri")
    assert "FLIRT" not in itk["Description"]


def test_images_made_by_fsl_say_how():
    settings = {"preproc": "fsl", "registration": "affine", "dof": 9, "high_pass_sigma": 55.0}
    sidecars = {
        output.port: image_metadata(output, sources=[], settings=settings, quality=None)
        for output in (*OF_T1W, *OF_RUN)
    }
    assert sidecars["bold_std"]["HighPassSigma"] == 55
    assert "once" not in sidecars["bold_std"]["Description"]
    assert "bias" not in sidecars["t1w_preproc"]["Description"]
    assert sidecars["t1w_std"]["DegreesOfFreedom"] == 9
    assert "RegistrationProfile" not in sidecars["t1w_std"]
