"""Voxel grids: streaming volumes, downsampling, and checks that two images share one grid."""

from __future__ import annotations

import os
from collections.abc import Iterator

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine
from nibabel.affines import voxel_sizes as affine_voxel_sizes
from nibabel.spatialimages import SpatialImage
from scipy import sparse

from bids_xai.errors import InputError

AFFINE_TOLERANCE_MM = 1e-2
_EQUAL_FACTOR = 1e-3


def volumes(img: SpatialImage, *, finite: bool = True) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the volumes of an image one after the other, in the order of time.

    A file is read front to back once, so a compressed run costs one decompression and one volume of
    memory.

    Parameters
    ----------
    img
        A 3-D image (one volume is yielded) or a 4-D image.
    finite
        Values that are not finite become 0; else they stay.

    Yields
    ------
    array, float64, shape (x, y, z)
    """
    filename = img.get_filename()
    # A file handle kept open lets gzip go on where it stopped; nibabel reopens it for every slice otherwise.
    on_disk = nb.is_proxy(img.dataobj) and filename is not None
    data = (nb.load(filename, keep_file_open=True) if on_disk else img).dataobj
    if len(img.shape) == 3:
        yield _doubles(data, finite)
        return
    for index in range(img.shape[3]):
        yield _doubles(data[..., index], finite)


def _doubles(volume: npt.ArrayLike, finite: bool) -> npt.NDArray[np.float64]:
    values = np.asarray(volume, dtype=np.float64)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) if finite else values


def voxel_sizes(img: SpatialImage) -> npt.NDArray[np.float64]:
    """Return the lengths of the three voxel axes in mm, from the affine."""
    return np.asarray(affine_voxel_sizes(img.affine), dtype=np.float64)


def factors(img: SpatialImage, resolution_mm: float) -> npt.NDArray[np.float64]:
    """Return ``resolution / voxel size`` per axis; axes that already match get exactly 1.

    Raises
    ------
    InputError
        If the asked resolution is finer than the image's along an axis that has more than one voxel.
    """
    sizes = voxel_sizes(img)
    factor = resolution_mm / sizes
    factor[np.abs(factor - 1) < _EQUAL_FACTOR] = 1.0
    # A single slice has nothing to interpolate along its normal: its thickness stays.
    factor[np.asarray(img.shape[:3]) == 1] = 1.0
    if (factor < 1).any():
        name = img.get_filename() or "the image"
        raise InputError(
            f"A resolution of {resolution_mm:g} mm is finer than the voxels of {name} "
            f"({' x '.join(f'{size:.4g}' for size in sizes)} mm).",
            f"a resolution of at least {sizes.max():.4g} mm",
            "choose a coarser --resolution, or leave it out to keep the images' own voxels",
        )
    return factor


def tent_weights(n_in: int, factor: float) -> sparse.csr_array:
    """Return the matrix that downsamples one axis with a tent kernel.

    Output voxel ``i`` lies at input index ``i * factor`` and is the weighted mean of the input voxels
    ``j`` with weights ``max(0, 1 - |j - i * factor| / max(factor, 1))``. Beyond the edge of the field of view
    the outermost voxel is repeated. A factor of 2 gives the weights (.5, 1, .5) of ``fslmaths -subsamp2``,
    which does the same at the edge; its product of three axes is rounded there
    (:func:`bids_xai.images.masking.downsample_mask`).

    Parameters
    ----------
    n_in
        Number of input voxels.
    factor
        Output voxel size divided by input voxel size, at least 1.

    Returns
    -------
    sparse array, float64, shape (floor((n_in - 1) / factor) + 1, n_in)
        Rows sum to one.
    """
    n_out = int(np.floor((n_in - 1) / factor + 1e-6)) + 1
    centres, reach = np.arange(n_out)[:, None] * factor, max(factor, 1.0)
    indices = np.arange(-int(np.ceil(reach)), n_in + int(np.ceil(reach)))
    tents = np.maximum(0.0, 1.0 - np.abs(indices[None, :] - centres) / reach)
    weights = np.zeros((n_out, n_in))
    np.add.at(weights.T, np.clip(indices, 0, n_in - 1), tents.T)
    return sparse.csr_array(weights / weights.sum(axis=1, keepdims=True))


def downsample_array(
    volume: npt.NDArray[np.float64], weights: tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]
) -> npt.NDArray[np.float64]:
    """Apply the three axes' matrices of :func:`tent_weights` to a volume of shape (x, y, z)."""
    for axis, matrix in enumerate(weights):
        moved = np.moveaxis(volume, axis, 0)
        # Sparse products run in a fixed order, so the result is the same for any number of threads.
        flat = matrix @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        volume = np.moveaxis(np.asarray(flat).reshape(-1, *moved.shape[1:]), 0, axis)
    return volume


def downsample(img: SpatialImage, resolution_mm: float) -> nb.Nifti1Image:
    """Bring an image to coarser, isotropic voxels: ``fslmaths -subsamp2`` for any factor.

    The tent kernel of :func:`tent_weights` is applied along each axis, volume by volume. The first
    voxel's centre keeps its place; the columns of the affine are scaled by the factors.

    Parameters
    ----------
    img
        A 3-D or 4-D image.
    resolution_mm
        Voxel size of the result in mm.

    Returns
    -------
    Nifti1Image, float32
        The image on the coarser grid in the same space; a grid that already has these voxels is kept.

    Raises
    ------
    InputError
        If ``resolution_mm`` is finer than the image's voxels.
    """
    factor = factors(img, resolution_mm)
    n_x, n_y, n_z = img.shape[:3]
    weights = (
        tent_weights(n_x, factor[0]),
        tent_weights(n_y, factor[1]),
        tent_weights(n_z, factor[2]),
    )
    shape = tuple(matrix.shape[0] for matrix in weights) + tuple(img.shape[3:])
    out = np.empty(shape, dtype=np.float32)
    series = out.reshape(*shape[:3], -1)
    for index, volume in enumerate(volumes(img)):
        series[..., index] = volume if (factor == 1).all() else downsample_array(volume, weights)
    return image_like(out, img, img.affine @ np.diag([*factor, 1.0]))


def reoriented(img: SpatialImage) -> nb.Nifti1Image:
    """Store an image's axes as left to right or right to left, then to anterior, then to superior.

    Axes are exchanged and turned round, values stay: what FSL's ``fslreorient2std`` does, which keeps
    the handedness of the voxels. The result is float32 without scaling, as FSL's programs write the type
    that they read.

    Parameters
    ----------
    img
        A 3-D or 4-D image.
    """
    first = "R" if np.linalg.det(img.affine[:3, :3]) > 0 else "L"
    wanted = nb.orientations.axcodes2ornt((first, "A", "S"))
    turn = nb.orientations.ornt_transform(nb.io_orientation(img.affine), wanted)
    shape = img.shape[:3]
    turned = tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    out = np.empty((*turned, *img.shape[3:]), dtype=np.float32)
    series = out.reshape(*turned, -1)
    for index, volume in enumerate(volumes(img)):
        series[..., index] = nb.apply_orientation(volume, turn)
    return image_like(out, img, img.affine @ nb.orientations.inv_ornt_aff(turn, shape))


def fit_shape(img: SpatialImage, shape: tuple[int, int, int]) -> nb.Nifti1Image:
    """Pad with zeros or crop an image around its centre; voxels keep their places in space.

    Of an odd number of voxels, the one more is added or taken at the far end.

    Parameters
    ----------
    img
        A 3-D or 4-D image.
    shape
        Voxels of the result along the first three axes.
    """
    data = np.asarray(img.dataobj)
    start = np.zeros(3)
    for axis, size in enumerate(shape):
        surplus = data.shape[axis] - size
        if surplus >= 0:
            first = surplus // 2
            data = np.take(data, np.arange(first, first + size), axis=axis)
        else:
            first = -(-surplus // 2)
            widths = [(0, 0)] * data.ndim
            widths[axis] = (-first, -surplus + first)
            data = np.pad(data, widths)
        start[axis] = first
    affine = img.affine.copy()
    affine[:3, 3] = apply_affine(img.affine, start)
    return image_like(data, img, affine)


def image_like(data: npt.NDArray, img: SpatialImage, affine: npt.NDArray | None = None) -> nb.Nifti1Image:
    """Return a NIfTI image of ``data`` with the space code, units and repetition time of ``img``.

    Parameters
    ----------
    data
        Values, 3-D or 4-D.
    img
        The image whose header is the model.
    affine
        Affine of the result; that of ``img`` by default.
    """
    affine = img.affine if affine is None else affine
    out = nb.Nifti1Image(data, affine)
    if isinstance(img, nb.Nifti1Image):
        code = int(img.header["sform_code"]) or int(img.header["qform_code"])
        out.set_sform(affine, code or 2)
        out.set_qform(affine, code or 2)
        space_units, time_units = img.header.get_xyzt_units()
        out.header.set_xyzt_units(space_units if space_units != "unknown" else "mm", time_units)
    zooms = img.header.get_zooms()
    if data.ndim == 4 and len(zooms) == 4:
        out.header.set_zooms((*out.header.get_zooms()[:3], zooms[3]))
    return out


def same_grid(a: SpatialImage, b: SpatialImage, tol: float = AFFINE_TOLERANCE_MM) -> bool:
    """Tell whether two images have the same three dimensions and affines within ``tol`` mm.

    The tolerance holds where it matters: for every corner of the grid.
    """
    if a.shape[:3] != b.shape[:3]:
        return False
    ranges = [(0, size - 1) for size in a.shape[:3]]
    corners = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    apart = apply_affine(a.affine, corners) - apply_affine(b.affine, corners)
    return bool(np.abs(apart).max() <= tol)


def check_same_grid(
    a: SpatialImage,
    b: SpatialImage,
    name_a: str | os.PathLike[str] | None = None,
    name_b: str | os.PathLike[str] | None = None,
    tol: float = AFFINE_TOLERANCE_MM,
) -> None:
    """Raise :class:`~bids_xai.errors.InputError` naming both images unless they share one grid."""
    if not same_grid(a, b, tol):
        raise InputError(
            f"Images on different grids: {describe_grid(a, name_a)}; {describe_grid(b, name_b)}.",
            f"the same shape and affine (within {tol:g} mm)",
            "resample one of them to the other's grid, or choose another image",
        )


def describe_grid(img: SpatialImage, name: str | os.PathLike[str] | None = None) -> str:
    """Return the name, shape and affine of an image in one line."""
    rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in np.asarray(img.affine)[:3])
    shape = "x".join(str(size) for size in img.shape[:3])
    return f"{name or img.get_filename() or 'an image'} (shape {shape}, affine [{rows}])"
