"""What all commands have in common: threads, signals, and one boundary where every failure gets its words."""

from __future__ import annotations

import errno
import logging
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bids_xai import __version__
from bids_xai.execution.interruption import run_interruptible

_FAILED, _WRONG_INPUT = 1, 2
# What the user mends: another path, or other rights. Other errors of the system are failures.
_OF_PATHS = (
    errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
    errno.ELOOP,
)  # fmt: skip
_LONGEST_NAME = 300


class Command:
    """One call of a command.

    Parameters
    ----------
    program
        Name of the command in messages.
    logs
        Folder of crash files, once it is known; before, and where it cannot be written, one of the system's
        for temporary files takes them.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        self.logs: Path | None = None

    def run(self, read: Callable[[], Callable[[], int]], *, last: bool) -> int:
        """Return the exit code: that of the work, 1 if it fails or is stopped, 2 for wrong usage or input.

        Parameters
        ----------
        read
            Reads the words of the call and returns what to do; only here argparse may end the process, with
            its own code. Both import what they need: a signal that comes meanwhile finds its handler, and
            libraries their number of threads.
        last
            Whether the process ends with the command
            (:func:`bids_xai.execution.interruption.run_interruptible`).
        """
        return run_interruptible(self.program, lambda: self._guarded(read), last=last)

    def _guarded(self, read: Callable[[], Callable[[], int]]) -> int:
        from bids_xai.execution.resources import limit_library_threads

        limit_library_threads()
        try:
            try:
                work = read()
            except SystemExit as stop:
                # 0 after --help and --version, 2 after a wrong word.
                return stop.code if isinstance(stop.code, int) else _WRONG_INPUT
            return work()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary
            return self._report(error)

    def _report(self, error: BaseException) -> int:
        from bids_xai.errors import InputError
        from bids_xai.execution.full_disk import FullDiskError, describe_full_disk, is_full

        code = _FAILED
        if isinstance(error, InputError):
            text, code = str(error), _WRONG_INPUT
        elif isinstance(error, FullDiskError):
            text = str(error)
        elif isinstance(error, OSError) and is_full(error):
            text = describe_full_disk(error)
        elif isinstance(error, OSError) and error.errno in _OF_PATHS and error.filename is not None:
            text, code = f"{_named(error)}: {error.strerror}.", _WRONG_INPUT
        elif isinstance(error, MemoryError):
            text = f"The memory does not suffice ({_whole(error)}); see {self._crash_file(error)}"
        else:
            text = f"{_whole(error)}{_seen_in(error)}; see {self._crash_file(error)}"
        print(f"{self.program}: error: {text}", file=sys.stderr)
        return code

    def _crash_file(self, error: BaseException) -> Path | str:
        """Write what a maintainer needs to know of an error, and return where it is."""
        name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{self.program}.txt"
        lines = [
            f"{self.program} {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"Command: {sys.argv}\n\n",
            *traceback.format_exception(error),
        ]
        for folder in (self.logs, Path(tempfile.gettempdir())):
            try:
                if folder is not None and folder.is_dir():
                    path = folder / name
                    path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
                    return path
            except OSError as problem:
                logging.getLogger("bids_xai").debug("%s: %s", folder, problem)
        return "the lines above" if sys.stderr.write("".join(lines)) else ""


def _named(error: OSError) -> str:
    names = [str(name)[:_LONGEST_NAME] for name in (error.filename, error.filename2) if name is not None]
    return " and ".join(names)


def _whole(error: BaseException) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        return f"Something that was called ended the process (SystemExit {words})"
    kind = type(error).__name__
    return f"{kind}: {words}" if words else kind


def _seen_in(error: BaseException) -> str:
    """Say which file was being read, where a frame of the traceback holds its path."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            with suppress(OSError, ValueError):
                if isinstance(value, Path) and value.suffix and value.is_file():
                    return f" (at {value})"
    return ""
