"""What the preprocessing of raw images leaves in the folder of derivatives: names and sidecars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from bids_xai.bids.names import bids_name, participant_path, sanitize

SPACE = "<space>"
_T1W_TO_SPACE = {"from": "T1w", "to": SPACE, "mode": "image"}
_POINTS = "ITK transform: maps points of the second space to points of the first"
_FLIRT = (
    "FLIRT matrix: maps FLIRT's coordinates in mm of the first image to those of the second, on the grids of "
    "the images beside it: desc-preproc in native space, desc-hmc of a run, desc-preproc in the template's"
)
# Of files that end in .mat, and of images made by FSL.
_MATRICES = {
    "hmc_xfm": "FLIRT matrices of MCFLIRT, volume to middle volume; four lines per volume, in order",
}
_FSL_IMAGES = {
    "t1w_preproc": "T1w on the grid that the FLIRT matrices refer to",
    "flair_preproc": "Image on the grid that the FLIRT matrices refer to",
    "bold_std": "BOLD after motion correction and brain extraction, on the analysis grid",
}


@dataclass(frozen=True)
class Output:
    """One kind of file: the engine's port, entities, suffix, and what its sidecar says."""

    port: str
    suffix: str
    entities: Mapping[str, str]
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    resampled: bool = False


OF_T1W = (
    Output("t1w_preproc", "T1w", {"desc": "preproc"}, "T1w, bias field corrected", {"SkullStripped": False}),
    Output("t1w_mask", "mask", {"desc": "brain"}, "Brain mask", {"Type": "Brain"}),
    Output(
        "t1w_std", "T1w", {"space": SPACE, "desc": "preproc"}, "T1w on the template's grid",
        {"SkullStripped": True},
    ),
    Output("t1w_xfm", "xfm", _T1W_TO_SPACE, _POINTS),
    Output("t1w_inverse_xfm", "xfm", {"from": SPACE, "to": "T1w", "mode": "image"}, _POINTS),
)  # fmt: skip
OF_RUN = (
    Output(
        "bold_std", "bold", {"space": SPACE, "desc": "preproc"},
        "BOLD after motion correction, on the analysis grid, interpolated once", {"SkullStripped": True},
        resampled=True,
    ),
    Output("boldref", "boldref", {"desc": "hmc"}, "Mean of realigned volumes"),
    Output(
        "hmc_xfm", "xfm", {"from": "orig", "to": "boldref", "mode": "image"},
        "One transform per volume, in order",
    ),
    Output("bold_xfm", "xfm", {"from": "boldref", "to": "T1w", "mode": "image"}, _POINTS),
    Output("confounds", "timeseries", {"desc": "confounds"}, "One row per volume"),
)  # fmt: skip
CONFOUNDS_COLUMNS = {
    "global_signal": {"Description": "Mean in the brain mask"},
    "dvars": {"Description": "Root mean square change from the volume before (median of the run: 1000)"},
    "std_dvars": {"Description": "DVARS relative to what noise alone gives"},
    "framewise_displacement": {"Description": "Power et al. 2012, radius 50 mm", "Units": "mm"},
    **{
        f"trans_{axis}": {
            "Description": f"How far the head's centre has moved from the reference, positive to {where}; "
            "whatever the engine",
            "Units": "mm",
        }
        for axis, where in (("x", "the right"), ("y", "the front"), ("z", "the top"))
    },
    **{
        f"rot_{axis}": {
            "Description": f"How far the head has turned from the reference about {axis} through its centre, "
            f"right-handed in RAS+ (first x, then y, then z): positive {how}; whatever the engine",
            "Units": "rad",
        }
        for axis, how in (
            ("x", "nose up"), ("y", "top of the head to the right"), ("z", "nose to the left"),
        )
    },
}  # fmt: skip
QUALITIES = {"t1w_mask": "BrainExtractionQuality", "boldref": "ReferenceQuality"}
"""Port of an image -> key of its sidecar for what was judged of it; else ``RegistrationQuality``."""
FIGURES = {
    "brain": ("T1w", {"desc": "brain"}),
    "registration": ("T1w", {"space": SPACE}),
    "flair": ("", {"space": "T1w"}),  # FLAIR or T2w
    "coregistration": ("bold", {"desc": "coreg"}),
    "run": ("bold", {"desc": "carpetplot"}),
}


def of_contrast(modality: str) -> tuple[Output, ...]:
    """Return the kinds of files of images that go through their T1w: FLAIR or T2w."""
    description = f"{modality} on the template's grid"
    space, stripped = {"space": SPACE, "desc": "preproc"}, {"SkullStripped": True}
    return (
        Output("flair_preproc", modality, {"desc": "preproc"}, f"{modality}, bias field corrected",
               {"SkullStripped": False}),
        Output("flair_std", modality, space, description, stripped),
        Output("flair_xfm", "xfm", {"from": modality, "to": "T1w", "mode": "image"}, _POINTS),
    )  # fmt: skip


def output_path(
    output: Output, entities: Mapping[str, Any], space: str, resolution: str | None, extension: str
) -> PurePosixPath:
    """Return where a file goes, relative to the folder of derivatives.

    Parameters
    ----------
    output
        Kind of file.
    entities
        Of the raw image (pybids' names).
    space
        Name of the template.
    resolution
        Label of the voxel size of the analysis grid; only files on that grid carry it.
    extension
        That of the file.
    """
    named = {key: space if value == SPACE else value for key, value in output.entities.items()}
    desc = named.pop("desc", None)
    grid = {"resolution": resolution} if output.resampled else {}
    return participant_path(
        {**entities, **named, **grid}, suffix=output.suffix, extension=extension, desc=desc
    )


def figure_path(figure: str, entities: Mapping[str, Any], space: str, modality: str) -> PurePosixPath:
    """Return where a figure of preprocessing goes: ``sub-<label>/figures/``, as fMRIPrep names it."""
    suffix, own = FIGURES[figure]
    suffix = suffix or modality
    kept = ("subject", "session", "task", "acquisition", "run", "echo")
    named = {key: value for key, value in entities.items() if key in kept}
    named |= {key: space if value == SPACE else value for key, value in own.items()}
    folder = PurePosixPath(f"sub-{sanitize(str(entities['subject']))}") / "figures"
    return folder / bids_name(named, suffix, ".svg")


def image_metadata(
    output: Output,
    *,
    sources: list[str],
    settings: Mapping[str, Any],
    quality: Mapping[str, Any] | None,
    extension: str = ".nii.gz",
) -> dict[str, Any]:
    """Return the sidecar of a file.

    Parameters
    ----------
    output
        Kind of file.
    sources
        Raw images it was made of.
    settings
        How, by name of the setting.
    quality
        What was judged of it: its registration, a brain mask, a run's reference; None where nothing was.
    extension
        That of the file: a transform's ``.mat`` is FLIRT's.
    """
    metadata: dict[str, Any] = {
        "Description": _description(output, settings, extension),
        "Sources": sources,
        **output.metadata,
    }
    if output.port == "confounds":
        return {**metadata, **CONFOUNDS_COLUMNS}
    if SPACE in output.entities.values():
        metadata["Registration"] = settings.get("registration")
        if settings.get("preproc") == "ants":
            metadata["RegistrationProfile"] = settings.get("registration_profile")
        elif settings.get("registration") == "affine":
            metadata["DegreesOfFreedom"] = settings.get("dof")
        metadata["SpatialReference"] = settings.get("template")
    if output.resampled and settings.get("preproc") == "fsl" and settings.get("high_pass_sigma") is not None:
        metadata["HighPassSigma"] = settings["high_pass_sigma"]
    if output.resampled and settings.get("resolution") is not None:
        metadata["Resolution"] = f"{settings['resolution']:g} mm, isotropic"
    if quality:
        metadata[QUALITIES.get(output.port, "RegistrationQuality")] = dict(quality)
    return metadata


def _description(output: Output, settings: Mapping[str, Any], extension: str) -> str:
    if extension == ".mat":
        return _MATRICES.get(output.port, _FLIRT)
    made_by_fsl = _FSL_IMAGES if settings.get("preproc") == "fsl" else {}
    return made_by_fsl.get(output.port, output.description)
