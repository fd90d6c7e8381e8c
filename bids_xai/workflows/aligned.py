"""Engines that take images as they are: ``--preproc derivatives`` and ``--preproc none``."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.anatomical import MaskImage, ToGrid
from bids_xai.interfaces.images import ComputeMask
from bids_xai.workflows import IMAGE_PORTS
from bids_xai.workflows.grid import init_grid_wf
from bids_xai.workflows.literate import value_of

_INPUTS = ("bold", "t1w", "flair", "mask", "in_confounds", "template", "template_mask")


def init_derivatives_preproc_wf(
    *,
    modality: str = "bold",
    compute_mask: bool = False,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    name: str = "preproc_wf",
) -> pe.Workflow:
    """Take images that are aligned with each other: ``--preproc derivatives``, and BOLD with ``none``.

    .. code-block:: text

        inputnode -> (compute_mask) -> (strip) -> grid_wf -> outputnode

    Parameters
    ----------
    modality
        What is classified: ``"bold"``, ``"T1w"``, ``"FLAIR"`` or ``"T2w"``.
    compute_mask
        Compute a brain mask of every image, instead of taking ``mask`` from the inputs.
    resolution
        Voxel size of the analysis grid in mm; None: that of the images.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: as they come.
    name
        Name of the workflow.

    Inputs
    ------
    bold, t1w, flair
        List of the images of the modality, in one grid.
    mask
        List of masks in the same grid (unused with ``compute_mask``).
    in_confounds
        List of confounds files of runs.
    template, template_mask
        Unused: engines replace each other.

    Outputs
    -------
    images
        List on the analysis grid; anatomical images are 0 outside their masks.
    mask
        Voxels in all masks, on the analysis grid.
    confounds
        The confounds files.
    """
    workflow, inputnode, outputnode = _start(name)
    images, masks = (inputnode, IMAGE_PORTS[modality]), (inputnode, "mask")
    if compute_mask:
        compute = pe.MapNode(ComputeMask(), iterfield=["in_file"], name="compute_mask", mem_gb=1)
        workflow.connect(*images, compute, "in_file")
        masks = (compute, "out_mask")
    if modality != "bold":
        strip = pe.MapNode(MaskImage(), iterfield=["in_file", "in_mask"], name="strip", mem_gb=1)
        workflow.connect(*images, strip, "in_file")
        workflow.connect(*masks, strip, "in_mask")
        images = (strip, "out_file")
    grid_wf = init_grid_wf(resolution=resolution, shape=shape, runs=modality == "bold")
    workflow.connect(*images, grid_wf, "inputnode.images")
    workflow.connect(*masks, grid_wf, "inputnode.masks")
    workflow.connect([
        (inputnode, outputnode, [("in_confounds", "confounds")]),
        (grid_wf, outputnode, [("outputnode.images", "images"), ("outputnode.mask", "mask")]),
    ])  # fmt: skip
    program = "fMRIPrep [@fmriprep2019]" if modality == "bold" else "sMRIPrep [@smriprep; @fmriprep2019]"
    workflow.__desc__ = (
        f"Preprocessed images were taken from existing derivatives, such as those of {program}, whose own "
        "description must be cited."
    )
    return workflow


def init_none_preproc_wf(
    *,
    modality: str = "bold",
    compute_mask: bool = False,
    in_space: bool = False,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    name: str = "preproc_wf",
) -> pe.Workflow:
    """Do not register anything: ``--preproc none``.

    BOLD is taken as it is (:func:`init_derivatives_preproc_wf`). Anatomical images are brought to the
    template's voxels: by their affines where they are in its space, else padded or cropped around their
    centre to its dimensions (the baseline of Klingenberg et al. 2021).

    .. code-block:: text

        inputnode -> to_grid -> grid_wf -> outputnode

    Parameters
    ----------
    modality
        What is classified: ``"bold"``, ``"T1w"``, ``"FLAIR"`` or ``"T2w"``.
    compute_mask
        Compute masks of BOLD, instead of taking ``mask`` from the inputs. Anatomical images that are not
        registered have no common brain: without ``mask`` all voxels are taken that all images show.
    in_space
        Anatomical images are in the template's space: their affines say where they lie on its grid.
    resolution
        Voxel size of the analysis grid in mm; None: that of the BOLD, or of the template.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: as they come.
    name
        Name of the workflow.

    Inputs
    ------
    bold, t1w, flair
        List of the images of the modality.
    mask
        List of masks: in the grid of BOLD, or one on the analysis grid.
    in_confounds
        List of confounds files of runs.
    template
        Image with the voxels and dimensions that anatomical images get.
    template_mask
        Unused: engines replace each other.

    Outputs
    -------
    images
        List on the analysis grid.
    mask
        One mask on the analysis grid.
    confounds
        The confounds files.
    """
    if modality == "bold":
        workflow = init_derivatives_preproc_wf(
            compute_mask=compute_mask, resolution=resolution, shape=shape, name=name
        )
        workflow.__desc__ = "The images were taken as they are, without realignment or registration."
        return workflow
    workflow, inputnode, outputnode = _start(name)
    fit = pe.MapNode(ToGrid(in_space=in_space), iterfield=["in_file"], name="to_grid", mem_gb=1)
    grid_wf = init_grid_wf(resolution=resolution, shape=shape)
    workflow.connect([
        (inputnode, fit, [(IMAGE_PORTS[modality], "in_file"), ("template", "grid")]),
        (fit, grid_wf, [("out_file", "inputnode.images"), ("out_view", "inputnode.masks")]),
        (grid_wf, outputnode, [("outputnode.images", "images"), ("outputnode.mask", "mask")]),
    ])  # fmt: skip
    where = (
        "in the template's space: they were resampled on its grid by their affines."
        if value_of(fit, "in_space")
        else "they were brought to the voxel size of a template and padded or cropped around their centre to "
        "its dimensions [@klingenberg2021]."
    )
    workflow.__desc__ = f"The images were taken as they are, without registration, {where}"
    return workflow


def _start(name: str) -> tuple[pe.Workflow, pe.Node, pe.Node]:
    inputnode = pe.Node(niu.IdentityInterface(fields=list(_INPUTS)), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["images", "mask", "confounds"]), name="outputnode")
    return pe.Workflow(name=name), inputnode, outputnode
