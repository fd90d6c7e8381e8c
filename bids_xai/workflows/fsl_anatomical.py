"""Anatomical images to a template with FSL."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.ants import N4BiasFieldCorrection
from bids_xai.interfaces.fsl import CentreMatrix, ReorientImage
from bids_xai.interfaces.fsl_programs import BET, FLIRT, ApplyMask, ApplyXFM, ConvertXFM, RobustFOV
from bids_xai.interfaces.quality import CoregistrationQuality, TemplateSimilarity
from bids_xai.workflows.anatomical import FLOORS, init_brain_quality_node
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.raw import FLAIR, T1W

_RIGID = 6
_KINDS = {_RIGID: "rigid", 7: "rigid with one scale", 9: "rigid with three scales", 12: "affine"}
_HEAD_GB = 1.0


def init_fsl_t1w_wf(
    *,
    registration: str = "affine",
    dof: int = 9,
    correct_bias: bool = False,
    name: str = "t1w_wf",
) -> pe.Workflow:
    """Extract the brain of every T1w (BET) and register it to the template (FLIRT).

    .. code-block:: text

        inputnode -> head_wf -> brain -> (centre) -> to_template -> invert, quality -> outputnode

    Parameters
    ----------
    registration
        ``"affine"`` with ``dof``, ``"rigid"`` with 6 degrees of freedom, or ``"none"``: the centres of the
        fields of view are put on each other.
    dof
        Degrees of freedom of the affine registration; 9 in Gotsopoulos et al. 2018.
    correct_bias
        Correct the bias field and cut off the neck first, as Eitel et al. 2019 (:func:`init_fsl_head_wf`).
    name
        Name of the workflow.

    Inputs
    ------
    t1w
        List of T1w images.
    reference
        Skull-stripped T1w template, on the grid of the result.
    reference_mask
        Its brain mask.

    Outputs
    -------
    t1w_preproc
        List of T1w images with skull, on the grid that the matrices refer to.
    t1w_mask
        List of brain masks on the same grids.
    t1w_brain
        List of T1w images without skull on the same grids.
    t1w_std
        List of T1w images without skull on the reference's grid, trilinear.
    t1w_xfm, t1w_inverse_xfm
        Lists of FLIRT matrices, T1w to template and back.
    t1w_quality
        List: what :class:`bids_xai.interfaces.quality.TemplateSimilarity` found.
    brain_quality
        List: what :class:`bids_xai.interfaces.quality.BrainQuality` found.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["t1w", "reference", "reference_mask"]), name="inputnode"
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=list(T1W)), name="outputnode")
    head_wf = init_fsl_head_wf(correct_bias=correct_bias, contrast="T1-weighted")
    # -R finds the brain's centre also where the field of view reaches down to the shoulders.
    brain = map_fsl(BET(mask=True, robust=True), ["in_file"], "brain")
    brain_quality = init_brain_quality_node()
    if registration == "none":
        to_template = map_fsl(ApplyXFM(), ["in_file", "in_matrix_file"], "to_template")
    else:
        degrees = _RIGID if registration == "rigid" else dof
        registration = "rigid" if degrees == _RIGID else registration
        to_template = map_fsl(FLIRT(dof=degrees), ["in_file"], "to_template")
    invert = map_fsl(ConvertXFM(invert_xfm=True), ["in_file"], "invert")
    quality = pe.MapNode(
        TemplateSimilarity(floor=FLOORS[registration]), iterfield=["in_file", "before"], name="quality"
    )
    workflow.connect([
        (inputnode, head_wf, [("t1w", "inputnode.in_files")]),
        (head_wf, brain, [("outputnode.out_files", "in_file")]),
        (head_wf, outputnode, [("outputnode.out_files", "t1w_preproc")]),
        (brain, brain_quality, [("mask_file", "in_mask")]),
        (brain_quality, outputnode, [("quality", "brain_quality")]),
        (brain, to_template, [("out_file", "in_file")]),
        (inputnode, to_template, [("reference", "reference")]),
        (to_template, invert, [("out_matrix_file", "in_file")]),
        (to_template, quality, [("out_file", "in_file")]),
        (brain, quality, [("out_file", "before")]),
        (inputnode, quality, [("reference", "template"), ("reference_mask", "mask")]),
        (brain, outputnode, [("out_file", "t1w_brain"), ("mask_file", "t1w_mask")]),
        (to_template, outputnode, [("out_file", "t1w_std"), ("out_matrix_file", "t1w_xfm")]),
        (invert, outputnode, [("out_file", "t1w_inverse_xfm")]),
        (quality, outputnode, [("quality", "t1w_quality")]),
    ])  # fmt: skip
    if registration == "none":
        centre = pe.MapNode(CentreMatrix(), iterfield=["in_file"], name="centre", mem_gb=_HEAD_GB)
        workflow.connect([
            (brain, centre, [("out_file", "in_file")]),
            (inputnode, centre, [("reference", "reference")]),
            (centre, to_template, [("out_file", "in_matrix_file")]),
        ])  # fmt: skip
    workflow.__postdesc__ = f"{_extraction(brain)} {_normalisation(to_template)}"
    return workflow


def _extraction(brain: pe.MapNode) -> str:
    robust = " (option -R)" if value_of(brain, "robust") else ""
    return f"The brain of each T1-weighted image was extracted with BET{robust} [@smith2002]."


def _normalisation(to_template: pe.MapNode) -> str:
    if isinstance(to_template.interface, ApplyXFM):
        return "It was put centre on centre with the template and resampled by FLIRT, without registration."
    return f"It was registered to the template with FLIRT [@jenkinson2002], {degrees_text(to_template)}."


def degrees_text(flirt: pe.MapNode) -> str:
    """Return the degrees of freedom of a node of FLIRT in words."""
    dof = value_of(flirt, "dof")
    return f"{_KINDS.get(dof, 'affine')} ({dof} degrees of freedom)"


def init_fsl_head_wf(
    *, correct_bias: bool = True, contrast: str = "anatomical", name: str = "head_wf"
) -> pe.Workflow:
    """Store the axes as the template's, correct the bias field (N4), cut the view to the head (robustfov).

    FLIRT and robustfov take the stored axes for left, anterior and superior: whatever their order in the
    file, they are put so, as ``fslreorient2std`` does (:func:`bids_xai.images.grids.reoriented`), which
    changes no value. FSL's own script needs ``bc`` and FSL's standard images, and ends well without them.

    .. code-block:: text

        inputnode -> reorient -> (n4 -> crop) -> outputnode

    Parameters
    ----------
    correct_bias
        Correct the bias field and cut the view; else the axes only.
    contrast
        What the description calls the images.
    name
        Name of the workflow.

    Inputs
    ------
    in_files
        List of anatomical images.

    Outputs
    -------
    out_files
        The images; positions in space stay.

    Source
    ------
    Eitel et al. 2019, doi:10.1016/j.nicl.2019.102003; N4: Tustison et al. 2010, doi:10.1109/TMI.2010.2046908
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["in_files"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_files"]), name="outputnode")
    reorient = pe.MapNode(ReorientImage(), iterfield=["in_file"], name="reorient", mem_gb=_HEAD_GB)
    workflow.connect(inputnode, "in_files", reorient, "in_file")
    workflow.__desc__ = (
        f"The axes of each {contrast} image were stored in the order of the template's, as fslreorient2std "
        "does."
    )
    if not correct_bias:
        workflow.connect(reorient, "out_file", outputnode, "out_files")
        return workflow
    # One thread, as sums over threads would differ in the last bits from run to run.
    n4 = pe.MapNode(
        N4BiasFieldCorrection(dimension=3, copy_header=True, num_threads=1),
        iterfield=["input_image"],
        name="n4",
        mem_gb=_HEAD_GB,
    )
    crop = map_fsl(RobustFOV(out_transform="roi.mat"), ["in_file"], "crop")
    workflow.connect([
        (reorient, n4, [("out_file", "input_image")]),
        (n4, crop, [("output_image", "in_file")]),
        (crop, outputnode, [("out_roi", "out_files")]),
    ])  # fmt: skip
    workflow.__postdesc__ = (
        f"The intensity non-uniformity of each {contrast} image was corrected with N4 [@tustison2010], and "
        "its field of view was cut to the head (robustfov)."
    )
    return workflow


def init_fsl_flair_wf(*, name: str = "flair_wf") -> pe.Workflow:
    """Bring every FLAIR through its T1w to the template in one spline interpolation, and mask the brain.

    .. code-block:: text

        inputnode -> head_wf -> to_t1w -> quality
            |                      +-> concat -> to_template -> extract -> outputnode
            +-----------------> mask_to_template ------------------^

    Parameters
    ----------
    name
        Name of the workflow.

    Inputs
    ------
    flair
        List of FLAIR images.
    t1w_preproc
        List of T1w images with skull, in the same order.
    t1w_mask, t1w_brain
        Lists of their brain masks, and of the images without skull.
    t1w_xfm
        List of FLIRT matrices, T1w to template.
    reference
        Template, on the grid of the result.

    Outputs
    -------
    flair_preproc
        List of FLAIR images with skull, on the grid that the matrices refer to.
    flair_std
        List of FLAIR images without skull on the reference's grid.
    flair_xfm
        List of FLIRT matrices, FLAIR to T1w (6 degrees of freedom: one head).
    flair_t1w
        List of FLIRT's results: FLAIR images on the grids of the T1w.
    flair_quality
        List: what :class:`bids_xai.interfaces.quality.CoregistrationQuality` found.

    Source
    ------
    Eitel et al. 2019, doi:10.1016/j.nicl.2019.102003
    """
    fields = ["flair", "t1w_preproc", "t1w_mask", "t1w_brain", "t1w_xfm", "reference"]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(FLAIR)), name="outputnode")
    head_wf = init_fsl_head_wf(contrast="FLAIR")
    to_t1w = map_fsl(FLIRT(dof=_RIGID), ["in_file", "reference"], "to_t1w")
    quality = init_quality_node()
    concat = map_fsl(
        ConvertXFM(concat_xfm=True, out_file="to_template.mat"), ["in_file", "in_file2"], "concat"
    )
    to_template = map_fsl(ApplyXFM(interp="spline"), ["in_file", "in_matrix_file"], "to_template")
    mask_to_template = map_fsl(
        ApplyXFM(interp="nearestneighbour"), ["in_file", "in_matrix_file"], "mask_to_template"
    )
    extract = map_fsl(ApplyMask(), ["in_file", "mask_file"], "extract")
    workflow.connect([
        (inputnode, head_wf, [("flair", "inputnode.in_files")]),
        (head_wf, to_t1w, [("outputnode.out_files", "in_file")]),
        (inputnode, to_t1w, [("t1w_preproc", "reference")]),
        (head_wf, quality, [("outputnode.out_files", "before")]),
        (to_t1w, quality, [("out_file", "in_file")]),
        (inputnode, quality, [("t1w_brain", "reference")]),
        (to_t1w, concat, [("out_matrix_file", "in_file")]),
        (inputnode, concat, [("t1w_xfm", "in_file2")]),
        (head_wf, to_template, [("outputnode.out_files", "in_file")]),
        (concat, to_template, [("out_file", "in_matrix_file")]),
        (inputnode, to_template, [("reference", "reference")]),
        (inputnode, mask_to_template, [("t1w_mask", "in_file"), ("t1w_xfm", "in_matrix_file"),
                                       ("reference", "reference")]),
        (to_template, extract, [("out_file", "in_file")]),
        (mask_to_template, extract, [("out_file", "mask_file")]),
        (head_wf, outputnode, [("outputnode.out_files", "flair_preproc")]),
        (extract, outputnode, [("out_file", "flair_std")]),
        (to_t1w, outputnode, [("out_matrix_file", "flair_xfm"), ("out_file", "flair_t1w")]),
        (quality, outputnode, [("quality", "flair_quality")]),
    ])  # fmt: skip
    workflow.__postdesc__ = (
        "Each FLAIR image was registered to the T1-weighted image of the same participant with FLIRT, "
        f"{degrees_text(to_t1w)}. Both matrices were concatenated (convert_xfm), and the image was brought "
        f"to the template in one {value_of(to_template, 'interp', 'trilinear')} interpolation. The brain "
        "mask of the T1-weighted image was brought there by the nearest neighbour and applied (fslmaths "
        "-mas)."
    )
    return workflow


def init_quality_node() -> pe.MapNode:
    """Return the node that judges alignments with the brains in T1w."""
    return pe.MapNode(
        CoregistrationQuality(), iterfield=["in_file", "before", "reference"], name="quality", mem_gb=_HEAD_GB
    )


def map_fsl(interface: Any, iterfield: list[str], name: str, mem_gb: float = _HEAD_GB) -> pe.MapNode:
    """Return a node that runs one FSL program on each element of a list and writes ``.nii.gz``."""
    interface.inputs.output_type = "NIFTI_GZ"
    return pe.MapNode(interface, iterfield=iterfield, name=name, mem_gb=mem_gb)
