"""Checks of where an image says that its voxels lie: its affine, qform and sform."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine
from nibabel.spatialimages import HeaderDataError

from bids_xai.errors import InputError

LOGGER = logging.getLogger("bids_xai.bids")
MAX_APART_MM = 1.0
MAX_TURN_DEGREES = 45.0
_SPACES = {1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI"}
_CONFLICT_REMEDY = (
    "find out which is right and set the code of the other to 0, for example with nibabel: "
    "img.set_qform(None, 0) (or img.set_sform(None, 0)), then save a copy"
)


def check_orientation(path: Path, img: nb.Nifti1Image) -> None:
    """Raise InputError unless an image says without contradiction where its voxels lie.

    Refused are an affine that is zero, singular or not finite, and two affines that contradict each other:
    of one space (equal codes) and more than 1 mm apart at a corner of the grid, or of different spaces
    and mirrored or turned by more than 45 degrees. qform and sform of different spaces (scanner and aligned,
    say) may differ otherwise; the sform is taken, as nibabel does. Oblique and left-handed images are right.

    Parameters
    ----------
    path, img
        The image, and its name for messages.
    """
    affine = np.asarray(img.affine, dtype=np.float64)
    _check_regular(path, affine, "affine")
    qform, sform, q_code, s_code = _both(path, img)
    if qform is None and sform is None:
        LOGGER.warning("%s has neither qform nor sform: its orientation is not known for sure.", path)
        return
    if qform is None or sform is None:
        return
    _check_regular(path, qform, "qform")
    corners = np.array(list(itertools.product(*[(0, size - 1) for size in img.shape[:3]])))
    apart = float(np.linalg.norm(apply_affine(qform, corners) - apply_affine(sform, corners), axis=1).max())
    if apart <= MAX_APART_MM:
        return
    mirrored = np.linalg.det(qform[:3, :3]) * np.linalg.det(sform[:3, :3]) < 0
    # Mirrored axes are turned by more than that, too.
    if q_code == s_code or _turn(qform, sform) > MAX_TURN_DEGREES:
        how = (
            "mirrored, so that left and right are exchanged"
            if mirrored
            else f"{apart:.3g} mm apart at a corner"
        )
        raise InputError(
            f"The qform and sform of {path} contradict each other ({how}): qform (code {q_code}) "
            f"{_text(qform)}, sform (code {s_code}) {_text(sform)}.",
            f"both within {MAX_APART_MM:g} mm, or one of them with code 0",
            _CONFLICT_REMEDY,
        )
    LOGGER.warning(
        "The qform (%s) and sform (%s) of %s are %.3g mm apart: the sform is taken.",
        _SPACES.get(q_code, q_code),
        _SPACES.get(s_code, s_code),
        path,
        apart,
    )


def _both(
    path: Path, img: nb.Nifti1Image
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None, int, int]:
    """Return qform and sform, None where the code is 0, and the codes."""
    q_code, s_code = int(img.header["qform_code"]), int(img.header["sform_code"])
    sform = np.asarray(img.header.get_sform(), np.float64) if s_code else None
    try:
        qform = np.asarray(img.header.get_qform(), np.float64) if q_code else None
    except (HeaderDataError, ValueError) as error:
        raise InputError(
            f"The qform of {path} (code {q_code}) is not a rotation: {error}",
            "a unit quaternion, or the code 0",
            _CONFLICT_REMEDY,
        ) from error
    return qform, sform, q_code, s_code


def _check_regular(path: Path, affine: npt.NDArray[np.float64], name: str) -> None:
    part = affine[:3, :3]
    if not np.isfinite(affine).all():
        what = "has values that are not finite"
    elif not part.any():
        what = "is zero"
    elif abs(np.linalg.det(part)) < 1e-6 * np.prod(np.maximum(np.linalg.norm(part, axis=0), 1e-6)):
        what = "is singular"
    else:
        return
    raise InputError(
        f"The {name} of {path} {what}: {_text(affine)}.",
        "three axes that span the space, in mm",
        "convert the image again, or correct its qform and sform",
    )


def _turn(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the largest angle in degrees between the same voxel axis of two affines."""
    axes = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (a, b)]
    cosines = np.clip((axes[0] * axes[1]).sum(axis=0), -1.0, 1.0)
    return float(np.degrees(np.arccos(cosines)).max())


def _text(affine: npt.NDArray[np.float64]) -> str:
    return "[" + "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine[:3]) + "]"
