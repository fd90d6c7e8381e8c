"""From images in one space to the analysis grid."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.images import DownsampleImage, DownsampleMask, FitShape, downsample_bytes, fit_bytes
from bids_xai.reports.html import number
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.memory import with_memory


def init_grid_wf(
    *,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    runs: bool = False,
    mem_gb: float = 1.0,
    name: str = "grid_wf",
) -> pe.Workflow:
    """Bring images and masks of one grid to the voxel size and shape of the analysis.

    Parameters
    ----------
    resolution
        Voxel size in mm; None keeps that of the images.
    shape
        Voxels of the result, padded or cropped around the centre; None keeps what there is.
    runs
        The images are 4-D runs (:func:`bids_xai.workflows.memory.with_memory`).
    mem_gb
        Memory that an image takes.
    name
        Name of the workflow.

    Inputs
    ------
    images
        List of 3-D or 4-D images.
    masks
        List of masks on their grid, or one.

    Outputs
    -------
    images
        The images on the analysis grid, in the same order.
    mask
        Voxels that lie in all masks, on the analysis grid.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["images", "masks"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["images", "mask"]), name="outputnode")
    downsample_mask = pe.Node(DownsampleMask(), name="downsample_mask")
    workflow.connect(inputnode, "masks", downsample_mask, "in_masks")
    images, mask = (inputnode, "images"), (downsample_mask, "out_mask")
    if resolution is not None:
        downsample_mask.inputs.resolution = resolution
        downsample = pe.MapNode(
            DownsampleImage(resolution=resolution), iterfield=["in_file"], name="downsample", mem_gb=mem_gb
        )
        if runs:
            with_memory(downsample, downsample_bytes)
        workflow.connect(*images, downsample, "in_file")
        images = (downsample, "out_file")
    if shape is not None:
        fit = pe.MapNode(FitShape(shape=tuple(shape)), iterfield=["in_file"], name="fit", mem_gb=mem_gb)
        if runs:
            with_memory(fit, fit_bytes)
        fit_mask = pe.Node(FitShape(shape=tuple(shape)), name="fit_mask")
        workflow.connect(*images, fit, "in_file")
        workflow.connect(*mask, fit_mask, "in_file")
        images, mask = (fit, "out_file"), (fit_mask, "out_file")
    workflow.connect(*images, outputnode, "images")
    workflow.connect(*mask, outputnode, "mask")
    workflow.__desc__ = _description(workflow)
    return workflow


def _description(workflow: pe.Workflow) -> str:
    sentences = []
    if downsample := workflow.get_node("downsample"):
        sentences.append(
            f"Images were downsampled to voxels of {number(value_of(downsample, 'resolution'))} mm by a "
            "separable tent kernel, and the mask with them (kept where more than half of the kernel's weight "
            "lies inside)."
        )
    if fit := workflow.get_node("fit"):
        size = " × ".join(number(length) for length in value_of(fit, "shape"))
        sentences.append(f"They were padded or cropped around their centre to {size} voxels.")
    return " ".join(sentences)


def set_grid(node: pe.Node, resolution: float | None, shape: tuple[int, int, int] | None) -> None:
    """Set the inputs ``resolution`` and ``shape`` of a node, unless they are None."""
    if resolution is not None:
        node.inputs.resolution = resolution
    if shape is not None:
        node.inputs.shape = tuple(shape)
