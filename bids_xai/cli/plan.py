"""What ``--dry-run`` prints: what would be done, what it can show, and how long it takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.atlases.spaces import space_note
from bids_xai.bids.anatomical import anatomical_classes, anatomical_rows
from bids_xai.bids.engines import ALIGNED, choose_engine
from bids_xai.bids.events import parse_classes, resolve_classes, rows_frame, run_samples
from bids_xai.bids.exchange import parse_exchange_within, with_blocks
from bids_xai.bids.names import check_file_names
from bids_xai.bids.query import SubjectRecord
from bids_xai.bids.results import SampleSet, written_rows
from bids_xai.cli.estimate import Size, estimate_seconds, trained_falls
from bids_xai.cli.target import grid_name, needs_template
from bids_xai.decoding.convergence import convergence_warning
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.softmax import check_decay
from bids_xai.execution.memory import check_group_memory, group_memory, largest
from bids_xai.execution.resources import Resources
from bids_xai.images import masking
from bids_xai.images.grids import voxel_sizes
from bids_xai.inference.accuracy import FITTED
from bids_xai.inference.design_checks import design_warnings, label_change
from bids_xai.inference.null import kept_values
from bids_xai.inference.permutation import natural_scheme, permute_design, smallest_p
from bids_xai.inference.tail import check_exceedances
from bids_xai.inference.thresholds import rank
from bids_xai.settings import Settings

LOGGER = logging.getLogger("bids_xai.bids")
# nipype's own files.
_NODE_BYTES, _OTHER_NODES = 40_000, 20
_BRAIN_MM3 = 1.83e6  # of the MNI152 template
_MOST_LISTED = 40


def plan_group(
    settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet], bids_dir: Path
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
    bids_dir
        The dataset.

    Raises
    ------
    InputError
        The samples cannot be split as asked.
    """
    if settings.inference.exchange_within is not None:
        parse_exchange_within(settings.inference.exchange_within, settings.preprocessing.modality)
    if subjects:
        names, rows = expected_rows(settings, subjects, bids_dir)
    else:
        names = class_names(settings, found)
        rows = written_rows(found, settings.inference.exchange_within)
    decoding, inference = settings.decoding, settings.inference
    design, kept = make_design(
        rows,
        classes=with_samples(settings, names, rows),
        cv=decoding.cv,
        n_folds=decoding.n_folds,
        n_repeats=decoding.n_repeats,
        seed=decoding.random_seed,
        exchange_within=inference.exchange_within,
    )
    # Refuses what cannot be exchanged.
    permute_design(design, scheme_of(settings, design), np.random.default_rng(0))
    if settings.decoding.learning_rate is not None and settings.decoding.l2 is not None:
        check_decay(settings.decoding.learning_rate, settings.decoding.l2)
    if inference.tail_fit == FITTED:
        check_exceedances(inference.n_permutations)
    return design, rows.iloc[kept]


def class_names(settings: Settings, found: Sequence[SampleSet]) -> tuple[str, ...]:
    """Return the classes in the order asked for now, else in that of the participant level.

    Raises
    ------
    InputError
        A class has a name that no file can have.
    """
    written = tuple(found[0].metadata.get("Classes") or ())
    asked = settings.samples.classes
    names = tuple(parse_classes(asked, written)) if asked else written
    check_file_names(names)
    return names


def with_samples(settings: Settings, names: Sequence[str], rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes that there are samples of; one that was asked for by name stays.

    The classes of anatomical images are those of the whole dataset, and participants may have been chosen.
    """
    absent = sorted(set(names) - set(rows["class"]))
    if settings.samples.classes or not absent:
        return tuple(names)
    LOGGER.warning("No samples of %s among the chosen participants: no class here.", ", ".join(absent))
    return tuple(name for name in names if name not in absent)


def repetitions(settings: Settings) -> int:
    """Return the repetitions of all stages; with sequential stopping, the most that there can be."""
    inference = settings.inference
    scores = 0 if inference.stop_after_exceedances is None else inference.n_runs
    return scores + inference.n_runs + inference.n_permutations + inference.n_null


def print_plan(
    settings: Settings,
    subjects: Sequence[SubjectRecord],
    found: Sequence[SampleSet],
    bids_dir: Path,
    n_procs: int,
    memory_gb: float = np.inf,
) -> None:
    """Print what a call would do; parameters as in :func:`plan_group`, and what it may use."""
    design, rows = plan_group(settings, subjects, found, bids_dir)
    if subjects:
        _print_preprocessing(settings)
    n_voxels = count_voxels(settings, subjects, found)
    inference = settings.inference
    print_samples(rows, design)
    print(f"Samples: {len(rows)} of about {n_voxels} voxels, {len(design.classes)} classes")
    print(f"Cross-validation: {design.describe_folds()}")
    stops = inference.stop_after_exceedances is not None
    print(
        f"Models: {'at most ' if stops else ''}{repetitions(settings) * len(design.folds)} "
        f"({inference.n_runs} on the true labels{', twice' if stops else ''}, "
        f"{inference.n_permutations} permuted, "
        f"{inference.n_null} of the second set; times {len(design.folds)} folds)"
    )
    print_atlases(settings, found)
    scheme = scheme_of(settings, design)
    smallest = smallest_p(inference.n_permutations, design.labels, scheme, *design.exchange_codes)
    within = f", within each level of {inference.exchange_within}" if inference.exchange_within else ""
    print(f"Labels are exchanged by: {scheme}{within}")
    print(f"A permutation changes {100 * label_change(design, scheme)[0]:.0f} % of the labels on average")
    print(f"Smallest p that this design can reach: {smallest:.3g}")
    for alpha in inference.alpha:
        if not rank(alpha, inference.n_permutations):
            print(f"  alpha {alpha:g} cannot be reached: it takes {round(1 / alpha) - 1} permutations")
        elif smallest > alpha:
            print(f"  alpha {alpha:g} cannot be reached: the labels of this design have too few permutations")
    print_warnings(design, scheme)
    for warning in convergence_warning(trained_falls(settings, design, found, rows.index.to_numpy())):
        print(f"Warning: {warning}")
    memory = group_memory(settings, design, n_voxels, Resources(n_procs, memory_gb))
    node = largest(memory.gb)
    print(
        f"Memory of one process: about {memory.gb['chunks']:.1f} GB, of the largest ({node}) "
        f"{memory.gb[node]:.1f} GB" + (f"; {memory_gb:.1f} GB for all" if np.isfinite(memory_gb) else "")
    )
    disk = group_work_bytes(len(rows), n_voxels, len(design.classes), settings)
    print(f"Work folder of the group level: about {disk / 1e6:.0f} MB")
    seconds = estimate_seconds(settings, Size(n_voxels, design, n_procs))
    print(f"Time of the group level: about {rounded(seconds)} with {n_procs} processes")


def scheme_of(settings: Settings, design: Design) -> str:
    """Return how labels are exchanged."""
    return settings.inference.permute or natural_scheme(design.cv, design.labels, *design.exchange_codes[:3])


def with_split(settings: Settings, design: Design) -> Settings:
    """Return the settings with the cross-validation that suits the design, where none was asked for."""
    decoding = settings.decoding
    repeated = design.n_repeats if 1 < design.n_repeats < len(design.folds) else None
    return replace(
        settings,
        decoding=replace(decoding, cv=design.cv, n_repeats=decoding.n_repeats or repeated),
    )


def print_warnings(design: Design, scheme: str | None) -> None:
    """Print what is to be known of a design before it is computed."""
    for warning in design_warnings(design, scheme):
        print(f"Warning: {warning}")


def _print_preprocessing(settings: Settings) -> None:
    images = settings.preprocessing
    parts = [f"{images.modality} by {images.preproc}"]
    if images.preproc not in ALIGNED:
        parts.append(f"{images.registration} registration to {images.space} ({images.registration_profile})")
    elif images.space:
        parts.append(f"space {images.space}")
    elif needs_template(settings):
        parts.append(f"not registered: centred on the grid of {grid_name(images)}")
    if images.resolution is not None:
        parts.append(f"voxels of {images.resolution:g} mm")
    print(f"Preprocessing: {', '.join(parts)}\n")


def print_atlases(settings: Settings, found: Sequence[SampleSet]) -> None:
    """Print what is wrong with laying the atlases over maps in the space of the samples."""
    space = found[0].space if found else settings.preprocessing.space
    for atlas in settings.inference.atlas:
        note = space_note(atlas, space)
        if note:
            print(f"Warning: {note}")


def print_samples(rows: pd.DataFrame, design: Design) -> None:
    """Print how many samples there are."""
    table = rows.groupby(["subject", "class"]).size().unstack(fill_value=0)[list(design.classes)]
    if len(table) <= _MOST_LISTED:
        print("Samples per subject and class")
    else:
        print("Subjects and samples per class")
        table = pd.DataFrame({"subjects": (table > 0).sum(), "samples": table.sum()})
    print(table.to_string(), "\n")


def expected_rows(
    settings: Settings, subjects: Sequence[SubjectRecord], bids_dir: Path
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Return the classes and the rows that the participant level would write.

    Raises
    ------
    InputError
        Their column of ``--exchange-within`` is missing.
    """
    samples, within = settings.samples, settings.inference.exchange_within
    if settings.preprocessing.modality != "bold":
        images = [image for subject in subjects for image in subject.anatomical]
        levels = [level for subject in subjects for level in subject.levels]
        classes = anatomical_classes(levels, samples.target, samples.classes)
        rows = anatomical_rows(images, classes)
        return tuple(classes), with_blocks(rows, within, settings.preprocessing.modality, bids_dir)
    runs = [run for subject in subjects for run in subject.runs]
    classes = resolve_classes([run.events for run in runs], samples.target, samples.classes)
    columns = [
        run_samples(
            run,
            target=samples.target,
            classes=classes,
            sample=samples.sample,
            window=None if samples.window is None else (samples.window[0], samples.window[1]),
            anchor=samples.window_anchor,
            shift=samples.hrf_shift,
            merge=samples.merge_events,
        ).columns
        for run in runs
    ]
    rows = rows_frame(columns)
    events = [run.events for run, of_run in zip(runs, columns, strict=True) for _ in of_run["event"]]
    return tuple(classes), with_blocks(rows, within, "bold", bids_dir, events)


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


def count_voxels(settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet]) -> int:
    """Return about how many voxels the group level has; parameters as in :func:`plan_group`."""
    if subjects:
        return _voxels(subjects[0], settings)
    return int(np.asarray(nb.load(found[0].mask).dataobj).sum())


def check_plan_memory(
    settings: Settings,
    subjects: Sequence[SubjectRecord],
    found: Sequence[SampleSet],
    design: Design,
    available: Resources,
) -> None:
    """Refuse an analysis that would not fit into memory; parameters as in :func:`plan_group`.

    Raises
    ------
    InputError
        A node of the group level takes more than there is.
    """
    if subjects and settings.preprocessing.modality == "bold":
        # A mask may have to be computed from a run: not where the whole grid would fit.
        image = nb.load(subjects[0].runs[0].bold)
        voxel_mm3 = (settings.preprocessing.resolution or 0) ** 3 or _voxel_mm3(image)
        most = max(round(float(np.prod(image.shape[:3])) * _voxel_mm3(image) / voxel_mm3), 1)
        if max(group_memory(settings, design, most, available).gb.values()) <= available.memory_gb:
            return
    n_voxels = count_voxels(settings, subjects, found)
    check_group_memory(group_memory(settings, design, n_voxels, available), settings, available)


def group_work_bytes(n_samples: int, n_voxels: int, n_classes: int, settings: Settings) -> float:
    """Return the size that the work folder of the group level grows to: samples, ledgers, maps and nodes."""
    inference = settings.inference
    n_alphas, n_kept = len(inference.alpha), kept_values(inference.n_permutations, inference.alpha)
    samples = n_samples * (n_voxels + min(n_samples, n_voxels))
    # Largest null values; counts of every level and a sum (16 bytes) for each set; thresholds; maps.
    n_sets = 2 if inference.n_null else 1
    of_value = n_kept + n_sets * (n_alphas + 4) + n_alphas + 4 + 3 * n_alphas
    of_voxel = of_value * len(inference.importance) * n_classes + 4 * n_classes + 2
    n_nodes = repetitions(settings) // settings.execution.chunk_size
    return 4.0 * (samples + of_voxel * n_voxels) + _NODE_BYTES * (n_nodes + _OTHER_NODES)


def rounded(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
