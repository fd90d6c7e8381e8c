"""Sidecars of the samples: where they come from and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Key of the sidecar <- name of the setting.
SETTINGS_KEYS = {
    "Preprocessing": "preproc",
    "Sample": "sample",
    "Target": "target",
    "Classes": "classes",
    "Window": "window",
    "WindowAnchor": "window_anchor",
    "HrfShift": "hrf_shift",
    "Detrend": "detrend",
    "HighPass": "high_pass",
    "HighPassSigma": "high_pass_sigma",
    "Confounds": "confounds",
    "Standardize": "standardize",
}


def samples_metadata(
    *,
    settings: Mapping[str, Any],
    bids_dir: str,
    source: str,
    mask: str,
    space: str | None,
    resolution: float | None,
    repetition_time: float,
) -> dict[str, Any]:
    """Return the sidecar of one run's samples.

    Parameters
    ----------
    settings
        How the samples were made, by name of the setting.
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
        Seconds between the volumes of the source.
    """
    named = {key: settings.get(name) for key, name in SETTINGS_KEYS.items()}
    return {
        "Description": "Labelled samples, one volume each; the TSV file of the same name has their rows",
        "Sources": [_relative(source, bids_dir)],
        **{key: value for key, value in named.items() if value is not None},
        "Space": space,
        "Resolution": resolution,
        "RepetitionTime": repetition_time,
        "Mask": mask,
    }


def _relative(source: str, bids_dir: str) -> str:
    prefix = bids_dir.rstrip("/") + "/"
    return f"bids:raw:{source.removeprefix(prefix)}" if bids_dir and source.startswith(prefix) else source
