"""Files and folders that appear whole or not at all, and what a killed process leaves of them.

Whatever is being written has a name that begins with ``.tmp-`` and is locked as long as its writer lives:
:func:`sweep` takes away what nobody holds.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".tmp-"
# Of the disk, and of a user's share of it.
FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCK, _PREVIOUS = ".lock", "previous"
# Where a file system has no locks, what is this old has no writer.
_ABANDONED_S = 24 * 3600


@contextmanager
def whole_file(path: str | os.PathLike[str], *, keep_equal: bool = False) -> Iterator[Path]:
    """Give a temporary path with the same extensions and put it in place when the block ends well.

    The file appears at ``path`` complete or not at all; folders are made as needed.

    Parameters
    ----------
    path
        Where the file goes.
    keep_equal
        Leave a file of the same content alone, with its time: nipype takes a new time for new content, and
        would do again all that follows from it.

    Raises
    ------
    OSError
        Of a full disk: with the name of the file, which the system leaves out of a failed write.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = path.name[path.name.find(".") :] if "." in path.name[1:] else ""
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=ending, dir=path.parent)
        try:
            _hold(handle)
            yield Path(name)
            # mkstemp makes private files; a result is readable as the user's umask says.
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            # Some file systems report a full disk only now.
            _synchronise(name)
            if keep_equal and path.is_file() and filecmp.cmp(name, path, shallow=False):
                Path(name).unlink()
            else:
                os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        finally:
            os.close(handle)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder of the same name, made beside, and put it in place when the block ends well.

    An older folder at ``path`` gives way to it, and stays if the block fails.
    """
    path = Path(path)
    with staging_folder(path) as staging:
        folder = staging / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            # Killed after this line, sweep finds the new folder complete and puts it in place.
            path.rename(staging / _PREVIOUS)
        folder.rename(path)


@contextmanager
def staging_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder beside ``path`` to make it in; it is gone after the block."""
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{path.name}-", dir=path.parent))
        try:
            with (staging / _LOCK).open("w") as lock:
                _hold(lock.fileno())
                yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def sweep(folder: Path, *, deep: bool = True) -> list[Path]:
    """Take away what killed processes left half-written in a folder, and return the paths.

    A folder that was complete, and whose older version had been moved out of its way, is put in place. What
    another process is writing at this moment stays.

    Parameters
    ----------
    folder
        Folder of results; it need not exist.
    deep
        Look into the folders in it as well.
    """
    swept = []
    for place, folders, files in os.walk(folder):
        for name in [name for name in folders if name.startswith(PREFIX)]:
            folders.remove(name)
            staging = Path(place) / name
            if _abandoned(staging / _LOCK, staging):
                _recover(staging)
                shutil.rmtree(staging, ignore_errors=True)
                swept.append(staging)
        for name in files:
            path = Path(place) / name
            if name.startswith(PREFIX) and _abandoned(path, path):
                path.unlink(missing_ok=True)
                swept.append(path)
        if not deep:
            break
    return swept


def reserve(path: str | os.PathLike[str]) -> None:
    """Take the disk space of a file's whole size now.

    A memory-mapped file is sparse at first: on a full disk, writing to it would end the process with a bus
    error instead of an OSError.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with _naming(Path(path)), Path(path).open("r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size:
            os.posix_fallocate(stream.fileno(), 0, size)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file of an error of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and (error.filename is None or PREFIX in str(error.filename)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _hold(handle: int) -> None:
    # Not every file system has locks.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)


def _synchronise(name: str) -> None:
    handle = os.open(name, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(lock: Path, item: Path) -> bool:
    try:
        with lock.open("rb") as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # A folder that is this moment being made, or taken away, has no lock.
        return _age(item) > 1
    except OSError:
        return _age(item) > _ABANDONED_S
    return True


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _recover(staging: Path) -> None:
    if not (staging / _PREVIOUS).exists():
        return
    for folder in staging.iterdir():
        target = staging.parent / folder.name
        if folder.name not in (_PREVIOUS, _LOCK) and staging.name.startswith(f"{PREFIX}{folder.name}-"):
            if not target.exists():
                folder.rename(target)
            return
