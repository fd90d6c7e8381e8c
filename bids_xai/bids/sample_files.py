"""The files of one run's samples: written so that a sidecar stands only beside what it describes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bids_xai.atomic import steady_file
from bids_xai.bids.descriptions import write_json
from bids_xai.bids.events import read_rows
from bids_xai.errors import InputError
from bids_xai.reports.results import load_image
from bids_xai.tables import tsv_text
from bids_xai.text_files import read_json, read_json_object

# Keys of the sidecar: how many samples there are, and the checksums of what belongs together.
COUNT, CHECKSUMS = "NumberOfSamples", "SHA256"
_AGAIN = "run the participant level again for this participant"
_BLOCK = 1 << 20


def write_samples(
    image: Path, rows: pd.DataFrame, target: Path, metadata: Mapping[str, Any], mask: Path
) -> Path:
    """Write the samples of one run: the sidecar goes first and comes last.

    A participant level that ends in between leaves no sidecar, and what has none is no result. What is there
    already, the same to the byte, stays as it is.

    Parameters
    ----------
    image
        4-D image, one volume per sample.
    rows
        One row per sample.
    target
        Where the image goes; table and sidecar lie beside it.
    metadata
        What the sidecar says besides the number of samples and the checksums.
    mask
        The mask on the samples' grid, written already.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    InputError
        There are not as many volumes as rows.
    """
    _check_counts(image, len(rows))
    table, sidecar = beside(target, ".tsv"), beside(target, ".json")
    text = tsv_text(rows)
    checksums = {
        "Image": sha256(image),
        "Rows": hashlib.sha256(text.encode()).hexdigest(),
        "Mask": sha256(mask),
    }
    described = {**metadata, COUNT: len(rows), CHECKSUMS: checksums}
    if _is_written(sidecar, described) and checksums == _checksums(target, mask):
        return target
    sidecar.unlink(missing_ok=True)
    with steady_file(target) as temporary:
        shutil.copyfile(image, temporary)
    with steady_file(table) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(sidecar, described)
    return target


def beside(image: Path, extension: str) -> Path:
    """Return the path of the table (``.tsv``) or sidecar (``.json``) of samples."""
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + extension)


def check_written(image: Path, mask: Path) -> None:
    """Raise InputError unless image, rows and mask are those that their sidecar describes.

    Parameters
    ----------
    image
        4-D image of samples that the participant level wrote.
    mask
        Its mask.

    Raises
    ------
    InputError
        A file is missing or another one, or volumes and rows are not equally many.
    """
    table, sidecar = beside(image, ".tsv"), beside(image, ".json")
    for path in (sidecar, image, table, mask):
        if not path.is_file():
            raise InputError(
                f"{path} does not exist, which the samples {image.name} need.", "whole results", _AGAIN
            )
    metadata = read_json_object(sidecar, "the sidecar", _AGAIN)
    recorded, present = metadata.get(CHECKSUMS), _checksums(image, mask) or {}
    if not isinstance(recorded, Mapping):
        raise InputError(
            f"{sidecar} has no checksums ({CHECKSUMS}): another version of bids_xai wrote it.",
            "results of this version",
            _AGAIN,
        )
    paths = {"Image": image, "Rows": table, "Mask": mask}
    changed = [str(paths[name]) for name, value in (present or {}).items() if recorded.get(name) != value]
    if changed:
        raise InputError(
            f"{' and '.join(changed)}: not what {sidecar.name} was written for (its {CHECKSUMS} differs).",
            "image, rows and mask of one run of the participant level",
            _AGAIN,
        )
    _check_counts(image, int(metadata[COUNT]))


def check_collected(images: Sequence[Path | str], masks: Sequence[Path | str]) -> None:
    """Raise InputError unless samples that the participant level wrote are still whole, as they are read.

    Samples with names of their own, of a workflow that has no participant level, have no sidecar.
    """
    for image, mask in zip(map(Path, images), map(Path, masks), strict=False):
        if image.name.endswith("_samples.nii.gz"):
            check_written(image, mask)


def stacked_rows(
    tables: Sequence[str | os.PathLike[str]],
    images: Sequence[Path | str],
    exchange_within: str | None = None,
) -> pd.DataFrame:
    """Return the rows of many runs one below the other: row i is of volume i of all their images.

    Parameters
    ----------
    tables
        TSV files, one row per sample.
    images
        4-D images in the same order, one volume per sample.
    exchange_within
        Column of the blocks, which are labels (:func:`bids_xai.bids.events.read_rows`).

    Returns
    -------
    DataFrame
        Sessions, tasks and runs that there are not are empty; ``image`` and ``volume`` say where a sample
        lies.

    Raises
    ------
    InputError
        A table has not as many rows as its image has volumes.
    """
    parts = []
    for number, (path, image) in enumerate(zip(tables, images, strict=True)):
        rows = read_rows(path, exchange_within)
        _check_counts(Path(image), len(rows), Path(path))
        parts.append(rows.assign(image=number, volume=range(len(rows))))
    return pd.concat(parts, ignore_index=True)


def sha256(path: Path) -> str:
    """Return the checksum of a file's bytes; one that has not changed is read once."""
    state = path.stat()
    return _sha256(str(path), (state.st_ino, state.st_size, state.st_mtime_ns))


@cache
def _sha256(path: str, _: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _checksums(image: Path, mask: Path) -> dict[str, str] | None:
    paths = {"Image": image, "Rows": beside(image, ".tsv"), "Mask": mask}
    if not all(path.is_file() for path in paths.values()):
        return None
    return {name: sha256(path) for name, path in paths.items()}


def _is_written(sidecar: Path, described: Mapping[str, Any]) -> bool:
    if not sidecar.is_file():
        return False
    try:
        present: Any = read_json(sidecar)
    except InputError:
        return False
    return bool(present == json.loads(json.dumps(described)))


def _check_counts(image: Path, n_rows: int, table: Path | None = None) -> None:
    shape = load_image(image).shape
    n_volumes = shape[3] if len(shape) == 4 else 1
    if n_volumes != n_rows:
        raise InputError(
            f"{image} has {n_volumes} volumes, and {table or 'its table'} has {n_rows} rows.",
            "one row for every volume",
            _AGAIN,
        )
