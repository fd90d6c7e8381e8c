"""Time of the plan by the number of participants: what every run does before it computes.

    python -m tests.benchmarks.bench_plan [--subjects 200 2000] [--runs 2] [--modality bold T1w] [--profile F]

Run in the root of the repository. The dataset has tiny images (links to one file of 7 x 7 x 3 voxels and 50
volumes, or one head), so that what is timed is what grows with the number of files: the index, the tables,
the checks and the rows. The columns are the query and the design of the group level, as ``cli/stages.py``
goes through them; what the dry run then tries out to estimate the time of training is not among them.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from bids_xai.cli.parser import parse
from bids_xai.cli.participants import query_dataset
from bids_xai.cli.plan import plan_group
from bids_xai.cli.target import complete
from tests import datasets


def main() -> None:
    """Print a line per modality and number of participants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--modality", nargs="+", default=["bold"], choices=("bold", "T1w"))
    parser.add_argument("--profile", help="file for the profile of the last line")
    options = parser.parse_args()
    print("modality  subjects  query s  plan s  together s  of processor time s  peak memory MB")
    for modality in options.modality:
        for n_subjects in options.subjects:
            with tempfile.TemporaryDirectory() as folder:
                words = write(Path(folder), modality, n_subjects, options.runs)
                profile = cProfile.Profile() if options.profile else None
                with profile or contextlib.nullcontext():
                    query_s, plan_s, processor_s = plan(words)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{modality:8}  {n_subjects:8d}  {query_s:7.1f}  {plan_s:6.1f}  {query_s + plan_s:10.1f}"
                f"  {processor_s:19.1f}  {peak:14.0f}",
                flush=True,
            )
            if profile is not None:
                profile.dump_stats(options.profile)


def write(folder: Path, modality: str, n_subjects: int, n_runs: int) -> list[str]:
    """Write a dataset of links and return the words of its dry run."""
    bids = folder / "bids"
    common = [str(bids), str(folder / "out"), "participant", "group", "--dry-run", "--skip-bids-validation"]
    common += ["--preproc", "none", "--work-dir", str(folder / "work")]
    if modality == "T1w":
        first = datasets.make_anatomical_dataset(bids, n_subjects=1) / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
        rows = ["participant_id\tgroup"]
        for number in range(n_subjects):
            label = f"sub-s{number:04d}"
            (bids / label / "anat").mkdir(parents=True)
            os.link(first, bids / label / "anat" / f"{label}_T1w.nii.gz")
            rows.append(f"{label}\t{datasets.GROUPS[number % 2]}")
        rows.append("sub-01\tn/a")
        (bids / "participants.tsv").write_text("\n".join(rows) + "\n")
        return [*common, "--modality", "T1w", "--target", "participants:group", "--resolution", "8"]
    datasets.make_dataset(bids, n_subjects=1, n_runs=1)
    stem = bids / "sub-01" / "func" / "sub-01_task-look_run-1"
    rng = np.random.default_rng(0)
    for number in range(n_subjects):
        label = f"sub-s{number:04d}"
        (bids / label / "func").mkdir(parents=True)
        for run in range(1, n_runs + 1):
            name = bids / label / "func" / f"{label}_task-look_run-{run}"
            os.link(f"{stem}_bold.nii.gz", f"{name}_bold.nii.gz")
            Path(f"{name}_events.tsv").write_text(events(rng))
    mask = datasets.write_mask(folder / "mask.nii.gz")
    return [*common, "--mask", str(mask)]


def events(rng: np.random.Generator) -> str:
    """Return an events file of the run that the images are of."""
    onsets = np.arange(6, datasets.N_VOLUMES * datasets.TR - 14, 8.0)
    levels = rng.permutation(np.resize(datasets.CLASSES, len(onsets)))
    rows = [f"{onset}\t{datasets.EVENT_S}\t{level}" for onset, level in zip(onsets, levels, strict=True)]
    return "\n".join(["onset\tduration\ttrial_type", *rows]) + "\n"


def plan(words: list[str]) -> tuple[float, float, float]:
    """Return the seconds that the query and the plan of a dry run take, and both of the processor."""
    request = parse(words)
    began, used = time.perf_counter(), time.process_time()
    settings = complete(request.settings)
    subjects = query_dataset(request.bids_dir, settings)
    found = time.perf_counter()
    plan_group(settings, subjects, [], request.bids_dir)
    return found - began, time.perf_counter() - found, time.process_time() - used


if __name__ == "__main__":
    main()
