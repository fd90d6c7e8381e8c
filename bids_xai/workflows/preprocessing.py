"""Engines that bring a subject's runs into one grid. Each has the same ports, so one replaces another."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.images import ComputeMask


def init_aligned_preproc_wf(*, compute_mask: bool, name: str = "preproc_wf") -> pe.Workflow:
    """Take images that are already aligned with each other: ``--preproc none`` and ``derivatives``.

    .. code-block:: text

        inputnode --bold----------------> outputnode
            +--bold--> (compute_mask) --mask--^
            +--mask---------------------------^

    Parameters
    ----------
    compute_mask
        Compute a brain mask of every run, instead of taking ``mask`` from the inputs.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D images in one grid.
    mask
        List of masks in the same grid (unused with ``compute_mask``).

    Outputs
    -------
    bold
        The images, unchanged.
    mask
        List of masks.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["bold", "mask"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["bold", "mask"]), name="outputnode")
    workflow.connect(inputnode, "bold", outputnode, "bold")
    if compute_mask:
        mask = pe.MapNode(ComputeMask(), iterfield=["in_file"], name="compute_mask", mem_gb=1)
        workflow.connect([
            (inputnode, mask, [("bold", "in_file")]),
            (mask, outputnode, [("out_mask", "mask")]),
        ])  # fmt: skip
    else:
        workflow.connect(inputnode, "mask", outputnode, "mask")
    return workflow
