"""GPUs are taken one per process; the devices here are names, and the processes real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bids_xai.decoding.devices import claimed, gpu_names, own_gpu, visible_gpus

PROGRAM = """
import sys
from pathlib import Path
from bids_xai.decoding.devices import claimed
with claimed(sys.argv[2:], Path(sys.argv[1])) as index:
    print(index, flush=True)
    sys.stdin.readline()
"""


class Claimer:
    """A process that holds a device until it is told to go on, or killed."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
        words = [sys.executable, "-c", PROGRAM, str(folder), *names]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.index = int(self.process.stdout.readline())

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate("\n")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def _claimer(stack: ExitStack, folder: Path, names: list[str]) -> Claimer:
    claimer = Claimer(folder, names)
    stack.callback(claimer.process.kill)
    return claimer


def test_each_process_has_a_device_of_its_own_and_death_frees_it(tmp_path: Path, stack: ExitStack) -> None:
    names = ["0", "1", "2"]
    claimers = [_claimer(stack, tmp_path / "locks", names) for _ in range(3)]
    assert [claimer.index for claimer in claimers] == [0, 1, 2]
    claimers[1].end(kill=True)
    with claimed(names, tmp_path / "locks") as index:
        assert index == 1
        # All are held: a fourth shares one.
        assert _claimer(stack, tmp_path / "locks", names).index in (0, 1, 2)
    claimers[0].end()
    with claimed(names, tmp_path / "locks") as index:
        assert index == 0


def test_processes_that_see_other_devices_meet_on_the_same_one(tmp_path: Path, stack: ExitStack) -> None:
    assert _claimer(stack, tmp_path, ["GPU-a", "GPU-b"]).index == 0
    with claimed(["GPU-b", "GPU-a"], tmp_path) as index:
        assert index == 0
        with claimed(["GPU-a", "GPU-b", "GPU-c"], tmp_path) as other:
            assert other == 2


def test_the_only_device_needs_no_claim(tmp_path: Path) -> None:
    with claimed(["0"], tmp_path) as first, claimed(["0"], tmp_path) as second:
        assert first == second == 0
    assert list(tmp_path.iterdir()) == []


def test_where_locks_cannot_be_made_devices_are_shared(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with claimed(["0", "1"], tmp_path / "file" / "locks") as index:
        assert index in (0, 1)


def test_names_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5")
    assert gpu_names(2) == ["3", "GPU-5"]
    assert gpu_names(1) == ["0"], "what is listed and absent is not counted by CUDA"


def test_on_the_processor_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bids_xai.decoding.softmax._GPU_DEVICES", ("/absent",))
    with own_gpu("auto"):
        assert list(tmp_path.iterdir()) == []
    assert visible_gpus() == 0
