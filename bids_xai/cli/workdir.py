"""The work folder: where it may lie, and emptying it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bids_xai.atomic import PREFIX
from bids_xai.cli.graphs import APP_FOLDER, CRASHES
from bids_xai.errors import InputError

# What this app makes there: graphs (*_wf), the background of figures (tpl-*), and these folders.
_OWN = ("nipype", "templates", "masks", CRASHES)


def check_work_dir(
    work_dir: Path, bids_dir: Path, output_dir: Path, others: Iterable[Path] = (), *, clean: bool = False
) -> None:
    """Refuse a work folder that would mix with data or results, or could not be emptied safely.

    Parameters
    ----------
    work_dir
        Folder of intermediate results; this app's lie in its subfolder ``bids_xai``.
    bids_dir, output_dir, others
        The dataset, the results, and other folders that are read.
    clean
        Whether the folder is to be emptied.

    Raises
    ------
    InputError
        It cannot be written to; it lies in the dataset; its subfolder is, or contains, one of the folders;
        or it is to be emptied and is a link, or nothing that this app has made.
    """
    own = work_dir.absolute() / APP_FOLDER
    remedy = "name another --work-dir"
    present = next(folder for folder in (own, *own.parents) if folder.exists())
    if not (present.is_dir() and os.access(present, os.W_OK | os.X_OK)):
        raise InputError(
            f"The work folder {work_dir} cannot be made: {present} is no folder that this user may write.",
            "a folder that this user may write",
            f"change its permissions or {remedy}",
        )
    if own.resolve().is_relative_to(bids_dir.resolve()):
        raise InputError(
            f"The work folder {work_dir} lies in the input dataset {bids_dir}.",
            "a folder outside it: the input is never written to",
            remedy,
        )
    for folder in (bids_dir, output_dir, *others):
        if folder.resolve().is_relative_to(own.resolve()):
            raise InputError(
                f"{folder} lies in {own}, where intermediate results are kept and --clean-workdir deletes.",
                "work, input and output folders that do not contain each other",
                remedy,
            )
    if clean and own.is_symlink():
        raise InputError(
            f"--clean-workdir: {own} is a link to {own.resolve()}.",
            "a folder",
            "remove the link, or name the folder that it leads to",
        )
    strangers = sorted(path.name for path in own.iterdir() if not _is_own(path.name)) if own.is_dir() else []
    if clean and strangers:
        raise InputError(
            f"--clean-workdir: {own} holds {', '.join(strangers[:3])}, which this app did not make.",
            "only what it keeps there",
            remedy,
        )


def _is_own(name: str) -> bool:
    return name in _OWN or name.endswith("_wf") or name.startswith(("tpl-", PREFIX))


def empty_work_dir(work_dir: Path) -> None:
    """Delete what this app keeps in the work folder; links in it are deleted, never followed.

    Raises
    ------
    InputError
        Something cannot be deleted.
    """
    own = work_dir.absolute() / APP_FOLDER
    if not own.exists():
        return
    try:
        shutil.rmtree(own)
    except OSError as error:
        raise InputError(
            f"--clean-workdir: {error.filename or own} cannot be deleted: {error.strerror}.",
            "a folder that this user may delete",
            "change its permissions or name another --work-dir",
        ) from error
