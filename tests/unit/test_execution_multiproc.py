"""Worker processes that are killed, by the system or from within."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from nipype import Function, Node, Workflow
from nipype.pipeline.engine import MapNode

from bids_xai.execution.crashes import keep_crash_files
from bids_xai.execution.multiproc import Workers, start_program
from tests.disks import fill, small_tmpfs


def work(number: int, deadly: dict[str, int], folder: str) -> int:
    """Leave a mark, wait, and end the process if the number is among the deadly ones."""
    import os
    import time
    from pathlib import Path

    marks = Path(folder)
    with (marks / str(number)).open("a") as stream:
        stream.write("x")
    time.sleep(0.5)
    if str(number) in deadly:
        if deadly[str(number)] < 0:
            os._exit(-deadly[str(number)])
        os.kill(os.getpid(), deadly[str(number)])
    return number * number


def run(folder: Path, deadly: dict[str, int], *, n: int = 6, n_procs: int = 3) -> tuple[list[str], list[str]]:
    """Run ``n`` nodes and one that needs nothing of them; return crash texts and the marks of each node."""
    marks = folder / "marks"
    marks.mkdir()
    names = ["number", "deadly", "folder"]
    many = MapNode(Function(names, ["out"], work), iterfield=["number"], name="many", mem_gb=0.125)
    many.inputs.number, many.inputs.deadly, many.inputs.folder = list(range(n)), deadly, str(marks)
    other = Node(Function(names, ["out"], work), name="other")
    other.inputs.number, other.inputs.deadly, other.inputs.folder = 99, {}, str(marks)
    workflow = Workflow("wf", base_dir=str(folder))
    workflow.add_nodes([many, other])
    workflow.config["execution"] = {"poll_sleep_duration": 0.05, "crashfile_format": "txt"}
    plugin = Workers({"n_procs": n_procs, "raise_insufficient": False})
    keep_crash_files(plugin, folder / "logs", folder / "spare")
    try:
        workflow.run(plugin=plugin)
    except RuntimeError:
        assert deadly
    finally:
        plugin.cancel()
    return (
        [path.read_text() for path in sorted((folder / "logs").glob("crash-*.txt"))],
        [path.read_text() for path in sorted(marks.iterdir(), key=lambda path: int(path.name))],
    )


@pytest.mark.slow
def test_a_killed_worker_costs_its_node_and_no_other(tmp_path: Path) -> None:
    crashes, marks = run(tmp_path, {"1": signal.SIGKILL})
    assert len(crashes) == 1
    for part in ("ran _many1 was killed (signal 9, SIGKILL), most likely for memory", "0.125 GB", "--mem-gb"):
        assert part in crashes[0]
    assert len(marks) == 7, "every node has run"
    assert marks[1] == "x", "the node that was killed is not tried again"
    assert all(len(mark) <= 2 for mark in marks), "and those beside it once"


@pytest.mark.long
def test_several_killed_at_once_and_one_after_another(tmp_path: Path) -> None:
    crashes, marks = run(tmp_path, {"0": signal.SIGKILL, "1": signal.SIGKILL, "4": signal.SIGBUS})
    assert len(crashes) == 3
    assert sum("most likely because a disk is full" in crash for crash in crashes) == 1
    assert len(marks) == 7


def test_a_library_that_ends_the_process_is_named_with_its_exit_code(tmp_path: Path) -> None:
    (crash,), _ = run(tmp_path, {"0": -3}, n=1, n_procs=1)
    assert "ended with exit code 3" in crash


def test_results_that_cannot_travel_fail_their_node(tmp_path: Path) -> None:
    def unloadable():
        import threading

        return threading.Lock()

    node = Node(Function([], ["out"], unloadable), name="node")
    workflow = Workflow("wf", base_dir=str(tmp_path))
    workflow.add_nodes([node])
    workflow.config["execution"] = {"poll_sleep_duration": 0.05, "crashfile_format": "txt"}
    plugin = Workers({"n_procs": 1})
    keep_crash_files(plugin, tmp_path / "logs", tmp_path / "spare")
    with pytest.raises(RuntimeError, match="pickle"):
        workflow.run(plugin=plugin)
    assert len(list((tmp_path / "logs").iterdir())) == 1
    assert list((tmp_path / "spare").iterdir()) == []


@pytest.mark.parametrize("command", ["sleep 60", "sleep '60'"])
def test_programs_are_killed_with_the_process_that_started_them(command: str) -> None:
    code = "import os, sys; from bids_xai.execution.multiproc import start_program\n"
    code += "print(start_program(sys.argv[1], shell=True).pid, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", code, command], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while _sleeps(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _sleeps(int(done.stdout))


def _sleeps(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize(
    ("command", "said"), [("echo a; echo b", b"a\nb\n"), ("A=1 env | grep ^A=", b"A=1\n"), ("B=2 true", b"")]
)
def test_commands_of_several_programs_run_as_they_are(command: str, said: bytes) -> None:
    process = start_program(command, shell=True, stdout=subprocess.PIPE)
    assert process.communicate() == (said, None)
    assert process.returncode == 0


def test_cancelled_workers_are_gone(tmp_path: Path) -> None:
    plugin = Workers({"n_procs": 2})
    for _ in range(2):
        plugin.pool.submit(time.sleep, 60)
    deadline = time.monotonic() + 20
    while len(_workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = _workers()
    assert len(workers) >= 2
    plugin.cancel()
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def _workers() -> list[psutil.Process]:
    own = psutil.Process()
    return [process for process in own.children(recursive=True) if process.ppid() != own.pid]


def test_crash_files_that_find_no_room_stay_in_the_working_folder(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "logs", 64) as logs:
        fill(logs, 0)
        run(tmp_path, {"0": -3}, n=1, n_procs=1)
        assert [path.name for path in logs.iterdir()] == ["filler"]
    (crash,) = (tmp_path / "spare").iterdir()
    assert "ended with exit code 3" in crash.read_text()


@pytest.mark.long
def test_a_crash_file_that_finds_no_room_at_all_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_tmpfs(tmp_path / "spare", 64) as spare:
        fill(spare, 0)
        crashes, marks = run(tmp_path, {"0": -3}, n=3, n_procs=1)
        assert [path.name for path in spare.iterdir()] == ["filler"]
    assert crashes == []
    assert len(marks) == 4
    assert "ended with exit code 3" in caplog.text
