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


def make_fmriprep(bids: Path, root: Path, *, space: str = "MNI152NLin2009cAsym") -> Path:
    """Write what fMRIPrep would leave of a dataset's runs: the runs as they are, masks and confounds.

    The first volume of ``framewise_displacement`` is n/a, volume 5 is an outlier (``motion_outlier00``).
    """
    root.mkdir(parents=True)
    description: dict[str, object] = {"Name": "fMRIPrep", "BIDSVersion": "1.4.0", "DatasetType": "derivative"}
    description["GeneratedBy"] = [{"Name": "fMRIPrep"}]
    (root / "dataset_description.json").write_text(json.dumps(description))
    rng = np.random.default_rng(3)
    for path in sorted(bids.glob("sub-*/**/*_bold.nii.gz")):
        folder = root / path.parent.relative_to(bids)
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / path.name.removesuffix("_bold.nii.gz")
        Path(f"{stem}_space-{space}_desc-preproc_bold.nii.gz").write_bytes(path.read_bytes())
        Path(f"{stem}_space-{space}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
        write_mask(Path(f"{stem}_space-{space}_desc-brain_mask.nii.gz"))
        rows = ["trans_x\tframewise_displacement\tmotion_outlier00"]
        for volume in range(N_VOLUMES):
            moved = "n/a" if volume == 0 else f"{abs(rng.normal()):.4f}"
            rows.append(f"{rng.normal():.4f}\t{moved}\t{float(volume == 5)}")
        Path(f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
    return root


def write_mask(path: Path) -> Path:
    """Write a mask of the whole grid."""
    nb.save(nb.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), path)
    return path


ANAT_SHAPE = (20, 22, 18)
GROUPS = ("patient", "control")
STATES = ("early", "late")


def make_anatomical_dataset(
    root: Path, *, n_subjects: int = 6, sessions: tuple[str, ...] = ("",), flair: bool = False, seed: int = 0
) -> Path:
    """Write T1w (and FLAIR) images of heads in which a part of the patients' brain is darker.

    participants.tsv has age, sex and group (patient and control in turn), sessions.tsv the state of every
    session (early, late in turn), scans.tsv the quality of every image (good, poor in turn).
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    (root / "README").write_text("A small anatomical dataset for tests.\n")
    description = {"Name": "heads", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    participants = ["participant_id\tage\tsex\tgroup"]
    for number in range(n_subjects):
        subject, group = f"sub-{number + 1:02d}", GROUPS[number % 2]
        participants.append(f"{subject}\t{60 + number}\t{'MF'[number % 2]}\t{group}")
        visits = ["session_id\tstate"]
        for index, session in enumerate(sessions):
            stem = f"{subject}_ses-{session}" if session else subject
            folder = root / subject / (f"ses-{session}" if session else "")
            scans = ["filename\tquality"]
            for kind, suffix in enumerate(("T1w", "FLAIR") if flair else ("T1w",)):
                path = folder / "anat" / f"{stem}_{suffix}.nii.gz"
                write_head(path, rng, darker=group == "patient")
                scans.append(f"anat/{path.name}\t{('good', 'poor')[(number + kind) % 2]}")
            (folder / f"{stem}_scans.tsv").write_text("\n".join(scans) + "\n")
            visits.append(f"ses-{session}\t{STATES[index % 2]}")
        if sessions != ("",):
            (root / subject / f"{subject}_sessions.tsv").write_text("\n".join(visits) + "\n")
    (root / "participants.tsv").write_text("\n".join(participants) + "\n")
    return root


def write_head(path: Path, rng: np.random.Generator, *, darker: bool = False) -> Path:
    """Write a head of 8 mm voxels: an ellipsoid with noise, of which a cube may be darker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in ANAT_SHAPE], indexing="ij")
    head = sum(axis**2 for axis in axes) < 0.8
    data = np.where(head, 800 + 20 * rng.standard_normal(ANAT_SHAPE), 5 * rng.random(ANAT_SHAPE))
    if darker:
        data[5:9, 8:12, 7:11] -= 200
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -4.0 * (np.array(ANAT_SHAPE) - 1)
    image = nb.Nifti1Image(data.astype(np.int16), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nb.save(image, path)
    return path


QUICK = (
    "--preproc", "none",
    "--n-updates", "200", "--n-runs", "4", "--n-permutations", "19", "--n-null", "4", "--alpha", "0.05",
    "--chunk-size", "5", "--nprocs", "2",
)  # fmt: skip
