"""The work folder: where it may lie, and emptying it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bids_xai.atomic import PREFIX
from bids_xai.errors import InputError
from bids_xai.execution.graphs import APP_FOLDER, CRASHES
from bids_xai.execution.locks import RUNS

# Endings of the files, and names of the folders, that results have.
_FILES = (".html", ".json", ".tsv", ".nii.gz", ".svg", ".md", ".bib", ".toml", ".bidsignore", ".safetensors")
_FOLDERS = ("group", "logs", "maps", "figures", "anat", "func", "networks")
# What this app makes there: graphs (*_wf), the background of figures (tpl-*), and these folders.
_PLAIN = ("templates", "masks")
_OWN = ("nipype", "templates", "masks", CRASHES, RUNS)


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


def make_private(work_dir: Path) -> Path:
    """Make this app's folder in the work folder, which no other user may read or write, and return it.

    Results of nodes are kept there as pickles: whoever may write them runs code as this user.

    Raises
    ------
    InputError
        It cannot be made, or belongs to another user, or others may write to it.
    """
    own = work_dir.absolute() / APP_FOLDER
    if not own.exists():
        check_writable(own.parent, "work folder", "--work-dir")
        own.mkdir(mode=0o700, exist_ok=True)
    state = own.stat()
    # Reading the input may have made it, with a mask in it: no pickle.
    has_code = any(path.name not in _PLAIN for path in own.iterdir())
    others_write = has_code and stat.S_IMODE(state.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    if state.st_uid != os.geteuid() or others_write:
        whose = f"of user {state.st_uid}" if state.st_uid != os.geteuid() else "that others may write to"
        raise InputError(
            f"{own} is a folder {whose}.",
            "a folder that this user alone may write: intermediate results hold code that is run",
            "name another --work-dir, or delete that folder if you know what is in it",
        )
    if stat.S_IMODE(state.st_mode) != 0o700:
        own.chmod(0o700)
    check_writable(own, "work folder", "--work-dir")
    return own


def refuse_links_into_input(output_dir: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder that holds a link, at any depth, to something that is read: never written to.

    Raises
    ------
    InputError
        There is such a link.
    """
    read = [folder.resolve() for folder in inputs]
    for place, folders, files in os.walk(output_dir):
        for path in (Path(place, name) for name in (*folders, *files)):
            if not path.is_symlink():
                continue
            # Unlike Path.resolve, this takes a link to itself as it is.
            target = Path(os.path.realpath(path))
            # Results may lie among the derivatives of what is read.
            if target.is_relative_to(os.path.realpath(output_dir)):
                continue
            inside = next((folder for folder in read if target.is_relative_to(folder)), None)
            if inside is not None:
                raise InputError(
                    f"{path} is a link to {target}, in {inside}.",
                    "an output folder that does not lead into the input: that is never written to",
                    "remove the link, or name another OUT",
                )


def check_kinds(output_dir: Path) -> None:
    """Refuse an output folder where a folder has the name of a file of results, or a file that of a folder.

    The last node would find out, after hours.

    Raises
    ------
    InputError
        There is one.
    """
    for place, folders, files in os.walk(output_dir):
        wrong = [name for name in folders if name.endswith(_FILES)]
        wrong += [name for name in files if name in _FOLDERS or re.fullmatch(r"(sub|ses)-[0-9A-Za-z]+", name)]
        if wrong:
            kinds = ("folder", "file") if wrong[0].endswith(_FILES) else ("file", "folder")
            raise InputError(
                f"{Path(place, wrong[0])} is a {kinds[0]}, where a {kinds[1]} may have to be written.",
                "an output folder that holds what this app writes",
                "remove or rename it, or name another OUT",
            )


def check_writable(folder: Path, what: str = "output folder", name: str = "OUT") -> None:
    """Make a folder, or refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"The {what} {folder} cannot be written to: {error.strerror}.",
            "a folder that this user may write",
            f"change its permissions or name another {name}",
        ) from error
