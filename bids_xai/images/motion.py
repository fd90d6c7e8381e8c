"""Head motion: rigid realignment of a run's volumes, its parameters, framewise displacement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import nibabel as nb
import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import ornt_transform
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.images.alignment import correlation
from bids_xai.images.grids import image_like, volumes, voxel_sizes
from bids_xai.images.masking import mean_volume

MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0  # Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018

_SMOOTHING_FWHM_MM = 5.0
_HEAD_SHARE = 0.25  # of the brightest tissue
_POINTS = 12_000
_REFERENCE_VOLUMES = 24
_MOST_STEPS = 20
_CONVERGED_MM = 2e-3
_FURTHEST_MM = 100.0
_LEAST_CORRELATION = 0.5  # with the reference; volumes of one head have more than 0.9
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Where the head was in every volume of a run.

    Attributes
    ----------
    matrices
        (n_volumes, 4, 4), RAS mm: point of the reference -> the same tissue's point in the volume.
    reference
        Mean of realigned volumes, 3-D, on the run's grid.
    centre
        (3,) mm: centre of the head, about which :meth:`parameters` rotates.
    """

    matrices: Matrix
    reference: nb.Nifti1Image
    centre: NDArray[np.float64]

    def parameters(self) -> Matrix:
        """Return translations (mm) and rotations (rad) of the head, (n_volumes, 6), about its centre."""
        return rigid_parameters(self.matrices, self.centre)


def rigid_matrix(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> Matrix:
    """Return the 4 x 4 matrix of (trans_x, trans_y, trans_z in mm, rot_x, rot_y, rot_z in rad).

    ``p -> Rz Ry Rx (p - centre) + centre + t``, in RAS world coordinates.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", parameters[3:]).as_matrix()
    matrix[:3, 3] = parameters[:3] + centre - matrix[:3, :3] @ centre
    return matrix


def rigid_parameters(matrices: Matrix, centre: NDArray[np.float64]) -> Matrix:
    """Return translations in mm and rotations in rad of rigid matrices: the inverse of :func:`rigid_matrix`.

    Parameters
    ----------
    matrices
        (n, 4, 4).
    centre
        (3,) point in mm that the rotations are about.

    Returns
    -------
    ndarray, (n, 6)
    """
    angles = Rotation.from_matrix(matrices[:, :3, :3]).as_euler("xyz")
    shifts = matrices[:, :3, 3] + matrices[:, :3, :3] @ centre - centre
    return np.concatenate([shifts, angles], axis=1)


def framewise_displacement(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of absolute changes from volume to volume in mm, rotations as arcs of 50 mm (Power et al. 2012).

    Parameters
    ----------
    parameters
        (n_volumes, 6): translations in mm, rotations in rad.

    Returns
    -------
    ndarray, (n_volumes,)
        The first is NaN: nothing comes before it.
    """
    steps = np.abs(np.diff(parameters, axis=0))
    moved = steps[:, :3].sum(axis=1) + HEAD_RADIUS_MM * steps[:, 3:].sum(axis=1)
    return np.concatenate([[np.nan], moved])


def motion_regressors(parameters: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the 24 regressors of Friston et al. (1996) and the framewise displacement, fMRIPrep's names.

    Parameters
    ----------
    parameters
        (n_volumes, 6): translations in mm, rotations in rad.

    Returns
    -------
    dict of ndarray, (n_volumes,)
        Each parameter, its backward difference (``_derivative1``, NaN in the first volume), the squares of
        both (``_power2``), and ``framewise_displacement`` in mm.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for name, values in zip(MOTION_COLUMNS, parameters.T, strict=True):
        change = np.concatenate([[np.nan], np.diff(values)])
        columns |= {name: values, f"{name}_derivative1": change}
        columns |= {f"{name}_power2": values**2, f"{name}_derivative1_power2": change**2}
    return {**columns, "framewise_displacement": framewise_displacement(parameters)}


def head_centre(volume: NDArray[np.float64], img: SpatialImage) -> NDArray[np.float64]:
    """Return the centre of the head in a volume on the grid of ``img``, (3,) RAS mm: what motion is about."""
    return np.asarray(apply_affine(img.affine, _head_voxels(_smoothed(volume, img)).mean(axis=0)))


def estimate_motion(img: SpatialImage) -> Motion:
    """Estimate the head's position in every volume of a run.

    Rigid least-squares realignment (Friston et al. 1995, doi:10.1002/hbm.460030303), solved by the inverse
    compositional form of Gauss-Newton (Baker & Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd): the
    derivatives belong to the reference, so a step costs one interpolation of the volume. Every volume is
    smoothed (5 mm), interpolated with cubic splines at about 12 000 points where the reference has contrast,
    and starts where the volume before it ended; a global factor absorbs changes of its intensity. The
    reference is the mean of up to 24 volumes that were realigned to the middle one.

    Parameters
    ----------
    img
        4-D run of at least 2 volumes.

    Returns
    -------
    Motion
    """
    n_volumes = img.shape[3]
    chosen = np.unique(np.linspace(0, n_volumes - 1, min(n_volumes, _REFERENCE_VOLUMES)).round().astype(int))
    middle = int(chosen[len(chosen) // 2])
    kept = {index: volume for index, volume in enumerate(volumes(img)) if index in set(chosen.tolist())}
    first = _Target(kept[middle], img)
    positions = dict(zip(kept, _follow(first, kept.values(), img), strict=True))
    realigned = [_realigned(volume, positions[index], img) for index, volume in kept.items()]
    reference = np.mean(realigned, axis=0)
    target = _Target(reference, img)
    matrices = np.stack(list(_follow(target, volumes(img), img)))
    return Motion(matrices, image_like(reference.astype(np.float32), _header(img)), target.centre)


def reference_agreement(reference: SpatialImage, run: SpatialImage) -> float:
    """Return the correlation of a run's reference with the mean of its volumes as they came.

    Realignment sharpens the mean; the same head is seen in both. A low value tells that the values were
    damaged on the way, as by a program that rounds or wraps scaled integers.

    Parameters
    ----------
    reference
        3-D image: mean of the realigned volumes, on the run's grid, axes exchanged or turned at most.
    run
        4-D run.

    Raises
    ------
    ValueError
        If the reference is on another grid.
    """
    turn = ornt_transform(nb.io_orientation(run.affine), nb.io_orientation(reference.affine))
    mean = nb.apply_orientation(mean_volume(run), turn)
    if mean.shape != reference.shape[:3]:
        raise ValueError(f"a reference of {reference.shape[:3]} voxels for a run of {mean.shape}")
    return correlation(np.asarray(reference.dataobj), mean, np.ones(mean.shape, dtype=bool))


class _Target:
    """A reference prepared for Gauss-Newton steps: points, their values, derivatives and normal equations."""

    def __init__(self, volume: NDArray[np.float64], img: SpatialImage) -> None:
        self.affine = np.asarray(img.affine, dtype=np.float64)
        smooth = _smoothed(volume, img)
        voxels = _head_voxels(smooth)
        self.centre = apply_affine(self.affine, voxels.mean(axis=0))
        slopes = np.stack([_slope(smooth, axis)[tuple(voxels.T)] for axis in range(3)], axis=-1)
        # The half with most contrast, thinned out evenly.
        steep = np.square(slopes).sum(axis=1)
        chosen = np.flatnonzero(steep >= np.median(steep))
        chosen = chosen[:: max(1, len(chosen) // _POINTS)]
        voxels, slopes = voxels[chosen], slopes[chosen]
        self.points = apply_affine(self.affine, voxels) - self.centre
        self.values = smooth[tuple(voxels.T)]
        # World derivative of the image, then its derivative for a small rigid movement about the centre.
        slopes = slopes @ np.linalg.inv(self.affine[:3, :3])
        jacobian = np.concatenate([slopes, np.cross(self.points, slopes), self.values[:, None]], axis=1)
        self.solve = np.linalg.pinv(jacobian.T @ jacobian) @ jacobian.T

    def locate(self, smooth: NDArray[np.float32], start: Matrix) -> Matrix:
        """Return the movement (about the centre) of the head in a smoothed, spline-filtered volume.

        Points that leave the field of view count for nothing. A volume that does not resemble the reference
        where it was found (a spike, an empty volume) stays at ``start``: the next ones begin from there.
        """
        to_voxels = np.linalg.inv(self.affine)
        limits = np.asarray(smooth.shape)[:, None] - 0.5
        scale, matrix = 1.0, start
        for _ in range(_MOST_STEPS):
            world = apply_affine(matrix, self.points) + self.centre
            at = apply_affine(to_voxels, world).T
            seen = ndimage.map_coordinates(smooth, at, order=3, mode="nearest", prefilter=False)
            within = ((at > -0.5) & (at < limits)).all(axis=0)
            step = self.solve @ np.where(within, seen - scale * self.values, 0)
            scale += step[6]
            small = rigid_matrix(step[:6] / max(scale, 0.1), np.zeros(3))
            matrix = matrix @ np.linalg.inv(small)
            if np.abs(step[:3]).sum() + HEAD_RADIUS_MM * np.abs(step[3:6]).sum() < _CONVERGED_MM:
                break
        near = np.isfinite(matrix).all() and np.abs(matrix[:3, 3]).max() < _FURTHEST_MM
        found = near and within.any() and correlation(seen, self.values, within) > _LEAST_CORRELATION
        return matrix if found else start


def _head_voxels(smooth: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argwhere(_interior(smooth > _HEAD_SHARE * np.percentile(smooth, 98)))


def _follow(target: _Target, series: Iterable[NDArray[np.float64]], img: SpatialImage) -> Iterable[Matrix]:
    """Yield the matrix of every volume, in world coordinates; each starts where the one before it ended."""
    to_centre, from_centre = np.eye(4), np.eye(4)
    to_centre[:3, 3], from_centre[:3, 3] = -target.centre, target.centre
    position = np.eye(4)
    for volume in series:
        smooth = _smoothed(volume, img)
        filtered = ndimage.spline_filter(smooth, order=3, output=np.float32, mode="nearest")
        position = target.locate(filtered, position)
        yield from_centre @ position @ to_centre


def _smoothed(volume: NDArray[np.float64], img: SpatialImage) -> NDArray[np.float32]:
    sigma = _SMOOTHING_FWHM_MM * _SIGMA_PER_FWHM / voxel_sizes(img)
    sigma[np.asarray(volume.shape) == 1] = 0.0
    return ndimage.gaussian_filter(volume.astype(np.float32), sigma, mode="nearest", truncate=3.0)


def _interior(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out the borders of the field of view, where tissue comes and goes."""
    margins = tuple(slice(1, -1) if size > 4 else slice(None) for size in inside.shape)
    interior = np.zeros_like(inside)
    interior[margins] = inside[margins]
    return interior if interior.any() else np.ones_like(inside)


def _slope(volume: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return np.gradient(volume, axis=axis) if volume.shape[axis] > 1 else np.zeros_like(volume)


def _realigned(volume: NDArray[np.float64], matrix: Matrix, img: SpatialImage) -> NDArray[np.float32]:
    voxel = np.linalg.inv(img.affine) @ matrix @ img.affine
    return ndimage.affine_transform(
        volume.astype(np.float32), voxel[:3, :3], voxel[:3, 3], order=3, mode="nearest"
    )


def _header(img: SpatialImage) -> SpatialImage:
    return img.slicer[..., 0] if len(img.shape) == 4 else img
