"""BOLD runs and ANTs: motion, coregistration to the T1w, one interpolation to the analysis grid."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.interfaces.functional import (
    EstimateMotion,
    GatherConfounds,
    ResampleRun,
    confounds_bytes,
    motion_bytes,
    resample_bytes,
)
from bids_xai.interfaces.quality import ReferenceQuality
from bids_xai.workflows.anatomical import init_coregistration_wf
from bids_xai.workflows.memory import with_memory

RUN_GB = 2.0


def init_bold_wf(
    *,
    coregistration: str = "rigid",
    profile: str = "quick",
    random_seed: int = 0,
    name: str = "bold_wf",
) -> pe.Workflow:
    """Bring BOLD runs to the analysis grid: motion, T1w and template composed, then sampled once.

    .. code-block:: text

        bold -> motion -> coregistration_wf -> compose -> resample -> confounds -> outputnode
                   +------------------------------------------^

    Parameters
    ----------
    coregistration
        ``"rigid"`` or ``"affine"``.
    profile
        One of :data:`bids_xai.workflows.registration.COREGISTRATION`.
    random_seed
        Seed of the registration's sampling.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D runs.
    t1w_index
        List of int: for each run the index of its anatomy in the next two lists.
    t1w_brain
        List of brains in T1w.
    t1w_xfm
        List of ITK transforms, T1w to template.
    grid_mask
        Mask on the analysis grid.

    Outputs
    -------
    bold_std
        List of 4-D runs on the analysis grid.
    bold_mask_std
        List: the mask where every volume of the run has data.
    boldref
        List of references: means of realigned volumes.
    boldref_t1w
        List: the references on the grids of their T1w.
    hmc_xfm
        List of files with one ITK transform per volume, reference to volume.
    bold_xfm
        List of ITK transforms, reference to T1w.
    confounds
        List of TSV files (:class:`bids_xai.interfaces.functional.GatherConfounds`).
    bold_quality
        List: what :class:`bids_xai.interfaces.quality.CoregistrationQuality` found.
    reference_quality
        List: what :class:`bids_xai.interfaces.quality.ReferenceQuality` found.
    """
    inputs = ["bold", "t1w_index", "t1w_brain", "t1w_xfm", "grid_mask"]
    outputs = [
        "bold_std", "bold_mask_std", "boldref", "boldref_t1w", "hmc_xfm", "bold_xfm", "confounds",
        "bold_quality", "reference_quality",
    ]  # fmt: skip
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=inputs), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    motion = with_memory(
        pe.MapNode(EstimateMotion(), iterfield=["in_file"], name="motion", mem_gb=RUN_GB), motion_bytes
    )
    reference_quality = init_reference_quality_node()
    brain = pe.Node(niu.Select(), name="brain")
    to_template = pe.Node(niu.Select(), name="to_template")
    coregistration_wf = init_coregistration_wf(
        kind=coregistration,
        profile=profile,
        random_seed=random_seed,
        what="The reference of each run",
    )
    chain = pe.Node(niu.Merge(2, axis="hstack"), name="chain")
    compose = pe.MapNode(
        ApplyTransforms(
            dimension=3, print_out_composite_warp_file=True, output_image="field.nii.gz", float=False
        ),
        iterfield=["input_image", "transforms"],
        name="compose",
        mem_gb=1,
    )
    resample = with_memory(
        pe.MapNode(
            ResampleRun(), iterfield=["in_file", "in_matrices", "in_field"], name="resample", mem_gb=RUN_GB
        ),
        resample_bytes,
    )
    confounds = init_confounds_node(RUN_GB)
    workflow.connect([
        (inputnode, motion, [("bold", "in_file")]),
        (inputnode, reference_quality, [("bold", "in_run")]),
        (motion, reference_quality, [("out_reference", "in_file")]),
        (reference_quality, outputnode, [("quality", "reference_quality")]),
        (inputnode, brain, [("t1w_brain", "inlist"), ("t1w_index", "index")]),
        (inputnode, to_template, [("t1w_xfm", "inlist"), ("t1w_index", "index")]),
        (motion, coregistration_wf, [("out_reference", "inputnode.images")]),
        (brain, coregistration_wf, [("out", "inputnode.brains")]),
        (to_template, chain, [("out", "in1")]),
        (coregistration_wf, chain, [("outputnode.xfm", "in2")]),
        (motion, compose, [("out_reference", "input_image")]),
        (chain, compose, [("out", "transforms")]),
        (inputnode, compose, [("grid_mask", "reference_image")]),
        (inputnode, resample, [("bold", "in_file"), ("grid_mask", "in_mask")]),
        (motion, resample, [("out_matrices", "in_matrices")]),
        (compose, resample, [("output_image", "in_field")]),
        (resample, confounds, [("out_file", "in_file"), ("out_mask", "in_mask")]),
        (motion, confounds, [("out_parameters", "in_parameters")]),
        (resample, outputnode, [("out_file", "bold_std"), ("out_mask", "bold_mask_std")]),
        (motion, outputnode, [("out_reference", "boldref"), ("out_transforms", "hmc_xfm")]),
        (coregistration_wf, outputnode, [("outputnode.xfm", "bold_xfm"),
                                         ("outputnode.aligned", "boldref_t1w"),
                                         ("outputnode.quality", "bold_quality")]),
        (confounds, outputnode, [("out_file", "confounds")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        "Head motion in each functional run was estimated by rigid realignment of every volume to a "
        "reference of the run, with least squares [@friston1995], in bids_xai's own implementation, as ANTs' "
        "Python package comes without its program for motion correction. Framewise displacement was computed "
        "from the parameters of motion [@power2012]."
    )
    workflow.__postdesc__ = (
        "The transforms for head motion, to the T1-weighted image and from there to the template were "
        "applied together, in one interpolation."
    )
    return workflow


def init_confounds_node(mem_gb: float) -> pe.MapNode:
    """Return the node that makes the tables of confounds, with its memory as long as runs are not known."""
    node = pe.MapNode(
        GatherConfounds(), iterfield=["in_file", "in_mask", "in_parameters"], name="confounds", mem_gb=mem_gb
    )
    return with_memory(node, confounds_bytes)


def init_reference_quality_node() -> pe.MapNode:
    """Return the node that compares the references of runs with the runs as they came."""
    return pe.MapNode(ReferenceQuality(), iterfield=["in_file", "in_run"], name="reference_quality", mem_gb=1)
