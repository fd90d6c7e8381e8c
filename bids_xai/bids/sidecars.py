"""Sidecars of the samples: where they come from and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bids_xai.bids.engines import ALIGNED

# Null in a sidecar, these were asked for and had no effect on the run.
MAY_HAVE_NO_EFFECT = ("HighPass",)
_DESCRIPTION = "PreprocessingDescription"
# Key of the sidecar <- name of the setting.
SETTINGS_KEYS = {
    "Modality": "modality",
    "Preprocessing": "preproc",
    "PreprocessingDescription": "description",
    "Registration": "registration",
    "RegistrationProfile": "registration_profile",
    "Template": "template",
    "CentredOn": "centred_on",
    "Scaling": "scaling",
    "Sample": "sample",
    "Target": "target",
    "Classes": "classes",
    "MergeEvents": "merge_events",
    "Window": "window",
    "WindowAnchor": "window_anchor",
    "HrfShift": "hrf_shift",
    "Detrend": "detrend",
    "HighPass": "high_pass",
    "HighPassSigma": "high_pass_sigma",
    "Confounds": "confounds",
    "FramewiseDisplacementThreshold": "fd_threshold",
    "Standardize": "standardize",
}
# What the group level chooses anew, or says in words of its own.
_OF_THE_GROUP = ("classes", "sample", "description")
# What has no meaning for anatomical images, for functional ones, and for images that are taken as they are.
_FUNCTIONAL = (
    "MergeEvents", "Window", "WindowAnchor", "HrfShift", "Detrend", "HighPass", "HighPassSigma", "Confounds",
    "FramewiseDisplacementThreshold", "Standardize",
)  # fmt: skip
_ANATOMICAL = ("Scaling",)
_REGISTERED = ("Registration", "RegistrationProfile", "Template")


def samples_metadata(
    *,
    settings: Mapping[str, Any],
    bids_dir: str,
    source: str,
    mask: str,
    space: str | None,
    resolution: float | None,
    repetition_time: float | None = None,
) -> dict[str, Any]:
    """Return the sidecar of the samples of one run, or of one anatomical image.

    Settings that had no part in them are left out; the ``Sample`` of an anatomical image is its modality.

    Parameters
    ----------
    settings
        How the samples were made, by name of the setting; without a ``modality`` they are of BOLD.
    bids_dir
        Folder that sources are named relative to; empty if there is none.
    source
        The image that the samples were cut from.
    mask
        Path of the mask, relative to the output folder.
    space
        Template space; None: native.
    resolution
        Voxel size in mm; None: that of the images.
    repetition_time
        Seconds between the volumes of the source; None for an anatomical image.
    """
    named = {key: settings.get(name) for key, name in SETTINGS_KEYS.items()}
    anatomical = settings.get("modality", "bold") != "bold"
    if anatomical:
        named["Sample"] = named["Modality"]
    pointless = {*(_FUNCTIONAL if anatomical else _ANATOMICAL)}
    pointless |= set(_REGISTERED) if settings.get("preproc") in ALIGNED else set()
    if settings.get("high_pass_sigma") is not None:
        pointless |= {"HighPass"}  # the fit takes its place
    metadata = {
        "Description": "Labelled samples, one volume each; the TSV file of the same name has their rows",
        "Sources": [relative_source(source, bids_dir)],
        **{key: value for key, value in named.items() if value is not None and key not in pointless},
        "Space": space,
        "Resolution": resolution,
        "RepetitionTime": repetition_time,
        "Mask": mask,
    }
    if repetition_time is None:
        del metadata["RepetitionTime"]
    return metadata


def with_notes(metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sidecar with what is to be said of one run only.

    Parameters
    ----------
    metadata
        See :func:`samples_metadata`.
    notes
        More keys; one of :data:`MAY_HAVE_NO_EFFECT` is null where it had none on this run.
    """
    merged = {**metadata, **notes}
    if any(notes.get(key, ...) is None for key in MAY_HAVE_NO_EFFECT) and metadata.get(_DESCRIPTION):
        # The description is of the graph, and this run is an exception.
        merged[_DESCRIPTION] = f"{metadata[_DESCRIPTION]} These runs are too short for the high-pass filter."
    return merged


def settings_in(metadata: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a call in which those of the samples are as their sidecar says.

    The participant level may have run with others, in a call of its own; what had no part in the samples is
    left out.

    Parameters
    ----------
    metadata
        Sidecar of samples (:func:`samples_metadata`).
    settings
        Settings of the group level's call by name.
    """
    named = {name: key for key, name in SETTINGS_KEYS.items() if name not in _OF_THE_GROUP}
    kept = {name: value for name, value in settings.items() if name not in named}
    return {**kept, **{name: metadata[key] for name, key in named.items() if key in metadata}}


def relative_source(source: str, bids_dir: str) -> str:
    """Return a file's name as BIDS URI of the raw dataset if it lies there, else its path."""
    prefix = bids_dir.rstrip("/") + "/"
    return f"bids:raw:{source.removeprefix(prefix)}" if bids_dir and source.startswith(prefix) else source
