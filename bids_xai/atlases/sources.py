"""Atlases from the registry and from files: an image of labels and a table of their names."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
from nibabel.filebasedimages import ImageFileError

from bids_xai import tables
from bids_xai.atlases import ATLASES
from bids_xai.errors import InputError
from bids_xai.images.grids import image_like
from bids_xai.registry import nearest_name

PROBABILITY_THRESHOLD = 0.25
_IMAGE_ENDING = re.compile(r"\.nii(\.gz)?$")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError)
_MOST_LISTED = 10


@dataclass(frozen=True)
class Atlas:
    """Named regions of a space.

    Parameters
    ----------
    name
        Name in :data:`bids_xai.atlases.ATLASES`, or one made from the name of the file.
    image
        int32 labels, 3-D; 0 belongs to no region.
    table
        Columns ``index`` (label in the image, never 0) and ``name`` (each once), one row per region.
    space
        BIDS name of the space, empty if unknown.
    licence, source
        Terms of use, and publication or file it comes from.
    """

    name: str
    image: nb.Nifti1Image
    table: pd.DataFrame
    space: str
    licence: str
    source: str


class AtlasSource(Protocol):
    """Where an atlas comes from."""

    def check(self) -> None:
        """Raise :class:`~bids_xai.errors.InputError` unless :meth:`load` will work; costs little."""

    def load(self) -> Atlas:
        """Read the atlas."""


def load_atlas(name_or_path: str | os.PathLike[str]) -> Atlas:
    """Return an atlas by its name or from a file.

    Parameters
    ----------
    name_or_path
        A name in :data:`bids_xai.atlases.ATLASES`, or a NIfTI file with a TSV beside it that has the
        columns ``index`` and ``name`` (as BIDS ``dseg`` and ``probseg`` files have). The TSV has the image's
        name, or, as BIDS lets it inherit, fewer of its entities. An image with several volumes holds
        probabilities (or per cent): a voxel gets the most probable volume, the first of equal ones, if that
        has at least 25 % (FSL's ``maxprob-thr25``), and labels count the volumes from 1 in the table's order.

    Raises
    ------
    InputError
        The name is unknown; the file or its table is missing, unreadable, or they do not fit together.
    """
    return _source(name_or_path).load()


def check_atlas(name_or_path: str | os.PathLike[str]) -> None:
    """Raise what :func:`load_atlas` would raise, without turning probabilities into labels."""
    _source(name_or_path).check()


def _source(name_or_path: str | os.PathLike[str]) -> AtlasSource:
    given = os.fspath(name_or_path)
    if given in tuple(ATLASES):
        source: AtlasSource = ATLASES[given].load()
        return source
    if _IMAGE_ENDING.search(given):
        return FileAtlas(Path(given))
    raise InputError(
        f"Unknown atlas {given!r}.",
        f"one of {', '.join(ATLASES)}, or a NIfTI file (.nii, .nii.gz) with a TSV beside it",
        nearest_name(given, ATLASES),
    )


@dataclass(frozen=True)
class FileAtlas:
    """An atlas that the user has as a NIfTI file with a TSV beside it."""

    path: Path

    def check(self) -> None:
        """Check the table against the image; of probabilities only that the last volume can be read."""
        image, table = open_image(self.path), read_table(find_table(self.path))
        if image.ndim == 4:
            _check_volumes(image, table, self.path)
            _read(image, self.path, (..., -1))
        else:
            _check_listed(_labels(image, self.path), table, self.path)

    def load(self) -> Atlas:
        """Check and read image and table."""
        self.check()
        image, table = open_image(self.path), read_table(find_table(self.path))
        image, table = without_background(image, table)
        return Atlas(file_name(self.path), image, table, space_of(self.path), "", str(self.path))


def open_image(path: Path) -> nb.Nifti1Image:
    """Open labels (3-D) or probabilities (4-D); a fourth dimension of one volume is dropped."""
    if not path.is_file():
        raise InputError(f"The atlas {path} does not exist.", "a NIfTI file", "correct the path of --atlas")
    try:
        image = nb.load(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if len(image.shape) == 4 and image.shape[3] == 1:
        image = image_like(_read(image, path, (..., 0)), image)
    if len(image.shape) not in (3, 4):
        raise InputError(
            f"The atlas {path} has shape {image.shape}.", "a 3-D image of labels, or 4-D of probabilities"
        )
    return image


def find_table(path: Path) -> Path:
    """Return the TSV of an atlas image: of the same name, else the closest that BIDS lets it inherit.

    That is a TSV in the same folder with the same suffix (``dseg``) and a part of the image's entities.
    """
    exact = path.with_name(_stem(path) + ".tsv")
    if exact.is_file():
        return exact
    own = set(entities_of(path).items())
    found = [
        table
        for table in sorted(path.parent.glob("*.tsv"))
        if _suffix(table) == _suffix(path) and own and set(entities_of(table).items()) <= own
    ]
    best = max((len(entities_of(table)) for table in found), default=0)
    closest = [table for table in found if len(entities_of(table)) == best]
    if len(closest) != 1:
        raise InputError(
            f"The atlas {path} has no table of its regions beside it."
            if not closest
            else f"The atlas {path} could have any of {', '.join(table.name for table in closest)}.",
            f"{exact} with the columns index and name",
            "write the table: one row per region, columns separated by tabs",
        )
    return closest[0]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of regions; names that repeat get their index behind them, to tell them apart.

    Returns
    -------
    DataFrame
        Columns ``index`` (int64, each once) and ``name``.
    """
    remedy = "rename the columns: index (the label in the image) and name, separated by tabs"
    table = tables.read_table(path)
    cells, names = table.column("index", remedy), pd.Series(table.column("name", remedy), dtype=object)
    index = pd.Series([tables.number(cell) for cell in cells], dtype=np.float64)
    wrong = [
        f"{cells[row]!r} (line {table.lines[row]})"
        for row in np.flatnonzero(~np.isfinite(index) | (index % 1 != 0) | index.duplicated())
    ]
    if wrong:
        raise InputError(f"The column index of {path} holds {_listed(wrong)}.", "whole numbers, each once")
    whole = index.astype(np.int64)
    return pd.DataFrame({"index": whole, "name": _told_apart(names, whole)})


def without_background(image: nb.Nifti1Image, table: pd.DataFrame) -> tuple[nb.Nifti1Image, pd.DataFrame]:
    """Return an image of labels of which the table lists all but 0, and the table without 0.

    Parameters
    ----------
    image
        Labels, or probabilities in four dimensions (:func:`load_atlas`).
    table
        Columns ``index`` and ``name``.
    """
    if len(image.shape) == 4:
        labels = most_probable(image)
        table = table.assign(index=np.arange(1, len(table) + 1))
    else:
        labels = np.asarray(image.dataobj).astype(np.int32)
    table = table.loc[table["index"] != 0, ["index", "name"]].reset_index(drop=True)
    labels[~np.isin(labels, table["index"])] = 0
    return image_like(labels, image), table


def most_probable(image: nb.Nifti1Image, threshold: float = PROBABILITY_THRESHOLD) -> npt.NDArray[np.int32]:
    """Return the number of every voxel's most probable volume, counted from 1; 0 below the threshold.

    Parameters
    ----------
    image
        Probabilities, 4-D, read one volume at a time; a maximum above 1 means per cent.
    threshold
        Smallest probability that gives a label, from 0 to 1.
    """
    filename = image.get_filename()
    # A file handle kept open lets gzip go on where it stopped; nibabel reopens it for every volume otherwise.
    data = (nb.load(filename, keep_file_open=True) if filename else image).dataobj
    labels = np.zeros(image.shape[:3], dtype=np.int32)
    highest = np.zeros(image.shape[:3], dtype=np.asarray(data[..., 0]).dtype)
    for number in range(image.shape[3]):
        # Of the type of the file: whole per cents in uint8 are compared many times faster than as floats.
        volume = np.asarray(data[..., number])
        labels[volume > highest] = number + 1
        # Not np.maximum: it would keep what is not a number.
        np.fmax(highest, volume, out=highest)
    whole = 100.0 if highest.max() > 1 else 1.0
    # Single-precision files may hold a quarter a little below it.
    labels[highest < threshold * whole * (1 - 1e-6)] = 0
    return labels


def _labels(image: nb.Nifti1Image, path: Path) -> npt.NDArray:
    values = np.unique(_read(image, path))
    if not np.isfinite(values).all() or (values % 1 != 0).any():
        fractions = values[~np.isfinite(values) | (values % 1 != 0)]
        raise InputError(
            f"The atlas {path} holds {_listed(f'{value:g}' for value in fractions)}.",
            "whole numbers (labels); probabilities only in a 4-D image, one volume per region",
        )
    return values.astype(np.int64)


def _check_listed(labels: npt.NDArray[np.int64], table: pd.DataFrame, path: Path) -> None:
    unlisted = [label for label in labels if label and label not in set(table["index"])]
    if unlisted or not labels.any():
        raise InputError(
            f"The atlas {path} holds labels that its table does not list: {_listed(map(str, unlisted))}."
            if unlisted
            else f"The atlas {path} holds no label but 0.",
            "one row of the table for every label but 0",
            f"add the labels to {find_table(path)}" if unlisted else "choose another image",
        )


def _check_volumes(image: nb.Nifti1Image, table: pd.DataFrame, path: Path) -> None:
    if image.shape[3] != len(table):
        raise InputError(
            f"The atlas {path} has {image.shape[3]} volumes, its table {len(table)} rows.",
            "one row per volume, in the same order",
            f"correct {find_table(path)}",
        )


def _read(image: nb.Nifti1Image, path: Path, part: Any = ...) -> npt.NDArray:
    try:
        return np.asarray(image.dataobj[part])
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError(f"The atlas {path} cannot be read: {error}.", "a whole NIfTI file", "copy it again")


def _told_apart(names: pd.Series[str], index: pd.Series[Any]) -> pd.Series[str]:
    names = names.where(names.str.strip() != "", "region")
    return names.where(~names.duplicated(keep=False), names + " [" + index.astype(str) + "]")


def _stem(path: Path) -> str:
    return _IMAGE_ENDING.sub("", path.name).removesuffix(".tsv")


def _suffix(path: Path) -> str:
    return _stem(path).rpartition("_")[2]


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities in the name of a file."""
    return dict(re.findall(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9+]+)", _stem(path)))


def space_of(path: Path) -> str:
    """Return the space that the name of a file says, ``space-`` or else ``tpl-``; empty: none."""
    entities = entities_of(path)
    return entities.get("space", entities.get("tpl", ""))


def file_name(path: Path) -> str:
    """Return what an atlas from a file is called."""
    entities = entities_of(path)
    parts = [entities[key] for key in ("atlas", "seg", "scale", "desc") if key in entities]
    name = "-".join(parts) if "atlas" in entities else _stem(path)
    # A file that is called as a packaged atlas is still another one.
    return path.name if name in tuple(ATLASES) else name


def _listed(values: Any) -> str:
    shown = list(values)
    more = f" and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    return ", ".join(shown[:_MOST_LISTED]) + more
