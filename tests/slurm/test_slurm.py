"""nipype's nodes as jobs of a real Slurm."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nipype.pipeline import engine as pe

from bids_xai.cli.run import main
from bids_xai.execution.plugins import cancel, configure_nipype, open_plugin
from bids_xai.execution.progress import Progress
from bids_xai.settings.sections import Execution
from tests.datasets import make_dataset, write_mask
from tests.slurm.cluster import Cluster, cluster
from tests.slurm.nodes import Tell

__all__ = ["cluster"]
pytestmark = pytest.mark.slurm
GROUP = (
    "--n-updates", "400", "--n-runs", "4", "--n-permutations", "19", "--n-null", "0", "--alpha", "0.05",
    "--chunk-size", "5", "--omp-nthreads", "2",
)  # fmt: skip
PLUGIN = """
plugin = "SLURM"
[plugin_args]
sbatch_args = "--time=30 --comment=file"
max_jobs = 3
"""
# Where the work is and how it was run; everything else of the output is the same.
OWN = ('"work_dir"', '"use_plugin"', '"plugin_args"', '"sbatch_args"', '"max_jobs"')


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder: a dataset, samples in ``out``, and in ``expected`` what MultiProc makes of them."""
    folder = tmp_path_factory.mktemp("study")
    make_dataset(folder / "bids")
    write_mask(folder / "mask.nii.gz")
    words = [folder / "bids", folder / "out", "participant", "--preproc", "none", "-w", folder / "work"]
    assert main([str(word) for word in [*words, "--mask", folder / "mask.nii.gz"]]) == 0
    shutil.copytree(folder / "out", folder / "expected")
    assert main(_group(folder, "expected", "work")) == 0
    return folder


def _group(folder: Path, out: str, work: str, *words: str) -> list[str]:
    return [str(folder / "bids"), str(folder / out), "group", "-w", str(folder / work), *GROUP, *words]


def _start(words: list[str], cluster: Cluster, log: Path) -> subprocess.Popen:
    environment = {**cluster.environment, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    environment.pop("LOGNAME", None)
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "bids_xai.cli.run", *words],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def _until(condition: Callable[[], Any], process: subprocess.Popen, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"not seen within {seconds} s; exit code {process.poll()}")


def _running(cluster: Cluster, name: str) -> list[int]:
    jobs = cluster.jobs("running").items()
    return [number for number, (job, _) in jobs if job.startswith(name)]


def _pending(cluster: Cluster) -> list[tuple[int, tuple[str, str]]]:
    return list(cluster.jobs("pending").items())


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name == "results.json":
            lines = content.decode().replace("}", "").splitlines()
            content = "\n".join(line for line in lines if not line.strip().startswith(OWN)).encode()
        digests[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return digests


def test_a_cancelled_job_is_named_and_the_same_command_ends_with_the_same_bits(
    cluster: Cluster, study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study / "out", study / "slurm")
    (tmp_path / "plugin.toml").write_text(PLUGIN)
    words = _group(study, "slurm", "slurm-work", "--use-plugin", str(tmp_path / "plugin.toml"))
    first = _start(words, cluster, tmp_path / "first.log")
    cancelled = _until(lambda: _running(cluster, "_null2"), first)[0]
    described = cluster.call("scontrol", "show", "job", str(cancelled))
    cluster.call("scancel", str(cancelled))
    assert first.wait(timeout=120) == 1
    # What a chunk needs reached Slurm, and the words of the file.
    assert "NumCPUs=2 " in described
    # What the chunk declares, and at least what an interpreter takes.
    assert re.search(r"MinMemoryNode=[1-9]", described), described
    assert "Comment=file" in described
    assert "TimeLimit=00:30:00" in described
    log = (tmp_path / "first.log").read_text()
    crash = next((study / "slurm" / "logs").glob("crash-*_null2*.txt"))
    assert f"group failed; see {crash}" in log
    assert f"Job {cancelled} of" in crash.read_text()
    assert "Slurm says CANCELLED" in crash.read_text()
    chunks = study / "slurm-work" / "bids_xai" / "group_wf" / "inference_wf" / "null" / "mapflow"
    assert sorted(path.parent.name for path in chunks.glob("_null*/result_*.pklz")) == [
        "_null0", "_null1", "_null3",
    ]  # fmt: skip

    before = set(cluster.jobs())
    again = _start(words, cluster, tmp_path / "again.log")
    assert again.wait(timeout=240) == 0, (tmp_path / "again.log").read_text()
    names = [name for number, (name, _) in cluster.jobs().items() if number not in before]
    assert [name for name in names if name.startswith("_null")] == ["_null2.root"], (
        "chunks that are done stay"
    )
    assert _digests(study / "slurm" / "group") == _digests(study / "expected" / "group")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cancels_its_jobs(
    cluster: Cluster, study: Path, tmp_path: Path, number: signal.Signals
) -> None:
    shutil.copytree(study / "out", tmp_path / "out")
    words = _group(study, "unused", "unused", "--use-plugin", "SLURM", "--plugin-args", "max_jobs=3")
    words[1], words[4] = str(tmp_path / "out"), str(tmp_path / "work")
    stranger = int(cluster.call("sbatch", "--parsable", "-H", "-o", "/dev/null", "--wrap", "true"))
    process = _start(words, cluster, tmp_path / "log")
    _until(lambda: _running(cluster, "collect") or _running(cluster, "univariate"), process)
    process.send_signal(number)
    assert process.wait(timeout=10) == 1
    assert "The same command" in (tmp_path / "log").read_text()
    deadline = time.monotonic() + 10
    while len(cluster.jobs("pending,running,completing")) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(cluster.jobs("pending,running,completing")) == [stranger], "other jobs of the user go on"
    cluster.call("scancel", str(stranger))


def test_jobs_of_a_run_that_was_killed_end_when_it_goes_on(
    cluster: Cluster, study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study / "out", tmp_path / "out")
    words = _group(study, "unused", "unused", "--use-plugin", "SLURM")
    words[1], words[4] = str(tmp_path / "out"), str(tmp_path / "work")
    # A job that waits until it is let go: it has not ended by itself when the run goes on.
    process = _start([*words, "--plugin-args", "sbatch_args=--hold"], cluster, tmp_path / "first.log")
    left = _until(lambda: [job for job, (name, _) in _pending(cluster) if name.startswith("coll")], process)[
        0
    ]
    process.kill()
    process.wait()
    again = _start(words, cluster, tmp_path / "again.log")
    _until(lambda: [job for job in cluster.jobs() if job > left], again)
    assert cluster.jobs()[left][1] == "CANCELLED"
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=10) == 1
    assert f"that was killed are cancelled: {left}" in (tmp_path / "again.log").read_text()


def test_nodes_get_what_they_declare_and_failures_are_told_apart(cluster: Cluster, tmp_path: Path) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), *sys.path]))
    patch.setenv("OMP_NUM_THREADS", "3")
    execution = Execution(use_plugin="SLURM", plugin_args={"sbatch_args": "--time=5", "retry_timeout": 0})
    configure_nipype(execution, tmp_path / "logs", tmp_path / "work", 0)
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    gpus = [pe.Node(Tell(use_gpu=True, seconds=4), name=f"gpu{index}", mem_gb=0.5) for index in range(2)]
    nodes = {
        "plain": pe.Node(Tell(), name="plain", n_procs=3, mem_gb=1.5),
        "greedy": pe.Node(Tell(hold_mb=2000, seconds=20), name="greedy", mem_gb=1),
        "failing": pe.Node(Tell(fail=True), name="failing"),
        "refused": pe.Node(Tell(), name="refused"),
    }
    nodes["refused"].plugin_args = {"sbatch_args": "--partition=absent"}
    workflow.add_nodes([*gpus, *nodes.values()])
    plugin = open_plugin(execution, Progress("Nodes", 6, "nodes"))
    try:
        with pytest.raises(RuntimeError):
            workflow.run(plugin=plugin)
    finally:
        patch.undo()
    told = [
        node.result.outputs.environment
        for node in workflow_nodes(workflow, tmp_path, [*gpus, nodes["plain"]])
    ]
    assert {told[0]["CUDA_VISIBLE_DEVICES"], told[1]["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
    assert told[0]["SLURM_MEM_PER_NODE"] == "4096", "CUDA needs more than the node says"
    assert "CUDA_VISIBLE_DEVICES" not in told[2]
    assert told[2]["SLURM_CPUS_PER_TASK"] == "3"
    assert told[2]["SLURM_MEM_PER_NODE"] == "1536"
    assert told[2]["OMP_NUM_THREADS"] == "3"
    crashes = {path.name.split("-")[-6]: path.read_text() for path in (tmp_path / "logs").glob("crash-*.txt")}
    assert set(crashes) == {"greedy", "failing", "refused"}
    assert "Slurm says" in crashes["greedy"]
    assert "exceeded memory limit" in crashes["greedy"]
    assert "--mem=1024M" in crashes["greedy"]
    assert "a node that fails" in crashes["failing"]
    assert "could not be submitted" in crashes["refused"]
    assert "Invalid partition name" in crashes["refused"]
    assert cancel(plugin) == []


def workflow_nodes(workflow: pe.Workflow, tmp_path: Path, nodes: list[pe.Node]) -> list[pe.Node]:
    """Return nodes of a workflow that know where their results are."""
    for node in nodes:
        node.base_dir = str(tmp_path / "work")
        node.config = workflow.config
    return nodes
