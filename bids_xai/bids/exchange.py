"""Blocks that labels are exchanged within: a column of the events files, or of participants.tsv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_xai.bids.events import ROW_COLUMNS
from bids_xai.bids.targets import read_levels
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.tables import read_table

TABLES = ("events", "participants")
# Columns of the rows that are blocks themselves; the others that rows have are no blocks.
OF_ROWS = ("subject", "session", "task", "run")
DESCRIPTION = "Level of the column of --exchange-within; labels are exchanged between samples of one level"


def parse_exchange_within(exchange_within: str, modality: str) -> tuple[str, str]:
    """Return the table and the column whose levels are blocks.

    Parameters
    ----------
    exchange_within
        ``events:COLUMN``, ``participants:COLUMN``, or ``COLUMN``: one of subject, session, task and run, else
        of the events files (BOLD) or of participants.tsv (anatomical images).
    modality
        ``bold``, or a kind of anatomical image.

    Returns
    -------
    table, column : str
        ``"rows"`` for what every sample says itself.

    Raises
    ------
    InputError
        If the table is unknown, or a column of it would stand for another one of the rows.
    """
    table, colon, column = exchange_within.rpartition(":")
    if colon and (table not in TABLES or not column or (table == "events" and modality != "bold")):
        raise InputError(
            f"--exchange-within {exchange_within} with --modality {modality}.",
            "COLUMN, participants:COLUMN or (with --modality bold) events:COLUMN",
            nearest_name(table, TABLES) if table not in TABLES else "name a column of participants.tsv",
        )
    if not colon and column in OF_ROWS:
        return "rows", column
    if column in ROW_COLUMNS:
        raise InputError(
            f"--exchange-within {exchange_within}: samples have a column {column!r} of another meaning.",
            f"another name, or one of {', '.join(OF_ROWS)}",
            "rename the column in the table",
        )
    return table or ("events" if modality == "bold" else "participants"), column


def with_blocks(
    rows: pd.DataFrame,
    exchange_within: str | None,
    modality: str,
    bids_dir: Path,
    events: Sequence[Path] | None = None,
) -> pd.DataFrame:
    """Return the rows of runs or images with the column whose levels are blocks.

    Parameters
    ----------
    rows
        Columns of :data:`bids_xai.bids.events.ROW_COLUMNS`.
    exchange_within, modality
        See :func:`parse_exchange_within`; None adds nothing.
    bids_dir
        Dataset with participants.tsv.
    events
        Events file of each row's run. Of merged events the first counts.

    Raises
    ------
    InputError
        If the table or the column is missing, or a person has no row.
    """
    if exchange_within is None:
        return rows
    table, column = parse_exchange_within(exchange_within, modality)
    if table == "rows":
        return rows
    if table == "participants":
        return rows.assign(**{column: _of_people(rows["subject"], bids_dir / "participants.tsv", column)})
    if events is None:
        raise ValueError("a column of the events files, and no events file")
    # Each file once.
    levels = {path: _of_events(path, column) for path in dict.fromkeys(events)}
    numbers = rows["event"].astype(int)
    return rows.assign(**{column: [levels[path][row] for path, row in zip(events, numbers, strict=True)]})


def _of_people(subjects: pd.Series, path: Path, column: str) -> list[str]:
    levels = read_levels(path, "participant_id", column, option="--exchange-within")
    unknown = sorted(set(subjects) - {name.removeprefix("sub-") for name in levels})
    if unknown:
        raise InputError(
            f"{path} has no row for sub-{unknown[0]}.",
            f"a row with the {column} of every participant",
            "add it, or leave the participant out of --participant-label",
        )
    return [levels[f"sub-{subject}"] for subject in subjects]


def _of_events(path: Path, column: str) -> list[str]:
    remedy = f"correct --exchange-within; for a column of participants.tsv name participants:{column}"
    return read_table(path, "the events file").column(column, remedy)
