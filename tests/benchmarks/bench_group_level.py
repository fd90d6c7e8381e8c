"""Time and memory of the whole group level, extrapolated to the published number of repetitions.

    python tests/benchmarks/bench_group_level.py [--repetitions 20 60] [--nprocs 2]

Subjects' samples of noise with a weak pattern per class go through the workflow that the command line runs,
from images to the report, with as many trainings on the true labels, on permuted labels and of the second set
as ``--repetitions`` says, twice. What a repetition takes is the difference; the rest is taken once. Memory is
that of all processes together, shared pages counted once.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd

_PUBLISHED = 1000
_SHAPE = (46, 55, 46)


def main() -> None:
    """Print time and memory of two sizes, and what they come to at the published one."""
    options = parse()
    seconds = []
    for n in options.repetitions:
        with tempfile.TemporaryDirectory() as name:
            wall, peak, disk = run(options, n, Path(name))
        seconds.append(wall)
        print(
            f"{n} + {n} + {n} repetitions: {wall:.0f} s, {peak / 1e9:.2f} GB, work folder {disk / 1e6:.0f} MB"
        )
    few, many = options.repetitions
    each = (seconds[1] - seconds[0]) / (many - few)
    total = seconds[1] + (options.extrapolate - many) * each
    models = 3 * options.subjects
    print(f"{models} models a step of 1 + 1 + 1: {each:.2f} s, {1e3 * each / models:.1f} ms a model")
    print(
        f"{options.extrapolate} of each, extrapolated: {total / 60:.0f} min with {options.nprocs} processes"
    )


def parse() -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", type=int, default=21)
    parser.add_argument("--samples", type=int, default=100, help="of one subject")
    parser.add_argument("--voxels", type=int, default=28586)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, nargs=2, default=(20, 60))
    parser.add_argument("--extrapolate", type=int, default=_PUBLISHED)
    parser.add_argument("--nprocs", type=int, default=2)
    return parser.parse_args()


def run(options: argparse.Namespace, n: int, folder: Path) -> tuple[float, float, int]:
    """Return seconds, peak memory in bytes and size of the work folder."""
    from bids_xai.workflows.base import init_group_wf

    samples, rows, mask = write_samples(options, folder / "samples")
    workflow = init_group_wf(
        output_dir=folder / "out",
        classes=[f"class{c}" for c in range(options.classes)],
        training={"n_updates": options.updates},
        n_runs=n,
        n_permutations=n,
        n_null=n,
        permute="all",
        importance_samples="all",
    )
    workflow.base_dir = folder / "work"
    workflow.inputs.inputnode.trait_set(samples=samples, rows=rows, masks=[mask] * len(samples))
    stop, peak = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(stop, peak))
    watcher.start()
    began = time.perf_counter()
    workflow.run(
        plugin="MultiProc",
        plugin_args={"n_procs": options.nprocs, "mp_context": "forkserver", "raise_insufficient": False},
    )
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    size = sum(path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file())
    return seconds, peak[0], size


def write_samples(options: argparse.Namespace, folder: Path) -> tuple[list[str], list[str], str]:
    """Write one image and one table a subject, and the mask; return the files."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    inside = np.zeros(np.prod(_SHAPE), dtype=np.uint8)
    inside[np.sort(rng.permutation(inside.size)[: options.voxels])] = 1
    mask = folder / "mask.nii"
    nb.save(nb.Nifti1Image(inside.reshape(_SHAPE), np.diag([4.0, 4, 4, 1])), mask)
    patterns = 0.03 * rng.standard_normal((options.classes, options.voxels), dtype=np.float32)
    images, tables = [], []
    for number in range(options.subjects):
        codes = np.arange(options.samples) % options.classes
        values = rng.standard_normal((options.samples, options.voxels), dtype=np.float32) + patterns[codes]
        data = np.zeros((inside.size, options.samples), dtype=np.float32)
        data[inside == 1] = values.T
        images.append(str(folder / f"{number}.nii"))
        nb.save(nb.Nifti1Image(data.reshape(*_SHAPE, -1), np.diag([4.0, 4, 4, 1])), images[-1])
        rows = pd.DataFrame({"subject": f"{number:02d}", "session": "", "task": "x", "run": "1"}, index=codes)
        rows["event"] = np.arange(options.samples)
        rows["onset"] = rows["event"] * 10.0
        rows["duration"], rows["first_volume"], rows["last_volume"] = 5.0, 0, 0
        rows["trial_type"] = rows["class"] = [f"class{code}" for code in codes]
        tables.append(str(folder / f"{number}.tsv"))
        rows.to_csv(tables[-1], sep="\t", index=False)
    return images, tables, str(mask)


def watch(stop: threading.Event, peak: list[int]) -> None:
    """Keep the largest memory of this process and its descendants."""
    import psutil

    while not stop.wait(0.5):
        total = 0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


if __name__ == "__main__":
    main()
