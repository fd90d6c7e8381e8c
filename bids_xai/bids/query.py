"""What a dataset holds for an analysis: found, checked and recorded before anything is computed."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nb

from bids_xai.bids.checks import Problems, check_grids, check_tr, check_varies, open_image
from bids_xai.bids.confounds import confound_columns
from bids_xai.bids.events import check_classes, labelled_events, parse_classes, read_events, sample_rows
from bids_xai.bids.filters import check_filters
from bids_xai.bids.layout import Dataset, open_derivatives
from bids_xai.bids.masks import check_mask, template_mask_file
from bids_xai.bids.records import RunRecord, SubjectRecord
from bids_xai.bids.selection import Finder, select_images
from bids_xai.errors import InputError
from bids_xai.images.grids import factors

__all__ = ["RunRecord", "SubjectRecord", "query"]

LOGGER = logging.getLogger("bids_xai.bids")


def query(
    bids_dir: str | os.PathLike[str],
    *,
    derivatives: Sequence[str | os.PathLike[str]] = (),
    preproc: str = "none",
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
    sample: str = "events",
    window: Sequence[float] | None = None,
    window_anchor: str = "onset",
    hrf_shift: float = 5.0,
    work_dir: str | os.PathLike[str] = "work",
    allow_downloads: bool = False,
) -> list[SubjectRecord]:
    """Find the runs of an analysis and everything that belongs to them, or say what is wrong.

    Headers, sidecars and events of all runs are read; mistakes in several files are reported together.

    Parameters
    ----------
    bids_dir
        A raw BIDS dataset (events are always read from it).
    derivatives
        Folders of derivative datasets, or of several of them.
    preproc
        ``none``: the images of ``bids_dir``; ``derivatives``: the ``desc-preproc_bold`` images of
        ``derivatives``.
    participant_label, session_label, task_id, run_id
        What to take, with or without ``sub-`` and the like; all when empty.
    bids_filters
        Entities per query, fMRIPrep's format (:mod:`bids_xai.bids.filters`).
    database_dir
        Folder of pybids' database.
    space
        Space of the images; None: native.
    mask
        A NIfTI file, ``derivatives``, ``compute``, ``template``, or ``auto`` (from the derivatives where
        every run has one, else computed).
    confounds
        Columns that will be regressed out (names or wildcards); empty: confounds are not looked for.
    resolution
        Voxel size in mm that the images will be brought to.
    target, classes
        Column of the events and the classes in it (:func:`bids_xai.bids.events.parse_classes`).
    sample, window, window_anchor, hrf_shift
        What a sample is (:func:`bids_xai.images.windows.window_volumes`).
    work_dir
        Where the mask of a template is written when ``mask`` is ``template``.
    allow_downloads
        Let TemplateFlow fetch that template.

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
    labels = tuple(label.removeprefix("sub-") for label in participant_label)
    raw = Dataset(bids_dir, subjects=labels, database_dir=database_dir and Path(database_dir) / "raw")
    derived = open_derivatives(derivatives, subjects=labels, database_dir=database_dir)
    images = select_images(
        raw,
        derived,
        preproc=preproc,
        space=space,
        filters=filters,
        subjects=labels,
        sessions=session_label,
        tasks=task_id,
        runs=run_id,
    )
    finder = Finder(raw, derived, filters, space)
    problems = Problems()
    headers: dict[Path, nb.Nifti1Image] = {}
    records: list[RunRecord] = []
    for file in images:
        try:
            img = open_image(file.path)
            check_varies(file.path, img)
            tr, sidecar = finder.repetition_time(file)
            check_tr(tr, sidecar, img, file.path)
            record = finder.record(file, tr, img.shape[3], confounds=bool(confounds))
            if record.confounds is not None:
                confound_columns(record.confounds, confounds)
        except InputError as error:
            problems.add(error)
        else:
            headers[file.path] = img
            records.append(record)
    problems.raise_any()
    _check_grids(headers, resolution, problems)
    problems.raise_any()
    records = _with_masks(
        records, headers, finder, mask, space, work_dir=Path(work_dir), allow_downloads=allow_downloads
    )
    _check_samples(
        records,
        target,
        classes,
        {
            "sample": sample,
            "window": None if window is None else (float(window[0]), float(window[1])),
            "anchor": window_anchor,
            "shift": hrf_shift,
        },
    )
    return _by_subject(records)


def _check_grids(
    headers: Mapping[Path, nb.Nifti1Image], resolution: float | None, problems: Problems
) -> None:
    """All runs are classified together, so all must lie on one grid, within and between participants."""
    named = [(str(path), img) for path, img in headers.items()]
    check_grids(named, problems)
    if resolution is not None:
        try:
            factors(named[0][1], resolution)
        except InputError as error:
            problems.add(error)


def _with_masks(
    records: list[RunRecord],
    headers: Mapping[Path, nb.Nifti1Image],
    finder: Finder,
    mask: str | os.PathLike[str],
    space: str | None,
    *,
    work_dir: Path,
    allow_downloads: bool,
) -> list[RunRecord]:
    kind = os.fspath(mask)
    if kind == "compute":
        return records
    if kind in ("auto", "derivatives"):
        masks = [finder.mask(record, required=kind == "derivatives") for record in records]
        absent = [record for record, found in zip(records, masks, strict=True) if found is None]
        if absent:
            if len(absent) < len(records):
                LOGGER.warning("No mask for %s: masks are computed for all runs.", absent[0].bold.name)
            return records
    elif kind == "template":
        first = headers[records[0].bold]
        path = template_mask_file(space, first, work_dir=work_dir, allow_downloads=allow_downloads)
        masks = [path] * len(records)
    else:
        masks = [Path(kind).absolute()] * len(records)
    problems = Problems()
    for path, record in {
        path: record for path, record in zip(masks, records, strict=True) if path is not None
    }.items():
        try:
            check_mask(path, headers[record.bold], record.bold)
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    return [replace(record, mask=path) for record, path in zip(records, masks, strict=True)]


def _check_samples(
    records: Sequence[RunRecord], target: str, asked: Sequence[str], options: Mapping[str, Any]
) -> None:
    """Read all events: classes must exist, windows stay in their runs, and every class have samples."""
    problems = Problems()
    levels: set[str] = set()
    for path in dict.fromkeys(record.events for record in records):
        try:
            levels |= set(read_events(path, target)["level"])
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    classes = check_classes(parse_classes(asked, levels), levels, target)
    counts: Counter[str] = Counter()
    for record in records:
        try:
            rows, _ = sample_rows(record, target=target, classes=classes, **options)
        except InputError as error:
            problems.add(error)
        else:
            counts.update(rows["class"])
            if labelled_events(record.events, target, classes).empty:
                LOGGER.warning("No event of the chosen classes in %s.", record.events)
    problems.raise_any()
    few = {name: counts[name] for name in classes if counts[name] < 2}
    if few:
        raise InputError(
            f"Too few samples: {', '.join(f'{name} has {n}' for name, n in few.items())} in all runs.",
            "at least 2 samples of every class",
            "leave the class out, merge it with another (--classes NAME=A+B), or take more runs",
        )


def _by_subject(records: Sequence[RunRecord]) -> list[SubjectRecord]:
    subjects = sorted({record.subject for record in records})
    return [
        SubjectRecord(
            subject,
            tuple(
                sorted(
                    (record for record in records if record.subject == subject),
                    key=lambda record: (record.session, record.task, record.run),
                )
            ),
        )
        for subject in subjects
    ]
