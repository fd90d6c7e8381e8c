"""Figures of preprocessing for the subject's page."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.reportlets import MaskFigure, RegistrationFigure, RunFigure
from bids_xai.workflows import IMAGE_PORTS


def init_figures_wf(
    *, modality: str = "bold", space: str = "template", name: str = "figures_wf"
) -> pe.Workflow:
    """Draw what preprocessing did: brain extraction, registrations, runs.

    Parameters
    ----------
    modality
        What is classified: ``"bold"``, ``"T1w"``, ``"FLAIR"`` or ``"T2w"``.
    space
        Name of the template.
    name
        Name of the workflow.

    Inputs
    ------
    template, template_mask
        The template and its brain mask.
    t1w_preproc, t1w_mask, t1w_brain, t1w_std
        Lists, as :func:`bids_xai.workflows.anatomical.init_t1w_wf` gives them.
    flair_t1w
        List of FLAIR images on the grids of the T1w.
    t1w_index
        List of int: for each run or FLAIR the index of its T1w.
    boldref_t1w, bold_std, bold_mask_std, confounds
        Lists, as :func:`bids_xai.workflows.functional.init_bold_wf` gives them.
    repetition_time
        List of seconds between volumes.

    Outputs
    -------
    brain, registration
        Lists of SVG files, one per T1w.
    flair
        List of SVG files, one per FLAIR.
    coregistration, run
        Lists of SVG files, one per run.
    """
    inputs = [
        "template", "template_mask", "t1w_preproc", "t1w_mask", "t1w_brain", "t1w_std", "flair_t1w",
        "t1w_index", "boldref_t1w", "bold_std", "bold_mask_std", "confounds", "repetition_time",
    ]  # fmt: skip
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=inputs), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["brain", "registration", "flair", "coregistration", "run"]),
        name="outputnode",
    )
    brain = pe.MapNode(MaskFigure(), iterfield=["in_file", "in_mask"], name="brain")
    registration = pe.MapNode(
        RegistrationFigure(fixed_label=space, moving_label="T1w"), iterfield=["moving"], name="registration"
    )
    workflow.connect([
        (inputnode, brain, [("t1w_preproc", "in_file"), ("t1w_mask", "in_mask")]),
        (inputnode, registration, [("template", "fixed"), ("template_mask", "mask"), ("t1w_std", "moving")]),
        (brain, outputnode, [("out_figure", "brain")]),
        (registration, outputnode, [("out_figure", "registration")]),
    ])  # fmt: skip
    if IMAGE_PORTS[modality] == "flair":
        flair = pe.MapNode(
            RegistrationFigure(fixed_label="T1w", moving_label=modality),
            iterfield=["fixed", "moving", "mask"],
            name="flair",
        )
        brains, masks = pe.Node(niu.Select(), name="brains"), pe.Node(niu.Select(), name="masks")
        workflow.connect([
            (inputnode, brains, [("t1w_brain", "inlist"), ("t1w_index", "index")]),
            (inputnode, masks, [("t1w_mask", "inlist"), ("t1w_index", "index")]),
            (inputnode, flair, [("flair_t1w", "moving")]),
            (brains, flair, [("out", "fixed")]),
            (masks, flair, [("out", "mask")]),
            (flair, outputnode, [("out_figure", "flair")]),
        ])  # fmt: skip
    if modality == "bold":
        _add_runs(workflow, inputnode, outputnode)
    return workflow


def _add_runs(workflow: pe.Workflow, inputnode: pe.Node, outputnode: pe.Node) -> None:
    brains, masks = pe.Node(niu.Select(), name="brains"), pe.Node(niu.Select(), name="masks")
    coregistration = pe.MapNode(
        RegistrationFigure(fixed_label="T1w", moving_label="BOLD"),
        iterfield=["fixed", "moving", "mask"],
        name="coregistration",
    )
    run = pe.MapNode(
        RunFigure(),
        iterfield=["in_file", "in_mask", "in_confounds", "repetition_time"],
        name="run",
        mem_gb=1,
    )
    workflow.connect([
        (inputnode, brains, [("t1w_brain", "inlist"), ("t1w_index", "index")]),
        (inputnode, masks, [("t1w_mask", "inlist"), ("t1w_index", "index")]),
        (inputnode, coregistration, [("boldref_t1w", "moving")]),
        (brains, coregistration, [("out", "fixed")]),
        (masks, coregistration, [("out", "mask")]),
        (inputnode, run, [("bold_std", "in_file"), ("bold_mask_std", "in_mask"),
                          ("confounds", "in_confounds"), ("repetition_time", "repetition_time")]),
        (coregistration, outputnode, [("out_figure", "coregistration")]),
        (run, outputnode, [("out_figure", "run")]),
    ])  # fmt: skip
