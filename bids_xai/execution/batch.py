"""nipype's plugins for batch systems, which tell them what a node needs and cancel what they submitted."""

from __future__ import annotations

import getpass
import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype.interfaces.base import CommandLine
from nipype.interfaces.utility import IdentityInterface, Merge, Select
from nipype.pipeline import plugins
from nipype.pipeline.engine import MapNode
from nipype.pipeline.plugins.base import SGELikeBatchManagerBase

from bids_xai.execution.batch_systems import SYSTEMS, BatchSystem
from bids_xai.execution.submitted import left_behind, record
from bids_xai.interfaces.chunks import MergeRuns, OpenLedger, StopPermuting

LOGGER = logging.getLogger("bids_xai")
# How long the result of a job that has ended may be on its way through a network file system: less where
# the batch system says that the job failed.
RESULT_SECONDS, FAILED_SECONDS = 60.0, 5.0
# How long the jobs of an earlier run may take to end.
EARLIER_SECONDS = 60.0
# Batch systems export the environment, unless the user's words say otherwise: nodes need at least these.
_EXPORTED = (
    "PYTHONPATH", "NIPYPE_", "TEMPLATEFLOW_", "OMP_", "OPENBLAS_", "MKL_", "NUMBA_", "ITK_", "FSLDIR",
    "FSLOUTPUTTYPE", "ANTSPATH",
)  # fmt: skip
# What takes less time than a job takes to start, and next to no memory, runs in this process.
_LIGHT = (IdentityInterface, Merge, Select, OpenLedger, StopPermuting, MergeRuns)
# What batch systems say when a user has as many jobs in the queue as the site allows, or they are busy.
_FULL = re.compile("limit|exceed|maximum|only .* jobs|too many|temporar|timed out", re.IGNORECASE)
# States of Slurm in which a job will not write anything any more.
_ENDED = {
    "BOOT_FAIL": "its machine did not start",
    "CANCELLED": "it was cancelled",
    "COMPLETED": "it ended and wrote no result",
    "DEADLINE": "it did not end by its deadline",
    "FAILED": "its process ended with an error, or was killed",
    "NODE_FAIL": "its machine failed",
    "OUT_OF_MEMORY": "it was killed for memory",
    "PREEMPTED": "it gave way to another job",
    "TIMEOUT": "its time was over",
}


@dataclass(frozen=True)
class _Job:
    """What is known of a job."""

    node: str
    words: str
    folder: Path


class JobPerNode(SGELikeBatchManagerBase):
    """Put before a plugin of nipype that submits every node to a batch system as a job."""

    system: BatchSystem
    # nipype asks about every job each time.
    poll_seconds = 5.0
    _template: str
    max_jobs: float

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self._template = "\n".join([self._template.rstrip("\n"), *_exports()])
        self._jobs: dict[Any, _Job] = {}
        self._refused: dict[Any, str] = {}
        self._ended: dict[Any, float] = {}

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; whatever ends it, no job of it stays behind."""
        os.environ.setdefault("LOGNAME", _user())
        config["execution"]["poll_sleep_duration"] = str(self.poll_seconds)
        for node in graph.nodes():
            if isinstance(node.interface, _LIGHT) and not isinstance(node, MapNode):
                node.run_without_submitting = True
        folder = Path(next(iter(graph.nodes())).base_dir) / f"jobs_{self.system.cancel}"
        self._end_earlier(left_behind(folder))
        with record(folder) as self._write_down:
            try:
                super().run(graph, config, updatehash=updatehash)
            finally:
                self.cancel()

    def cancel(self) -> list[str]:
        """Cancel the jobs that were submitted and have not ended, and return their numbers."""
        numbers = [str(task) for task in self._pending if task not in self._refused]
        self._pending: dict[Any, str] = {}
        self._end(numbers)
        return numbers

    def _end(self, numbers: Sequence[str]) -> None:
        for start in range(0, len(numbers), 100):
            words = [self.system.cancel, *numbers[start : start + 100]]
            try:
                subprocess.run(words, capture_output=True, timeout=30, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                LOGGER.error("%s failed: %s", shlex.join(words), error)

    def _end_earlier(self, numbers: Sequence[str]) -> None:
        """End the jobs of a run that was killed: they would write where the jobs of this one do."""
        if not numbers:
            return
        LOGGER.warning("Jobs of an earlier run that was killed are cancelled: %s", " ".join(numbers))
        self._end(numbers)
        deadline = time.monotonic() + EARLIER_SECONDS
        while self._are_there(numbers) and time.monotonic() < deadline:
            time.sleep(self.poll_seconds)

    def _are_there(self, numbers: Sequence[str]) -> bool:
        """Tell whether jobs of an earlier run have not ended yet."""
        kind = int if self.system.cancel in ("bkill", "condor_rm") else str
        return any(self._is_pending(kind(number)) for number in numbers)

    def _submit_mapnode(self, jobid: int) -> bool:
        has_parts: bool = super()._submit_mapnode(jobid)
        if has_parts:
            # Its parts have run as jobs: what is left is to read their results.
            self.procs[jobid].run_without_submitting = True
        return has_parts

    def _submit_job(self, node: Any, updatehash: bool = False) -> Any:
        if len(self.pending_tasks) >= self.max_jobs:
            return None
        # The result of an earlier run would be taken for that of a job that fails.
        for path in _results(node.output_dir()):
            path.unlink()
        own = node.plugin_args.get(self.system.words_key, "")
        arguments = {**self.plugin_args}
        arguments[self.system.words_key] = f"{arguments.get(self.system.words_key, '')} {own}".strip()
        words = self.system.words(arguments, node.n_procs, node.mem_gb, gpu=node.is_gpu_node())
        node.plugin_args = {self.system.words_key: words, "overwrite": True}
        try:
            task = super()._submit_job(node, updatehash=updatehash)
        except (RuntimeError, OSError) as error:
            if self.pending_tasks and _FULL.search(str(error)):
                self.max_jobs = len(self.pending_tasks)
                LOGGER.warning("No more than %d jobs are taken at once: %s", self.max_jobs, error)
                return None
            task = f"refused-{len(self._refused)}"
            self._refused[task] = str(error)
        self._jobs[task] = _Job(node.fullname, words, _batch_folder(node))
        return task

    def _submit_batchtask(self, scriptfile: str, node: Any) -> Any:
        with _checked_programs(type(self)):
            task = super()._submit_batchtask(scriptfile, node)
        self._write_down(str(task))
        return task

    def _get_result(self, taskid: Any) -> Any:
        if taskid in self._refused:
            return _failure(f"{self._jobs[taskid].node} could not be submitted: {self._refused[taskid]}")
        if self._is_pending(taskid):
            return None
        ended = self._ended.setdefault(taskid, time.monotonic())
        if not _results(self._pending[taskid]):
            patience = FAILED_SECONDS if self._has_failed(taskid) else RESULT_SECONDS
            return None if time.monotonic() - ended < patience else _failure(self._reason(taskid))
        return super()._get_result(taskid)

    def _is_pending(self, taskid: Any) -> bool:
        # nipype asks again before it reads a result, and some batch systems have forgotten by then.
        return taskid not in self._ended and bool(super()._is_pending(taskid))

    def _report_crash(self, node: Any, result: Any = None) -> Any:
        # nipype appends lines to a traceback, and fails itself where that is a text.
        if result is not None and isinstance(result["traceback"], str):
            result = {**result, "traceback": result["traceback"].splitlines(keepends=True)}
        return super()._report_crash(node, result=result)

    def _clear_task(self, taskid: Any) -> None:
        self._pending.pop(taskid, None)

    def _has_failed(self, taskid: Any) -> bool:
        """Tell whether the batch system says that a job that has ended wrote nothing."""
        return taskid in self._refused

    def _reason(self, taskid: Any) -> str:
        """Return what happened to a job that has ended without a result."""
        job = self._jobs[taskid]
        return f"Job {taskid} of {job.node} ended without a result (submitted with: {job.words})."


class OneQuestion(JobPerNode):
    """A batch system that is asked for all jobs of this user at once."""

    poll_seconds = 1.0
    question: tuple[str, ...]

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args)
        self._states: dict[int, str] = {}
        self._asked = self._answered = float("-inf")
        self._submitted: dict[int, float] = {}

    def _submit_batchtask(self, scriptfile: str, node: Any) -> int:
        task: int = super()._submit_batchtask(scriptfile, node)
        self._submitted[task] = time.monotonic()
        return task

    def _is_pending(self, taskid: int) -> bool:
        if taskid in self._ended:
            return False
        if time.monotonic() - self._asked >= self.poll_seconds:
            self._ask()
        if self._answered <= self._submitted[taskid]:
            return True
        # What has ended is forgotten sooner or later.
        return taskid in self._states and self._states[taskid] not in _ENDED

    def _are_there(self, numbers: Sequence[str]) -> bool:
        self._ask()
        return any(self._states.get(int(number), "COMPLETED") not in _ENDED for number in numbers)

    def _ask(self) -> None:
        """Ask for the jobs of this user; where there is no answer they are taken to run on."""
        self._asked = asked = time.monotonic()
        words = [*self.question, "-u", _user()]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            LOGGER.warning("No answer about jobs, which are taken to run on: %s", str(said).strip())
            return
        lines = [line.split() for line in done.stdout.splitlines()]
        listed = {int(line[0]): self._state(line) for line in lines if line and line[0].isdigit()}
        ended = {task: state for task, state in self._states.items() if state in _ENDED}
        self._states = ended | listed
        self._answered = asked

    def _state(self, line: Sequence[str]) -> str:
        """Return the state of a job from the words of its line; here, any that is listed has not ended."""
        return "LISTED" if line else ""


class SLURMPlugin(OneQuestion, plugins.SLURMPlugin):
    """Slurm, which says why a job ended without a result."""

    system = SYSTEMS["SLURM"]
    question = ("squeue", "-a", "-h", "-t", "all", "-o", "%i %T")

    def _state(self, line: Sequence[str]) -> str:
        return line[1]

    def _has_failed(self, taskid: int) -> bool:
        return self._states.get(taskid, "COMPLETED") != "COMPLETED"

    def _reason(self, taskid: int) -> str:
        state = self._states.get(taskid, "COMPLETED")
        reason = f"Slurm says {state}: {_ENDED[state]}."
        log = self._jobs[taskid].folder / f"slurm-{taskid}.out"
        if log.exists():
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            reason += "\n".join([f" The last lines of {log}:", *last])
        return f"{super()._reason(taskid)} {reason}"


class SGEPlugin(OneQuestion, plugins.SGEPlugin):
    """Grid Engine; nipype itself waits for ever for a job that qstat does not list any more."""

    system = SYSTEMS["SGE"]
    question = ("qstat",)


class PBSPlugin(JobPerNode, plugins.PBSPlugin):
    """PBS and Torque; nipype itself writes what qstat says into the folder that it runs in."""

    system = SYSTEMS["PBS"]

    def _is_pending(self, taskid: str) -> bool:
        if taskid in self._ended:
            return False
        words = ["qstat", "-f", taskid]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return True
        gone = any(words in done.stderr for words in ("Unknown Job Id", "Job has finished"))
        return not gone and "job_state = C" not in done.stdout


_OWN: dict[str, type[JobPerNode]] = {"SLURM": SLURMPlugin, "SGE": SGEPlugin, "PBS": PBSPlugin}


def batch_plugin(name: str, arguments: dict[str, Any]) -> Any:
    """Return the plugin of a batch system."""
    if name in _OWN:
        return _OWN[name](arguments)
    kind = f"{name}Plugin"
    return type(kind, (JobPerNode, getattr(plugins, kind)), {"system": SYSTEMS[name]})(arguments)


class _CheckedProgram(CommandLine):
    """A program whose failure is one."""

    def run(self, *words: Any, **named: Any) -> Any:
        result = super().run(*words, **named)
        if result.runtime.returncode:
            said = result.runtime.stderr or result.runtime.stdout
            raise RuntimeError(f"{self.cmdline} ended with {result.runtime.returncode}: {said}")
        return result


@contextmanager
def _checked_programs(kind: type) -> Iterator[None]:
    """Let nipype's plugin see that a job was refused: it takes what was not printed for its number."""
    base = next(parent for parent in kind.__mro__ if parent.__module__.startswith("nipype."))
    module: Any = sys.modules[base.__module__]
    before, module.CommandLine = module.CommandLine, _CheckedProgram
    try:
        yield
    finally:
        module.CommandLine = before


def _exports() -> Iterable[str]:
    for name, value in sorted(os.environ.items()):
        if name.startswith(_EXPORTED):
            yield f"export {name}={shlex.quote(value)}"


def _results(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("result_*.pklz"))


def _batch_folder(node: Any) -> Path:
    """Return where nipype puts the scripts of a node, and Slurm what they print."""
    base = Path(node.base_dir)
    return (base / node._hierarchy.split(".")[0] if node._hierarchy else base) / "batch"


def _failure(message: str) -> dict[str, Any]:
    return {"result": None, "hostname": None, "traceback": message + "\n"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
