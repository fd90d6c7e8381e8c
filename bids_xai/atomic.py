"""Files that appear whole or not at all."""

from __future__ import annotations

import os
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
