"""Runs that are told to stop, lose processes, are killed or find the disk full: nothing finished is lost."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import psutil
import pytest

from bids_xai.execution.locks import RUNS
from tests.datasets import make_dataset, write_mask
from tests.disks import fill, small_tmpfs

pytestmark = pytest.mark.slow

# Trainings that last: a signal comes in the middle of a chunk.
SETTINGS = (
    "--preproc", "none", "--n-updates", "5000", "--n-runs", "4", "--n-permutations", "29", "--n-null", "4",
    "--alpha", "0.05", "--chunk-size", "5", "--nprocs", "2",
)  # fmt: skip
RUNNING = "bids_xai/*/inference_wf/null/mapflow/*/_0x*_unfinished.json"
DONE = "bids_xai/*/inference_wf/null/mapflow/*/result_*.pklz"
LIMIT_S = 10.0


class Study:
    """A dataset, and a command line whose OUT and --work-dir are always the same two folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.work = folder, folder / "out", folder / "work"
        self.bids = make_dataset(folder / "bids")
        mask = write_mask(folder / "mask.nii.gz")
        self.words = [str(word) for word in (self.bids, self.out, "participant", "group", "--mask", mask)]
        self.words += ["-w", str(self.work), *SETTINGS]
        assert self.run() == (0, "")
        self.expected = digests(self.out)
        self.reset()

    def reset(self) -> None:
        for folder in (self.out, self.work):
            if folder.is_symlink():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, *more: str) -> subprocess.Popen[str]:
        return start([*self.words, *more])

    def start_and_wait_for_chunks(self) -> subprocess.Popen[str]:
        """Start a run and wait until a worker is at a chunk."""
        for path in self.work.glob(RUNNING):
            path.unlink()  # of an earlier run that was killed; nipype makes it anew
        process = self.start()
        wait_for(process, lambda: any(self.work.glob(RUNNING)))
        return process

    def run(self) -> tuple[int, str]:
        """Run to the end; return the exit code and what was said of it."""
        process = self.start()
        _, said = process.communicate(timeout=300)
        return process.returncode, "\n".join(
            line for line in said.splitlines() if not line.startswith(("Participants:", "Group:"))
        ).strip()

    def assert_goes_on_to_the_same_end(self) -> None:
        code, said = self.run()
        assert code == 0, said
        assert digests(self.out) == self.expected
        assert list(self.folder.rglob(".tmp-*")) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a study that has been run to its end once, undisturbed."""
    return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def study(finished: Study) -> Study:
    finished.reset()
    return finished


def start(words: list[str], module: str = "run") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"bids_xai.cli.{module}", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool], limit: float = 120) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def handles(pid: int, number: int) -> bool:
    """Tell whether a process has a handler of a signal."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    own = psutil.Process(process.pid)
    return [own, *own.children(recursive=True)]


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that run nodes: children of the server that forks them."""
    return [child for child in family(process)[1:] if child.ppid() != process.pid]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after some seconds; a zombie only waits for its parent to take notice."""
    deadline = time.monotonic() + seconds
    while True:
        left = [one for one in processes if one.is_running() and status(one) != psutil.STATUS_ZOMBIE]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.02)


def status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_ZOMBIE)


def assert_ends(process: subprocess.Popen[str], send: Callable[[], None], *, code: int = 1) -> str:
    """Send what ends a run, and see that it ends in time with all its processes; return what it said."""
    everyone = family(process)
    began = time.monotonic()
    send()
    _, said = process.communicate(timeout=60)
    assert alive_after(everyone[1:], began + LIMIT_S - time.monotonic()) == []
    assert time.monotonic() - began < LIMIT_S
    assert process.returncode == code, said
    return said


def digests(out: Path) -> dict[str, str]:
    """Return the checksums of all results; logs tell of times."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent.name != "logs"
    }


def assert_whole(out: Path) -> int:
    """Read every result to its end, and return their number."""
    # Locks and records of runs are no results: a lock is empty, a killed run leaves its record.
    found = [
        path
        for path in out.rglob("*")
        if path.is_file() and ".tmp-" not in str(path) and path.parent != out / "logs" / RUNS
    ]
    for path in found:
        if path.name.endswith(".nii.gz"):
            with gzip.open(path) as stream:
                stream.read()
            assert np.isfinite(nb.load(path).get_fdata()).all()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".tsv":
            assert path.read_bytes().endswith(b"\n")
            pd.read_csv(path, sep="\t")
        elif path.suffix in (".html", ".svg"):
            assert path.read_text().rstrip().endswith(f"</{path.suffix[1:]}>")
        else:
            assert path.stat().st_size > 0, path
    return len(found)


def test_a_run_that_is_stopped_or_loses_processes_goes_on_to_the_same_end(study: Study) -> None:
    process = study.start_and_wait_for_chunks()
    # As Ctrl-C does, to every process of the terminal.
    said = assert_ends(process, lambda: os.killpg(process.pid, signal.SIGINT))
    assert (
        said.count("bids-xai: interrupted (SIGINT). The same command with the same --work-dir goes on") == 1
    )
    assert "Traceback" not in said
    assert not (study.out / "group").exists()

    process = study.start_and_wait_for_chunks()
    assert_ends(process, lambda: os.kill(process.pid, signal.SIGKILL), code=-signal.SIGKILL)

    process = study.start_and_wait_for_chunks()
    before = len(list(study.work.glob(DONE)))
    max(workers(process), key=lambda worker: worker.cpu_times().user).kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "group failed; see" in said
    (crash,) = (study.out / "logs").glob("crash-*.txt")
    assert "was killed (signal 9, SIGKILL), most likely for memory" in crash.read_text()
    assert "planned with" in crash.read_text()
    assert len(list(study.work.glob(DONE))) > before, "the other chunks are done"
    study.assert_goes_on_to_the_same_end()


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_signal_is_heard_at_any_moment(study: Study, words: tuple[str, ...]) -> None:
    process = study.start(*words)
    began = time.monotonic()
    process.communicate(timeout=300)
    whole = time.monotonic() - began
    study.reset()
    for share in (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 0.9, 0.97):
        process = study.start(*words)
        began = time.monotonic()
        # Before the handlers are there the system ends the process: imports of half a tenth of a second.
        while process.poll() is None and not handles(process.pid, signal.SIGTERM):
            time.sleep(0.01)
        time.sleep(max(share * whole - (time.monotonic() - began), 0))
        if process.poll() is None:
            everyone = family(process)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            _, said = process.communicate(timeout=60)
            assert time.monotonic() - began < LIMIT_S
            assert process.returncode in (0, 1), said
            assert ("interrupted (SIGTERM)" in said) == (process.returncode == 1)
            assert alive_after(everyone[1:], 2) == []
        assert_whole(study.out)
    if not words:
        study.assert_goes_on_to_the_same_end()


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(study: Study, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = kills = 0
    while kills < 12:
        process = study.start()
        try:
            process.communicate(timeout=float(rng.uniform(1, 15)))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
        now = assert_whole(study.out)
        assert now >= seen, "what was finished stays"
        seen = now
    assert kills >= 3
    study.assert_goes_on_to_the_same_end()


@pytest.mark.long
@pytest.mark.parametrize(
    ("which", "leave_kib"), [("output", 12), ("output", 1500), ("working", 40), ("working", 400)]
)
def test_a_full_disk(study: Study, tmp_path: Path, which: str, leave_kib: int) -> None:
    folder = {"output": study.out, "working": study.work}[which]
    with small_tmpfs(tmp_path / "disk", 32 * 1024) as disk:
        # The folder of the command is on the small disk.
        (disk / "results").mkdir()
        folder.symlink_to(disk / "results")
        filler = fill(disk, leave_kib)
        code, said = study.run()
        assert (disk / "results").is_dir()
        assert code == 1, said
        assert f"{which} folder {folder} is full" in said
        assert_whole(study.out)
        assert list(study.out.rglob(".tmp-*")) == []
        done = {path: path.stat().st_mtime_ns for path in study.work.glob(DONE)}
        filler.unlink()
        study.assert_goes_on_to_the_same_end()
        assert {path for path, moment in done.items() if path.stat().st_mtime_ns != moment} == set()
        folder.unlink()


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a raw dataset whose registration takes a while."""
    folder = tmp_path_factory.mktemp("heads") / "bids"
    words = [str(folder), "--subjects", "2", "--runs", "1", "--classes", "2", "--seed", "0"]
    process = start(words, "phantom")
    assert process.wait(timeout=120) == 0, process.communicate()
    return folder


@pytest.mark.long
@pytest.mark.parametrize("victim", ["main", "told", "worker"])
def test_programs_of_ants_end_with_the_run(heads: Path, tmp_path: Path, victim: str) -> None:
    words = [heads, tmp_path / "out", "participant", "--sloppy", "--nprocs", "2", "-w", tmp_path / "work"]
    process = start([str(word) for word in words])

    def programs() -> list[psutil.Process]:
        return [child for child in family(process) if "ants_program.py" in command(child)]

    wait_for(process, lambda: any(program.cpu_times().user > 0.5 for program in programs()))
    running = programs()
    if victim == "main":
        assert_ends(process, lambda: os.kill(process.pid, signal.SIGKILL), code=-signal.SIGKILL)
    elif victim == "told":
        assert_ends(process, lambda: os.kill(process.pid, signal.SIGTERM))
    else:
        psutil.Process(running[0].ppid()).kill()
        assert alive_after(running[:1], 5) == []
        assert_ends(process, lambda: os.kill(process.pid, signal.SIGTERM))
    assert alive_after(running, 1) == []


@pytest.mark.long
def test_scenarios_stop_as_well(tmp_path: Path) -> None:
    words = [
        str(tmp_path / "out"),
        "--scenario",
        "1",
        "--subjects",
        "3",
        "--samples",
        "20",
        "--voxels",
        "300",
    ]
    words += ["--n-runs", "4", "--n-permutations", "19", "--n-updates", "40000", "--nprocs", "2"]
    process = start([*words, "-w", str(tmp_path / "work")], "scenarios")
    wait_for(process, lambda: any((tmp_path / "work").glob("*/**/mapflow/*/_0x*_unfinished.json")))
    said = assert_ends(process, lambda: os.kill(process.pid, signal.SIGTERM))
    assert "bids-xai-scenarios: interrupted (SIGTERM)" in said
