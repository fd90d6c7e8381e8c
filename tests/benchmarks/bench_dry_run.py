"""What ``--dry-run`` estimates against what the group level then takes.

    python -m tests.benchmarks.bench_dry_run [--nprocs 2]

Run in the root of the repository. Designs in which the report, the maps or the updates take most of the
time; the last column should lie between 0.5 and 2.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_xai.cli.run import main as bids_xai
from tests import datasets

_UNITS = {"s": 1, "min": 60, "h": 3600}
# Name, people, voxels along the axes, and options.
DESIGNS = (
    ("report", 3, (7, 7, 3), "--n-updates 200 --n-runs 4 --n-permutations 19 --n-null 4 --alpha .05"),
    ("updates", 4, (7, 7, 3), "--n-updates 20000 --n-runs 60 --n-permutations 200 --n-null 60"),
    ("maps", 6, (40, 40, 20), "--n-updates 1000 --n-runs 60 --n-permutations 100 --n-null 60 --alpha .05 .1"),
)


def main() -> None:
    """Print a line per design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nprocs", type=int, default=2)
    parser.add_argument("--designs", nargs="+", default=[name for name, *_ in DESIGNS])
    options = parser.parse_args()
    print("design      estimate s    real s    estimate / real")
    for name, n_subjects, shape, words in DESIGNS:
        if name in options.designs:
            with tempfile.TemporaryDirectory() as folder:
                command = [*words.split(), "--nprocs", str(options.nprocs)]
                estimate, real = compare(Path(folder), n_subjects, shape, command)
            print(f"{name:10} {estimate:11.0f} {real:9.0f} {estimate / real:18.2f}", flush=True)


def compare(
    folder: Path, n_subjects: int, shape: tuple[int, int, int], words: list[str]
) -> tuple[float, float]:
    """Return the estimate and the time of the group level, in seconds."""
    datasets.SHAPE = shape
    bids = datasets.make_dataset(folder / "bids", n_subjects=n_subjects)
    mask = folder / "mask.nii.gz"
    nb.save(nb.Nifti1Image(np.ones(shape, np.uint8), datasets.AFFINE), mask)
    common = [str(bids), str(folder / "out")]
    work = ["--work-dir", str(folder / "work")]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()) as text:
        bids_xai([*common, "participant", "--preproc", "none", "--mask", str(mask), *work, *words])
        bids_xai([*common, "group", "--dry-run", *work, *words])
    found = re.search(r"Time of the group level: about ([\d.]+) (\w+)", text.getvalue())
    assert found, text.getvalue()
    began = time.perf_counter()
    command = [sys.executable, "-m", "bids_xai.cli.run", *common, "group", *work, *words]
    subprocess.run(command, check=True, capture_output=True)
    return float(found[1]) * _UNITS[found[2]], time.perf_counter() - began


if __name__ == "__main__":
    main()
