"""What the group level misses: participants and runs of the dataset that have no samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bids_xai.bids.engines import MODALITIES
from bids_xai.bids.filters import check_filters, read_filter_file
from bids_xai.bids.layout import Dataset
from bids_xai.bids.missing import absent_images, entities_of, expected_images, in_words, key_of, of_a_class
from bids_xai.bids.results import SampleSet
from bids_xai.bids.selection import Search
from bids_xai.cli.parser import Request
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

LOGGER = logging.getLogger("bids_xai.bids")
# How the warning of what is missing begins.
NOT_PART = "Not part of these results, as "


def find_absences(request: Request, found: Sequence[SampleSet]) -> tuple[str, ...]:
    """Compare what the participant level wrote with the dataset and with ``--participant-label``.

    What is missing, and what the dataset no longer has, is warned of. Of several tasks only those count that
    have samples, unless ``--task-id`` names more.

    Returns
    -------
    tuple of str
        Labels of ``--participant-label`` that have no samples though they should.

    Raises
    ------
    InputError
        A label is neither in the dataset nor among the results.
    """
    chosen, modality = request.settings.selection, request.settings.preprocessing.modality
    query = MODALITIES[modality]
    labels = tuple(dict.fromkeys(label.removeprefix("sub-") for label in chosen.participant_label))
    database = chosen.bids_database_dir
    raw = Dataset(
        request.bids_dir,
        subjects=labels,
        database_dir=database and Path(database) / "raw",
        exclude=request.output_dir,
    )
    present = sorted({item.subject for item in found})
    for label in labels:
        known = sorted({*raw.subjects(), *present})
        if label not in known:
            raise InputError(
                f"Unknown participant {label!r} (--participant-label).",
                f"one of {', '.join(known)}",
                nearest_name(label, known),
            )
    filters = read_filter_file(chosen.bids_filter_file) if chosen.bids_filter_file else check_filters({})
    search = Search(
        raw=raw,
        derived=(),
        filters=filters,
        engine="none",
        subjects=labels,
        sessions=chosen.session_label,
        tasks=chosen.task_id or sorted({item.task for item in found if item.task}),
        runs=chosen.run_id,
    )
    expected = expected_images(search, query)
    there = [entities_of(item.samples) for item in found]
    absent = absent_images(expected, there, query)
    levels = {level for members in _levels(found[0]).values() for level in members}
    candidates = [file for file in expected if key_of(file.entities, query) in absent]
    of_class = of_a_class(search, candidates, query, request.settings.samples.target, levels)
    absent = absent_images(of_class, there, query)
    warnings = []
    asked_for = sorted(set(labels) - set(present))
    missing = in_words(absent, expected, query)
    of_no_class = {str(file.entities["subject"]) for file in candidates} - {key[0] for key in absent}
    missing += [
        f"sub-{label}" for label in asked_for if label not in {key[0] for key in absent} | of_no_class
    ]
    asked_for = [label for label in asked_for if label not in of_no_class]
    if missing:
        warnings.append(
            f"{NOT_PART}the participant level has left no samples of them in "
            f"{request.output_dir}: {', '.join(missing)}."
        )
    if without := sorted(of_no_class & set(labels)):
        warnings.append(f"Of no class: {', '.join('sub-' + label for label in without)}.")
    removed = sorted(set(present) - set(raw.subjects()))
    if removed:
        warnings.append(
            f"Part of these results, though {request.bids_dir} no longer has them: "
            f"{', '.join('sub-' + label for label in removed)}. Delete their folders in "
            f"{request.output_dir} to leave them out."
        )
    for warning in warnings:
        LOGGER.warning("%s", warning)
    return tuple(asked_for)


def _levels(item: SampleSet) -> dict[str, list[str]]:
    return dict(item.metadata.get("Classes") or {})


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Give the list that warnings of the input are added to, once each: the report shows them."""
    keeper = _Keeper()
    logger = logging.getLogger("bids_xai.bids")
    # A filter, as a logger that has a handler no longer prints by itself.
    logger.addFilter(keeper)
    try:
        yield keeper.kept
    finally:
        logger.removeFilter(keeper)


class _Keeper(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.levelno >= logging.WARNING and text not in self.kept:
            self.kept.append(text)
        return True
