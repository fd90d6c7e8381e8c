"""What a dataset holds and results lack: images of participants, named as briefly as they can be."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bids_xai.bids.engines import asked_desc, in_words_of_desc
from bids_xai.bids.events import read_events
from bids_xai.bids.filters import DEFAULTS, combined
from bids_xai.bids.layout import Candidates, belongs, best_match
from bids_xai.bids.names import ENTITY_KEYS, plain_value, sanitize
from bids_xai.bids.records import BidsFile
from bids_xai.bids.selection import Search, select_images
from bids_xai.bids.targets import levels_of_images, parse_target
from bids_xai.errors import InputError

LOGGER = logging.getLogger("bids_xai.bids")
# How warnings of images that are not taken begin.
LEFT_OUT = "Left out, as "
# What an image of a participant is told apart by, whatever was made of it.
_OF_RUN = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")
_OF_ANATOMY = ("sub", "ses")
# Entities that only derivatives have.
_OF_DERIVATIVES = ("desc", "description", "space", "res", "resolution", "den", "density", "label", "atlas")

# One image: its values of _OF_RUN or _OF_ANATOMY, empty where its name has none.
Key = tuple[str, ...]


def expected_images(search: Search, query: str) -> list[BidsFile]:
    """Return the raw images that an analysis is of, whatever has been made of them.

    Parameters
    ----------
    search
        The datasets and what is selected.
    query
        Name of the kind in the BIDS filters. Of functional runs those that have events.
    """
    own = {
        name: {key: value for key, value in entities.items() if key not in _OF_DERIVATIVES}
        for name, entities in search.filters.items()
    }
    raw = replace(search, engine="none", space=None, filters=own, subjects=())
    try:
        files = select_images(raw, query)
    except InputError:
        # No image, or none of a session, task or run: derivatives alone were published.
        return []
    if search.subjects:
        files = [file for file in files if file.entities["subject"] in search.subjects]
    if query == "bold":
        events = Candidates(search.raw.files(combined("events", search.filters)))
        files = [
            file
            for file in files
            if any(belongs(table.entities, file.entities) for table in events.near(file.entities))
        ]
    return files


def of_a_class(
    search: Search, files: Sequence[BidsFile], query: str, target: str, levels: Collection[str]
) -> list[BidsFile]:
    """Return those of raw images that give samples: with an event of a class, or a level that is in one.

    What is wrong with a table is passed over: what cannot be read is expected.

    Parameters
    ----------
    search, query
        As in :func:`expected_images`.
    files
        The images.
    target
        Column of the events, or see :func:`bids_xai.bids.targets.parse_target`.
    levels
        Levels of the target that are in a class.
    """
    if query != "bold":
        raw = replace(search, engine="none")
        of_image = levels_of_images(raw, files, parse_target(target, query), query)
        return [file for file in files if of_image.get(file.path) in levels]
    events = Candidates(search.raw.files(combined("events", search.filters)))
    kept = []
    for file in files:
        with suppress(InputError):
            path = best_match(events, file.entities, "events", file.path)
            if path is not None and not set(levels) & set(read_events(path, target).level):
                continue
        kept.append(file)
    return kept


def key_of(entities: Mapping[str, Any], query: str) -> Key:
    """Return what tells an image apart; pybids' names of entities, or keys of file names."""
    by_key = {ENTITY_KEYS.get(name, name): value for name, value in entities.items()}
    names = _OF_RUN if query == "bold" else _OF_ANATOMY
    values = [str(by_key.get(name) or "") for name in names]
    # Names of results hold letters and digits only; run-1 and run-01 are one run.
    return tuple(
        plain_value(name, sanitize(value)) if value else "" for name, value in zip(names, values, strict=True)
    )


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities in a file's name, by their keys there."""
    return dict(part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part)


def absent_images(
    expected: Iterable[BidsFile], present: Iterable[Mapping[str, Any]], query: str
) -> list[Key]:
    """Return which of the expected images are not among those present, in order.

    An anatomical image without a session stands for all sessions: preprocessing may average them.
    """
    there = {key_of(entities, query) for entities in present}
    keys = sorted({key_of(file.entities, query) for file in expected})
    if query != "bold":
        keys = [key for key in keys if (key[0], "") not in there]
    return [key for key in keys if key not in there]


def in_words(absent: Sequence[Key], expected: Iterable[BidsFile], query: str) -> list[str]:
    """Return the names of absent images: whole tasks, sessions and participants as such, else image by image.

    Parameters
    ----------
    absent
        Some of the expected images (:func:`absent_images`).
    expected
        All of them.
    query
        Name of their kind in the BIDS filters.
    """
    keys = sorted({key_of(file.entities, query) for file in expected})
    noun = "run" if query == "bold" else "image"
    left, words = list(absent), []
    places = ((0, "sub"), (2, "task"), (1, "ses")) if query == "bold" else ((0, "sub"), (1, "ses"))
    for place, name in places:
        for value in sorted({key[place] for key in left if key[place]}):
            of_value = [key for key in keys if key[place] == value]
            if all(key in left for key in of_value):
                left = [key for key in left if key[place] != value]
                words.append(f"{name}-{value} ({_count(len(of_value), noun)})")
    names = _OF_RUN if query == "bold" else _OF_ANATOMY
    for key in left:
        parts = [f"{name}-{value}" for name, value in zip(names, key, strict=True) if value]
        words.append("_".join(parts))
    return words


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"all {n} {noun}s"


def warn_of_unprocessed(search: Search, query: str, files: Sequence[BidsFile]) -> None:
    """Name the raw images that derivatives hold nothing of.

    Parameters
    ----------
    search
        The datasets and what is selected.
    query
        Name of the kind in the BIDS filters.
    files
        The preprocessed images that are taken.
    """
    expected = expected_images(search, query)
    absent = absent_images(expected, [file.entities for file in files], query)
    if absent:
        what = f"{in_words_of_desc(asked_desc(query, search.filters))}_{DEFAULTS[query]['suffix']}"
        where = "" if search.space is None else f" in space {search.space}"
        LOGGER.warning(
            "%sthe derivatives hold no %s%s of: %s.",
            LEFT_OUT,
            what,
            where,
            ", ".join(in_words(absent, expected, query)),
        )
