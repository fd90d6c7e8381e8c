"""Arrays on disk: one file, written whole, checked when read; and chunks put together in their order."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_xai.atomic import whole_file
from bids_xai.errors import InputError

# Where a file inside a zip archive says how long its name and extra field are (APPNOTE.TXT, 4.3.7).
_LOCAL_HEADER, _LENGTHS = 30, struct.Struct("<26xHH")
# What zipfile and numpy raise on files that are no longer as they were written.
_DAMAGES = (
    *(OSError, ValueError, RuntimeError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


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


def load_chunk(path: Path | str, remedy: str = "") -> dict[str, npt.NDArray]:
    """Return the arrays of a chunk, memory-mapped, after comparing their checksums.

    Parameters
    ----------
    path
        File of :func:`save_chunk`.
    remedy
        What to do about a damaged file; empty: to delete its folder and go on.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = Path(path)
    remedy = remedy or f"delete {path.parent} and run the same command again"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is None:
                return {
                    info.filename.removesuffix(".npy"): _mapped(path, info) for info in archive.infolist()
                }
    except _DAMAGES as error:
        raise InputError(
            f"The chunk {path} cannot be read: {error}.", "the result of a finished chunk", remedy
        ) from error
    raise InputError(f"The chunk {path} is damaged in {damaged}.", "the file as it was written", remedy)


def concatenate_chunks(paths: Sequence[Path | str]) -> dict[str, npt.NDArray]:
    """Return the arrays of chunks one after the other along their first axis, in the order given.

    Parameters
    ----------
    paths
        Files of :func:`save_chunk`, whose arrays have the same names.
    """
    parts: dict[str, list[npt.NDArray]] = {}
    for path in paths:
        for name, array in load_chunk(path).items():
            parts.setdefault(name, []).append(np.array(array))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def smallest_integers(array: npt.NDArray[np.int64]) -> npt.NDArray[np.unsignedinteger]:
    """Return counts in the smallest unsigned type that holds them all: files of many runs stay small."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


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
