"""Nodes as jobs of a batch system: what they are submitted with, and what becomes of them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from nipype.pipeline import engine as pe

from bids_xai.execution import batch
from bids_xai.execution.batch_systems import SYSTEMS
from bids_xai.execution.plugins import cancel, configure_nipype, open_plugin
from bids_xai.execution.progress import Progress
from bids_xai.execution.submitted import left_behind
from bids_xai.settings.sections import Execution
from tests.slurm.nodes import Tell
from tests.unit.batch_programs import install, is_alive, submitted


@pytest.mark.parametrize(
    ("system", "arguments", "gpu", "expected"),
    [
        ("SLURM", {}, False, "--cpus-per-task=2 --mem=3072M"),
        ("SLURM", {}, True, "--cpus-per-task=2 --mem=4096M --gres=gpu:1"),
        ("SLURM", {"sbatch_args": "-p long"}, False, "--cpus-per-task=2 --mem=3072M -p long"),
        ("SLURM", {"sbatch_args": "--mem-per-cpu=9G"}, False, "--cpus-per-task=2 --mem-per-cpu=9G"),
        ("SLURM", {"template": "#!/bin/bash\n#SBATCH --mem=9G -c 8"}, False, ""),
        ("SLURM", {"sbatch_args": "--gpus=a100:1 -c4"}, True, "--mem=4096M --gpus=a100:1 -c4"),
        ("SLURM", {"gpu_args": "-C a100"}, True, "--cpus-per-task=2 --mem=4096M --gres=gpu:1 -C a100"),
        ("SLURM", {"node_args": "-n {n_procs}", "sbatch_args": "-p x"}, True, "-n 2 -p x"),
        ("PBS", {}, False, "-l select=1:ncpus=2:mem=3072mb"),
        ("PBS", {"qsub_args": "-q gpu"}, True, "-l select=1:ncpus=2:mem=4096mb:ngpus=1 -q gpu"),
        ("PBS", {"qsub_args": "-l nodes=1:ppn=4"}, False, "-l nodes=1:ppn=4"),
        ("SGE", {}, False, ""),
        ("SGE", {"node_args": "-pe smp {n_procs} -l vf={mem_mb_per_proc}M"}, False, "-pe smp 2 -l vf=1536M"),
        ("SGE", {"node_args": "-l mem={mem_gb}G", "gpu_args": "-l gpu=1"}, True, "-l mem=4G -l gpu=1"),
    ],
)  # fmt: skip
def test_the_needs_of_a_node_are_said_unless_the_user_says_them(
    system: str, arguments: dict[str, Any], gpu: bool, expected: str
) -> None:
    assert SYSTEMS[system].words(arguments, 2, 3.0, gpu=gpu) == expected


def test_a_job_has_room_for_an_interpreter() -> None:
    assert SYSTEMS["SLURM"].words({}, 1, 0.2, gpu=False) == "--cpus-per-task=1 --mem=1024M"


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that opens the plugin of a batch system of two processes on this machine."""
    monkeypatch.setattr(batch.JobPerNode, "poll_seconds", 0.1)
    monkeypatch.setattr(batch.OneQuestion, "poll_seconds", 0.1)
    monkeypatch.setattr(batch, "RESULT_SECONDS", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("NIPYPE_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("LOGNAME", raising=False)

    def opened(kind: str, **plugin_args: Any) -> Any:
        install(tmp_path / "bin", kind)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        execution = Execution(
            use_plugin=kind, plugin_args={"retry_timeout": 0, "max_tries": 0, **plugin_args}
        )
        configure_nipype(execution, tmp_path / "logs", tmp_path / "work", 0)
        return open_plugin(execution, Progress("Nodes", 1, "nodes"))

    return opened


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PBS", "SGE"])
def test_jobs_of_a_graph_end_fail_and_are_refused(
    submit: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    plugin = submit(kind, node_args="-l slots={n_procs}")
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    many = pe.MapNode(Tell(), iterfield=["seconds"], name="many", n_procs=2)
    many.inputs.seconds = [0.0, 0.1]
    failing = pe.Node(Tell(fail=True), name="failing")
    dying = pe.Node(Tell(die=True), name="dying")
    refused = pe.Node(Tell(), name="refused")
    refused.plugin_args = {"qsub_args": "-q refuse"}
    workflow.add_nodes([many, failing, dying, refused])
    with pytest.raises(RuntimeError):
        workflow.run(plugin=plugin)
    many.base_dir, many.config = workflow.base_dir, workflow.config
    assert [environment["NIPYPE_NO_ET"] for environment in many.result.outputs.environment] == ["1", "1"]
    words = [" ".join(job) for job in submitted(tmp_path / "bin" / "jobs")]
    assert sorted("-l slots=2" in job for job in words) == [False, False, True, True], (
        "no job for the MapNode"
    )
    crashes = {path.name.split("-")[-6]: path.read_text() for path in (tmp_path / "logs").glob("crash-*.txt")}
    assert set(crashes) == {"failing", "dying", "refused"}
    assert "a node that fails" in crashes["failing"]
    assert "ended without a result" in crashes["dying"]
    assert "no such queue" in crashes["refused"]


def test_the_result_of_an_earlier_run_is_not_that_of_a_job_that_never_began(
    submit: Callable[..., Any], tmp_path: Path
) -> None:
    plugin = submit("PBS")
    for seconds, own in ((0.0, ""), (0.1, "-q vanish")):
        workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
        node = pe.Node(Tell(seconds=seconds), name="node")
        node.plugin_args = {"qsub_args": own}
        workflow.add_nodes([node])
        with pytest.raises(RuntimeError) if own else nullcontext():
            workflow.run(plugin=plugin)
    (crash,) = (tmp_path / "logs").glob("crash-*.txt")
    assert "ended without a result" in crash.read_text()


def test_jobs_are_cancelled_when_the_run_is_left(submit: Callable[..., Any], tmp_path: Path) -> None:
    plugin = submit("PBS")
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    workflow.add_nodes([pe.Node(Tell(seconds=30), name=name) for name in ("a", "b")])
    cancelled: list[str] = []
    left: list[str] = []
    jobs = tmp_path / "bin" / "jobs"

    def leave() -> None:
        while len(plugin._pending) < 2:
            time.sleep(0.05)
        cancelled.extend(cancel(plugin))
        time.sleep(0.5)
        left.extend(number for number in cancelled if is_alive(jobs, number))

    thread = threading.Thread(target=leave)
    thread.start()
    with pytest.raises((RuntimeError, KeyError)):
        workflow.run(plugin=plugin)
    thread.join()
    assert cancelled == ["1", "2"]
    assert len(submitted(jobs)) == 2
    assert left == []


def test_jobs_of_a_killed_run_end_before_the_next_begins(submit: Callable[..., Any], tmp_path: Path) -> None:
    plugin = submit("SGE")
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    workflow.add_nodes([pe.Node(Tell(), name="node")])
    jobs = tmp_path / "bin" / "jobs"
    (tmp_path / "long.sh").write_text("exec sleep 300\n")
    for _ in range(2):
        subprocess.run(["qsub", str(tmp_path / "long.sh")], check=True, capture_output=True)
    folder = tmp_path / "work" / "jobs_qdel"
    folder.mkdir(parents=True)
    (folder / "1-a.jobs").write_text("1\n")
    (folder / "2-b.jobs").write_text("2\n")
    with FileLock(folder / "2-b.lock"):
        workflow.run(plugin=plugin)
        assert not is_alive(jobs, "1")
        assert is_alive(jobs, "2"), "the run that submitted it goes on"
        assert [path.name for path in folder.glob("*.jobs")] == ["2-b.jobs"]
    assert left_behind(folder) == ["2"]
    subprocess.run(["qdel", "2"], check=True)


def test_a_full_queue_is_waited_for(
    submit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = submit("PBS")
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    nodes = [pe.Node(Tell(), name=name) for name in ("a", "b", "c")]
    workflow.add_nodes(nodes)
    refuse = plugin._submit_batchtask

    def one_at_a_time(scriptfile: str, node: Any) -> Any:
        if plugin._pending:
            raise RuntimeError("qsub: would exceed queue generic's per-user limit")
        return refuse(scriptfile, node)

    monkeypatch.setattr(plugin, "_submit_batchtask", one_at_a_time)
    workflow.run(plugin=plugin)
    assert len(submitted(tmp_path / "bin" / "jobs")) == 3
