"""Ending a run that is told to stop: at once, with all its processes, and with word of how to go on."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

STOPPED = 1
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# A run has this long to end in good order; then, or at a second signal, it ends as it is.
_LIMIT_S = 6.0
# Signals to a process and to its group come together: they are one wish.
_SAME_WISH_S = 0.5
_PATIENCE_S = 1.0
_NO_SIGNAL = b"\0"
# These take away what others leave in the system, and end by themselves with the process they serve.
_SERVERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by the first signal that asks for the end.

    Parameters
    ----------
    signum
        The signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


def run_interruptible(program: str, work: Callable[[], int], *, last: bool = False) -> int:
    """Return the exit code of ``work``, or 1 when SIGINT, SIGTERM or SIGHUP stops it.

    The first signal raises :class:`Interrupted` in ``work``; then the child processes are ended. A second
    signal, or the end of the time that this may take, ends the process itself with exit code 1.

    Parameters
    ----------
    program
        Name of the command in messages.
    work
        What to run.
    last
        Whether the process ends after this: what comes then is not heard, for the exit code to stay.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    stop = _Stop(program, last)
    with stop.installed():
        try:
            stop.begin()
            code = work()
            stop.raising = False
        except KeyboardInterrupt as error:
            stop.raising = False
            end_children(stop.earlier)
            with suppress(OSError, ValueError):
                sys.stderr.write(_farewell(program, str(error)))
                sys.stderr.flush()
            return STOPPED
        return code


def end_children(earlier: frozenset[int] = frozenset(), *, patience: float = _PATIENCE_S) -> None:
    """End all processes that this one, or a process of its, has started.

    Parameters
    ----------
    earlier
        Children to leave alone.
    patience
        Seconds until those that did not go when asked are killed.
    """
    processes = _descendants(earlier)
    if patience:
        _signal(processes, signal.SIGTERM)
        _, processes = psutil.wait_procs(processes, timeout=patience)
    # What was started meanwhile, and what did not go.
    processes = list({*processes, *_descendants(earlier)})
    _signal(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=1)


class _Stop:
    """What the handlers of the signals, the main thread and the watching thread know of each other."""

    def __init__(self, program: str, last: bool) -> None:
        self.program, self.last = program, last
        self.earlier = frozenset(child.pid for child in psutil.Process().children())
        self.raising = False
        self._signum: int | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals in here; those that this process was started to ignore stay ignored."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # A thread hears of signals by the pipe even while the main thread is busy in compiled code.
        watcher = threading.Thread(target=self._watch, args=(reader,), name="interruption", daemon=True)
        watcher.start()
        earlier_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        handled = {number: signal.getsignal(number) for number in _SIGNALS}
        handled = {number: handler for number, handler in handled.items() if handler is not signal.SIG_IGN}
        try:
            for number in handled:
                signal.signal(number, self._handle)
            yield
        finally:
            # While the interpreter closes, a signal would only change the exit code of what is over.
            for number, handler in handled.items():
                signal.signal(number, signal.SIG_IGN if self.last else handler)
            signal.set_wakeup_fd(earlier_fd)
            # After an interruption the watcher goes on watching the time.
            if not (self.last and self._signum is not None):
                os.write(writer, _NO_SIGNAL)
                watcher.join()
                os.close(reader)
                os.close(writer)

    def begin(self) -> None:
        """Let signals raise from here on, and make up for one that came before."""
        self.raising = True
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        first, self._signum = self._signum is None, signum
        if first and self.raising:
            raise Interrupted(signum)

    def _watch(self, reader: int) -> None:
        first = None
        while True:
            left = None if first is None else max(first + _LIMIT_S - time.monotonic(), 0)
            if not select.select([reader], [], [], left)[0]:
                self._force()
            byte = os.read(reader, 1)
            if byte == _NO_SIGNAL:
                return
            if byte[0] not in _SIGNALS:
                continue
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first > _SAME_WISH_S:
                self._force()

    def _force(self) -> None:
        end_children(self.earlier, patience=0)
        with suppress(OSError):
            # Not through sys.stderr: the main thread may be writing to it.
            os.write(2, _farewell(self.program, "at once").encode())
        os._exit(STOPPED)


def _farewell(program: str, reason: str) -> str:
    go_on = "The same command with the same --work-dir goes on from here"
    if "--clean-workdir" in sys.argv:
        go_on += ", without --clean-workdir"
    return f"\n{program}: interrupted{f' ({reason})' if reason else ''}. {go_on}.\n"


def _signal(processes: list[psutil.Process], signum: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signum)


def _descendants(earlier: frozenset[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        if child.pid in earlier:
            continue
        with suppress(psutil.Error):
            found += child.children(recursive=True)
            if not any(server in word for word in child.cmdline() for server in _SERVERS):
                found.append(child)
    return found
