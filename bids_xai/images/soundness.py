"""Volumes of a run that hold no image: found before anything is computed of it, and left out of all of it."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage

from bids_xai.errors import InputError
from bids_xai.images.grids import image_like, volumes

# A volume with fewer finite voxels, relative to the run's median, is lost; single ones are voxels' matter.
_LEAST_FINITE = 0.5
# Of a run, more lost volumes than that are no accident.
_MOST_LOST = 0.5
_SHOWN = 5


@dataclass(frozen=True)
class Soundness:
    """What a run holds that is no image.

    Attributes
    ----------
    n_volumes
        Length of the run.
    not_finite, constant
        Volumes (from 0) most of whose voxels are NaN or infinite; whose voxels all have one value, as dummy
        volumes of zeros.
    holes
        (x, y, z) bool: voxels that are not finite in some of the other volumes, but not in all of them.
    """

    n_volumes: int
    not_finite: tuple[int, ...]
    constant: tuple[int, ...]
    holes: npt.NDArray[np.bool_]

    @property
    def lost(self) -> list[int]:
        """Volumes without an image, ascending."""
        return sorted({*self.not_finite, *self.constant})

    def warnings(self, name: str) -> list[str]:
        """Say what is wrong and what is done about it; ``name`` is the file's."""
        said = []
        for found, what in ((self.not_finite, "not finite (NaN or infinite)"), (self.constant, "constant")):
            if found:
                said.append(
                    f"{_numbered(found)} of {name} ({self.n_volumes} volumes) {_be(found)} {what}: left out "
                    "of filters, scaling and samples."
                )
        if self.holes.any():
            said.append(
                f"{self.holes.sum()} voxels of {name} are not finite in some volumes: they are taken as "
                "without data."
            )
        return said


def inspect_run(img: SpatialImage, name: str) -> Soundness:
    """Return which volumes and voxels of a run hold no image; the run is read once.

    Voxels that are finite in no volume are background, as some programs write it.

    Parameters
    ----------
    img
        4-D run.
    name
        The file's, for messages.

    Raises
    ------
    InputError
        If more than half of the volumes hold none.
    """
    n_volumes = img.shape[3]
    n_finite = np.zeros(n_volumes, dtype=np.int64)
    constant = []
    for index, volume in enumerate(volumes(img, finite=False)):
        seen = volume[np.isfinite(volume)]
        n_finite[index] = seen.size
        if seen.size and seen.min() == seen.max():
            constant.append(index)
    lost = n_finite < _LEAST_FINITE * np.median(n_finite[n_finite > 0]) if n_finite.any() else n_finite == 0
    not_finite = np.flatnonzero(lost | (n_finite == 0)).tolist()
    constant = [index for index in constant if index not in not_finite]
    found = Soundness(n_volumes, tuple(not_finite), tuple(constant), _holes(img, n_finite, not_finite))
    if len(found.lost) > _MOST_LOST * n_volumes:
        raise InputError(
            f"{len(found.lost)} of the {n_volumes} volumes of {name} hold no image: {len(not_finite)} are "
            f"not finite (NaN or infinite), {len(constant)} are constant.",
            "a functional run",
            "repair or replace it, or leave the run out with --run-id, --task-id or --bids-filter-file",
        )
    return found


def _holes(
    img: SpatialImage, n_finite: npt.NDArray[np.int64], not_finite: list[int]
) -> npt.NDArray[np.bool_]:
    """Return the voxels that are finite in some volumes only; those of lost volumes do not count."""
    kept = np.delete(n_finite, not_finite)
    nothing = np.zeros(img.shape[:3], dtype=bool)
    if kept.size == 0 or (kept == nothing.size).all():
        return nothing
    always, ever = ~nothing, nothing.copy()
    for index, volume in enumerate(volumes(img, finite=False)):
        if index not in not_finite:
            finite = np.isfinite(volume)
            always &= finite
            ever |= finite
    return np.asarray(ever & ~always)


def repaired(img: SpatialImage, found: Soundness) -> nb.Nifti1Image:
    """Return a run whose lost volumes repeat the nearest one that is not, and whose holes are 0 throughout.

    Programs that align the run go on; nothing of these volumes is used.
    """
    lost = set(found.lost)
    sound = np.array([index for index in range(found.n_volumes) if index not in lost])
    out = np.zeros(img.shape, dtype=np.float32)
    for index, volume in enumerate(volumes(img)):
        out[..., index] = volume
    for index in lost:
        out[..., index] = out[..., sound[np.abs(sound - index).argmin()]]
    out[found.holes] = 0
    return image_like(out, img)


def _numbered(found: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
    return f"Volume {shown}" if len(found) == 1 else f"{len(found)} volumes ({shown}; counted from 0)"


def _be(found: tuple[int, ...]) -> str:
    return "is" if len(found) == 1 else "are"
