"""Nodes as tasks of a Dask cluster on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from nipype.pipeline import engine as pe

from bids_xai.execution.plugins import configure_nipype, open_plugin
from bids_xai.execution.progress import Progress
from bids_xai.settings.sections import Execution
from tests.slurm.nodes import Tell

pytest.importorskip("distributed")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NIPYPE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    execution = Execution(use_plugin="Dask", plugin_args={"n_workers": 1})
    configure_nipype(execution, tmp_path / "logs", tmp_path / "work", 0)
    return open_plugin(execution, Progress("Nodes", 1, "nodes"))


def test_nodes_run_on_workers_and_what_fails_is_named(plugin: Any, tmp_path: Path) -> None:
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    many = pe.MapNode(Tell(), iterfield=["seconds"], name="many")
    many.inputs.seconds = [0.0, 0.1]
    workflow.add_nodes([many, pe.Node(Tell(fail=True), name="failing")])
    with pytest.raises(RuntimeError):
        workflow.run(plugin=plugin)
    many.base_dir, many.config = workflow.base_dir, workflow.config
    told = many.result.outputs.environment
    assert len(told) == 2
    assert {environment["TOLD_BY"] for environment in told}.isdisjoint({str(os.getpid())}), "on a worker"
    (crash,) = (tmp_path / "logs").glob("crash-*-failing-*.txt")
    assert "a node that fails" in crash.read_text()
    workers = {int(environment["TOLD_BY"]) for environment in told}
    assert not any(psutil.pid_exists(pid) for pid in workers), "the cluster ends with the run"


@pytest.mark.long
def test_a_node_that_kills_its_worker_fails_alone(plugin: Any, tmp_path: Path) -> None:
    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    plain = pe.Node(Tell(), name="plain")
    workflow.add_nodes([pe.Node(Tell(die=True), name="dying"), plain])
    with pytest.raises(RuntimeError):
        workflow.run(plugin=plugin)
    plain.base_dir, plain.config = workflow.base_dir, workflow.config
    assert plain.result.outputs.environment
    (crash,) = (tmp_path / "logs").glob("crash-*.txt")
    assert "dying" in crash.name
    assert "KilledWorker" in crash.read_text()


def test_tasks_take_the_resources_that_workers_declare() -> None:
    from bids_xai.execution.dask_cluster import needs

    node = SimpleNamespace(n_procs=2, mem_gb=3.5, is_gpu_node=lambda: True)
    assert needs(node, ["memory_gb", "gpus"]) == {"memory_gb": 3.5, "gpus": 1.0}
    assert needs(SimpleNamespace(n_procs=2, mem_gb=3.5, is_gpu_node=lambda: False), ["gpus"]) == {}
