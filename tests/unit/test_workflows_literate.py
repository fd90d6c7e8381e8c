"""What graphs say of themselves: every program of their nodes, with the values that the nodes hold."""

from __future__ import annotations

from typing import Any

import pytest
from nipype.interfaces import fsl
from nipype.interfaces.base import CommandLine
from nipype.pipeline import engine as pe

from bids_xai.interfaces.ants import N4BiasFieldCorrection, Registration
from bids_xai.reports.references import REFERENCES, cited
from bids_xai.workflows.literate import describe, value_of
from bids_xai.workflows.samples import init_samples_wf

NODES = {"flirt": "FLIRT", "mcflirt": "MCFLIRT", "bet": "BET", "N4BiasFieldCorrection": "N4",
         "antsRegistration": "antsRegistration"}  # fmt: skip


def nodes_of(workflow: pe.Workflow) -> list[pe.Node]:
    return [workflow.get_node(name) for name in workflow.list_node_names()]


def programs_of(workflow: pe.Workflow) -> set[str]:
    nodes = [node for node in nodes_of(workflow) if isinstance(node.interface, CommandLine)]
    # The inverse of a matrix is written, and changes no image.
    found = {node.interface._cmd for node in nodes if node.name != "invert"}
    # Resampling is part of what registrations are said to do.
    return found - {"antsApplyTransforms"}


@pytest.mark.parametrize("modality", ["bold", "T1w", "FLAIR"])
@pytest.mark.parametrize("registration", ["none", "rigid", "affine"])
@pytest.mark.parametrize("dof", [9, 12])
def test_every_program_of_fsls_nodes_is_said_with_its_values(
    modality: str, registration: str, dof: int
) -> None:
    workflow = init_samples_wf(
        preproc="fsl", modality=modality, registration=registration, dof=dof, high_pass_sigma=55.0
    )
    text = describe(workflow)
    for program in programs_of(workflow):
        assert NODES.get(program, program) in text, program
    registrations = [
        node for node in nodes_of(workflow)
        if isinstance(node.interface, fsl.FLIRT) and value_of(node, "dof") is not None
    ]  # fmt: skip
    found = [value_of(node, "dof") for node in registrations]
    assert text.count("degrees of freedom") == len(found)
    for degrees in set(found):
        assert text.count(f"({degrees} degrees of freedom)") == found.count(degrees)
    assert ("affine (12 degrees" in text) == (12 in found)
    n4 = [node for node in nodes_of(workflow) if isinstance(node.interface, N4BiasFieldCorrection)]
    assert text.count("corrected with N4") == text.count("robustfov") == len(n4)
    for node in nodes_of(workflow):
        if isinstance(node.interface, fsl.ImageMaths) and "-bptf" in str(value_of(node, "op_string")):
            assert f"fslmaths {value_of(node, 'op_string')}" in text
            assert "σ = 55 volumes" in text
        if isinstance(node.interface, fsl.BET) and value_of(node, "frac") is not None:
            assert f"threshold {value_of(node, 'frac'):g}" in text
    assert {*cited([text])} <= {*REFERENCES}


def test_no_program_is_said_that_no_node_runs() -> None:
    text = describe(init_samples_wf(preproc="fsl", modality="T1w", registration="affine"))
    for word in ("MCFLIRT", "-bptf", "FLAIR", "mean volume", "convert_xfm"):
        assert word not in text
    assert "stored in the order of the template's, as fslreorient2std does." in text
    text = describe(init_samples_wf(preproc="fsl", modality="bold", registration="affine"))
    for word in ("N4", "robustfov", "-bptf", "FLAIR"):
        assert word not in text


@pytest.mark.parametrize("registration", ["rigid", "affine", "syn"])
@pytest.mark.parametrize("profile", ["sloppy", "quick", "full"])
@pytest.mark.parametrize("modality", ["bold", "T1w", "FLAIR"])
def test_transforms_of_ants_are_those_of_its_nodes(registration: str, profile: str, modality: str) -> None:
    workflow = init_samples_wf(
        preproc="ants", modality=modality, registration=registration, registration_profile=profile
    )
    text = describe(workflow)
    for program in programs_of(workflow):
        assert NODES[program] in text
    for node in nodes_of(workflow):
        if isinstance(node.interface, Registration):
            assert ("SyN" in text) or "SyN" not in value_of(node, "transforms")
            assert ("cross-correlation" in text) or "CC" not in value_of(node, "metric")
    assert ("SyN" in text) == (registration == "syn")
    assert ("cross-correlation" in text) == (registration == "syn" and profile == "full")
    assert ("not for publication" in text) == (profile == "sloppy")
    assert f"profile “{profile}”" in text
    assert {*cited([text])} <= {*REFERENCES}


@pytest.mark.parametrize(
    ("parameters", "words", "absent"),
    [
        ({"high_pass_sigma": 55.0}, "σ = 55 volumes", "discrete cosines"),
        ({"high_pass": 0.01}, "drifts below 0.01 Hz", "0.00781"),
        ({}, "drifts below 0.00781 Hz were removed with discrete cosines", "confounds"),
        ({"high_pass": 0}, "its linear trend was removed and it was scaled", "drifts"),
        ({"detrend": False, "high_pass": 0, "standardize": False}, "not filtered or scaled", "linear trend"),
        ({"confounds": ("trans_x", "rot_x")}, "confounds trans_x, rot_x", "discrete cosines, and"),
        ({"preproc": "derivatives"}, "fMRIPrep [@fmriprep2019], whose own", "taken as they are"),
        ({"preproc": "derivatives", "modality": "T1w"}, "sMRIPrep", "fMRIPrep ["),
        ({}, "without realignment or registration", "existing derivatives"),
        ({"modality": "T1w"}, "padded or cropped around their centre", "realignment"),
        ({"modality": "T1w", "in_space": True}, "on its grid by their affines", "padded or cropped"),
        ({"resolution": 4.0}, "downsampled to voxels of 4 mm by a separable tent", "padded"),
        ({"resolution": 4.0, "shape": (9, 8, 7)}, "their centre to 9 × 8 × 7 voxels", "xx"),
        ({"preproc": "ants", "registration": "none"}, "centre on centre with the template", "SyN"),
        ({"preproc": "ants", "resolution": 4.0}, "template, brought to voxels of 4 mm", "tent kernel"),
        ({"preproc": "ants", "coregistration": "affine"}, "with rigid and affine transforms", "xx"),
        ({"preproc": "ants", "individual_mask": True}, "participant's own brain mask", "xx"),
        ({"preproc": "ants", "modality": "T1w", "scaling": "max"}, "divided by the largest", "0 and 1"),
        ({"preproc": "ants", "modality": "T1w"}, "between 0 and 1", "divided by"),
        ({"preproc": "ants", "modality": "T1w", "scaling": "none"}, "N4", "values of each image"),
    ],
)  # fmt: skip
def test_other_steps_are_said_as_their_nodes_do_them(
    parameters: dict[str, Any], words: str, absent: str
) -> None:
    text = describe(init_samples_wf(**parameters))
    assert words in text
    assert absent not in text


def test_sentences_come_in_the_order_of_the_nodes() -> None:
    text = describe(
        init_samples_wf(preproc="fsl", registration="affine", high_pass_sigma=55.0, resolution=4.0)
    )
    steps = ["BET (option -R)", "to the template with FLIRT", "MCFLIRT", "-bptf", "The mean volume",
             "trilinear", "tent kernel", "unit variance"]  # fmt: skip
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
