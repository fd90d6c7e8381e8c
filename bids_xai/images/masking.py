"""Brain masks: reading, computing, downsampling, and the way between images and rows of voxels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, downsample, image_like, same_grid, volumes

# Single-precision weights may put an exact half a little below it.
_HALF = 0.5 - 1e-6
# ... or above it.
_MORE_THAN_HALF = 0.5 + 1e-6
# Below this many voxels along an axis, erosion would remove the brain together with its rim.
_MIN_AXIS_FOR_OPENING = 12
# Air around a head is far darker than this share of the brightest tissue; the darkest tissue is not.
_TISSUE_RATIO = 0.2
_MIN_ZEROS = 0.2
# Masks that are right hold .90 to 1 of it (studyforrest, Haxby 2001); one that missed most of a slice, .20.
_LEAST_OF_TISSUE = 0.7


def binary_mask(img: SpatialImage, name: str | os.PathLike[str] = "") -> nb.Nifti1Image:
    """Return the mask of voxels whose value is at least one half, as 0 and 1 in uint8.

    Raises
    ------
    InputError
        If the image is not 3-D or no voxel is inside.
    """
    name = os.fspath(name) or img.get_filename() or "the mask"
    data = np.asarray(img.dataobj)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(
            f"The mask {name} has {data.ndim} dimensions (shape {data.shape}).",
            "a 3-D image of zeros and ones",
            "give one volume",
        )
    inside = np.nan_to_num(data.astype(np.float64)) >= _HALF
    _refuse_empty(inside, name)
    return image_like(inside.astype(np.uint8), img)


def load_mask(path: str | os.PathLike[str]) -> nb.Nifti1Image:
    """Read a mask file: voxels of at least one half are inside (see :func:`binary_mask`)."""
    return binary_mask(nb.load(path), path)


def downsample_mask(mask: SpatialImage, resolution_mm: float) -> nb.Nifti1Image:
    """Bring a mask to coarser voxels: tent kernel, then more than one half of the weight inside.

    This is ``fslmaths mask -subsamp2 -thr 0.5 -bin`` for any factor (Gotsopoulos et al. 2018, with the
    threshold of their code): 91 x 109 x 91 voxels of 2 mm become 46 x 55 x 46 of 4 mm, and FSL's own mask of
    MNI152 has 28 586 of them. Exact halves are outside: FSL's kernel for a factor of 2 is written as .125 for
    the voxel, .0625 for its 6 faces, .0312 for the 12 edges and .0156 for the 8 corners, which sum to .9992,
    so that a half of whatever holds an edge or a corner falls below .5. (One half is exact there, the voxel
    and all of its faces with no edge and no corner: FSL keeps that one.) Beyond the image's edge the
    outermost slice is repeated, as FSL does.

    Raises
    ------
    InputError
        If the resolution is finer than the mask's, or nothing is left.
    """
    name = mask.get_filename() or "the mask"
    coarse = downsample(binary_mask(mask, name), resolution_mm)
    inside = np.asarray(coarse.dataobj) > _MORE_THAN_HALF
    _refuse_empty(inside, f"{name} at {resolution_mm:g} mm")
    return image_like(inside.astype(np.uint8), coarse)


def intersect(masks: Sequence[SpatialImage], names: Sequence[str] | None = None) -> nb.Nifti1Image:
    """Return the voxels that lie in every mask (all on one grid).

    Raises
    ------
    InputError
        If the grids differ, or no voxel lies in all masks.
    """
    names = list(names) if names is not None else [img.get_filename() or "a mask" for img in masks]
    inside = np.ones(masks[0].shape[:3], dtype=bool)
    for img, name in zip(masks, names, strict=True):
        check_same_grid(masks[0], img, names[0], name)
        inside &= np.asarray(binary_mask(img, name).dataobj) > 0
    _refuse_empty(inside, f"the intersection of {len(masks)} masks ({', '.join(names[:3])}, ...)")
    return image_like(inside.astype(np.uint8), masks[0])


def compute_mask(images: Sequence[SpatialImage]) -> nb.Nifti1Image:
    """Find the brain in functional images from their mean over time.

    Each image's mean volume is thresholded in the widest gap of its histogram, opened and reduced to
    its largest component (:func:`nilearn.masking.compute_epi_mask`; Luo and Nichols 2003); the masks of
    several images are intersected. Two cases are told apart first: images whose background was set to
    zero by brain extraction (the mask is what is not zero), and images of few voxels along an axis, for
    example a single slice, which are not opened.

    Parameters
    ----------
    images
        3-D or 4-D images on one grid.

    Raises
    ------
    InputError
        If the grids differ, no brain is found, or what is found cannot be one: most of what hangs together
        and is as bright lies outside it.
    """
    masks = []
    for img in images:
        check_same_grid(images[0], img)
        mean = mean_volume(img)
        masks.append(image_like(_brain_of(mean, img).astype(np.uint8), img))
    return intersect(masks, [img.get_filename() or "an image" for img in images])


def mean_volume(img: SpatialImage) -> npt.NDArray[np.float64]:
    """Return the mean over time, shape (x, y, z)."""
    total = np.zeros(img.shape[:3])
    for volume in volumes(img):
        total += volume
    n_volumes: int = img.shape[3] if len(img.shape) == 4 else 1
    return total / n_volumes


def _brain_of(mean: npt.NDArray[np.float64], img: SpatialImage) -> npt.NDArray[np.bool_]:
    from nilearn.masking import compute_epi_mask

    name = img.get_filename() or "the image"
    nonzero = mean != 0
    if not nonzero.any() or np.ptp(mean) == 0:
        raise InputError(
            f"The mean of {name} is the same in every voxel.",
            "an image with a brain in it",
            "look at the image, and give --mask if it is right",
        )
    padded = nonzero.mean() <= 1 - _MIN_ZEROS
    darkest, brightest = np.quantile(mean[nonzero], (0.05, 0.95))
    if padded and darkest > _TISSUE_RATIO * brightest:
        return _largest_component(nonzero)
    opening = 2 if min(mean.shape) >= _MIN_AXIS_FOR_OPENING else False
    try:
        found = compute_epi_mask(nb.Nifti1Image(mean, img.affine), opening=opening, exclude_zeros=padded)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"No brain was found in {name}: {error}",
            "a functional image that is neither detrended nor standardised",
            "give a mask with --mask FILE",
        ) from error
    inside = np.asarray(found.dataobj) > 0
    _refuse_empty(inside, f"the mask computed from {name}")
    share = _share_of_tissue(mean, inside)
    if share < _LEAST_OF_TISSUE:
        raise InputError(
            f"The brain mask computed from {name} cannot be right: it holds {inside.sum()} voxels, "
            f"{share:.0%} of what is as bright as half of their median and hangs together.",
            f"at least {_LEAST_OF_TISSUE:.0%}",
            "look at the image; give a brain mask with --mask FILE, or with --derivatives",
        )
    return inside


def _share_of_tissue(mean: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]) -> float:
    """Return which share of the largest part of an image that is bright enough for tissue a mask holds.

    Bright enough is half of the median inside the mask: whatever it is of the brain, the rest of the brain
    is as bright.
    """
    tissue = _largest_component(mean > 0.5 * np.median(mean[inside]))
    return float((tissue & inside).sum() / tissue.sum())


def _largest_component(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    labels, _ = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def masked_series(img: SpatialImage, mask: SpatialImage) -> npt.NDArray[np.float32]:
    """Return the voxels inside a mask as rows of time, float32, shape (n_volumes, n_voxels).

    The voxels are in the C order of the grid, as ``data[mask]`` gives them. One volume is held in memory
    besides the result.

    Raises
    ------
    InputError
        If image and mask are on different grids.
    """
    check_same_grid(img, mask)
    inside = np.asarray(mask.dataobj) > 0
    n_volumes = img.shape[3] if len(img.shape) == 4 else 1
    series = np.empty((n_volumes, int(inside.sum())), dtype=np.float32)
    for index, volume in enumerate(volumes(img)):
        series[index] = volume[inside]
    return series


def dilated(inside: npt.NDArray[np.bool_], voxels: int = 2) -> npt.NDArray[np.bool_]:
    """Return a mask with a margin of so many voxels (6-neighbours)."""
    return np.asarray(ndimage.binary_dilation(inside, iterations=voxels))


def unmask(values: npt.NDArray, mask: SpatialImage) -> nb.Nifti1Image:
    """Put values of the voxels inside a mask back on its grid, zeros outside.

    Parameters
    ----------
    values
        Shape (n_voxels,) for a 3-D image or (n, n_voxels) for a 4-D image with n volumes.
    mask
        The mask that :func:`masked_series` was given.
    """
    inside = np.asarray(mask.dataobj) > 0
    values = np.asarray(values)
    data = np.zeros(inside.shape + values.shape[:-1], dtype=values.dtype)
    data[inside] = values.T
    return image_like(data, mask)


def on_grid(mask: SpatialImage, grid: SpatialImage) -> npt.NDArray[np.bool_]:
    """Return a mask of the same space on another grid: where at least half of a voxel is inside.

    Parameters
    ----------
    mask
        3-D image, voxels above 0 are inside.
    grid
        Image whose grid is meant.

    Returns
    -------
    array, bool, shape (x, y, z)
    """
    inside = (np.asarray(mask.dataobj) > 0).astype(np.float32)
    if same_grid(mask, grid):
        return inside > 0
    to_mask = np.linalg.inv(mask.affine) @ grid.affine
    centres = np.indices(grid.shape[:3], dtype=np.float32).reshape(3, -1)
    share = np.zeros(centres.shape[1], dtype=np.float32)
    # A voxel is seen at 27 points: its share inside is their mean.
    for offset in itertools.product((-1 / 3, 0, 1 / 3), repeat=3):
        places = to_mask[:3, :3] @ (centres + np.array(offset)[:, None]) + to_mask[:3, 3:]
        share += ndimage.map_coordinates(inside, places, order=1, mode="constant") / 27
    return (share >= _HALF).reshape(grid.shape[:3])


def _refuse_empty(inside: npt.NDArray[np.bool_], name: str) -> None:
    if not inside.any():
        raise InputError(
            f"No voxel is inside {name}.",
            "a mask with at least one voxel of value 1",
            "check that the mask is of these images, or let it be computed with --mask compute",
        )
