"""What a dataset holds for an analysis: found, checked and recorded before anything is computed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_xai.bids.anatomical import find_anatomical
from bids_xai.bids.confounds import DISPLACEMENT
from bids_xai.bids.engines import choose_engine
from bids_xai.bids.filters import check_filters
from bids_xai.bids.functional import check_samples, find_runs
from bids_xai.bids.layout import Dataset, open_derivatives
from bids_xai.bids.masks import MaskChoice
from bids_xai.bids.records import AnatomicalRecord, RunRecord, SubjectRecord
from bids_xai.bids.selection import Search
from bids_xai.bids.t1w import anatomy_of_runs
from bids_xai.bids.targets import parse_target
from bids_xai.errors import InputError

__all__ = ["AnatomicalRecord", "RunRecord", "SubjectRecord", "query"]


def query(
    bids_dir: str | os.PathLike[str],
    *,
    derivatives: Sequence[str | os.PathLike[str]] = (),
    modality: str = "bold",
    preproc: str | None = None,
    participant_label: Sequence[str] = (),
    session_label: Sequence[str] = (),
    task_id: Sequence[str] = (),
    run_id: Sequence[str] = (),
    bids_filters: Mapping[str, Mapping[str, Any]] | None = None,
    database_dir: str | os.PathLike[str] | None = None,
    space: str | None = None,
    mask: str | os.PathLike[str] = "auto",
    confounds: Sequence[str] = (),
    resolution: float | None = None,
    target: str = "trial_type",
    classes: Sequence[str] = (),
    merge_events: float | None = None,
    sample: str = "events",
    window: Sequence[float] | None = None,
    window_anchor: str = "onset",
    hrf_shift: float = 5.0,
    max_events_outside: float = 0.25,
    dummy_scans: int | None = None,
    fd_threshold: float | None = None,
    work_dir: str | os.PathLike[str] = "work",
    allow_downloads: bool = False,
    output_dir: Path | None = None,
) -> list[SubjectRecord]:
    """Find the images of an analysis and everything that belongs to them, or say what is wrong.

    Headers, sidecars and events of all runs are read, and all of every anatomical image; mistakes in
    several files are reported together.

    Parameters
    ----------
    bids_dir
        A raw BIDS dataset (events are always read from it).
    derivatives
        Folders of derivative datasets, or of several of them.
    modality
        What is classified: ``bold`` (with events), ``T1w``, ``FLAIR`` or ``T2w``.
    preproc
        ``none``: the images of ``bids_dir`` as they are; ``derivatives``: the ``desc-preproc`` images of
        ``derivatives``; any other engine: raw images, and for every run or FLAIR the T1w that it is
        registered through. None: see :func:`bids_xai.bids.engines.choose_engine`.
    participant_label, session_label, task_id, run_id
        What to take, with or without ``sub-`` and the like; all when empty.
    bids_filters
        Entities per query, fMRIPrep's format (:mod:`bids_xai.bids.filters`).
    database_dir
        Folder of pybids' database.
    space
        Space of the images, or to register to; None: native.
    mask
        Which brain masks are taken (:class:`bids_xai.bids.masks.MaskChoice`).
    confounds
        Columns that will be regressed out of BOLD (names or wildcards); empty: confounds are not looked for.
    resolution
        Voxel size in mm that the images will be brought to.
    target, classes
        Column that holds the levels (of the events, or see :func:`bids_xai.bids.targets.parse_target`) and
        the classes in it (:func:`bids_xai.bids.events.parse_classes`).
    merge_events
        Longest gap in seconds between events of a class that are made into one
        (:func:`bids_xai.bids.blocks.merge_events`); None: none are.
    sample, window, window_anchor, hrf_shift
        What a sample is (:func:`bids_xai.images.windows.window_volumes`).
    max_events_outside
        Largest share of a run's events whose window may leave the run; they are left out and logged.
    dummy_scans
        First volumes of every run that are left out; None: those that tables of fMRIPrep name.
    fd_threshold
        Framewise displacement in mm above which a volume will be left out: confounds must hold it.
    work_dir
        Where the mask of a template is written when ``mask`` is ``template``.
    allow_downloads
        Let TemplateFlow fetch that template.
    output_dir
        Where results are written; nothing in it is input.

    Returns
    -------
    list of SubjectRecord
        Ordered by participant; runs by session, task and run.

    Raises
    ------
    InputError
        For everything in the input that can be known to be wrong before computing.
    """
    filters = check_filters(dict(bids_filters or {}))
    engine = choose_engine(preproc, derivatives, modality, filters)
    parse_target(target, modality)
    labels = tuple(label.removeprefix("sub-") for label in participant_label)
    search = Search(
        raw=Dataset(
            bids_dir,
            subjects=labels,
            database_dir=database_dir and Path(database_dir) / "raw",
            exclude=output_dir,
        ),
        derived=open_derivatives(derivatives, subjects=labels, database_dir=database_dir, exclude=output_dir),
        filters=filters,
        engine=engine,
        space=space,
        subjects=labels,
        sessions=session_label,
        tasks=task_id,
        runs=run_id,
    )
    masks = MaskChoice(os.fspath(mask), Path(work_dir), allow_downloads)
    if modality != "bold":
        _check_no_confounds(confounds, modality)
        images, levels = find_anatomical(
            search, modality, target=target, classes=classes, mask=masks, resolution=resolution
        )
        return _by_subject((), images, levels)
    if fd_threshold is not None:
        # The table must be there, and have the column.
        confounds = (*confounds, *([] if DISPLACEMENT in confounds else [DISPLACEMENT]))
    runs = find_runs(search, mask=masks, confounds=confounds, resolution=resolution, dummy_scans=dummy_scans)
    options = {
        "sample": sample,
        "window": None if window is None else (float(window[0]), float(window[1])),
        "anchor": window_anchor,
        "shift": hrf_shift,
        "merge": merge_events,
    }
    runs = check_samples(runs, target, classes, options, max_events_outside, of_everybody=not labels)
    anatomy = anatomy_of_runs(search, runs) if search.from_raw else {}
    return _by_subject(runs, [image for images in anatomy.values() for image in images])


def _check_no_confounds(confounds: Sequence[str], modality: str) -> None:
    if confounds:
        raise InputError(
            f"--confounds {' '.join(confounds)} with --modality {modality}: they are of functional runs.",
            "confounds with --modality bold only",
            "leave out --confounds",
        )


def _by_subject(
    runs: Sequence[RunRecord], images: Sequence[AnatomicalRecord], levels: tuple[str, ...] = ()
) -> list[SubjectRecord]:
    runs_of: dict[str, list[RunRecord]] = defaultdict(list)
    images_of: dict[str, list[AnatomicalRecord]] = defaultdict(list)
    for run in runs:
        runs_of[run.subject].append(run)
    for image in images:
        images_of[image.subject].append(image)
    return [
        SubjectRecord(
            subject,
            tuple(sorted(runs_of[subject], key=lambda run: (run.session, run.task, run.run))),
            tuple(sorted(images_of[subject], key=lambda image: (image.session, image.run))),
            levels,
        )
        for subject in sorted({*runs_of, *images_of})
    ]
