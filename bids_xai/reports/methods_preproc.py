"""The paragraph of the methods section about preprocessing, from the settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bids_xai.reports.html import listed, number

DEFAULT_HIGH_PASS = 1 / 128
IMAGE_NAMES = {"bold": "Functional", "T1w": "T1-weighted", "FLAIR": "FLAIR", "T2w": "T2-weighted"}
_TRANSFORMS = {
    "rigid": "a rigid transform",
    "affine": "a rigid and an affine transform",
    "syn": "rigid, affine and symmetric diffeomorphic (SyN) transforms [@avants2008]",
}
_FSL_TRANSFORMS = {"rigid": "rigid (6 parameters)", "affine": "affine (12 parameters)"}
_SCALINGS = {
    "minmax": "The values of each image were scaled linearly to lie between 0 and 1.",
    "max": "The values of each image were divided by the largest.",
}


def modality_of(settings: Mapping[str, Any]) -> str:
    """Return the suffix of the images that samples are made from; functional unless settings say so."""
    return str(settings.get("modality") or "bold")


def preprocessing_text(settings: Mapping[str, Any], space: str | None = None) -> str:
    """Return what was done to the images before samples were cut from them.

    Parameters
    ----------
    settings
        All settings of the analysis by name; what they do not say is not described.
    space
        Space of the results; None: that of the settings, or native.

    Returns
    -------
    str
        Text that cites as ``[@key; @key]``; empty when the settings name no engine.
    """
    template = settings.get("template") or settings.get("space") or space
    writers = {"ants": _ants, "fsl": _fsl, "derivatives": _derivatives, "none": _none}
    writer = writers.get(str(settings.get("preproc", "")))
    if writer is None:
        return ""
    sentences = writer(settings, template)
    if modality_of(settings) != "bold":
        sentences.append(_SCALINGS.get(str(settings.get("scaling")), ""))
    if settings.get("sloppy"):
        sentences.append(
            "Registrations were cut short for a test (sloppy): these results are not for publication."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def _ants(settings: Mapping[str, Any], template: str | None) -> list[str]:
    modality, registration = modality_of(settings), str(settings.get("registration") or "")
    sentences = [
        "Images were preprocessed with ANTs [@antsx2021]. Each T1-weighted image was corrected for intensity "
        "non-uniformity with N4 [@tustison2010], and its brain was extracted by the convolutional network "
        "deepbet [@fisch2024]."
    ]
    if registration in _TRANSFORMS:
        profile = settings.get("registration_profile")
        sentences.append(
            f"It was registered to {'the template' if template is None else f'the template {template}'} by "
            f"antsRegistration with {_TRANSFORMS[registration]}"
            f"{f' (profile “{profile}” of bids_xai)' if profile else ''}."
        )
    if modality == "bold":
        sentences += _realignment(settings)
    elif modality != "T1w":
        sentences.append(
            f"Each {IMAGE_NAMES.get(modality, modality)} image was registered to the T1-weighted image of "
            f"the same person by antsRegistration with {_TRANSFORMS[_coregistration(settings)]}."
        )
    return [*sentences, _interpolation(settings, modality, normalised=registration in _TRANSFORMS)]


def _coregistration(settings: Mapping[str, Any]) -> str:
    return "affine" if settings.get("coregistration") == "affine" else "rigid"


def _realignment(settings: Mapping[str, Any]) -> list[str]:
    return [
        "Head motion in each functional run was estimated by rigid realignment of every volume to a "
        "reference of the run, with least squares [@friston1995], in bids_xai's own implementation, as ANTs' "
        "Python package comes without its program for motion correction. Framewise displacement was computed "
        "from the parameters of motion [@power2012].",
        "The reference was registered to the T1-weighted image by antsRegistration with "
        f"{_TRANSFORMS[_coregistration(settings)]}.",
    ]


def _interpolation(settings: Mapping[str, Any], modality: str, *, normalised: bool) -> str:
    steps = ["head motion"] if modality == "bold" else []
    steps += ["registration to the T1-weighted image"] if modality != "T1w" else []
    steps += ["registration to the template"] if normalised else []
    if not steps:
        return ""
    grid = []
    if resolution := settings.get("resolution"):
        grid.append(f"voxels of {number(resolution)} mm")
    if shape := settings.get("shape"):
        grid.append(f"{' × '.join(number(size) for size in shape)} voxels")
    onto = f" onto a grid with {listed(grid)}" if grid else ""
    if len(steps) == 1:
        return f"Images were resampled{onto} in one interpolation."
    return f"The transforms for {listed(steps)} were applied together, in one interpolation{onto}."


def _fsl(settings: Mapping[str, Any], template: str | None) -> list[str]:
    bold = modality_of(settings) == "bold"
    motion = " Head motion was corrected with MCFLIRT [@jenkinson2002]." if bold else ""
    found = (settings.get("software") or {}).get("FSL")
    version = f" {found}" if found else ""
    sentences = [
        f"Images were preprocessed with FSL{version} [@jenkinson2012].{motion} Brains were extracted with "
        "BET [@smith2002]."
    ]
    registration = str(settings.get("registration") or "")
    if registration in _FSL_TRANSFORMS:
        target = "the template" if template is None else f"the template {template}"
        sentences.append(
            f"Images were registered to {target} with FLIRT [@jenkinson2002], "
            f"{_FSL_TRANSFORMS[registration]}."
        )
    return sentences


def _derivatives(settings: Mapping[str, Any], _template: str | None) -> list[str]:
    named = (
        "fMRIPrep [@fmriprep2019]"
        if modality_of(settings) == "bold"
        else "sMRIPrep [@smriprep; @fmriprep2019]"
    )
    return [
        f"Preprocessed images were taken from existing derivatives, such as those of {named}, whose own "
        "description must be cited."
    ]


def _none(settings: Mapping[str, Any], template: str | None) -> list[str]:
    if modality_of(settings) == "bold":
        return ["The images were taken as they are, without realignment or registration."]
    if template is None:
        return [
            "The images were taken as they are, without registration: they were brought to the voxel size of "
            "a template and padded or cropped around their centre to its dimensions [@klingenberg2021]."
        ]
    return [
        f"The images were taken as they are, without registration, in the space {template}: they were "
        "resampled on its grid by their affines."
    ]


def cleaning_text(settings: Mapping[str, Any]) -> str:
    """Return what was done to the time courses of functional images."""
    steps = []
    if settings.get("detrend"):
        steps.append("its linear trend was removed")
    if settings.get("high_pass_sigma"):
        steps.append(
            "slow drifts were removed by a Gaussian-weighted straight-line fit "
            f"(σ = {number(settings['high_pass_sigma'])} volumes)"
        )
    elif (cutoff := settings.get("high_pass")) != 0:
        # Unset settings are not recorded; the command line's default is then in use.
        steps.append(
            f"drifts below {number(cutoff or DEFAULT_HIGH_PASS)} Hz were removed with discrete cosines"
        )
    if settings.get("confounds"):
        steps.append(f"the confounds {', '.join(settings['confounds'])} were regressed out")
    if settings.get("standardize"):
        steps.append("it was scaled to zero mean and unit variance")
    if not steps:
        return "Time courses were not filtered or scaled."
    return f"For each voxel's time course in each run, {listed(steps)} [@nilearn2014]."
