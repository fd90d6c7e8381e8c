"""A record of submitted jobs, so that those of a run that was killed do not write beside its successor's."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def record(folder: Path) -> Iterator[Callable[[str], None]]:
    """Give a function that writes down the number of a job; what it wrote goes with the end of the block.

    A lock tells others that the run goes on: the system takes it away when the process dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.jobs"
    lock = FileLock(path.with_suffix(".lock"))
    with lock:

        def add(number: str) -> None:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{number}\n")

        yield add
        _remove(path)


def left_behind(folder: Path) -> list[str]:
    """Return the jobs of runs that were killed, and forget them."""
    numbers: list[str] = []
    for path in sorted(folder.glob("*.jobs")):
        lock = FileLock(path.with_suffix(".lock"))
        try:
            with lock.acquire(blocking=False):
                numbers += path.read_text(encoding="utf-8").split()
                _remove(path)
        except (OSError, Timeout):
            continue  # that run goes on
    return numbers


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            each.unlink()
