"""Telling of a full disk: which folder it holds, and what goes on once there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bids_xai.atomic import FULL

_WORDS = tuple(os.strerror(number) for number in FULL)
_GIB = 2**30


class FullDiskError(RuntimeError):
    """A graph met a full disk: what it lacks is nobody's fault, and the run ends without it."""


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what it comes from, is that of a full disk or a used-up quota."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if not isinstance(error, OSError) and speaks_of_full_disk(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def speaks_of_full_disk(text: str) -> bool:
    """Tell whether a traceback names the error of a full disk."""
    return any(words in text for words in _WORDS)


def full_disk_message(folder: Path, what: str) -> str:
    """Return what to say of a full disk.

    Parameters
    ----------
    folder
        A folder or file on it.
    what
        What it is to the user.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / _GIB
    return (
        f"The disk (or the quota) of the {what} {folder} is full; {free:.3g} GB are free now. Nothing that "
        "was finished is lost: make room, and run the same command with the same --work-dir again."
    )


@contextmanager
def naming_folders(folders: Mapping[str, Path]) -> Iterator[None]:
    """Turn an error of a full disk into FullDiskError, for files of these folders, given by what they are."""
    try:
        yield
    except OSError as error:
        if is_full(error) and error.filename:
            path = Path(os.fsdecode(error.filename)).absolute()
            for what, folder in folders.items():
                if folder.absolute() in (path, *path.parents):
                    raise FullDiskError(full_disk_message(folder, what)) from error
        raise


def describe_full_disk(error: OSError) -> str:
    """Return which disk is full, for an error that ended the run."""
    path = Path(os.fsdecode(error.filename)) if error.filename else None
    if path is None:
        return f"A disk is full ({error.strerror}): make room, and run the same command again."
    return full_disk_message(path.absolute(), "file")
