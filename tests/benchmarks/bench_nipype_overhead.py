"""What nipype adds to a node: seconds per node of nodes that do nothing, run as the command line runs them.

python tests/benchmarks/bench_nipype_overhead.py [--nodes 60] [--nprocs 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bids_xai.execution.plugins import configure_nipype, open_plugin, quiet_collector
from bids_xai.settings import resolve


def main() -> None:
    """Print the overhead of independent and of chained nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--nprocs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        execution = resolve({"execution": {"nprocs": arguments.nprocs}}).execution
        configure_nipype(execution, Path(folder), Path(folder), 0)
        from nipype.interfaces import utility as niu
        from nipype.pipeline import engine as pe

        from bids_xai.workflows import base  # noqa: F401  (what the command line has loaded by then)

        for shape in ("independent", "chained"):
            workflow = pe.Workflow(shape, base_dir=folder)
            nodes = [
                pe.Node(niu.Function(["value"], ["value"], function=_same), name=f"node{number}")
                for number in range(arguments.nodes)
            ]
            nodes[0].inputs.value = 1
            workflow.add_nodes(nodes)
            for number, node in enumerate(nodes[1:], start=1):
                if shape == "chained":
                    workflow.connect(nodes[number - 1], "value", node, "value")
                else:
                    node.inputs.value = number
            began = time.perf_counter()
            with quiet_collector():
                workflow.run(plugin=open_plugin(execution, _ignore))
            elapsed = time.perf_counter() - began
            print(
                f"{shape}: {elapsed / arguments.nodes:.3f} s per node ({arguments.nodes} nodes, with start)"
            )


def _same(value):  # type: ignore[no-untyped-def]
    return value


def _ignore(node: object, status: str) -> None:
    """Take nipype's status and do nothing."""


if __name__ == "__main__":
    main()
