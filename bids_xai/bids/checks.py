"""Checks of images before anything is computed: whole files, dimensions, time, grids, contents."""

from __future__ import annotations

import gzip
import logging
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from bids_xai.bids.orientation import check_orientation
from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, volumes, voxel_sizes
from bids_xai.text_files import read_json_object

TR_TOLERANCE_S = 1e-3
_SECONDS_PER_UNIT = {"sec": (1.0,), "msec": (1e-3,), "usec": (1e-6,), "unknown": (1.0, 1e-3)}
# A day: no series has volumes so far apart.
_LONGEST_TR_S = 86_400
_BLOCK = 1 << 22
FEWEST_VOXELS = 16
# Single precision ends at 3.4e38, and squares of values are summed.
_SCALES = (1e-15, 1e15)
VOXEL_SIZES_MM = (0.1, 10.0)
MAX_ANISOTROPY = 6.0
LOGGER = logging.getLogger("bids_xai.bids")
MAX_REPORTED = 10


class Problems:
    """Mistakes found in several files, raised together."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    def add(self, error: InputError) -> None:
        """Keep a mistake; one that was met before is not repeated."""
        if str(error) not in {str(other) for other in self.found}:
            self.found.append(error)

    def raise_any(self) -> None:
        """Raise what was found: one error as it is, several as a list of the first ten."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            shown = "\n- ".join(str(error) for error in self.found[:MAX_REPORTED])
            more = len(self.found) - MAX_REPORTED
            raise InputError(
                f"{len(self.found)} problems in the input:\n- {shown}"
                + (f"\n- and {more} more" if more > 0 else "")
            )


def open_image(path: str | os.PathLike[str], n_dimensions: int = 4) -> nb.Nifti1Image:
    """Read an image's header and check that the file is whole and has the dimensions expected.

    Parameters
    ----------
    path
        A ``.nii`` or ``.nii.gz`` file.
    n_dimensions
        4 for a series (more than one volume), 3 for one volume.

    Raises
    ------
    InputError
        If the file is missing, not NIfTI, truncated, or of other dimensions.
    """
    path = Path(path)
    if not path.is_file():
        link = " (a link whose content is not here)" if path.is_symlink() else ""
        raise InputError(
            f"The image {path} does not exist{link}.",
            "a NIfTI file",
            "fetch it with 'datalad get' or 'git annex get'" if link else "check the path",
        )
    try:
        img = nb.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _broken(path, f"is not a readable NIfTI image: {error}") from error
    if not isinstance(img, nb.Nifti1Image):
        raise _broken(path, f"is a {type(img).__name__}, not a NIfTI image")
    _check_numbers(path, img)
    _check_whole(path, img)
    shape = img.shape
    if n_dimensions == 4 and (len(shape) != 4 or shape[3] < 2):
        raise InputError(
            f"The image {path} has {len(shape)} dimensions (shape {'x'.join(map(str, shape))}).",
            "a 4-D series with more than one volume",
            "check that the file is a functional run and was not averaged over time",
        )
    if n_dimensions == 3 and len(shape) != 3 and not (len(shape) == 4 and shape[3] == 1):
        raise InputError(
            f"The image {path} has {len(shape)} dimensions (shape {'x'.join(map(str, shape))}).",
            "a 3-D image",
            "give one volume",
        )
    return img


def _check_numbers(path: Path, img: nb.Nifti1Image) -> None:
    """Refuse values that are no real numbers, and scalings that leave the range of single precision."""
    dtype = img.get_data_dtype()
    if dtype.kind not in "iufb":
        raise InputError(
            f"The image {path} has values of type {dtype}"
            + (", of which the imaginary part would be lost." if dtype.kind == "c" else "."),
            "one real number per voxel",
            "convert it, for example to magnitudes",
        )
    # nibabel takes the scaling out of the header.
    proxy = img.dataobj
    slope, intercept = float(getattr(proxy, "slope", 1.0)), float(getattr(proxy, "inter", 0.0))
    if slope == 0 or not math.isfinite(slope):
        return  # NIfTI: no scaling
    stored = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    low, high = _SCALES
    if not (low < abs(slope) * stored < high and math.isfinite(intercept) and abs(intercept) < high):
        raise InputError(
            f"The header of {path} scales its values by {slope:g} and adds {intercept:g} (scl_slope, "
            f"scl_inter; stored as {dtype}): they leave the range of numbers that are computed with.",
            f"a scaling after which the largest value lies between {low:g} and {high:g}",
            "convert the image again: its header is damaged",
        )


def _broken(path: Path, what: str) -> InputError:
    return InputError(
        f"The image {path} {what}", "a whole NIfTI file (.nii or .nii.gz)", "copy or convert it again"
    )


def _check_whole(path: Path, img: nb.Nifti1Image) -> None:
    header = img.header
    if min(img.shape, default=0) < 1:
        raise _broken(path, f"has the shape {'x'.join(map(str, img.shape))} in its header.")
    offset = int(img.dataobj.offset) if nb.is_proxy(img.dataobj) else int(header["vox_offset"])
    expected = offset + math.prod(img.shape) * header.get_data_dtype().itemsize
    if path.suffix != ".gz":
        size = path.stat().st_size
    else:
        with path.open("rb") as handle:
            handle.seek(-4, os.SEEK_END)
            (size,) = struct.unpack("<I", handle.read(4))
        # The trailer holds the size modulo 2^32; files of several gzip members need a full read.
        size = expected if size == expected % 2**32 else _decompressed_size(path)
    if size < expected:
        raise _broken(path, f"is truncated: its header announces {expected} bytes, {size} are there.")


def _decompressed_size(path: Path) -> int:
    size = 0
    try:
        with gzip.open(path) as handle:
            while block := handle.read(_BLOCK):
                size += len(block)
    except (EOFError, OSError, zlib.error):
        return size
    return size


def check_varies(path: str | os.PathLike[str], img: nb.Nifti1Image) -> None:
    """Raise InputError if no voxel of a series changes over time.

    The first three volumes tell for any real run; only if they are identical the rest is read.
    """
    # Of the open file at once: most of the time of a plan goes into opening images.
    first = np.nan_to_num(np.asanyarray(img.dataobj[..., :3]))
    if (first != first[..., :1]).any():
        return
    series = volumes(img)
    reference = next(series)
    if all(np.array_equal(reference, volume) for volume in series):
        raise InputError(
            f"All voxels of {path} are constant over its {img.shape[3]} volumes.",
            "a functional run",
            "check how the image was made",
        )


def open_anatomical(path: Path) -> nb.Nifti1Image:
    """Open an anatomical image and check it (:func:`open_image`, :func:`check_anatomical`)."""
    img = open_image(path, n_dimensions=3)
    check_anatomical(path, img)
    return img


def check_anatomical(path: Path, img: nb.Nifti1Image) -> None:
    """Raise InputError unless an anatomical image has a sound grid and sound values; all are read.

    Strongly anisotropic voxels (a ratio of more than 6) are logged.

    Parameters
    ----------
    path
        The file that ``img`` is of.
    img
        Its header.

    Raises
    ------
    InputError
        If an axis has fewer than 16 voxels, the affine is unusable or contradictory
        (:func:`bids_xai.bids.orientation.check_orientation`), voxels are smaller than 0.1 or larger than
        10 mm, the compressed file is damaged, values are not numbers, or all are equal or not finite.
    """
    shape = "x".join(map(str, img.shape))
    if min(img.shape[:3]) < FEWEST_VOXELS:
        raise InputError(
            f"The image {path} has the shape {shape}: that is a slice or a slab, not a head.",
            f"at least {FEWEST_VOXELS} voxels along every axis",
            "leave it out with --participant-label or --bids-filter-file, or give the whole image",
        )
    check_orientation(path, img)
    sizes = voxel_sizes(img)
    low, high = VOXEL_SIZES_MM
    text = " x ".join(f"{size:.4g}" for size in sizes)
    if sizes.min() < low or sizes.max() > high:
        raise InputError(
            f"The voxels of {path} are {text} mm.",
            f"sizes from {low:g} to {high:g} mm",
            "correct the affine of the image; its unit must be mm",
        )
    if sizes.max() / sizes.min() > MAX_ANISOTROPY:
        LOGGER.warning("The voxels of %s are strongly anisotropic: %s mm.", path, text)
    _check_values(path, img)


def _check_values(path: Path, img: nb.Nifti1Image) -> None:
    data = _whole_data(path, img)
    if data.dtype.kind not in "iufb":
        raise InputError(
            f"The image {path} has values of type {data.dtype}.",
            "one real number per voxel",
            "convert it again",
        )
    finite = data if data.dtype.kind != "f" else data[np.isfinite(data)]
    if finite.size == 0:
        raise InputError(
            f"No value of {path} is finite.", "an image of a head", "check how the image was made"
        )
    if finite.min() == finite.max():
        raise InputError(
            f"All voxels of {path} are constant ({finite.flat[0]:g}).",
            "an image of a head",
            "check how the image was made",
        )
    holes = 0 if finite.size == data.size else enclosed(~np.isfinite(data.reshape(img.shape[:3])))
    if holes:
        raise InputError(
            f"{holes} voxels inside {path} are not finite (NaN or infinite).",
            "numbers; only a background that reaches the border of the image may be NaN",
            "repair or replace the image, or leave the participant out with --participant-label",
        )


def enclosed(voxels: npt.NDArray[np.bool_]) -> int:
    """Return how many of the voxels do not hang together, face to face, with one at the image's border."""
    parts, n_parts = ndimage.label(voxels)
    inner = parts[1:-1, 1:-1, 1:-1]
    inside = np.setdiff1d(np.arange(1, n_parts + 1), _at_border(parts))
    return int(np.isin(inner, inside).sum())


def _at_border(parts: npt.NDArray) -> npt.NDArray:
    faces = [np.take(parts, place, axis=axis) for axis in range(3) for place in (0, -1)]
    return np.unique(np.concatenate([face.ravel() for face in faces]))


def check_undamaged(path: Path, img: nb.Nifti1Image) -> None:
    """Read all of an image and raise InputError if its compressed content is damaged (checksum)."""
    if path.suffix == ".gz":
        _read_to_end(path)
    elif not np.size(img.dataobj):
        raise _broken(path, "is empty.")


def _read_to_end(path: Path) -> None:
    try:
        with gzip.open(path) as handle:
            while handle.read(_BLOCK):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise _broken(path, f"is damaged: {error}") from error


def _whole_data(path: Path, img: nb.Nifti1Image) -> npt.NDArray:
    """Return the stored values, not scaled; a compressed file is read to its end, where its checksum is."""
    if path.suffix != ".gz":
        return np.asanyarray(img.dataobj.get_unscaled())
    try:
        with gzip.open(path) as handle:
            content = handle.read()
    except (EOFError, OSError, zlib.error) as error:
        raise _broken(path, f"is damaged: {error}") from error
    return np.asanyarray(type(img).from_bytes(content).dataobj.get_unscaled())


def sidecar_tr(path: Path) -> float | None:
    """Return RepetitionTime in seconds from a JSON file, None if it has none.

    Raises
    ------
    InputError
        If the file is not a JSON object, or the value is not a positive number.
    """
    value = read_json_object(path, "the sidecar").get("RepetitionTime")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _LONGEST_TR_S:
        raise InputError(
            f"{path} has the RepetitionTime {str(value)[:40]}.", "seconds, more than 0", "correct it"
        )
    return float(value)


def has_volume_timing(path: Path) -> bool:
    """Tell whether a sidecar gives the time of every volume (``VolumeTiming``)."""
    return "VolumeTiming" in read_json_object(path, "the sidecar")


def check_tr(tr: float, sidecar: Path, img: nb.Nifti1Image, path: Path) -> bool:
    """Compare the sidecar's repetition time with the header's; 0 there means that it is not set.

    Returns
    -------
    bool
        Whether the header gives milliseconds as seconds, as fMRIPrep's up to version 21.0.1 do
        (nipreps/niworkflows#679); the sidecar's holds.

    Raises
    ------
    InputError
        If they differ by more than 1 ms; both values and both files are named.
    """
    zooms = img.header.get_zooms()
    value = float(zooms[3]) if len(zooms) > 3 else 0.0
    if value == 0:
        return False
    unit = img.header.get_xyzt_units()[1]
    if unit == "sec" and abs(value - 1000 * tr) <= 1000 * TR_TOLERANCE_S:
        return True
    in_seconds = [value * scale for scale in _SECONDS_PER_UNIT.get(unit, (1.0,))]
    if min(abs(seconds - tr) for seconds in in_seconds) > TR_TOLERANCE_S:
        raise InputError(
            f"The repetition time is {tr:g} s in {sidecar} but {value:g} (unit: {unit}) in the header of "
            f"{path}.",
            "the same repetition time in both (within 1 ms)",
            "find out which is right and correct the other: all onsets depend on it",
        )
    return False


def check_grids(images: Sequence[tuple[str, nb.Nifti1Image]], problems: Problems) -> None:
    """Compare all images' grids with the first one's; every difference is added to ``problems``."""
    if not images:
        return
    first_name, first = images[0]
    for name, img in images[1:]:
        try:
            check_same_grid(first, img, first_name, name)
        except InputError as error:
            problems.add(error)
