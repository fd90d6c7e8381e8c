"""A plugin for nipype that runs nodes on the workers of a Dask cluster."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from nipype.pipeline.plugins.base import DistributedPluginBase


class DaskPlugin(DistributedPluginBase):
    """Runs every node as a task of a Dask cluster.

    Parameters
    ----------
    plugin_args
        ``address`` of a scheduler or its ``scheduler_file``; without them a cluster of this machine's
        processes is started, with ``n_workers``. ``resources`` lists what workers declare and tasks take:
        ``processors``, ``memory_gb``, ``gpus`` (``dask worker --resources "memory_gb=32"``). ``timeout``:
        seconds to reach the scheduler.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self._client: Any = None
        self._tasks: dict[int, Any] = {}
        self._n_tasks = 0

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; whatever ends it, no task of it stays behind."""
        self._client = _connect(self.plugin_args)
        try:
            super().run(graph, config, updatehash=updatehash)
        finally:
            self.cancel()
            # None where workers are others', who may have more to do.
            cluster = self._client.cluster
            self._client.close()
            if cluster is not None:
                cluster.close()

    def cancel(self) -> list[str]:
        """Cancel the tasks that have not ended, and return their names."""
        tasks, self._tasks = list(self._tasks.values()), {}
        if tasks:
            self._client.cancel(tasks, force=True)
        return [str(task.key) for task in tasks]

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._n_tasks += 1
        self._tasks[self._n_tasks] = self._client.submit(
            _run, node, updatehash, pure=False, resources=needs(node, self.plugin_args.get("resources", ()))
        )
        return self._n_tasks

    def _get_result(self, taskid: int) -> Any:
        task = self._tasks[taskid]
        if not task.done():
            return None
        if task.status == "finished":
            return task.result()
        # The worker was killed, or lost: what a node itself raises is in its result.
        lines = [f"Task {task.key} ended as {task.status}.\n"]
        if task.status == "error":
            lines += traceback.format_exception(task.exception())
        return {"result": None, "traceback": lines}

    def _clear_task(self, taskid: int) -> None:
        self._tasks.pop(taskid, None)


def needs(node: Any, names: Any) -> dict[str, float]:
    """Return what a node takes of the resources that the workers declare."""
    taken = {"processors": node.n_procs, "memory_gb": node.mem_gb, "gpus": int(node.is_gpu_node())}
    return {name: float(taken[name]) for name in names if taken[name]}


def _connect(arguments: Mapping[str, Any]) -> Any:
    import dask
    from distributed import Client, LocalCluster

    timeout = arguments.get("timeout", 60)
    if "scheduler_file" in arguments:
        return Client(scheduler_file=arguments["scheduler_file"], timeout=timeout)
    if "address" in arguments:
        return Client(arguments["address"], timeout=timeout)
    # One task at a time on a worker, so that it is known which one killed it; Dask itself would run that one
    # three times more.
    with dask.config.set(
        {"distributed.scheduler.allowed-failures": 1, "distributed.scheduler.worker-saturation": 1.0}
    ):
        cluster = LocalCluster(
            n_workers=arguments.get("n_workers"), threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
    return Client(cluster, timeout=timeout)


def _run(node: Any, updatehash: bool) -> dict[str, Any]:
    """Run a node on a worker, with the configuration of the process that submitted it."""
    from nipype import config
    from nipype.pipeline.plugins.multiproc import run_node

    config.update_config(node.config)
    return run_node(node, updatehash, taskid=0)
