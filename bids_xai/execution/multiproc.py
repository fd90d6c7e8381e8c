"""nipype's MultiProc, for worker processes that may be killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from traceback import format_exception
from typing import Any

import nipype.utils.subprocess
import psutil
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

# How often a node is run again when it is not known which of several ended the worker.
_TRIALS = 2


class Workers(MultiProcPlugin):
    """Runs nodes in worker processes; a worker that is killed costs its node, not the run.

    nipype's own plugin waits for ever once a worker is gone. Here the node that the worker ran fails, with
    what happened as its traceback; a new pool takes the place of the broken one, and nodes that merely were
    in it are run again. Workers end with the process that started them.

    Parameters
    ----------
    plugin_args
        Those of :class:`nipype.pipeline.plugins.multiproc.MultiProcPlugin`.
    """

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args=plugin_args)
        self.pool.shutdown(wait=False)
        self._nodes: dict[int, tuple[Any, bool]] = {}
        self._running: dict[int, int] = {}
        self._lost: set[int] = set()
        self._ended: dict[int, int] = {}
        self._trials: dict[int, int] = {}
        self._open_pool()

    def cancel(self) -> list[str]:
        """Drop what is running and end the workers; there are no jobs."""
        processes = list((getattr(self.pool, "_processes", None) or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        return []

    def _open_pool(self) -> None:
        # Workers that start clean: forking a process whose libraries hold threads can deadlock.
        context = multiprocessing.get_context(self.plugin_args.get("mp_context") or "forkserver")
        line: Connection
        self._news: Connection
        self._news, line = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(
            max_workers=self.processors,
            mp_context=context,
            initializer=_start_worker,
            initargs=(self._cwd, line),
        )
        # The workers get copies when they start: this end stays open for those that start later.
        self._line = line

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        if getattr(node.interface, "terminal_output", "") == "stream":
            node.interface.terminal_output = "allatonce"
        self._nodes[self._taskid] = (node, updatehash)
        self._start(self._taskid)
        return self._taskid

    def _start(self, taskid: int) -> None:
        node, updatehash = self._nodes[taskid]
        try:
            future = self.pool.submit(_run_node, node, updatehash, taskid)
        except BrokenProcessPool:
            # The pool broke since the last look: the node waits with those that were in it.
            self._lost.add(taskid)
            return
        self._task_obj[taskid] = future
        future.add_done_callback(partial(self._take, taskid))

    def _take(self, taskid: int, future: Future[Any]) -> None:
        """Take what a future ended with; called in a thread of the pool."""
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            # Before the pool ends the other workers: who is gone by now was killed from outside.
            self._note_ended()
            self._lost.add(taskid)
        elif error is not None:
            self._taskresult[taskid] = _failure(format_exception(error))
        else:
            self._taskresult[taskid] = future.result()

    def _note_ended(self) -> None:
        if self._ended:
            return
        for process in list((getattr(self.pool, "_processes", None) or {}).values()):
            if process.exitcode is not None:
                self._ended[process.pid] = process.exitcode

    def _get_result(self, taskid: int) -> Any:
        if self._lost:
            self._replace_pool()
        with suppress(EOFError, OSError):
            while self._news.poll():
                number, pid = self._news.recv()
                self._running[number] = pid
        return self._taskresult.get(taskid)

    def _clear_task(self, taskid: int) -> None:
        for kept in (self._task_obj, self._nodes, self._running, self._taskresult, self._trials):
            kept.pop(taskid, None)  # type: ignore[attr-defined]

    def _replace_pool(self) -> None:
        """Fail the nodes whose workers were killed, and run the others of a broken pool in a new one."""
        # Until the last worker is gone: nobody else may write to the folder of a node that runs again.
        self.pool.shutdown(wait=True)
        with suppress(EOFError, OSError):
            while self._news.poll():
                number, pid = self._news.recv()
                self._running[number] = pid
        lost, self._lost = sorted(self._lost), set()
        culprits = {task: self._ended[pid] for task, pid in self._running.items() if pid in self._ended}
        self._running, self._ended = {}, {}
        self._news.close()
        self._line.close()
        self._open_pool()
        for taskid in lost:
            if taskid in culprits:
                self._taskresult[taskid] = self._killed(taskid, culprits[taskid])
                continue
            self._trials[taskid] = self._trials.get(taskid, 0) + (not culprits)
            if self._trials[taskid] > _TRIALS:
                self._taskresult[taskid] = self._killed(taskid, None)
            else:
                self._start(taskid)

    def _killed(self, taskid: int, exitcode: int | None) -> dict[str, Any]:
        node, _ = self._nodes[taskid]
        return _failure([_obituary(node, exitcode)])


def _obituary(node: Any, exitcode: int | None) -> str:
    """Say how the worker of a node ended, and what to do about it."""
    how = "ended"
    remedy = "run the same command again"
    if exitcode is not None and exitcode >= 0:
        how = f"ended with exit code {exitcode}"
    elif exitcode is not None:
        how = f"was killed (signal {-exitcode}, {_name(-exitcode)})"
    if exitcode == -signal.SIGKILL:
        how += ", most likely for memory"
        remedy = "give --mem-gb, or fewer --nprocs, so that fewer nodes run at once; then " + remedy
    elif exitcode == -signal.SIGBUS:
        how += ", most likely because a disk is full"
        remedy = "make room; then " + remedy
    return (
        f"The process that ran {node.fullname} {how}.\n"
        f"The node was planned with {node.mem_gb:.3g} GB of memory and {node.n_procs} processors.\n"
        f"What to do: {remedy}.\n"
    )


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return "unknown"


def _failure(traceback: list[str]) -> dict[str, Any]:
    return {"result": None, "traceback": traceback}


_LINE: list[Connection] = []
# What makes a command more than one program.
_SHELL = frozenset(";|&<>()`$\n")
_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing should be.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _start_worker(folder: str, line: Connection) -> None:
    """Prepare a worker process: it ends with the main process, and the programs it runs end with it."""
    threading.Thread(target=_end_with_main, name="end with main", daemon=True).start()
    # Ctrl-C reaches every process of the terminal: the main one ends the others.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nipype.utils.subprocess.Popen = start_program
    os.chdir(folder)
    os.environ["NIPYPE_NO_ET"] = "1"
    _LINE[:] = [line]


def _end_with_main() -> None:
    """Wait for the end of the main process, which a worker would outlive otherwise, and end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        for program in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                program.kill()
        os._exit(1)


def start_program(command: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program as nipype does, by a shell; the system kills it should this process be killed."""
    # The shell would go, and leave the program: it gives its place to the program, where there is just one.
    if options.get("shell") and not _SHELL.intersection(command) and "=" not in command.split(maxsplit=1)[0]:
        command = f"exec {command}"
    # A worker has threads; what runs between fork and exec is one call of the system, loaded before.
    return subprocess.Popen(command, preexec_fn=_die_with_parent, **options)  # noqa: PLW1509


def _die_with_parent() -> None:
    """Have the system kill this process when its parent is gone; a program that it turns into keeps that."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_node(node: Any, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a node in a worker, once the main process can know which worker it is."""
    # Short enough to be written in one piece: a worker that is killed leaves no half message.
    _LINE[0].send((taskid, os.getpid()))
    result: dict[str, Any] = run_node(node, updatehash, taskid)
    return result
