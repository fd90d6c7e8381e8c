"""The engine ``--preproc fsl``: raw images to a template, with FSL as published."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.errors import InputError
from bids_xai.interfaces.fsl import ReferenceGrid
from bids_xai.interfaces.fsl_programs import ApplyXFM
from bids_xai.interfaces.images import DownsampleMask
from bids_xai.registry import nearest_name
from bids_xai.reports.html import number
from bids_xai.workflows.fsl_anatomical import init_fsl_flair_wf, init_fsl_t1w_wf, map_fsl
from bids_xai.workflows.fsl_functional import init_fsl_bold_wf
from bids_xai.workflows.grid import init_grid_wf, set_grid
from bids_xai.workflows.raw import BOLD, FLAIR, INDIVIDUAL_MASK, T1W, connect_anatomies, start_engine

FSL_PROGRAMS: dict[str, tuple[str, ...]] = {
    "bold": ("mcflirt", "bet", "fslmaths", "flirt", "convert_xfm"),
    "T1w": ("robustfov", "bet", "flirt", "convert_xfm"),
    "FLAIR": ("robustfov", "bet", "fslmaths", "flirt", "convert_xfm"),
}
"""The executables that the graph of each modality calls."""

REGISTRATIONS = ("none", "rigid", "affine")
UNKNOWN_VERSION = "of unknown version"
_CALCULATORS = ("bc", "dc")
DEGREES_OF_FREEDOM = (6, 7, 9, 12)
BOLD_REFERENCE_MM = 2.0

_ALTERNATIVES = (
    "choose --preproc ants, which needs nothing installed, or --preproc derivatives with the outputs of "
    "fMRIPrep, or run the container, which holds FSL"
)


def check_fsl(modality: str) -> None:
    """Refuse to start where FSL cannot run.

    Every program of :data:`FSL_PROGRAMS` must be on ``PATH``, and ``FSLDIR`` must be FSL's folder: some of
    them are scripts that call programs inside it, calculators (``bc``, ``dc``) and FSL's standard images, and
    that go on without them to a wrong result. What a script names of these must be here, too.
    ``FSLOUTPUTTYPE`` does not matter, because every command is given its own.

    Parameters
    ----------
    modality
        ``"bold"``, ``"T1w"`` or ``"FLAIR"``.

    Raises
    ------
    InputError
        Naming all that is missing, where it was looked for, and what to choose instead.
    """
    programs = _programs(modality)
    found = {program: shutil.which(program) for program in programs}
    missing = [program for program, path in found.items() if path is None]
    folder = os.environ.get("FSLDIR", "")
    problems = []
    if missing:
        searched = os.environ.get("PATH", "") or "empty"
        problems.append(f"not found on PATH: {', '.join(missing)} (PATH is {searched})")
    if not folder:
        problems.append("FSLDIR is not set")
    elif not Path(folder).is_dir():
        problems.append(f"FSLDIR is {folder}, which is not a folder")
    for program, path in found.items():
        absent = _absent_of_script(Path(path), Path(folder)) if path is not None else []
        if absent:
            problems.append(f"the script {program} calls {', '.join(absent)}, not found")
    if not problems:
        return
    raise InputError(
        f"FSL cannot run here: {'; '.join(problems)}.",
        f"FSL's programs {', '.join(programs)} on PATH, and its folder in FSLDIR, for --preproc fsl with "
        f"--modality {modality}",
        "set up FSL with '. $FSLDIR/etc/fslconf/fsl.sh' once FSLDIR names its folder, and install bc and dc "
        f"if they are named above; else {_ALTERNATIVES}",
    )


def _absent_of_script(path: Path, folder: Path) -> list[str]:
    """Return what a script of FSL's needs and does not find; nothing for a program that is no script."""
    with path.open("rb") as stream:
        if stream.read(2) != b"#!":
            return []
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8", errors="replace"))
    called = [name for name in _CALCULATORS if re.search(rf"(?<![\w./-]){name}(?![\w.=-])", text)]
    absent = [name for name in called if shutil.which(name) is None]
    images = sorted(set(re.findall(r"data/standard/\w+", text)))
    return absent + [
        str(folder / name) for name in images if not any(folder.glob(f"{name}.nii*")) and folder.name
    ]


def fsl_version() -> str:
    """Return FSL's version as its folder has it (``$FSLDIR/etc/fslversion``), else UNKNOWN_VERSION."""
    path = Path(os.environ.get("FSLDIR", "")) / "etc" / "fslversion"
    try:
        # Some builds append their number after a colon.
        return path.read_text(encoding="utf-8").split(":")[0].strip() or UNKNOWN_VERSION
    except (OSError, UnicodeDecodeError):
        return UNKNOWN_VERSION


def init_fsl_preproc_wf(
    *,
    modality: str = "bold",
    registration: str = "affine",
    dof: int = 9,
    individual_mask: bool = False,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    high_pass_sigma: float | None = None,
    name: str = "preproc_wf",
) -> pe.Workflow:
    """Bring a subject's raw images to a template and its mask with them: ``--preproc fsl``.

    .. code-block:: text

        inputnode -> t1w_wf -> (bold_wf | flair_wf -> grid_wf) -> require -> outputnode
            +-> reference -^--------^----------------^

    BOLD follows Gotsopoulos et al. 2018: MCFLIRT, BET, ``fslmaths -bptf``, T1w to the template at 2 mm and
    BOLD through its T1w with ``dof`` degrees of freedom, then the analysis grid. Anatomical images follow
    Eitel et al. 2019: N4, robustfov, FLIRT to the template on its own grid, FLAIR through T1w with one
    spline interpolation, then the analysis grid.

    Parameters
    ----------
    modality
        What is classified: ``"bold"``, ``"T1w"`` or ``"FLAIR"``.
    registration
        T1w to template: ``"affine"`` with ``dof``, ``"rigid"``, or ``"none"`` (centres on each other).
    dof
        Degrees of freedom, 6, 7, 9 or 12, of the affine registration and of BOLD to T1w.
    individual_mask
        Take the voxels that are in the subject's own brain (BET), not those of the template's mask.
    resolution
        Voxel size of the analysis grid in mm; None keeps 2 mm for BOLD, else the template's.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None: as they come.
    high_pass_sigma
        Sigma in volumes of ``fslmaths -bptf SIGMA -1``; None: no filter here.
    name
        Name of the workflow.

    Inputs
    ------
    t1w
        List of T1w images.
    flair
        List of FLAIR images (with ``modality`` FLAIR).
    bold
        List of 4-D runs (with ``modality`` bold).
    t1w_index
        List of int: for each run or FLAIR the index in ``t1w`` of its anatomy.
    template
        T1w of the template without skull.
    template_mask
        Its brain mask, on the same grid.
    names
        Names of the images that are registered, for messages: the T1w, then the FLAIR or the runs.

    Outputs
    -------
    images
        List on the analysis grid in the order of the inputs: 4-D runs, or 3-D brains.
    mask
        One mask on the analysis grid: the template's, where every volume of every run has data.
    confounds
        List of TSV files (BOLD only).
    t1w_preproc, t1w_mask, t1w_brain, t1w_std, t1w_xfm, t1w_inverse_xfm, t1w_quality, brain_quality
        See :func:`bids_xai.workflows.fsl_anatomical.init_fsl_t1w_wf`.
    flair_preproc, flair_std, flair_xfm, flair_t1w, flair_quality
        See :func:`bids_xai.workflows.fsl_anatomical.init_fsl_flair_wf` (FLAIR only).
    bold_std, bold_mask_std, boldref, boldref_t1w, hmc_xfm, bold_xfm, bold_quality, reference_quality
        See :func:`bids_xai.workflows.fsl_functional.init_fsl_bold_wf` (BOLD only).
    """
    _programs(modality)
    check_registration(registration, dof)
    workflow = start_engine(name)
    inputnode, outputnode, require = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require")
    )
    reference = pe.Node(ReferenceGrid(), name="reference", mem_gb=1)
    t1w_wf = init_fsl_t1w_wf(registration=registration, dof=dof, correct_bias=modality != "bold")
    workflow.connect([
        (inputnode, reference, [("template", "in_file"), ("template_mask", "in_mask")]),
        (inputnode, t1w_wf, [("t1w", "inputnode.t1w")]),
        (reference, t1w_wf, [("out_file", "inputnode.reference"), ("out_mask", "inputnode.reference_mask")]),
        (t1w_wf, outputnode, [(f"outputnode.{port}", port) for port in T1W]),
        (t1w_wf, require, [(f"outputnode.{port}", port) for port in ("t1w_quality", "brain_quality")]),
    ])  # fmt: skip
    if modality == "bold":
        _add_bold(workflow, dof, high_pass_sigma, individual_mask, resolution, shape)
    else:
        _add_anatomical(workflow, modality, resolution, shape)
    voxel = reference.inputs.voxel
    size = f", on voxels of {number(voxel)} mm or the template's where these are larger" if voxel else ""
    workflow.__desc__ = f"Images were preprocessed with FSL {fsl_version()} [@jenkinson2012]{size}."
    return workflow


def _add_bold(
    workflow: pe.Workflow,
    dof: int,
    high_pass_sigma: float | None,
    individual_mask: bool,
    resolution: float | None,
    shape: tuple[int, int, int] | None,
) -> None:
    inputnode, outputnode, require, reference, t1w_wf = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require", "reference", "t1w_wf")
    )
    reference.inputs.voxel = min(BOLD_REFERENCE_MM, resolution or BOLD_REFERENCE_MM)
    set_grid(reference, resolution, None)
    bold_wf = init_fsl_bold_wf(dof=dof, high_pass_sigma=high_pass_sigma, resolution=resolution, shape=shape)
    mask = pe.Node(DownsampleMask(), name="intersect")
    workflow.connect([
        (inputnode, bold_wf, [("bold", "inputnode.bold"), ("t1w_index", "inputnode.t1w_index")]),
        (reference, bold_wf, [("out_file", "inputnode.reference"), ("out_mask", "inputnode.reference_mask")]),
        (t1w_wf, bold_wf, [("outputnode.t1w_brain", "inputnode.t1w_brain"),
                           ("outputnode.t1w_xfm", "inputnode.t1w_xfm")]),
        (bold_wf, require, [("outputnode.bold_std", "in_files"),
                            ("outputnode.bold_quality", "image_quality"),
                            ("outputnode.reference_quality", "reference_quality")]),
        (mask, outputnode, [("out_mask", "mask")]),
        (bold_wf, outputnode, [(f"outputnode.{port}", port) for port in (*BOLD, "confounds")]),
    ])  # fmt: skip
    if not individual_mask:
        workflow.connect(bold_wf, "outputnode.bold_mask_std", mask, "in_masks")
        return
    own = map_fsl(ApplyXFM(interp="nearestneighbour"), ["in_file", "in_matrix_file"], "own_mask")
    own_grid_wf = init_grid_wf(resolution=resolution, shape=shape, name="own_grid_wf")
    merge = pe.Node(niu.Merge(2), name="all_masks")
    workflow.__postdesc__ = INDIVIDUAL_MASK
    workflow.connect([
        (t1w_wf, own, [("outputnode.t1w_mask", "in_file"), ("outputnode.t1w_xfm", "in_matrix_file")]),
        (reference, own, [("out_file", "reference")]),
        (own, own_grid_wf, [("out_file", "inputnode.images"), ("out_file", "inputnode.masks")]),
        (bold_wf, merge, [("outputnode.bold_mask_std", "in1")]),
        (own_grid_wf, merge, [("outputnode.mask", "in2")]),
        (merge, mask, [("out", "in_masks")]),
    ])  # fmt: skip


def _add_anatomical(
    workflow: pe.Workflow, modality: str, resolution: float | None, shape: tuple[int, int, int] | None
) -> None:
    inputnode, outputnode, require, reference, t1w_wf = (
        workflow.get_node(node) for node in ("inputnode", "outputnode", "require", "reference", "t1w_wf")
    )
    grid_wf = init_grid_wf(resolution=resolution, shape=shape)
    workflow.connect([
        (reference, grid_wf, [("out_mask", "inputnode.masks")]),
        (grid_wf, require, [("outputnode.images", "in_files")]),
        (grid_wf, outputnode, [("outputnode.mask", "mask")]),
    ])  # fmt: skip
    if modality == "T1w":
        workflow.connect(t1w_wf, "outputnode.t1w_std", grid_wf, "inputnode.images")
        return
    flair_wf = init_fsl_flair_wf()
    workflow.connect([
        (inputnode, flair_wf, [("flair", "inputnode.flair")]),
        (reference, flair_wf, [("out_file", "inputnode.reference")]),
        (flair_wf, grid_wf, [("outputnode.flair_std", "inputnode.images")]),
        (flair_wf, require, [("outputnode.flair_quality", "image_quality")]),
        (flair_wf, outputnode, [(f"outputnode.{port}", port) for port in FLAIR]),
    ])  # fmt: skip
    connect_anatomies(workflow, t1w_wf, flair_wf, ("t1w_preproc", "t1w_mask", "t1w_brain", "t1w_xfm"))


def _programs(modality: str) -> tuple[str, ...]:
    if modality not in FSL_PROGRAMS:
        raise InputError(
            f"Unknown modality {modality!r}.",
            f"one of {', '.join(FSL_PROGRAMS)}",
            nearest_name(modality, tuple(FSL_PROGRAMS)),
        )
    return FSL_PROGRAMS[modality]


def check_registration(registration: str, dof: int) -> None:
    """Raise InputError unless FLIRT can register so."""
    if registration not in REGISTRATIONS:
        raise InputError(
            f"The registration {registration!r} is not one of FLIRT's, which is linear.",
            f"one of {', '.join(REGISTRATIONS)}",
            "choose one of them, or --preproc ants",
        )
    if dof not in DEGREES_OF_FREEDOM:
        raise InputError(
            f"{dof} degrees of freedom.",
            f"one of {', '.join(map(str, DEGREES_OF_FREEDOM))}",
            "9 is what Gotsopoulos et al. 2018 used, 12 is a full affine",
        )
