"""Peak memory of the group level against the number of runs and permutations.

    python tests/benchmarks/bench_group_memory.py [--voxels 20000] [--runs 20 80]

Each size runs in a process of its own, one node after the other; the last line is the ratio of the peaks.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd


def main() -> None:
    """Print the peak of every size and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=20_000)
    parser.add_argument("--runs", type=int, nargs=2, default=(20, 80))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        run(arguments.voxels, arguments.one)
        return
    peaks = []
    for runs in arguments.runs:
        command = [sys.executable, __file__, "--voxels", str(arguments.voxels), "--one", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
        print(f"{runs} runs, {runs} permutations, {runs} of the second set: {peaks[-1]:.0f} MB")
    print(f"ratio {peaks[1] / peaks[0]:.2f} for {arguments.runs[1] / arguments.runs[0]:.0f} times the runs")


def run(n_voxels: int, runs: int) -> None:
    """Run the group level on noise and print the peak of this process in MB."""
    os.environ["NIPYPE_NO_ET"] = "1"
    from bids_xai.workflows.base import init_group_wf

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = pd.DataFrame(
            {"subject": np.repeat([f"{i:02d}" for i in range(4)], 20), "session": "", "task": "x"}
        )
        rows["run"] = "1"
        rows["event"] = np.tile(np.arange(20), 4)
        rows["onset"] = rows["event"] * 10.0
        rows["duration"], rows["first_volume"], rows["last_volume"] = 5.0, 0, 0
        rows["trial_type"] = rows["class"] = np.tile(["a", "b"], 40)
        rows.to_csv(folder / "rows.tsv", sep="\t", index=False)
        shape = (n_voxels // 100, 10, 10)
        nb.save(
            nb.Nifti1Image(rng.standard_normal((*shape, 80)).astype(np.float32), np.eye(4)), folder / "x.nii"
        )
        nb.save(nb.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), folder / "mask.nii")
        workflow = init_group_wf(
            training={"n_updates": 10}, n_runs=runs, n_permutations=runs, n_null=runs, alpha=[0.01, 0.05]
        )
        workflow.base_dir = name
        workflow.inputs.inputnode.samples = [str(folder / "x.nii")]
        workflow.inputs.inputnode.rows = [str(folder / "rows.tsv")]
        workflow.inputs.inputnode.masks = [str(folder / "mask.nii")]
        workflow.run(plugin="Linear")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
