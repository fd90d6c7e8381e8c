"""What images are classified by; of anatomical ones a column of participants, sessions or scans.tsv."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_xai.bids.checks import Problems
from bids_xai.bids.filters import combined
from bids_xai.bids.layout import Candidates, belongs
from bids_xai.bids.records import BidsFile
from bids_xai.bids.selection import Search
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.tables import MISSING, read_table

LOGGER = logging.getLogger("bids_xai.bids")
# Table -> the column that says what a row is of.
TABLES = {"participants": "participant_id", "sessions": "session_id", "scans": "filename"}
MANY_LEVELS = 10


def parse_target(target: str, modality: str) -> tuple[str, str]:
    """Return the table and the column of a target.

    Parameters
    ----------
    target
        ``COLUMN``, or ``participants:COLUMN``, ``sessions:COLUMN``, ``scans:COLUMN``.
    modality
        ``bold``: a column of the events files. Otherwise a column without a table is one of
        participants.tsv.

    Raises
    ------
    InputError
        If the table is unknown, or of the other kind of image.
    """
    table, colon, column = target.partition(":")
    if modality == "bold":
        if colon and table in TABLES:
            raise InputError(
                f"--target {target} with --modality bold: it is the same for all volumes of a run.",
                "a column of the events files, such as trial_type",
                "name one of its columns, or choose --modality T1w or FLAIR",
            )
        return "events", target
    if not colon:
        return "participants", target
    if table not in TABLES or not column:
        raise InputError(
            f"--target {target} with --modality {modality}"
            + (": anatomical images have no events." if table == "events" else "."),
            f"COLUMN, or {', '.join(f'{name}:COLUMN' for name in TABLES)}",
            nearest_name(table, TABLES) if table not in TABLES else "name a column after the colon",
        )
    return table, column


def image_levels(
    search: Search, files: Sequence[BidsFile], target: tuple[str, str], query: str
) -> dict[Path, str]:
    """Return the level of the target of every image; images without one (``n/a``) are left out and logged.

    Parameters
    ----------
    search
        The datasets; the tables are those of the raw one.
    files
        The images, one per session.
    target
        Table and column (:func:`parse_target`).
    query
        Name of their kind in the BIDS filters.

    Raises
    ------
    InputError
        If a table, its column or a row is missing, or rows contradict each other.
    """
    table, column = target
    problems = Problems()
    levels = _levels(search, files, target, query, problems)
    problems.raise_any()
    missing = [path for path, level in levels.items() if level.lower() in MISSING]
    if missing:
        names = ", ".join(path.name for path in missing)
        LOGGER.warning("Left out, as %s of %s.tsv is n/a: %s.", column, table, names)
    return {path: level for path, level in levels.items() if path not in missing}


def levels_of_images(
    search: Search, files: Sequence[BidsFile], target: tuple[str, str], query: str
) -> dict[Path, str]:
    """Return the levels of the target of these images that are not ``n/a``.

    Parameters as in :func:`image_levels`. Of images that were not chosen: what is wrong with them and their
    rows is passed over.
    """
    levels = _levels(search, files, target, query, Problems())
    return {path: level for path, level in levels.items() if level.lower() not in MISSING}


def _levels(
    search: Search, files: Sequence[BidsFile], target: tuple[str, str], query: str, problems: Problems
) -> dict[Path, str]:
    table, column = target
    raw = Candidates(
        [] if search.engine != "derivatives" else search.raw.files(combined(query, search.filters))
    )
    levels: dict[Path, str] = {}
    tables: dict[Path, Mapping[str, str]] = {}
    for file in files:
        try:
            path, key = _row(search, file, raw, table)
            if path not in tables:
                tables[path] = read_levels(path, TABLES[table], column)
            if key not in tables[path]:
                raise InputError(
                    f"{path} has no row for {key}, which {file.path} is of.",
                    f"a row with the {TABLES[table]} {key}; those present: {_shown(list(tables[path]))}",
                    "add it (n/a leaves the image out), or leave the participant out of --participant-label",
                )
            levels[file.path] = tables[path][key]
        except InputError as error:
            problems.add(error)
    return levels


def _row(search: Search, file: BidsFile, raw: Candidates, table: str) -> tuple[Path, str]:
    """Return the table that has the row of an image, and the row's name."""
    root, entities = search.raw.root, file.entities
    subject, session = f"sub-{entities['subject']}", entities.get("session")
    if table == "participants":
        return root / "participants.tsv", subject
    if table == "sessions":
        if session is None:
            raise InputError(
                f"{file.path} is of no session, and the --target is in sessions.tsv.",
                "an image with a session (ses-<label>) in its name",
                "use --target participants:COLUMN or scans:COLUMN",
            )
        return root / subject / f"{subject}_sessions.tsv", f"ses-{session}"
    path = file.path
    if search.engine == "derivatives":
        sources = [other.path for other in raw.near(entities) if belongs(other.entities, entities)]
        if len(sources) != 1:
            raise InputError(
                f"{file.path} comes from {len(sources)} images of {root}, and the --target is in scans.tsv.",
                "one raw image, whose row is looked up",
                "use --target participants:COLUMN, or --target sessions:COLUMN",
            )
        path = sources[0]
    folder, stem = root / subject, subject
    if session is not None:
        folder, stem = folder / f"ses-{session}", f"{stem}_ses-{session}"
    return folder / f"{stem}_scans.tsv", path.relative_to(folder).as_posix()


def read_levels(path: Path, key: str, column: str, option: str = "--target") -> dict[str, str]:
    """Return the levels of a column by what each row is of.

    Parameters
    ----------
    path
        A TSV file.
    key
        Column that names what a row is of: ``participant_id``, ``session_id`` or ``filename``. Labels get
        their ``sub-`` or ``ses-`` where they lack it.
    column
        Column with the levels.
    option
        What names the column on the command line, for messages.

    Raises
    ------
    InputError
        If the file or a column is missing, it cannot be read, or two rows of one thing differ.
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist.",
            f"a tab-separated table with the columns {key} and {column}",
            f"add it, or choose another {option} ({', '.join(f'{name}:COLUMN' for name in TABLES)})",
        )
    table = read_table(path)
    names = table.column(key, f"add it: BIDS requires {key}")
    cells = table.column(column, f"choose a column with {option}")
    prefix = {"participant_id": "sub-", "session_id": "ses-"}.get(key, "")
    levels: dict[str, str] = {}
    for number, label, level in zip(table.lines, names, cells, strict=True):
        name = prefix + label.removeprefix(prefix)
        if levels.setdefault(name, level) != level:
            raise InputError(
                f"{path} has {column} {level!r} (line {number}) and {levels[name]!r} for {name}.",
                f"one row for every {key}",
                "correct the table; for a value that changes between sessions use sessions.tsv or scans.tsv",
            )
    return levels


def check_levels(levels: Sequence[str], target: tuple[str, str]) -> None:
    """Raise InputError if a column holds measurements, such as ages, and not levels.

    Columns of numbers are refused that have more than ten distinct values, or that have more than two
    while most are of one image only.
    """
    distinct = sorted(set(levels))
    numbers = pd.to_numeric(pd.Series(distinct), errors="coerce")
    n = len(distinct)
    if np.isfinite(numbers).all() and (n > MANY_LEVELS or (n > 2 and n > len(levels) / 2)):
        ordered = [distinct[number] for number in np.argsort(numbers.to_numpy(), kind="stable")]
        raise InputError(
            f"The column {target[1]!r} of {target[0]}.tsv is a number with {n} distinct values in "
            f"{len(levels)} images: {_shown(ordered)}.",
            "a column whose levels are classes",
            f"merge the values into classes (--classes low={ordered[0]}+{ordered[1]} high=...), or add a "
            "column of groups to the table",
        )


def check_counts(classes: Iterable[str], counts: Mapping[str, int], of: str) -> None:
    """Raise InputError if a class has fewer than two samples."""
    few = {name: counts.get(name, 0) for name in classes if counts.get(name, 0) < 2}
    if few:
        raise InputError(
            f"Too few samples: {', '.join(f'{name} has {n}' for name, n in few.items())} in all {of}.",
            "at least 2 samples of every class",
            f"leave the class out, merge it with another (--classes NAME=A+B), or take more {of}",
        )


def _shown(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
