"""Files whose bytes depend on their content only, and datasets that appear when they are complete."""

from __future__ import annotations

import json
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_xai import __version__
from bids_xai.errors import InputError

SCANNER, TEMPLATE = 1, 4  # NIfTI codes for the space that an affine leads to
_VECTOR = 1007

_GZIP_WINDOW = 31  # zlib's way to ask for a gzip header; it leaves the time stamp 0


def write_nifti(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.floating[Any]],
    space_code: int,
    *,
    tr: float | None = None,
) -> None:
    """Write ``.nii.gz`` with sform and qform, units, and TR in the header; no time stamp in the archive.

    Parameters
    ----------
    path
        Its folder is made.
    data
        Three-, four- or (vectors) five-dimensional; stored in its own type, unscaled.
    affine
        Voxel to world, mm.
    space_code
        1 scanner, 4 MNI.
    tr
        Seconds between volumes, for four-dimensional data.
    """
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=space_code)
    image.set_qform(affine, code=space_code)
    image.header.set_xyzt_units("mm", "sec")
    if tr is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    if data.ndim == 5:
        image.header.set_intent(_VECTOR)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Noise holds no repeated strings: looking for runs only is three times faster here, and smaller.
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW, 9, zlib.Z_RLE)
    path.write_bytes(packer.compress(image.to_bytes()) + packer.flush())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON; the folder is made."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table: numbers as given, six decimals for computed floats that need them."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(value) for value in row) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends on every system; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def write_raw_description(folder: Path) -> None:
    """Write the ``dataset_description.json`` of a raw dataset that this program makes."""
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "Phantom with known truth",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["bids-xai-phantom"],
            "GeneratedBy": [{"Name": "bids-xai-phantom", "Version": __version__}],
        },
    )


def subject_label(number: int) -> str:
    """``sub-01`` for the first subject."""
    return f"sub-{number:02d}"


@contextmanager
def whole_or_nothing(target: Path) -> Iterator[Path]:
    """Give an empty folder made beside ``target`` and put it in place when the block ends well.

    Raises
    ------
    InputError
        If the target holds anything, or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{target} exists and is not an empty folder.",
            "a folder that does not exist yet, or an empty one",
            "choose another folder or remove this one; a phantom is never written over other data",
        )
    partial = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror}.",
            "a folder with write permission",
            "choose another",
        ) from error
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
