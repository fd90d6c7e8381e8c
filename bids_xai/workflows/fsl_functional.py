"""BOLD runs to a template with FSL, as published."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.fsl import (
    MergeMatrices,
    MotionParameters,
    ReorientImage,
    RunCoverage,
    RunMasks,
    program_bytes,
)
from bids_xai.interfaces.fsl_programs import (
    BET,
    FLIRT,
    MCFLIRT,
    ApplyMask,
    ApplyXFM,
    ConvertXFM,
    ImageMaths,
    MeanImage,
)
from bids_xai.workflows.fsl_anatomical import degrees_text, init_quality_node, map_fsl
from bids_xai.workflows.functional import init_confounds_node, init_reference_quality_node
from bids_xai.workflows.grid import init_grid_wf, set_grid
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.memory import with_memory
from bids_xai.workflows.raw import BOLD

# A run of 300 volumes at 2 mm takes 1.1 GB as float32, and FLIRT holds what it reads and what it writes.
RUN_GB = 3.0
_MEAN_EPI_FRACTION = 0.3


def init_fsl_bold_wf(
    *,
    dof: int = 9,
    high_pass_sigma: float | None = None,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    name: str = "bold_wf",
) -> pe.Workflow:
    """Correct motion, extract the brain, filter, and bring every run through its T1w to the analysis grid.

    .. code-block:: text

        inputnode -> realign_wf -> (high_pass_wf) -> resample_wf -> outputnode
            |            +-> to_t1w -> concat ----------^
            +-> select_brain -^  select_xfm -^

    Parameters
    ----------
    dof
        Degrees of freedom of the registration to the T1w; 9 in Gotsopoulos et al. 2018.
    high_pass_sigma
        Sigma in volumes of the Gaussian-weighted line fit that is subtracted; None: no filter.
    resolution
        Voxel size of the analysis grid in mm; None: that of the reference.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: as they come.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D runs.
    t1w_index
        List of int: for each run the index of its T1w.
    t1w_brain
        List of T1w images without skull.
    t1w_xfm
        List of FLIRT matrices, T1w to template.
    reference
        Template on the grid that runs are resampled on.
    reference_mask
        Its brain mask.

    Outputs
    -------
    bold_std
        List of 4-D runs on the analysis grid, without skull (:func:`init_fsl_resample_wf`).
    bold_mask_std
        List: the template's mask where every volume of the run has data.
    boldref
        List of mean volumes of the realigned runs, with skull, on the runs' own grids (axes reoriented).
    boldref_t1w
        List of FLIRT's results: the mean volumes without skull on the grids of their T1w.
    hmc_xfm
        List of text files with one FLIRT matrix (4 lines) per volume, volume to middle volume.
    bold_xfm
        List of FLIRT matrices, boldref to T1w.
    confounds
        List of TSV files (:class:`bids_xai.interfaces.functional.GatherConfounds`).
    bold_quality
        List: what :class:`bids_xai.interfaces.quality.CoregistrationQuality` found.
    reference_quality
        List: what :class:`bids_xai.interfaces.quality.ReferenceQuality` found.

    Source
    ------
    Gotsopoulos et al. 2018, section 2.3
    """
    fields = ["bold", "t1w_index", "t1w_brain", "t1w_xfm", "reference", "reference_mask"]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=[*BOLD, "confounds"]), name="outputnode")
    realign_wf = init_fsl_realign_wf()
    resample_wf = init_fsl_resample_wf(resolution=resolution, shape=shape)
    select_brain = pe.Node(niu.Select(), name="select_brain")
    select_xfm = pe.Node(niu.Select(), name="select_xfm")
    to_t1w = map_fsl(FLIRT(dof=dof), ["in_file", "reference"], "to_t1w")
    quality = init_quality_node()
    concat = map_fsl(
        ConvertXFM(concat_xfm=True, out_file="to_template.mat"), ["in_file", "in_file2"], "concat"
    )
    workflow.connect([
        (inputnode, realign_wf, [("bold", "inputnode.bold")]),
        (inputnode, select_brain, [("t1w_brain", "inlist"), ("t1w_index", "index")]),
        (inputnode, select_xfm, [("t1w_xfm", "inlist"), ("t1w_index", "index")]),
        (realign_wf, to_t1w, [("outputnode.mean_brain", "in_file")]),
        (select_brain, to_t1w, [("out", "reference")]),
        (realign_wf, quality, [("outputnode.mean_brain", "before")]),
        (to_t1w, quality, [("out_file", "in_file")]),
        (select_brain, quality, [("out", "reference")]),
        (to_t1w, concat, [("out_matrix_file", "in_file")]),
        (select_xfm, concat, [("out", "in_file2")]),
        (concat, resample_wf, [("out_file", "inputnode.xfm")]),
        (realign_wf, resample_wf, [(f"outputnode.{port}", f"inputnode.{port}")
                                   for port in ("mask", "hmc_xfm", "parameters")]),
        (inputnode, resample_wf, [(port, f"inputnode.{port}") for port in ("reference", "reference_mask")]),
        (to_t1w, outputnode, [("out_matrix_file", "bold_xfm"), ("out_file", "boldref_t1w")]),
        (quality, outputnode, [("quality", "bold_quality")]),
        (realign_wf, outputnode, [(f"outputnode.{port}", port)
                                  for port in ("boldref", "hmc_xfm", "reference_quality")]),
        (resample_wf, outputnode, [(f"outputnode.{port}", port)
                                   for port in ("bold_std", "bold_mask_std", "confounds")]),
    ])  # fmt: skip
    # What gives the resampling its matrices is said before it.
    resample_wf.__desc__ = (
        "The mean volume of each run was registered to the T1-weighted image with FLIRT, "
        f"{degrees_text(to_t1w)}; its matrix and that of the T1-weighted image were concatenated "
        f"(convert_xfm). {resample_wf.__desc__}"
    )
    if high_pass_sigma is None:
        workflow.connect(realign_wf, "outputnode.bold", resample_wf, "inputnode.bold")
    else:
        high_pass_wf = init_fsl_high_pass_wf(sigma=high_pass_sigma)
        workflow.connect([
            (realign_wf, high_pass_wf, [("outputnode.bold", "inputnode.bold")]),
            (high_pass_wf, resample_wf, [("outputnode.bold", "inputnode.bold")]),
        ])  # fmt: skip
    return workflow


def init_fsl_resample_wf(
    *,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    name: str = "resample_wf",
) -> pe.Workflow:
    """Bring realigned runs to the reference's grid, then to the analysis grid; find masks and confounds.

    .. code-block:: text

        inputnode -> apply -> grid_wf ------------------> confounds -> outputnode
            +-> coverage, mask_to_template -> masks ---------^

    Parameters
    ----------
    resolution
        Voxel size of the analysis grid in mm; None: that of the reference.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: as they come.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of realigned 4-D runs, zero outside the brain.
    mask
        List of their brain masks.
    hmc_xfm
        List of text files with one FLIRT matrix (4 lines) per volume, volume to middle volume.
    parameters
        List of TSV files with motion parameters.
    xfm
        List of FLIRT matrices, run to reference.
    reference
        Template on the grid that runs are resampled on.
    reference_mask
        Its brain mask.

    Outputs
    -------
    bold_std
        List of 4-D runs on the analysis grid: one trilinear interpolation after that of the motion
        correction, then the mean of neighbours (:func:`bids_xai.images.grids.downsample`).
    bold_mask_std
        List: the template's mask where every volume of the run has data.
    confounds
        List of TSV files (:class:`bids_xai.interfaces.functional.GatherConfounds`); DVARS and the global
        signal are of the part of that mask in the run's brain mask.
    """
    fields = ["bold", "mask", "hmc_xfm", "parameters", "xfm", "reference", "reference_mask"]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["bold_std", "bold_mask_std", "confounds"]), name="outputnode"
    )
    apply = _map_runs(ApplyXFM(), ["in_file", "in_matrix_file"], "apply")
    mask_to_template = map_fsl(
        ApplyXFM(interp="nearestneighbour"), ["in_file", "in_matrix_file"], "mask_to_template"
    )
    coverage = pe.MapNode(
        RunCoverage(), iterfield=["in_file", "in_motion", "in_matrix"], name="coverage", mem_gb=1
    )
    grid_wf = init_grid_wf(resolution=resolution, shape=shape, runs=True, mem_gb=RUN_GB)
    masks = pe.MapNode(RunMasks(), iterfield=["in_coverage", "in_brain"], name="masks", mem_gb=1)
    set_grid(masks, resolution, shape)
    confounds = init_confounds_node(RUN_GB)
    workflow.connect([
        (inputnode, apply, [("bold", "in_file"), ("xfm", "in_matrix_file"), ("reference", "reference")]),
        (inputnode, mask_to_template, [("mask", "in_file"), ("xfm", "in_matrix_file"),
                                       ("reference", "reference")]),
        (inputnode, coverage, [("mask", "in_file"), ("hmc_xfm", "in_motion"), ("xfm", "in_matrix"),
                               ("reference", "reference")]),
        (apply, grid_wf, [("out_file", "inputnode.images")]),
        (inputnode, grid_wf, [("reference_mask", "inputnode.masks")]),
        (grid_wf, masks, [("outputnode.mask", "in_mask")]),
        (coverage, masks, [("out_file", "in_coverage")]),
        (mask_to_template, masks, [("out_file", "in_brain")]),
        (grid_wf, confounds, [("outputnode.images", "in_file")]),
        (masks, confounds, [("out_brain", "in_mask")]),
        (inputnode, confounds, [("parameters", "in_parameters")]),
        (grid_wf, outputnode, [("outputnode.images", "bold_std")]),
        (masks, outputnode, [("out_mask", "bold_mask_std")]),
        (confounds, outputnode, [("out_file", "confounds")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        "Runs were brought to the template's grid by FLIRT in one "
        f"{value_of(apply, 'interp', 'trilinear')} interpolation after that of the motion correction, and "
        "voxels without data in any volume were left out."
    )
    return workflow


def init_fsl_realign_wf(*, name: str = "realign_wf") -> pe.Workflow:
    """Realign the volumes of every run to its middle one (MCFLIRT) and take the skull off (BET).

    The axes are stored as left or right, anterior, superior first, which changes no value, and the values as
    float32: MCFLIRT writes the type that it reads, without its scaling. The brain is found in the mean volume
    with a fractional intensity threshold of 0.3, as FEAT does.

    .. code-block:: text

        inputnode -> reorient -> mcflirt -> mean -> brain -> extract -> outputnode
                                    |        +-> reference_quality --------^
                                    +-> merge_matrices -> parameters ------^

    Parameters
    ----------
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D runs.

    Outputs
    -------
    bold
        List of realigned 4-D runs, zero outside the brain.
    boldref
        List of their mean volumes before the skull is taken off.
    mean_brain
        List of their mean volumes without skull.
    mask
        List of brain masks.
    hmc_xfm
        List of text files with one FLIRT matrix per volume.
    parameters
        List of TSV files with motion parameters (:class:`bids_xai.interfaces.fsl.MotionParameters`).
    reference_quality
        List: what :class:`bids_xai.interfaces.quality.ReferenceQuality` found.
    """
    outputs = ["bold", "boldref", "mean_brain", "mask", "hmc_xfm", "parameters", "reference_quality"]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["bold"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    reorient = with_memory(
        pe.MapNode(ReorientImage(), iterfield=["in_file"], name="reorient", mem_gb=RUN_GB), program_bytes
    )
    mcflirt = _map_runs(MCFLIRT(save_mats=True), ["in_file"], "mcflirt")
    mean = _map_runs(MeanImage(), ["in_file"], "mean")
    brain = map_fsl(BET(frac=_MEAN_EPI_FRACTION, mask=True), ["in_file"], "brain")
    extract = _map_runs(ApplyMask(), ["in_file", "mask_file"], "extract")
    merge_matrices = pe.MapNode(MergeMatrices(), iterfield=["in_files"], name="merge_matrices")
    parameters = pe.MapNode(MotionParameters(), iterfield=["in_motion", "in_reference"], name="parameters")
    reference_quality = init_reference_quality_node()
    workflow.connect([
        (inputnode, reorient, [("bold", "in_file")]),
        (reorient, mcflirt, [("out_file", "in_file")]),
        (mcflirt, mean, [("out_file", "in_file")]),
        (mcflirt, extract, [("out_file", "in_file")]),
        (mcflirt, merge_matrices, [("mat_file", "in_files")]),
        (merge_matrices, parameters, [("out_file", "in_motion")]),
        (mean, parameters, [("out_file", "in_reference")]),
        (inputnode, reference_quality, [("bold", "in_run")]),
        (mean, reference_quality, [("out_file", "in_file")]),
        (reference_quality, outputnode, [("quality", "reference_quality")]),
        (mean, brain, [("out_file", "in_file")]),
        (brain, extract, [("mask_file", "mask_file")]),
        (extract, outputnode, [("out_file", "bold")]),
        (mean, outputnode, [("out_file", "boldref")]),
        (brain, outputnode, [("out_file", "mean_brain"), ("mask_file", "mask")]),
        (merge_matrices, outputnode, [("out_file", "hmc_xfm")]),
        (parameters, outputnode, [("out_parameters", "parameters")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        "The axes of each functional run were stored in the order of the template's, as fslreorient2std "
        "does, and head motion was corrected by rigid registration of every volume to the middle one with "
        "MCFLIRT [@jenkinson2002]. Framewise displacement was computed from the parameters of motion "
        "[@power2012]. The brain was extracted from the mean volume with BET (fractional intensity threshold "
        f"{value_of(brain, 'frac'):g}) [@smith2002], and its mask applied to the run (fslmaths -mas)."
    )
    return workflow


def init_fsl_high_pass_wf(*, sigma: float, name: str = "high_pass_wf") -> pe.Workflow:
    """Subtract a Gaussian-weighted running line fit from every voxel and keep its mean.

    ``fslmaths -bptf SIGMA -1`` leaves a mean of zero since FSL 5.0.7; it is added back as FEAT does, so that
    images stay positive inside the brain.

    .. code-block:: text

        inputnode -> mean -> high_pass -> outputnode

    Parameters
    ----------
    sigma
        Width in volumes; 55 in Gotsopoulos et al. 2018.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D runs.

    Outputs
    -------
    bold
        List of filtered 4-D runs.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["bold"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["bold"]), name="outputnode")
    mean = _map_runs(MeanImage(), ["in_file"], "mean")
    high_pass = _map_runs(
        ImageMaths(op_string=f"-bptf {sigma:g} -1 -add", suffix="_tempfilt"),
        ["in_file", "in_file2"],
        "high_pass",
    )
    workflow.connect([
        (inputnode, mean, [("bold", "in_file")]),
        (inputnode, high_pass, [("bold", "in_file")]),
        (mean, high_pass, [("out_file", "in_file2")]),
        (high_pass, outputnode, [("out_file", "bold")]),
    ])  # fmt: skip
    width = value_of(high_pass, "op_string").split()[1]
    workflow.__desc__ = (
        "Slow drifts of each voxel's time course were removed by a Gaussian-weighted straight-line fit "
        f"(σ = {width} volumes; fslmaths {value_of(high_pass, 'op_string')}), and its mean was kept."
    )
    return workflow


def _map_runs(interface: Any, iterfield: list[str], name: str) -> pe.MapNode:
    """Return a node that runs one FSL program on each of the runs."""
    return with_memory(map_fsl(interface, iterfield, name, RUN_GB), program_bytes)
