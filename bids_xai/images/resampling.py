"""Resampling through composed transforms: one interpolation from native space to the analysis grid."""

from __future__ import annotations

import nibabel as nb
import numpy as np
from nibabel.affines import apply_affine
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from bids_xai.errors import InputError
from bids_xai.images.grids import describe_grid, image_like, same_grid, volumes

_LPS = np.array([-1.0, -1.0, 1.0])
_CUBIC = 3


def resample_run(
    img: SpatialImage,
    grid: SpatialImage,
    *,
    displacement: SpatialImage | None = None,
    matrices: NDArray[np.float64] | None = None,
    inside: NDArray[np.bool_] | None = None,
    order: int = _CUBIC,
    out: NDArray[np.float32] | None = None,
) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """Sample a run once, on another grid, through a displacement field and a movement per volume.

    Grid voxel ``g`` of volume k shows the run at ``M_k (x_g + u(x_g))``: ``x_g`` its position, ``u`` the
    displacement, ``M_k`` where the head moved to. Values come from B-splines of ``order``.

    Parameters
    ----------
    img
        4-D run (or a 3-D image, which gives a series of one volume).
    grid
        Image whose three dimensions and affine the result has.
    displacement
        ITK displacement field on ``grid``, (x, y, z, 1, 3), mm in LPS: grid point -> point of the run's
        reference, as antsApplyTransforms writes a composite warp; None: same space.
    matrices
        (n_volumes, 4, 4), RAS mm: point of the reference -> point in the volume
        (:class:`bids_xai.images.motion.Motion`); None: no movement.
    inside
        (x, y, z): where values are wanted; the rest is 0. None: everywhere.
    order
        Order of the splines: 3 cubic, 1 linear, 0 nearest neighbour.
    out
        Zeros (x, y, z, n_volumes) for the series, for example memory-mapped; None: a new array.

    Returns
    -------
    series : Nifti1Image, float32, (x, y, z, n_volumes)
    coverage : Nifti1Image, uint8, (x, y, z)
        1 where ``inside`` and every volume has data.

    Raises
    ------
    InputError
        If the field does not lie on the grid, or the movements are not as many as the volumes.
    """
    wanted = np.ones(grid.shape[:3], dtype=bool) if inside is None else inside
    points = reference_points(grid, wanted, displacement)
    n_volumes = img.shape[3] if len(img.shape) == 4 else 1
    if matrices is not None and len(matrices) != n_volumes:
        raise InputError(
            f"There are {len(matrices)} movements for {img.get_filename() or 'the run'}.",
            f"{n_volumes}: one per volume",
            "estimate them from this run",
        )
    limits = np.asarray(img.shape[:3], dtype=np.float64)[:, None] - 0.5
    to_voxels = np.linalg.inv(img.affine)
    series = np.zeros((*grid.shape[:3], n_volumes), dtype=np.float32) if out is None else out
    covered = np.ones(len(points), dtype=bool)
    for index, volume in enumerate(volumes(img)):
        to_volume = to_voxels if matrices is None else to_voxels @ matrices[index]
        at = apply_affine(to_volume, points).T
        seen = ((at > -0.5) & (at < limits)).all(axis=0)
        covered &= seen
        source = volume.astype(np.float32)
        if order > 1:
            source = ndimage.spline_filter(source, order=order, output=np.float32, mode="nearest")
        values = np.zeros(len(points), dtype=np.float32)
        values[seen] = ndimage.map_coordinates(
            source, at[:, seen], order=order, mode="nearest", prefilter=False
        )
        series[wanted, index] = values
    coverage = np.zeros(grid.shape[:3], dtype=np.uint8)
    coverage[wanted] = covered
    return _timed(series, grid, img), image_like(coverage, grid)


def reference_points(
    grid: SpatialImage, wanted: NDArray[np.bool_], displacement: SpatialImage | None
) -> NDArray[np.float64]:
    """Return where the wanted voxels of a grid lie in the reference, (n, 3), RAS mm."""
    points = apply_affine(grid.affine, np.argwhere(wanted))
    if displacement is None:
        return points
    field = np.asarray(displacement.dataobj, dtype=np.float64).reshape(*displacement.shape[:3], -1)
    if field.shape[3] != 3 or not same_grid(displacement, grid):
        raise InputError(
            f"The displacement field {describe_grid(displacement)} has the shape {displacement.shape}.",
            f"{(*grid.shape[:3], 1, 3)}: three components on the grid of {describe_grid(grid)}",
            "make it with antsApplyTransforms --output [field.nii.gz,1] and the grid as reference",
        )
    return points + field[wanted] * _LPS


def _timed(series: NDArray[np.float32], grid: SpatialImage, img: SpatialImage) -> nb.Nifti1Image:
    out = image_like(series, grid)
    zooms = img.header.get_zooms()
    if len(zooms) == 4:
        out.header.set_xyzt_units("mm", img.header.get_xyzt_units()[1])
        out.header.set_zooms((*out.header.get_zooms()[:3], zooms[3]))
    return out
