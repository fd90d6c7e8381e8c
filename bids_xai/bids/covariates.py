"""Columns of participants.tsv beside the samples: what people are split, balanced and compared by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_xai.bids.targets import read_levels
from bids_xai.errors import InputError
from bids_xai.tables import alike_text, is_missing, typed

LOGGER = logging.getLogger("bids_xai.bids")


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
        The table or a column is missing, a person has no row or no value, or two that differ.
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
    people = list(rows["subject"].unique())
    added = {}
    for name in wanted:
        levels = read_levels(participants, "participant_id", name, option="--stratify and the like")
        absent = [subject for subject in people if is_missing(levels.get(f"sub-{subject}", ""))]
        if absent:
            raise InputError(
                f"{participants} has no {name} of sub-{absent[0]}"
                + (f" and {len(absent) - 1} others." if len(absent) > 1 else "."),
                "a value for everyone who is classified",
                "add it, or leave those people out with --participant-label",
            )
        added[name] = typed([levels[f"sub-{subject}"] for subject in people])
        apart = alike_text(map(str, added[name]))
        if apart:
            LOGGER.warning("The column %r of %s has different levels %s.", name, participants, apart)
    of_people = pd.DataFrame(added, index=people)
    return rows.assign(**{name: rows["subject"].map(of_people[name]).to_numpy() for name in wanted})
