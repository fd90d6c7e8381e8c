"""Functional runs: what belongs to each of them, and the checks that they can be classified together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nb

from bids_xai.bids.checks import Problems, check_grids, check_tr, check_varies, open_image
from bids_xai.bids.confounds import ENGINE_COLUMNS, check_patterns, matching_columns, read_confounds
from bids_xai.bids.events import (
    check_classes,
    check_outside,
    parse_classes,
    read_events,
    run_samples,
    warn_alike,
)
from bids_xai.bids.finder import Finder
from bids_xai.bids.masks import MaskChoice, choose_masks
from bids_xai.bids.missing import warn_of_unprocessed
from bids_xai.bids.orientation import check_orientation
from bids_xai.bids.records import BidsFile, RunRecord
from bids_xai.bids.selection import Search, check_one_per_run, run_labels, select_images
from bids_xai.bids.targets import check_counts
from bids_xai.errors import InputError
from bids_xai.images.grids import factors

LOGGER = logging.getLogger("bids_xai.bids")


def find_runs(
    search: Search,
    *,
    mask: MaskChoice,
    confounds: Sequence[str] = (),
    resolution: float | None = None,
    dummy_scans: int | None = None,
) -> list[RunRecord]:
    """Return the functional runs of an analysis, with what belongs to them.

    Runs that an engine aligns may lie on any grid; those that are taken as they are must share one.

    Parameters
    ----------
    search
        Where to look, and for what.
    mask
        Which brain masks are taken.
    confounds
        Columns that will be regressed out (names or wildcards).
    resolution
        Voxel size in mm that aligned images will be brought to.
    dummy_scans
        First volumes of every run that are left out; None: those that tables of fMRIPrep name.

    Raises
    ------
    InputError
        If something is missing, broken, or does not fit together.
    """
    images = select_images(search, "bold")
    check_one_per_run(images, search)
    if search.engine == "derivatives":
        warn_of_unprocessed(search, "bold", images)
    if search.from_raw:
        matching_columns(ENGINE_COLUMNS, confounds, f"the confounds that --preproc {search.engine} computes")
    finder = Finder(search)
    records, headers = _read(images, search, finder, confounds, dummy_scans)
    if not search.from_raw:
        _check_grids(headers, resolution)
    masks = choose_masks(
        [(record.bold, headers[record.bold]) for record in records],
        mask,
        search,
        lambda number, required: finder.mask(records[number], required=required),
        on_grid=not search.from_raw,
    )
    return [replace(record, mask=path) for record, path in zip(records, masks, strict=True)]


def _read(
    images: Sequence[BidsFile],
    search: Search,
    finder: Finder,
    confounds: Sequence[str],
    dummy_scans: int | None,
) -> tuple[list[RunRecord], dict[Path, nb.Nifti1Image]]:
    problems = Problems()
    headers: dict[Path, nb.Nifti1Image] = {}
    records: list[RunRecord] = []
    columns: dict[str, list[str]] = {}
    in_thousandths: list[Path] = []
    runs = run_labels(images)
    for file in images:
        try:
            img = open_image(file.path)
            if search.from_raw:
                check_orientation(file.path, img)
            check_varies(file.path, img)
            tr, sidecar = finder.repetition_time(file)
            if check_tr(tr, sidecar, img, file.path):
                in_thousandths.append(file.path)
            # Engines for raw images compute the confounds themselves.
            record = finder.record(
                file,
                tr,
                img.shape[3],
                run=runs[file.path],
                confounds=bool(confounds) and not search.from_raw,
                dummies=dummy_scans,
            )
            if record.confounds is not None:
                columns[str(record.confounds)] = read_confounds(
                    record.confounds, confounds, record.n_volumes
                )[1]
        except InputError as error:
            problems.add(error)
        else:
            headers[file.path] = img
            records.append(record)
    problems.raise_any()
    if in_thousandths:
        LOGGER.warning(
            "The headers of %d images, such as %s, give the repetition time in milliseconds and call it "
            "seconds: that of the sidecars is taken.",
            len(in_thousandths),
            in_thousandths[0],
        )
    for warning in check_patterns(columns, confounds):
        LOGGER.warning("%s", warning)
    if dummy_scans is None and any(record.dummies for record in records):
        marked = [record for record in records if record.dummies]
        LOGGER.warning(
            "The first volumes of %d runs are left out as their confounds mark them as not in the steady "
            "state (at most %d, as in %s); --dummy-scans 0 keeps them.",
            len(marked),
            max(record.dummies for record in marked),
            marked[0].bold.name,
        )
    return records, headers


def _check_grids(headers: Mapping[Path, nb.Nifti1Image], resolution: float | None) -> None:
    """All runs are classified together, so all must lie on one grid, within and between participants."""
    problems = Problems()
    named = [(str(path), img) for path, img in headers.items()]
    check_grids(named, problems)
    if resolution is not None:
        try:
            factors(named[0][1], resolution)
        except InputError as error:
            problems.add(error)
    problems.raise_any()


def check_samples(
    records: Sequence[RunRecord],
    target: str,
    asked: Sequence[str],
    options: Mapping[str, Any],
    max_outside: float = 0.25,
    *,
    of_everybody: bool = True,
) -> list[RunRecord]:
    """Read all events: classes must exist, windows stay in their runs, and every class have samples.

    Events whose window leaves their run are left out and logged. Returns the runs that have samples: those
    that have none are named and left out.

    Parameters
    ----------
    records
        The runs.
    target, asked
        Column of the events and the classes asked for.
    options
        Further parameters of :func:`bids_xai.bids.events.run_samples`.
    max_outside
        Largest share of a run's events whose window may leave the run.
    of_everybody
        Whether the runs are of all participants: some of them need not have samples of every class.
    """
    problems = Problems()
    levels: set[str] = set()
    for path in dict.fromkeys(record.events for record in records):
        try:
            levels |= set(read_events(path, target).level)
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    classes = check_classes(parse_classes(asked, levels), levels, target)
    warn_alike(classes, levels, target)
    counts: Counter[str] = Counter()
    kept = []
    for record in records:
        try:
            samples = run_samples(record, target=target, classes=classes, **options)
            left_out = check_outside(record, samples, max_outside)
        except InputError as error:
            problems.add(error)
        else:
            counts.update(samples.columns["class"])
            if left_out is not None:
                LOGGER.warning("%s", left_out)
            if samples.windows:
                kept.append(record)
            else:
                LOGGER.warning("Left out, as %s has no event of a class: %s.", record.events, record.bold)
    problems.raise_any()
    if of_everybody or not kept:
        check_counts(classes, counts, "runs")
    return kept
