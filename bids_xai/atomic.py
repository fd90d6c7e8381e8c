"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path with the same extensions and put it in place when the block ends well.

    The file appears at ``path`` complete or not at all; folders are made as needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.name[path.name.find(".") :] if "." in path.name[1:] else ""
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=ending, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes private files; a result is readable as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


@contextmanager
def steady_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path as :func:`whole_file` does; a file of the same bytes keeps its date.

    nipype makes anew what depends on a file of a new date, and several jobs may write the same file.
    """
    path = Path(path)
    with whole_file(path) as temporary:
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            present = path.stat()
            os.utime(temporary, ns=(present.st_atime_ns, present.st_mtime_ns))


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder of the same name, made beside, and put it in place when the block ends well.

    An older folder at ``path`` gives way to it, and stays if the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        folder = staging / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            path.rename(staging / "previous")
        folder.rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
