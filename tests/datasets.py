"""Small BIDS datasets for tests, written with nibabel and pandas alone."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nb
import numpy as np

SHAPE = (7, 7, 3)
TR = 2.0
N_VOLUMES = 50
CLASSES = ("face", "house")
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
EVENT_S = 4.0


def make_dataset(root: Path, *, n_subjects: int = 3, n_runs: int = 2, seed: int = 0) -> Path:
    """Write a dataset in which the first voxels respond to faces and the next ones to houses."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    (root / "README").write_text("A small dataset for tests.\n")
    description = {"Name": "tiny", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "task-look_bold.json").write_text(json.dumps({"TaskName": "look", "RepetitionTime": TR}))
    labels = [f"{number + 1:02d}" for number in range(n_subjects)]
    (root / "participants.tsv").write_text("participant_id\n" + "".join(f"sub-{name}\n" for name in labels))
    for label in labels:
        for run in range(1, n_runs + 1):
            stem = root / f"sub-{label}" / "func" / f"sub-{label}_task-look_run-{run}"
            stem.parent.mkdir(parents=True, exist_ok=True)
            write_run(stem, rng)
    return root


def write_run(stem: Path, rng: np.random.Generator) -> None:
    """Write one run: image and events."""
    data = 100 + rng.standard_normal((*SHAPE, N_VOLUMES))
    onsets = np.arange(6, N_VOLUMES * TR - 14, 8.0)
    classes = rng.permutation(np.resize(CLASSES, len(onsets)))
    lines = ["onset\tduration\ttrial_type"]
    for onset, name in zip(onsets, classes, strict=True):
        first = int((onset + 5) / TR) + 1
        column = CLASSES.index(str(name))
        data[column, :, :, first : first + int(EVENT_S / TR)] += 2.0
        lines.append(f"{onset}\t{EVENT_S}\t{name}")
    image = nb.Nifti1Image(data.astype(np.float32), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((4.0, 4.0, 4.0, TR))
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    nb.save(image, f"{stem}_bold.nii.gz")
    Path(f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")


def write_mask(path: Path) -> Path:
    """Write a mask of the whole grid."""
    nb.save(nb.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), path)
    return path


QUICK = (
    "--n-updates", "200", "--n-runs", "4", "--n-permutations", "19", "--n-null", "4", "--alpha", "0.05",
    "--chunk-size", "5", "--nprocs", "2",
)  # fmt: skip
