"""Peak memory of every node of the group level against what the scheduler is told of it.

    python tests/benchmarks/bench_node_memory.py [--voxels 20000 100000] [--subjects 10] [--low-mem]

Every node runs in a process of its own, on noise; a node of several parts counts by its largest.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd

os.environ["NIPYPE_NO_ET"] = "1"
_SAMPLES = 20
_GIGABYTE = 2**30


def main() -> None:
    """Print peak, estimate and their ratio for every node and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--precision", default="single")
    parser.add_argument("--low-mem", action="store_true")
    arguments = parser.parse_args()
    for voxels in arguments.voxels:
        peaks, told = measure(voxels, arguments)
        print(f"{arguments.subjects * _SAMPLES} samples of {voxels} voxels")
        for name, peak in peaks.items():
            print(
                f"  {name:16s} peak {peak:6.3f} GB  told {told[name]:6.3f} GB  ratio {told[name] / peak:.2f}"
            )


def measure(n_voxels: int, arguments: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Return peak and estimate in GB by node."""
    from bids_xai.cli.groups import group_settings
    from bids_xai.settings import resolve
    from bids_xai.workflows.base import init_group_wf
    from bids_xai.workflows.memory import declare_memory

    settings = resolve(
        {
            "decoding": {"n_updates": 50, "precision": arguments.precision},
            "inference": {
                "n_runs": 10,
                "n_permutations": arguments.permutations,
                "n_null": 10,
                "alpha": (0.01, 0.05),
            },
            "execution": {"low_mem": arguments.low_mem, "mem_gb": 64.0, "nprocs": 1},
        }
    )
    with tempfile.TemporaryDirectory() as name:
        samples, rows, mask = make_samples(Path(name), n_voxels, arguments.subjects, arguments.classes)
        memory = plan_of(settings, rows, n_voxels)
        workflow = init_group_wf(**group_settings(settings, memory))
        declare_memory(workflow, memory.size)
        workflow.base_dir = name
        workflow.inputs.inputnode.trait_set(samples=samples, rows=rows, masks=[mask] * len(samples))
        plugin = PeakPlugin()
        workflow.run(plugin=plugin)
    return plugin.peaks, plugin.told


def plan_of(settings: Any, rows: list[str], n_voxels: int) -> Any:
    """Return the memory of the nodes of a design."""
    from bids_xai.decoding.design import make_design
    from bids_xai.execution.memory import group_memory

    table = pd.concat(
        [pd.read_csv(path, sep="\t", dtype={"subject": str}, keep_default_na=False) for path in rows]
    )
    design, _ = make_design(table, classes=(), cv="subject", n_folds=5, seed=0, exchange_within=None)
    return group_memory(settings, design, n_voxels)


def make_samples(
    folder: Path, n_voxels: int, subjects: int, n_classes: int
) -> tuple[list[str], list[str], str]:
    """Write noise of every subject; return images, rows and the mask."""
    rng = np.random.default_rng(0)
    shape = (n_voxels // 100, 10, 10)
    mask = str(folder / "mask.nii")
    nb.save(nb.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), mask)
    images, tables = [], []
    for subject in range(subjects):
        classes = np.resize([f"class{number}" for number in range(n_classes)], _SAMPLES)
        rows = pd.DataFrame(
            {"subject": f"{subject:02d}", "session": "", "task": "x", "run": "1"}, range(_SAMPLES)
        )
        rows["event"] = np.arange(_SAMPLES)
        rows["onset"] = rows["event"] * 10.0
        rows["duration"], rows["first_volume"], rows["last_volume"] = 5.0, 0, 0
        rows["trial_type"] = rows["class"] = classes
        images.append(str(folder / f"{subject}.nii"))
        tables.append(str(folder / f"{subject}.tsv"))
        rows.to_csv(tables[-1], sep="\t", index=False, na_rep="n/a")
        data = rng.standard_normal((*shape, _SAMPLES), dtype=np.float32)
        nb.save(nb.Nifti1Image(data, np.eye(4)), images[-1])
    return images, tables, mask


class PeakPlugin:
    """Runs one node after the other, each in a child process whose peak it keeps."""

    def __init__(self) -> None:
        self.plugin_args: dict[str, Any] = {}
        self.peaks: dict[str, float] = {}
        self.told: dict[str, float] = {}

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:  # noqa: ARG002
        """Run the nodes of a graph (a plugin of nipype)."""
        import networkx as nx

        for node in nx.topological_sort(graph):
            sys.stdout.flush()
            child = os.fork()
            if not child:
                status = 1
                try:
                    node.run(updatehash=False)
                    status = 0
                except BaseException:  # noqa: BLE001
                    traceback.print_exc()
                finally:
                    os._exit(status)
            _, status, usage = os.wait4(child, 0)
            if status:
                raise SystemExit(f"{node.name} failed")
            self.peaks[node.name] = usage.ru_maxrss * 1024 / _GIGABYTE
            self.told[node.name] = node.mem_gb


if __name__ == "__main__":
    main()
