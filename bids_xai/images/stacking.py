"""Samples of many runs as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import nibabel as nb
import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, image_like, volumes


def varying_voxels(
    images: Sequence[nb.spatialimages.SpatialImage], mask: nb.spatialimages.SpatialImage
) -> nb.Nifti1Image:
    """Return the mask without the voxels that are zero throughout some run, or in all single images.

    Cleaning sets voxels without variation to zero: in that run they say nothing of any class. Images of one
    volume are one sample each: there, a zero is a value like others, unless all of them have it.

    Parameters
    ----------
    images
        4-D images of samples, all on the grid of the mask.
    mask
        Voxels to choose from.

    Raises
    ------
    InputError
        If the grids differ, or no voxel varies in all images.
    """
    inside = np.asarray(mask.dataobj) > 0
    n_before = int(inside.sum())
    somewhere = np.zeros_like(inside)
    for image in images:
        check_same_grid(mask, image)
        nonzero = np.any(np.asarray(image.dataobj) != 0, axis=3)
        if image.shape[3] == 1:
            somewhere |= nonzero
        else:
            inside &= nonzero
    if somewhere.any():
        inside &= somewhere
    if not inside.any():
        raise InputError(
            f"Not one of the {n_before} voxels of the mask varies in every run.",
            "images with signal inside the mask",
            "check the images and the mask of the participant level (sub-*.html)",
        )
    return image_like(inside.astype(np.uint8), mask)


def stack_samples(
    images: Sequence[nb.spatialimages.SpatialImage],
    mask: nb.spatialimages.SpatialImage,
    kept: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the chosen samples into the rows of ``out``.

    Parameters
    ----------
    images
        4-D images; their volumes, in order, are samples 0, 1, 2, ...
    mask
        Voxels, in C order, that become the columns.
    kept
        Numbers of the samples to write, ascending, shape (n_kept,).
    out
        float32 matrix of shape (n_kept, n_voxels), for example memory-mapped.
    """
    inside = np.asarray(mask.dataobj) > 0
    for row, volume in _chosen(images, kept):
        out[row] = volume[inside]


def stack_volumes(
    images: Sequence[nb.spatialimages.SpatialImage],
    kept: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the chosen samples, whole, into ``out``.

    Parameters
    ----------
    images
        4-D images; their volumes, in order, are samples 0, 1, 2, ...
    kept
        Numbers of the samples to write, shape (n_kept,).
    out
        float32 array of shape (n_kept, x, y, z), for example memory-mapped.
    """
    for row, volume in _chosen(images, kept):
        out[row] = volume


def _chosen(
    images: Sequence[nb.spatialimages.SpatialImage], kept: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray]]:
    """Give the row and the volume of every chosen sample, reading one volume at a time."""
    n_volumes = sum(image.shape[3] for image in images)
    if len(kept) and int(kept.max()) >= n_volumes:
        raise InputError(
            f"There are {n_volumes} volumes, and sample {int(kept.max()) + 1} is asked for.",
            "one row for every volume",
            "run the participant level again",
        )
    rows = {int(sample): row for row, sample in enumerate(kept)}
    for sample, volume in enumerate(volume for image in images for volume in volumes(image)):
        if sample in rows:
            yield rows[sample], volume
