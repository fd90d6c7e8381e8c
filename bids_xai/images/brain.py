"""Anatomical images: conforming, brain extraction, scaling."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nb
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from bids_xai.errors import InputError
from bids_xai.images.grids import image_like, voxel_sizes

BRAIN_ML = (400.0, 2200.0)
MOST_ELONGATED = 2.0
LEAST_SOLID = 0.75
_LARGEST_BRAIN_LITRES = 2.6
_STRIPPED_SHARE = 0.75
_CLOSING_MM = 6.0


def conform(img: SpatialImage) -> nb.Nifti1Image:
    """Return an image as float32, 3-D, axes nearest to right, anterior, superior, one valid affine.

    Nothing is interpolated. Values that are not finite become 0.
    """
    squeezed = nb.squeeze_image(nb.Nifti1Image.from_image(img))
    canonical = nb.as_closest_canonical(squeezed)
    data = np.nan_to_num(np.asarray(canonical.dataobj, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    # The code of the space is that of the image: nibabel drops it where axes are turned.
    return image_like(data, squeezed, canonical.affine)


def is_skull_stripped(img: SpatialImage) -> bool:
    """Tell whether an image shows a brain alone: zeros on most of the view, and less than any head beside.

    Human heads fill more than 3 litres; brains with their fluid stay below 2.2.
    """
    nonzero = np.asarray(img.dataobj) != 0
    litres = np.count_nonzero(nonzero) * float(np.prod(voxel_sizes(img))) / 1e6
    return bool(litres < _LARGEST_BRAIN_LITRES and nonzero.mean() < _STRIPPED_SHARE)


def extract_brain(img: SpatialImage) -> nb.Nifti1Image:
    """Return the brain mask of a T1w, cerebrospinal fluid around the brain included.

    The network of deepbet (Fisch et al. 2024, doi:10.1016/j.compbiomed.2024.108845) finds it, on the CPU
    and in one thread, so that the result does not depend on the machine's load. An image that is
    skull-stripped already keeps the brain that it shows.

    Parameters
    ----------
    img
        3-D T1w image, any orientation.

    Returns
    -------
    Nifti1Image, uint8, on the grid of ``img``

    Raises
    ------
    InputError
        If no brain is found.
    """
    data = np.asarray(img.dataobj, dtype=np.float32)
    inside = _filled(data != 0, img) if is_skull_stripped(img) else _deepbet(img)
    if not inside.any():
        raise InputError(
            f"No brain was found in {img.get_filename() or 'the image'}.",
            "a T1-weighted image of a whole head",
            "look at the image; leave the participant out, or give preprocessed images "
            "(--preproc derivatives)",
        )
    return image_like(inside.astype(np.uint8), img)


def _filled(nonzero: NDArray[np.bool_], img: SpatialImage) -> NDArray[np.bool_]:
    """Close the sulci of a stripped brain, keep its largest part, fill its holes."""
    steps = round(_CLOSING_MM / 2 / float(voxel_sizes(img).min()))
    padded = np.pad(nonzero, steps + 1)
    closed = ndimage.binary_closing(padded, iterations=steps) if steps else padded
    labels, n = ndimage.label(closed)
    if n > 1:
        closed = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    inner = tuple(slice(steps + 1, -(steps + 1)) for _ in range(3))
    return np.asarray(ndimage.binary_fill_holes(closed)[inner])


def _deepbet(img: SpatialImage) -> NDArray[np.bool_]:
    import torch
    from deepbet import BrainExtraction

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, mask, _ = BrainExtraction(no_gpu=True).run(nb.Nifti1Image.from_image(img))
    except (AssertionError, ValueError):  # what deepbet raises where it finds nothing
        return np.zeros(img.shape[:3], dtype=bool)
    finally:
        torch.set_num_threads(threads)
    return np.asarray(mask.dataobj).reshape(img.shape[:3]) > 0


@dataclass(frozen=True)
class BrainShape:
    """What tells a brain mask from one that has failed.

    Attributes
    ----------
    volume_ml
        Volume.
    elongation
        Longest over shortest axis of the ellipsoid of the same second moments.
    solidity
        Volume over that of the ellipsoid: 1 for an ellipsoid, less for what is scattered or hollow.
    """

    volume_ml: float
    elongation: float
    solidity: float

    @property
    def problem(self) -> str:
        """What is wrong, in words; empty for a mask that can be right."""
        low, high = BRAIN_ML
        problems = []
        if not low <= self.volume_ml <= high:
            problems.append(f"a volume of {self.volume_ml:.0f} ml, expected {low:.0f} to {high:.0f} ml")
        if self.elongation > MOST_ELONGATED:
            problems.append(
                f"{self.elongation:.2f} times as long as thick, expected at most {MOST_ELONGATED:g}"
            )
        if self.solidity < LEAST_SOLID:
            problems.append(
                f"{self.solidity:.0%} as full as an ellipsoid of its size, expected {LEAST_SOLID:.0%}"
            )
        return "; ".join(problems)


def brain_shape(mask: SpatialImage) -> BrainShape:
    """Return the volume and shape of a mask of a whole brain, which tell whether it can be one.

    Limits are wide: :data:`BRAIN_ML` spans the intracranial volumes of adults (Kruggel 2006,
    doi:10.1016/j.neuroimage.2005.09.063) and the volumes of brains from the first months of life on
    (Bethlehem et al. 2022, doi:10.1038/s41586-022-04554-y). Of two templates and eight adults whose masks
    are right, elongation is 1.31 to 1.46 and solidity .94 to .96; the elongation of one hemisphere is 2.3.

    Parameters
    ----------
    mask
        3-D image of zeros and ones, not empty.
    """
    volume_mm3 = float(abs(np.linalg.det(mask.affine[:3, :3])))
    points = np.argwhere(np.asarray(mask.dataobj).reshape(mask.shape[:3]) > 0) @ mask.affine[:3, :3].T
    # A voxel is no point: its own extent counts, too.
    spread = np.cov(points.T, bias=True) + mask.affine[:3, :3] @ mask.affine[:3, :3].T / 12
    axes = np.sqrt(5 * np.linalg.eigvalsh(spread))
    volume = len(points) * volume_mm3
    solidity = volume / (4 / 3 * np.pi * float(np.prod(axes)))
    return BrainShape(volume / 1e3, float(axes[-1] / axes[0]), solidity)


def scale_intensities(data: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """Scale an image's values: ``minmax`` to [0, 1], ``max`` by the maximum, ``none`` not at all.

    A constant image becomes 0 under ``minmax``; with a maximum of 0, ``max`` changes nothing.
    """
    if how == "none":
        return data
    low = float(data.min()) if how == "minmax" else 0.0
    span = float(data.max()) - low
    return ((data - low) / np.float32(span)).astype(np.float32) if span > 0 else data - np.float32(low)
