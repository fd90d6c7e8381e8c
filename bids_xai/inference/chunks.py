"""Results of chunks on disk: one file each, written whole, checked when read, merged in their order."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_xai.atomic import whole_file
from bids_xai.errors import InputError

# Where a file inside a zip archive says how long its name and extra field are (APPNOTE.TXT, 4.3.7).
_LOCAL_HEADER, _LENGTHS = 30, struct.Struct("<26xHH")


def save_chunk(path: Path, arrays: Mapping[str, npt.NDArray]) -> Path:
    """Write arrays to an uncompressed ``.npz`` file, whole or not at all; return the file.

    Parameters
    ----------
    path
        File to write.
    arrays
        Arrays by name.
    """
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
    return path


def load_chunk(path: Path | str) -> dict[str, npt.NDArray]:
    """Return the arrays of a chunk, memory-mapped, after comparing their checksums.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = Path(path)
    remedy = f"delete {path.parent} and run the same command again"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is None:
                return {
                    info.filename.removesuffix(".npy"): _mapped(path, info) for info in archive.infolist()
                }
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The chunk {path} cannot be read: {error}.", "the result of a finished chunk", remedy
        ) from error
    raise InputError(f"The chunk {path} is damaged in {damaged}.", "the file as it was written", remedy)


def allocate(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a float32 array that lives in a ``.npy`` file, not in memory."""
    array: npt.NDArray[np.float32] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    return array


def add_chunks(chunks: Sequence[Mapping[str, npt.NDArray]], names: Sequence[str]) -> dict[str, npt.NDArray]:
    """Add the arrays of chunks in their order, one array in memory at a time."""
    return {name: _sum(chunks, name) for name in names}


def reopened(array: npt.NDArray) -> npt.NDArray:
    """Return an array of :func:`load_chunk` through a mapping of its own, others as they are.

    Pages read through a mapping count as memory of the process until it is closed: reading many chunks
    through mappings that stay open would take memory in proportion to their number.
    """
    # A part of a mapped array has that array as its base, and cannot be told from its offset.
    if not isinstance(array, np.memmap) or array.filename is None or isinstance(array.base, np.ndarray):
        return array
    return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)


def _sum(chunks: Sequence[Mapping[str, npt.NDArray]], name: str) -> npt.NDArray:
    total = np.array(reopened(chunks[0][name]))
    for chunk in chunks[1:]:
        total += reopened(chunk[name])
    return total


def _mapped(path: Path, info: zipfile.ZipInfo) -> npt.NDArray:
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        name, extra = _LENGTHS.unpack(stream.read(_LOCAL_HEADER))
        stream.seek(info.header_offset + _LOCAL_HEADER + name + extra)
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(stream)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", stream.tell(), shape)
