"""Columns of participants.tsv beside the samples: what people are split, balanced and compared by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.reports.results import read_table


def column_of(spec: str) -> str:
    """Return the column of ``COLUMN`` or ``COLUMN:WIDTH``."""
    return spec.partition(":")[0]


def with_covariates(rows: pd.DataFrame, participants: Path | None, columns: Sequence[str]) -> pd.DataFrame:
    """Return rows with columns of participants.tsv, as they stand there.

    Parameters
    ----------
    rows
        One row per sample, with ``subject``.
    participants
        The table; None where the dataset has none.
    columns
        Columns to add; those that the rows have already are left.

    Raises
    ------
    InputError
        The table or a column is missing, or a person has no row or no value.
    """
    wanted = [name for name in dict.fromkeys(map(column_of, columns)) if name not in rows]
    if not wanted:
        return rows
    if participants is None or not participants.is_file():
        raise InputError(
            f"The columns {', '.join(wanted)} are asked for, and the dataset has no participants.tsv.",
            "participants.tsv with a row for everyone",
            "add it, or leave out --stratify, --undersample and --biomarker",
        )
    table = read_table(participants)
    missing = [name for name in wanted if name not in table]
    if missing:
        raise InputError(
            f"{participants} has no column {missing[0]!r}.",
            f"one of {', '.join(column for column in table.columns if column != 'participant_id')}",
            nearest_name(missing[0], list(table.columns)),
        )
    table = table.assign(subject=table["participant_id"].astype(str).str.removeprefix("sub-"))
    table = table.drop_duplicates("subject").set_index("subject")
    people = list(rows["subject"].unique())
    absent = [name for name in people if name not in table.index]
    absent = absent or [name for name in people if table.loc[name, wanted].isna().any()]
    if absent:
        raise InputError(
            f"{participants} has no {', '.join(wanted)} of sub-{absent[0]}"
            + (f" and {len(absent) - 1} others." if len(absent) > 1 else "."),
            "a value for everyone who is classified",
            "add it, or leave those people out with --participant-label",
        )
    return rows.assign(**{name: rows["subject"].map(table[name]).to_numpy() for name in wanted})
