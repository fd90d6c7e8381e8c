"""How well two images lie on each other, and where a registration may start."""

from __future__ import annotations

import itertools

import nibabel as nb
import numpy as np
from nibabel.affines import apply_affine
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from bids_xai.images.grids import voxel_sizes

_SPACING_MM = 4.0
_BINS = 32
_WINSOR = (0.5, 99.5)
_OFFSET_MM = 12.0
_MOST_GAIN = 100.0
# Zeros around the image; "constant" loses the outermost voxels where they are met but for round-off.
_ZEROS = "grid-constant"


def correlation(a: NDArray[np.float32], b: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Return Pearson's correlation of two arrays of one shape within a mask; 0 where one is constant."""
    x, y = a[inside].astype(np.float64), b[inside].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt(np.square(x).sum() * np.square(y).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0


def mutual_information(x: NDArray[np.float64], y: NDArray[np.float64], bins: int = _BINS) -> float:
    """Return the mutual information in nats of two samples of values, (n,) each, from a joint histogram."""
    joint, _, _ = np.histogram2d(_winsorized(x), _winsorized(y), bins=bins)
    p = joint / joint.sum()
    expected = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    nonzero = p > 0
    return float((p[nonzero] * np.log(p[nonzero] / expected[nonzero])).sum())


def _winsorized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.percentile(values, _WINSOR)
    return np.clip(values, low, high)


class Comparison:
    """Two images compared at positions of one relative to the other, at about 4 mm.

    Parameters
    ----------
    fixed, moving
        3-D images in world coordinates.
    mask
        Where in ``fixed`` they are compared; None: where it is not 0.
    """

    def __init__(self, fixed: SpatialImage, moving: SpatialImage, mask: SpatialImage | None = None) -> None:
        data = np.nan_to_num(np.asarray(fixed.dataobj, dtype=np.float32).reshape(fixed.shape[:3]))
        inside = data != 0 if mask is None else np.asarray(mask.dataobj).reshape(fixed.shape[:3]) > 0
        steps = np.maximum(1, np.round(_SPACING_MM / voxel_sizes(fixed))).astype(int)
        coarse = tuple(slice(None, None, step) for step in steps)
        blurred = ndimage.gaussian_filter(data, [0.4 * step if step > 1 else 0 for step in steps])
        voxels = np.argwhere(inside[coarse])
        self._values = blurred[coarse][inside[coarse]].astype(np.float64)
        self._points = apply_affine(fixed.affine, voxels * steps)
        source = np.nan_to_num(np.asarray(moving.dataobj, dtype=np.float32).reshape(moving.shape[:3]))
        self._source = ndimage.gaussian_filter(source, 0.4 * _SPACING_MM / voxel_sizes(moving))
        self._to_voxels = np.linalg.inv(moving.affine)

    def information(self, matrix: NDArray[np.float64]) -> float:
        """Return the mutual information with ``moving`` seen at ``matrix`` @ point of ``fixed`` (RAS mm)."""
        at = apply_affine(self._to_voxels @ matrix, self._points).T
        seen = ndimage.map_coordinates(self._source, at, order=1, mode=_ZEROS)
        return mutual_information(self._values, seen.astype(np.float64))

    def information_gain(self, matrix: NDArray[np.float64] | None = None) -> float:
        """Return the mutual information at ``matrix`` divided by the best of six positions 12 mm beside it.

        An alignment that any such shift improves has failed: values at or below 1 tell so, whatever the
        contrasts of the two images.
        """
        matrix = np.eye(4) if matrix is None else matrix
        beside = []
        for axis, sign in itertools.product(range(3), (-1, 1)):
            shift = np.eye(4)
            shift[axis, 3] = sign * _OFFSET_MM
            beside.append(self.information(matrix @ shift))
        return min(self.information(matrix) / max(*beside, np.finfo(float).tiny), _MOST_GAIN)


def initial_translation(
    fixed: SpatialImage, moving: SpatialImage, mask: SpatialImage | None = None
) -> NDArray[np.float64]:
    """Return the best of three starts: scanner positions as they are, centres of mass, centres of the views.

    Scanner coordinates are right within a session and wrong between scanners; centres of mass mislead where
    one image shows the neck or a part of the brain. The one with most mutual information is taken.

    Parameters
    ----------
    fixed, moving
        3-D images.
    mask
        Where in ``fixed`` they are compared; None: where it is not 0.

    Returns
    -------
    ndarray, (4, 4)
        Translation in RAS mm: point of ``fixed`` -> point of ``moving``.
    """
    shifts = [
        np.zeros(3),
        _centre_of_mass(moving) - _centre_of_mass(fixed),
        _centre_of_view(moving) - _centre_of_view(fixed),
    ]
    comparison = Comparison(fixed, moving, mask)
    candidates = []
    for shift in shifts:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        candidates.append(matrix)
    return max(candidates, key=comparison.information)


def centring(img: SpatialImage, grid: SpatialImage) -> NDArray[np.float64]:
    """Return the transform that pads or crops: centre on centre, axes on axes, no scaling.

    Parameters
    ----------
    img
        The image to be shown.
    grid
        The grid to show it on, axes along the world's.

    Returns
    -------
    ndarray, (4, 4)
        RAS mm: point of ``grid`` -> point of ``img``; the image's own axes, in the order nearest to right,
        anterior, superior, become the world's.
    """
    canonical = nb.as_closest_canonical(img)
    matrix = np.eye(4)
    axes = canonical.affine[:3, :3] / voxel_sizes(canonical)
    left, _, right = np.linalg.svd(axes)
    matrix[:3, :3] = left @ right
    matrix[:3, 3] = _centre_of_view(canonical) - matrix[:3, :3] @ _centre_of_view(grid)
    return matrix


def _centre_of_view(img: SpatialImage) -> NDArray[np.float64]:
    return apply_affine(img.affine, (np.asarray(img.shape[:3]) - 1) / 2)


def _centre_of_mass(img: SpatialImage) -> NDArray[np.float64]:
    data = np.nan_to_num(np.asarray(img.dataobj, dtype=np.float32).reshape(img.shape[:3]))
    clipped = np.clip(data, 0, np.percentile(data, 99.5))
    return apply_affine(img.affine, ndimage.center_of_mass(clipped + 1e-9))


def resampled(
    img: SpatialImage, grid: SpatialImage, matrix: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Return an image on a grid by linear interpolation, 0 outside its field of view.

    Parameters
    ----------
    img
        3-D image.
    grid
        Image whose grid the result has.
    matrix
        (4, 4) RAS mm: point of ``grid`` -> point of ``img``; None: centre of view on centre of view
        (:func:`centring`). The identity where both are in one space: the affines alone say where.
    """
    matrix = centring(img, grid) if matrix is None else matrix
    voxel = np.linalg.inv(img.affine) @ matrix @ grid.affine
    source = np.nan_to_num(np.asarray(img.dataobj, dtype=np.float32).reshape(img.shape[:3]))
    offset, shape = voxel[:3, 3], grid.shape[:3]
    return ndimage.affine_transform(source, voxel[:3, :3], offset, shape, order=1, mode=_ZEROS)


def seen(img: SpatialImage, grid: SpatialImage) -> NDArray[np.bool_]:
    """Tell which voxels of a grid have their centre in the field of view of an image in the same space."""
    voxel = np.linalg.inv(img.affine) @ grid.affine
    inside = np.ones(grid.shape[:3], dtype=bool)
    for row, size in zip(voxel[:3], img.shape[:3], strict=True):
        along = [step * np.arange(n) for step, n in zip(row, grid.shape[:3], strict=False)]
        at = along[0][:, None, None] + along[1][:, None] + along[2] + row[3]
        inside &= (at > -0.5) & (at < size - 0.5)
    return inside
