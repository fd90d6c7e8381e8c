"""What ``--dry-run`` prints: what would be done, what it can show, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.attribution.runs import run_repetition
from bids_xai.bids.anatomical import anatomical_classes, anatomical_rows
from bids_xai.bids.engines import ALIGNED, choose_engine
from bids_xai.bids.events import parse_classes, resolve_classes, sample_rows
from bids_xai.bids.query import SubjectRecord
from bids_xai.bids.results import SampleSet
from bids_xai.decoding.descent import trainer
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.softmax import SgdParameters, gram_matrix
from bids_xai.images import masking
from bids_xai.images.grids import voxel_sizes
from bids_xai.inference.permutation import natural_scheme, permute_labels, smallest_p
from bids_xai.inference.thresholds import rank
from bids_xai.reports.results import read_table
from bids_xai.settings import Settings

_CALIBRATION_VOXELS = 2048
_CALIBRATION_UPDATES = 300
_GIGABYTE = 1e9
_BRAIN_MM3 = 1.83e6  # of the MNI152 template
_MOST_LISTED = 40


def plan_group(
    settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet]
) -> tuple[Design, pd.DataFrame]:
    """Return the design of the group level and the rows it is of, without computing anything.

    Parameters
    ----------
    settings
        All settings.
    subjects
        What the participant level would read; empty if it would not run.
    found
        What the group level would read where the participant level would not run.

    Raises
    ------
    InputError
        The samples cannot be split as asked.
    """
    if subjects:
        names, rows = _expected_rows(settings, subjects)
    else:
        names = class_names(settings, found)
        rows = pd.concat([read_table(item.rows) for item in found], ignore_index=True)
        rows = rows.fillna({"session": "", "task": "", "run": ""})
    decoding = settings.decoding
    design, kept = make_design(
        rows, classes=names, cv=decoding.cv, n_folds=decoding.n_folds, seed=decoding.random_seed
    )
    # Refuses what cannot be exchanged.
    permute_labels(
        design.labels,
        _scheme(settings, design),
        design.subjects,
        design.runs,
        design.events,
        np.random.default_rng(0),
        design.left_out,
    )
    return design, rows.iloc[kept]


def class_names(settings: Settings, found: Sequence[SampleSet]) -> tuple[str, ...]:
    """Return the classes in the order asked for now, else in that of the participant level."""
    written = tuple(found[0].metadata.get("Classes") or ())
    asked = settings.samples.classes
    return tuple(parse_classes(asked, written)) if asked else written


def print_plan(
    settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet], n_procs: int
) -> None:
    """Print what a call would do; parameters as in :func:`plan_group`, and the processes at once."""
    design, rows = plan_group(settings, subjects, found)
    if subjects:
        _print_preprocessing(settings)
        n_voxels = _voxels(subjects[0], settings)
    else:
        n_voxels = int(np.asarray(nb.load(found[0].mask).dataobj).sum())
    inference = settings.inference
    _print_samples(rows, design)
    repetitions = inference.n_runs + inference.n_permutations + inference.n_null
    print(f"Samples: {len(rows)} of about {n_voxels} voxels, {len(design.classes)} classes")
    print(f"Cross-validation: {settings.decoding.cv}, {len(design.folds)} folds")
    print(
        f"Trainings: {repetitions * len(design.folds)} ({inference.n_runs} on the true labels, "
        f"{inference.n_permutations} permuted, {inference.n_null} of the second set; times "
        f"{len(design.folds)} folds)"
    )
    smallest = smallest_p(
        inference.n_permutations,
        design.labels,
        _scheme(settings, design),
        design.subjects,
        design.runs,
        design.events,
        design.left_out,
    )
    print(f"Labels are exchanged by: {_scheme(settings, design)}")
    print(f"Smallest p that this design can reach: {smallest:.3g}")
    for alpha in inference.alpha:
        if not rank(alpha, inference.n_permutations):
            print(f"  alpha {alpha:g} cannot be reached: it takes {round(1 / alpha) - 1} permutations")
        elif smallest > alpha:
            print(f"  alpha {alpha:g} cannot be reached: the labels of this design have too few permutations")
    print(f"Memory of one process: about {_memory(len(rows), n_voxels, design, settings) / _GIGABYTE:.1f} GB")
    seconds = _seconds(len(rows), n_voxels, design, settings) * repetitions / n_procs
    print(f"Time of the group level: about {_rounded(seconds)} with {n_procs} processes")


def _scheme(settings: Settings, design: Design) -> str:
    return settings.inference.permute or natural_scheme(settings.decoding.cv, design.labels, design.subjects)


def _print_preprocessing(settings: Settings) -> None:
    images = settings.preprocessing
    parts = [f"{images.modality} by {images.preproc}"]
    if images.preproc not in ALIGNED:
        parts.append(f"{images.registration} registration to {images.space} ({images.registration_profile})")
    elif images.space:
        parts.append(f"space {images.space}")
    if images.resolution is not None:
        parts.append(f"voxels of {images.resolution:g} mm")
    print(f"Preprocessing: {', '.join(parts)}\n")


def _print_samples(rows: pd.DataFrame, design: Design) -> None:
    table = rows.groupby(["subject", "class"]).size().unstack(fill_value=0)[list(design.classes)]
    if len(table) <= _MOST_LISTED:
        print("Samples per subject and class")
    else:
        print("Subjects and samples per class")
        table = pd.DataFrame({"subjects": (table > 0).sum(), "samples": table.sum()})
    print(table.to_string(), "\n")


def _expected_rows(
    settings: Settings, subjects: Sequence[SubjectRecord]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Return the classes and the rows that the participant level would write."""
    samples = settings.samples
    if settings.preprocessing.modality != "bold":
        images = [image for subject in subjects for image in subject.anatomical]
        classes = anatomical_classes(images, samples.target, samples.classes)
        return tuple(classes), anatomical_rows(images, classes)
    events = [run.events for subject in subjects for run in subject.runs]
    classes = resolve_classes(events, samples.target, samples.classes)
    tables = [_rows_of_runs(subject, settings, classes) for subject in subjects]
    return tuple(classes), pd.concat(tables, ignore_index=True)


def _rows_of_runs(
    subject: SubjectRecord, settings: Settings, classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    samples = settings.samples
    window = None if samples.window is None else (samples.window[0], samples.window[1])
    tables = [
        sample_rows(
            run,
            target=samples.target,
            classes=classes,
            sample=samples.sample,
            window=window,
            anchor=samples.window_anchor,
            shift=samples.hrf_shift,
            merge=samples.merge_events,
        )[0]
        for run in subject.runs
    ]
    return pd.concat(tables, ignore_index=True)


def _voxels(subject: SubjectRecord, settings: Settings) -> int:
    """Return the voxels of the analysis: counted where images and mask are on its grid, else estimated."""
    images = settings.preprocessing
    engine = choose_engine(images.preproc, settings.selection.derivatives, images.modality)
    functional = images.modality == "bold"
    if functional and engine in ALIGNED:
        return _voxels_of_run(subject, settings)
    path = subject.runs[0].mask if functional else subject.anatomical[0].mask
    brain_mm3, voxel_mm3 = _BRAIN_MM3, 1.0
    if path is not None:
        mask = masking.load_mask(path)
        brain_mm3 = float(np.asarray(mask.dataobj).sum()) * _voxel_mm3(mask)
    if images.resolution is not None:
        voxel_mm3 = images.resolution**3
    elif functional:
        voxel_mm3 = _voxel_mm3(nb.load(subject.runs[0].bold))
    elif engine == "derivatives":
        voxel_mm3 = _voxel_mm3(nb.load(subject.anatomical[0].image))
    whole_grid = np.inf if images.shape is None else float(np.prod(images.shape))
    return round(min(brain_mm3 / voxel_mm3, whole_grid))


def _voxel_mm3(img: nb.Nifti1Image) -> float:
    return float(np.prod(voxel_sizes(img)))


def _voxels_of_run(subject: SubjectRecord, settings: Settings) -> int:
    run = subject.runs[0]
    mask = masking.compute_mask([nb.load(run.bold)]) if run.mask is None else masking.load_mask(run.mask)
    if settings.preprocessing.resolution is not None:
        mask = masking.downsample_mask(mask, settings.preprocessing.resolution)
    return int(np.asarray(mask.dataobj).sum())


def _memory(n_samples: int, n_voxels: int, design: Design, settings: Settings) -> float:
    n_maps = len(settings.inference.importance) * len(design.classes)
    weights = len(design.folds) * len(design.classes) * n_voxels
    kept = (settings.execution.chunk_size * 2 + len(settings.inference.alpha) * 2 + 3) * n_maps * n_voxels
    return 4.0 * (n_samples * (n_samples + n_voxels) + 3 * weights + kept) + 3e8


def _seconds(n_samples: int, n_voxels: int, design: Design, settings: Settings) -> float:
    """Time one repetition: the first fold on a part of the voxels, with few and with no updates."""
    rng = np.random.default_rng(0)
    width = min(n_voxels, _CALIBRATION_VOXELS)
    X = rng.standard_normal((n_samples, width), dtype=np.float32)
    K = gram_matrix(X)

    def run(n_updates: int) -> float:
        began = time.perf_counter()
        run_repetition(
            X,
            K,
            design.labels,
            design.folds[:1],
            len(design.classes),
            seed=np.random.SeedSequence(0),
            parameters=SgdParameters(batch_size=settings.decoding.batch_size, n_updates=n_updates),
            methods=settings.inference.importance,
            importance_samples=settings.inference.importance_samples,
            trainer=trainer("cpu"),
        )
        return time.perf_counter() - began

    run(1)
    fixed = run(1)
    update = max(run(_CALIBRATION_UPDATES + 1) - fixed, 0.0) / _CALIBRATION_UPDATES
    fold = update * settings.decoding.n_updates + fixed * n_voxels / width
    return fold * len(design.folds)


def _rounded(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
