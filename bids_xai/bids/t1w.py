"""One anatomical image per session, and the T1w that runs and FLAIR images are registered through."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nb

from bids_xai.bids.checks import Problems, open_anatomical
from bids_xai.bids.filters import combined
from bids_xai.bids.names import plain_value
from bids_xai.bids.records import AnatomicalRecord, BidsFile, RunRecord
from bids_xai.bids.selection import Search, expected_path, grouped, magnitude, several
from bids_xai.errors import InputError

LOGGER = logging.getLogger("bids_xai.bids")


def anatomy_of_runs(search: Search, runs: Sequence[RunRecord]) -> dict[str, tuple[AnatomicalRecord, ...]]:
    """Return the T1w images that each participant's runs are registered through, by session.

    A run takes the T1w of its session; where there is none, that of the participant's first session that has
    one.

    Raises
    ------
    InputError
        If a participant has no T1w, or a session has several that differ in more than the run.
    """
    sessions: dict[str, list[str]] = {}
    for run in runs:
        own = sessions.setdefault(run.subject, [])
        if run.session not in own:
            own.append(run.session)
    found = _t1w_by_subject(search)
    problems = Problems()
    anatomy: dict[str, tuple[AnatomicalRecord, ...]] = {}
    for subject, wanted in sessions.items():
        try:
            images = {_t1w_for(subject, session, found, search) for session in wanted}
            records = [anatomical_record(file, "T1w") for file in images]
            anatomy[subject] = tuple(sorted(records, key=lambda record: record.session))
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    open_images([record for records in anatomy.values() for record in records])
    return anatomy


def with_t1w(records: Sequence[AnatomicalRecord], search: Search) -> list[AnatomicalRecord]:
    """Return the records with the T1w that each image is registered through: of its session, else the first.

    Raises
    ------
    InputError
        If a participant has no T1w, or a session has several that differ in more than the run.
    """
    found = _t1w_by_subject(search)
    problems = Problems()
    completed = []
    for record in records:
        try:
            t1w = _t1w_for(record.subject, record.session, found, search)
            completed.append(replace(record, t1w=t1w.path, t1w_entities=t1w.names()))
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    return completed


def one_per_session(files: Sequence[BidsFile], search: Search, query: str) -> list[BidsFile]:
    """Return one image per session: the first run of those that differ in nothing else.

    Raises
    ------
    InputError
        If images of a session differ in anything else, or one is in two datasets.
    """
    chosen = []
    for group in grouped(files, ("subject", "session")):
        first = group[0]
        if len(group) > 1:
            without_run = [{k: str(v) for k, v in f.entities.items() if k != "run"} for f in group]
            one_run_each = len({_run_number(file) for file in group}) == len(group)
            if any(other != without_run[0] for other in without_run) or not one_run_each:
                raise several(group, "session", search, query)
            first = min(group, key=_run_number)
            LOGGER.warning("%d images are of one session: the first, %s, is taken.", len(group), first.path)
        chosen.append(first)
    return chosen


def _run_number(file: BidsFile) -> tuple[int, str]:
    run = plain_value("run", file.entities.get("run", ""))
    return len(run), run


def _t1w_by_subject(search: Search) -> dict[str, list[BidsFile]]:
    files = magnitude(search.raw.files(combined("t1w", search.filters)), "t1w", search.filters)
    files = [file for file in files if "subject" in file.entities]
    return {str(group[0].entities["subject"]): group for group in grouped(files, ("subject",))}


def _t1w_for(subject: str, session: str, found: Mapping[str, Sequence[BidsFile]], search: Search) -> BidsFile:
    files = found.get(subject, ())
    if not files:
        asked = search.filters.get("t1w")
        raise InputError(
            f"No T1w image of sub-{subject}, which --preproc {search.engine} registers through.",
            f"{expected_path('t1w', subject)} in {search.raw.root}"
            + (f" that the filter {dict(asked)} lets through" if asked else ""),
            "leave the participant out of --participant-label, choose images with --bids-filter-file "
            '{"t1w": {...}}, or use images that are aligned already: --preproc none or derivatives',
        )
    by_session = {str(group[0].entities.get("session", "")): group for group in grouped(files, ("session",))}
    nearest = by_session.get(session) or by_session[min(by_session)]
    return one_per_session(nearest, search, "t1w")[0]


def anatomical_record(file: BidsFile, modality: str, level: str = "") -> AnatomicalRecord:
    """Return the record of an image, without its mask; a T1w is its own T1w."""
    subject, session, run = (str(file.entities.get(name, "")) for name in ("subject", "session", "run"))
    own = modality == "T1w"
    return AnatomicalRecord(
        subject,
        session,
        run,
        file.path,
        t1w=file.path if own else None,
        level=level,
        entities=file.names(),
        t1w_entities=file.names() if own else {},
    )


def open_images(records: Sequence[AnatomicalRecord]) -> dict[Path, nb.Nifti1Image]:
    """Return the headers of all images and their T1w, once every one of them is checked in whole.

    Raises
    ------
    InputError
        For everything that is wrong with any of them (:func:`bids_xai.bids.checks.check_anatomical`).
    """
    problems = Problems()
    headers: dict[Path, nb.Nifti1Image] = {}
    for path in dict.fromkeys(
        path for record in records for path in (record.image, record.t1w) if path is not None
    ):
        try:
            headers[path] = open_anatomical(path)
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    return headers
