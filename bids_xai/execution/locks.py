"""One run at a time on what it writes: records of the runs on a folder, locked while they live."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bids_xai.errors import InputError

LOGGER = logging.getLogger("bids_xai")
RUNS = ".runs"
_POLL_S = 2.0


@dataclass(frozen=True)
class Run:
    """What a run writes, and which process it is.

    Parameters
    ----------
    subjects
        Subjects of its participant level.
    group
        Whether it has a group level.
    host, pid, started
        Name of the machine (or container), number of the process on it, and when it began.
    """

    subjects: tuple[str, ...] = ()
    group: bool = False
    host: str = ""
    pid: int = 0
    started: str = ""

    @classmethod
    def here(cls, subjects: Iterable[str], *, group: bool) -> Run:
        """Return the run of this process."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(tuple(sorted(subjects)), group, socket.gethostname(), os.getpid(), now)

    def meets(self, other: Run) -> bool:
        """Tell whether both write the same files: the group, or those of a subject."""
        return (self.group and other.group) or not set(self.subjects).isdisjoint(other.subjects)

    @property
    def words(self) -> str:
        """Which process it is and what it does."""
        levels = [f"participant ({len(self.subjects)} subjects)"] if self.subjects else []
        doing = " and ".join([*levels, *(["group"] if self.group else [])])
        return f"process {self.pid} on {self.host}, running {doing} since {self.started}"


@contextmanager
def alone(folders: Sequence[Path], run: Run, *, wait: bool = False) -> Iterator[list[Run]]:
    """Hold folders while a run writes to them; give the other runs on them, which write other files.

    The system takes a lock away when its process dies, so that a killed run is in nobody's way. Runs over
    other subjects, as those of a job array, share folders.

    Parameters
    ----------
    folders
        Output and working folder.
    run
        What will be written.
    wait
        Wait for a run that writes the same files to end, instead of refusing.

    Raises
    ------
    InputError
        Another run writes the same files.
    """
    with ExitStack() as stack:
        others: list[Run] = []
        for folder in dict.fromkeys(folders):
            others += [other for other in _enter(stack, folder, run, wait=wait) if other not in others]
        yield others


def refuse_while_running(folder: Path) -> None:
    """Raise InputError while any run holds a folder: it is about to be emptied."""
    for other in _living(folder / RUNS):
        raise _refusal(folder, other)


def _enter(stack: ExitStack, folder: Path, run: Run, *, wait: bool) -> list[Run]:
    records = folder / RUNS
    records.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with FileLock(records / "records.lock"):
            others = _living(records)
            in_the_way = [other for other in others if run.meets(other)]
            if not in_the_way:
                stack.enter_context(_recorded(records, run))
                return others
        if not wait:
            raise _refusal(folder, in_the_way[0])
        if not told:
            LOGGER.warning("Waiting for %s, which writes to %s.", in_the_way[0].words, folder)
            told = True
        time.sleep(_POLL_S)


@contextmanager
def _recorded(records: Path, run: Run) -> Iterator[None]:
    path = records / f"{run.pid}-{secrets.token_hex(4)}.json"
    with FileLock(path.with_suffix(".lock")):
        path.write_text(json.dumps(asdict(run)), encoding="utf-8")
        try:
            yield
        finally:
            _remove(path)


def _living(records: Path) -> list[Run]:
    """Return the runs whose processes live, and forget the others."""
    found = []
    for path in sorted(records.glob("*.json")):
        try:
            with FileLock(path.with_suffix(".lock")).acquire(blocking=False):
                _remove(path)
        except Timeout:
            with suppress(OSError, ValueError, TypeError):
                content = json.loads(path.read_text(encoding="utf-8"))
                found.append(Run(**{**content, "subjects": tuple(content["subjects"])}))
        except OSError as error:
            LOGGER.debug("%s: %s", path, error)
    return found


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            each.unlink()


def _refusal(folder: Path, other: Run) -> InputError:
    return InputError(
        f"Another run writes to {folder}: {other.words}.",
        "one run at a time on the same subjects, and on the group",
        "let it end or stop it, name other folders, or wait for it with --wait",
    )
