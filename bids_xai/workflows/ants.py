"""The engine ``--preproc ants``: raw images to a template, with ANTs."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.anatomical import AnalysisGrid, ConformImage, MaskImage
from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.interfaces.images import DownsampleMask
from bids_xai.reports.html import listed, number
from bids_xai.workflows import SLOPPY
from bids_xai.workflows.anatomical import INTERPOLATIONS, init_coregistration_wf, init_n4_node, init_t1w_wf
from bids_xai.workflows.functional import init_bold_wf
from bids_xai.workflows.grid import init_grid_wf, set_grid
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.raw import BOLD, FLAIR, INDIVIDUAL_MASK, T1W, connect_anatomies, start_engine


def init_ants_preproc_wf(
    *,
    modality: str = "bold",
    registration: str = "syn",
    registration_profile: str = "quick",
    coregistration: str = "rigid",
    individual_mask: bool = False,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    random_seed: int = 0,
    name: str = "preproc_wf",
) -> pe.Workflow:
    """Bring a subject's raw images to a template and its mask with them: ``--preproc ants``.

    .. code-block:: text

        inputnode -> t1w_wf -> (bold_wf | flair_wf) -> require -> outputnode
            +-> grid -----------------^

    Parameters
    ----------
    modality
        What is classified: ``"bold"``, ``"T1w"``, ``"FLAIR"`` or ``"T2w"``.
    registration
        T1w to template: ``"none"`` (centre on centre), ``"rigid"``, ``"affine"`` or ``"syn"``.
    registration_profile
        One of :data:`bids_xai.workflows.registration.PROFILES`.
    coregistration
        BOLD or FLAIR to T1w: ``"rigid"`` or ``"affine"``.
    individual_mask
        Take the voxels that are in the subject's own brain, not those of the template's mask.
    resolution
        Voxel size of the analysis grid in mm; None: the template's.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: the template's.
    random_seed
        Seed of the registrations' sampling.
    name
        Name of the workflow.

    Inputs
    ------
    t1w
        List of T1w images.
    flair
        List of FLAIR or T2w images (with that ``modality``).
    bold
        List of 4-D runs (with ``modality`` bold).
    t1w_index
        List of int: for each run or FLAIR the index in ``t1w`` of its anatomy.
    template
        T1w of the template without skull.
    template_mask
        Its brain mask.
    names
        Names of the images that are registered, for messages: the T1w, then the FLAIR or the runs.

    Outputs
    -------
    images
        List on the analysis grid in the order of the inputs: 4-D runs, or 3-D brains.
    mask
        One mask on the analysis grid.
    confounds
        List of TSV files (BOLD only).
    t1w_preproc, t1w_mask, t1w_brain, t1w_std, t1w_xfm, t1w_inverse_xfm, t1w_quality, brain_quality
        See :func:`bids_xai.workflows.anatomical.init_t1w_wf`.
    flair_preproc, flair_std, flair_xfm, flair_t1w, flair_quality
        FLAIR without bias field, on the template's grid, transforms to T1w, FLAIR on the grids of the T1w,
        qualities.
    bold_std, bold_mask_std, boldref, boldref_t1w, hmc_xfm, bold_xfm, bold_quality, reference_quality
        See :func:`bids_xai.workflows.functional.init_bold_wf`.
    """
    profile = registration_profile
    workflow = start_engine(name)
    inputnode, outputnode, require = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require")
    )
    t1w_wf = init_t1w_wf(registration=registration, profile=profile, random_seed=random_seed)
    workflow.connect([
        (inputnode, t1w_wf, [("t1w", "inputnode.t1w"), ("template", "inputnode.template"),
                             ("template_mask", "inputnode.template_mask")]),
        (t1w_wf, outputnode, [(f"outputnode.{port}", port) for port in T1W]),
        (t1w_wf, require, [(f"outputnode.{port}", port) for port in ("t1w_quality", "brain_quality")]),
    ])  # fmt: skip
    if modality == "bold":
        _add_bold(workflow, coregistration, profile, random_seed, individual_mask, resolution, shape)
    else:
        _add_anatomical(workflow, modality, coregistration, profile, random_seed, resolution, shape)
    workflow.__desc__ = "Images were preprocessed with ANTs [@antsx2021]."
    if profile == SLOPPY:
        workflow.__postdesc__ = " ".join([
            getattr(workflow, "__postdesc__", ""),
            "Registrations were cut short for a test (profile “sloppy”): these results are not for "
            "publication.",
        ])  # fmt: skip
    return workflow


def _add_bold(
    workflow: pe.Workflow,
    coregistration: str,
    profile: str,
    random_seed: int,
    individual_mask: bool,
    resolution: float | None,
    shape: tuple[int, int, int] | None,
) -> None:
    inputnode, outputnode, require, t1w_wf = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require", "t1w_wf")
    )
    grid = pe.Node(AnalysisGrid(), name="grid", mem_gb=1)
    set_grid(grid, resolution, shape)
    bold_wf = init_bold_wf(coregistration=coregistration, profile=profile, random_seed=random_seed)
    mask = pe.Node(DownsampleMask(), name="intersect")
    voxels = [f"voxels of {number(resolution)} mm"] if resolution is not None else []
    voxels += [f"{' × '.join(map(number, shape))} voxels"] if shape is not None else []
    workflow.__postdesc__ = f"The grid was that of the template{', brought to ' if voxels else ''}" + (
        f"{listed(voxels)}." if voxels else "."
    )
    workflow.connect([
        (inputnode, grid, [("template", "template"), ("template_mask", "mask")]),
        (inputnode, bold_wf, [("bold", "inputnode.bold"), ("t1w_index", "inputnode.t1w_index")]),
        (t1w_wf, bold_wf, [("outputnode.t1w_brain", "inputnode.t1w_brain"),
                           ("outputnode.t1w_xfm", "inputnode.t1w_xfm")]),
        (grid, bold_wf, [("mask", "inputnode.grid_mask")]),
        (bold_wf, require, [("outputnode.bold_std", "in_files"),
                            ("outputnode.bold_quality", "image_quality"),
                            ("outputnode.reference_quality", "reference_quality")]),
        (bold_wf, mask, [("outputnode.bold_mask_std", "in_masks")]),
        (mask, outputnode, [("out_mask", "mask")]),
        (bold_wf, outputnode, [(f"outputnode.{port}", port) for port in (*BOLD, "confounds")]),
    ])  # fmt: skip
    if individual_mask:
        own = pe.MapNode(
            ApplyTransforms(dimension=3, interpolation="NearestNeighbor", float=True),
            iterfield=["input_image", "transforms"],
            name="own_mask",
        )
        merge = pe.Node(niu.Merge(2), name="all_masks")
        workflow.__postdesc__ = f"{workflow.__postdesc__} {INDIVIDUAL_MASK}"
        workflow.disconnect(bold_wf, "outputnode.bold_mask_std", mask, "in_masks")
        workflow.connect([
            (t1w_wf, own, [("outputnode.t1w_mask", "input_image"), ("outputnode.t1w_xfm", "transforms")]),
            (grid, own, [("mask", "reference_image")]),
            (bold_wf, merge, [("outputnode.bold_mask_std", "in1")]),
            (own, merge, [("output_image", "in2")]),
            (merge, mask, [("out", "in_masks")]),
        ])  # fmt: skip


def _add_anatomical(
    workflow: pe.Workflow,
    modality: str,
    coregistration: str,
    profile: str,
    random_seed: int,
    resolution: float | None,
    shape: tuple[int, int, int] | None,
) -> None:
    inputnode, outputnode, require, t1w_wf = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require", "t1w_wf")
    )
    grid_wf = init_grid_wf(resolution=resolution, shape=shape)
    workflow.connect([
        (inputnode, grid_wf, [("template_mask", "inputnode.masks")]),
        (grid_wf, require, [("outputnode.images", "in_files")]),
        (grid_wf, outputnode, [("outputnode.mask", "mask")]),
    ])  # fmt: skip
    if modality == "T1w":
        workflow.connect(t1w_wf, "outputnode.t1w_std", grid_wf, "inputnode.images")
        return
    flair_wf = _init_flair_wf(
        coregistration=coregistration, profile=profile, random_seed=random_seed, contrast=modality
    )
    workflow.connect([
        (inputnode, flair_wf, [("flair", "inputnode.flair"), ("template", "inputnode.template")]),
        (flair_wf, grid_wf, [("outputnode.flair_std", "inputnode.images")]),
        (flair_wf, require, [("outputnode.flair_quality", "image_quality")]),
        (flair_wf, outputnode, [(f"outputnode.{port}", port) for port in FLAIR]),
    ])  # fmt: skip
    connect_anatomies(workflow, t1w_wf, flair_wf, ("t1w_brain", "t1w_mask", "t1w_xfm"))


def _init_flair_wf(*, coregistration: str, profile: str, random_seed: int, contrast: str) -> pe.Workflow:
    """Bring FLAIR images through their T1w to the template in one interpolation, brains only."""
    workflow = pe.Workflow(name="flair_wf")
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["flair", "t1w_brain", "t1w_mask", "t1w_xfm", "template"]),
        name="inputnode",
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=list(FLAIR)), name="outputnode")
    conform = pe.MapNode(ConformImage(), iterfield=["in_file"], name="conform", mem_gb=1)
    n4 = init_n4_node(profile)
    coregistration_wf = init_coregistration_wf(
        kind=coregistration, profile=profile, random_seed=random_seed, what=f"Each {contrast} image"
    )
    chain = pe.Node(niu.Merge(2, axis="hstack"), name="chain")
    to_template = pe.MapNode(
        ApplyTransforms(dimension=3, interpolation=INTERPOLATIONS[profile], float=True),
        iterfield=["input_image", "transforms"],
        name="to_template",
        mem_gb=1,
    )
    mask = pe.MapNode(
        ApplyTransforms(dimension=3, interpolation="NearestNeighbor", float=True),
        iterfield=["input_image", "transforms"],
        name="mask_to_template",
    )
    strip = pe.MapNode(MaskImage(), iterfield=["in_file", "in_mask"], name="strip", mem_gb=1)
    workflow.connect([
        (inputnode, conform, [("flair", "in_file")]),
        (conform, n4, [("out_file", "input_image")]),
        (n4, coregistration_wf, [("output_image", "inputnode.images")]),
        (inputnode, coregistration_wf, [("t1w_brain", "inputnode.brains")]),
        (inputnode, chain, [("t1w_xfm", "in1")]),
        (coregistration_wf, chain, [("outputnode.xfm", "in2")]),
        (n4, to_template, [("output_image", "input_image")]),
        (chain, to_template, [("out", "transforms")]),
        (inputnode, to_template, [("template", "reference_image")]),
        (inputnode, mask, [("t1w_mask", "input_image"), ("t1w_xfm", "transforms"),
                           ("template", "reference_image")]),
        (to_template, strip, [("output_image", "in_file")]),
        (mask, strip, [("output_image", "in_mask")]),
        (n4, outputnode, [("output_image", "flair_preproc")]),
        (strip, outputnode, [("out_file", "flair_std")]),
        (coregistration_wf, outputnode, [("outputnode.xfm", "flair_xfm"),
                                         ("outputnode.aligned", "flair_t1w"),
                                         ("outputnode.quality", "flair_quality")]),
    ])  # fmt: skip
    workflow.__desc__ = f"Each {contrast} image was corrected for intensity non-uniformity with N4."
    workflow.__postdesc__ = (
        "The transforms to the T1-weighted image and from there to the template were applied together, in "
        f"one interpolation ({value_of(to_template, 'interpolation')}), and the brain mask of the "
        "T1-weighted image with them."
    )
    return workflow
