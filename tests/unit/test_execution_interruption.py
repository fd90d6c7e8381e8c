"""Signals that ask for the end, at moments when it is hard to hear them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from bids_xai.execution.interruption import run_interruptible

# A child with a child of its own, neither of which goes when asked.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    subprocess.Popen([sys.executable, sys.argv[0]])
    print("up", flush=True)
time.sleep(60)
"""

# A signal that comes just before a sleep does not end it: schedulers sleep for a moment at a time.
UP = "    print('up', flush=True)\n    while True: time.sleep(0.05)"


def _start(body: str, *words: str) -> subprocess.Popen[str]:
    code = (
        "import ctypes, signal, subprocess, sys, time\n"
        # Whoever started the tests may have had them ignore it (nohup), and it would stay so.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from bids_xai.execution.interruption import run_interruptible\n"
        f"def work():\n{body}\n"
        "sys.exit(run_interruptible('program', work, last=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def _end(process: subprocess.Popen[str], *signals: int, pause: float = 1.0) -> tuple[float, str]:
    """Return the seconds that the end took, and what was said."""
    family = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    for turn, number in enumerate(signals):
        time.sleep(pause * (turn > 0))
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    seconds = time.monotonic() - began
    assert process.returncode == 1
    assert psutil.wait_procs(family, timeout=2)[1] == []
    return seconds, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_says_how_to_go_on(number: int) -> None:
    seconds, said = _end(_start(UP), number)
    assert seconds < 5
    assert f"program: interrupted ({signal.Signals(number).name})" in said
    assert "same command with the same --work-dir goes on" in said
    assert "--clean-workdir" not in said
    assert "Traceback" not in said


def test_who_cleans_the_working_folder_at_start_is_told_not_to() -> None:
    _, said = _end(_start(UP, "--clean-workdir"), signal.SIGTERM)
    assert "without --clean-workdir" in said


def test_children_that_do_not_go_are_killed(tmp_path: object) -> None:
    program = f"{tmp_path}/stubborn.py"
    with open(program, "w") as stream:
        stream.write(STUBBORN)
    body = f"    subprocess.Popen([sys.executable, {program!r}, 'parent']).wait()"
    seconds, said = _end(_start(body), signal.SIGTERM)
    assert 1 <= seconds < 10
    assert "interrupted (SIGTERM)" in said


# Compiled code does not come back to the interpreter, and much code drops exceptions that it does not know.
DEAF = {
    "compiled": (
        "    mutex = ctypes.create_string_buffer(64)\n"
        "    print('up', flush=True)\n"
        "    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
    ),
    "swallowing": (
        "    print('up', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException: pass\n"
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("how", DEAF)
def test_a_run_that_does_not_hear_ends_within_ten_seconds(how: str) -> None:
    seconds, said = _end(_start(DEAF[how]), signal.SIGTERM)
    assert seconds < 10
    assert "goes on from here" in said


@pytest.mark.parametrize("how", DEAF)
def test_a_second_signal_forces(how: str) -> None:
    seconds, said = _end(_start(DEAF[how]), signal.SIGINT, signal.SIGINT)
    assert seconds < 4
    assert "goes on from here" in said


def test_signals_that_come_together_are_one() -> None:
    _, said = _end(_start(UP), *[signal.SIGTERM] * 3, pause=0.01)
    assert "interrupted (SIGTERM)" in said, "not by force"


def test_what_the_process_was_started_to_ignore_stays_ignored() -> None:
    code = "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code += "from bids_xai.execution.interruption import run_interruptible\n"
    code += "print(run_interruptible('p', lambda: os.kill(os.getpid(), signal.SIGHUP) or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_handlers_are_those_from_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    threads = threading.active_count()

    def work() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError("the signal was not heard")

    try:
        assert run_interruptible("program", lambda: 3) == 3
        assert run_interruptible("program", work) == 1
        assert child.poll() is None, "a child from before is not the run's"
    finally:
        child.kill()
        child.wait()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == threads
