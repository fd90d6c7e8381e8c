"""Two runs on one folder: the second is refused, or waits, unless they write other files."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bids_xai.errors import InputError
from bids_xai.execution.locks import RUNS, Run, alone, refuse_while_running

_HOLD = """
import sys, time
from pathlib import Path
from bids_xai.execution.locks import Run, alone
with alone([Path(sys.argv[1])], Run.here(sys.argv[3:], group=sys.argv[2] == "group")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Start another process that holds the folder, as told."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(tmp_path), *words], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("first", "subjects", "group", "refused"),
    [
        (("group",), (), True, True),
        (("participants", "01", "02"), ("02", "03"), False, True),
        (("participants", "01", "02"), ("03",), False, False),
        (("participants", "01"), (), True, False),
        (("group", "01"), ("01",), False, True),
    ],
)
def test_runs_that_write_the_same_files_exclude_each_other(
    tmp_path: Path, holder, first: tuple[str, ...], subjects: tuple[str, ...], group: bool, refused: bool
) -> None:
    process = holder(*first)
    run = Run.here(subjects, group=group)
    if refused:
        with pytest.raises(InputError, match=f"process {process.pid} on "), alone([tmp_path], run):
            pass
    else:
        with alone([tmp_path], run) as others:
            assert [other.pid for other in others] == [process.pid]
    with pytest.raises(InputError, match="Another run writes to"):
        refuse_while_running(tmp_path)


def test_a_killed_run_is_in_nobodys_way(tmp_path: Path, holder) -> None:
    process = holder("group")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with alone([tmp_path], Run.here((), group=True)) as others:
        assert others == []
    assert [path.name for path in (tmp_path / RUNS).iterdir()] in ([], ["records.lock"])


def test_a_run_waits_where_it_is_asked_to(tmp_path: Path, holder) -> None:
    process = holder("group")
    threading.Timer(1.0, process.kill).start()
    began = time.monotonic()
    with alone([tmp_path], Run.here((), group=True), wait=True):
        assert time.monotonic() - began > 0.5


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    run = Run.here(("01",), group=True)
    with pytest.raises(KeyError), alone([tmp_path], run):
        raise KeyError
    with alone([tmp_path, tmp_path], run):
        pass
