"""Confounds tables of fMRIPrep and its like."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.tables import is_missing, number, read_table

# Columns of the confounds tables that the engines for raw images write, in their order.
ENGINE_COLUMNS = (
    *(
        f"{axis}{expansion}"
        for axis in ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
        for expansion in ("", "_derivative1", "_power2", "_derivative1_power2")
    ),
    "framewise_displacement",
    "dvars",
    "std_dvars",
    "global_signal",
)


NON_STEADY = "non_steady_state_outlier*"
DISPLACEMENT = "framewise_displacement"


def count_dummies(path: str | os.PathLike[str], n_volumes: int) -> int:
    """Return how many first volumes a table of fMRIPrep marks as not in the steady state.

    Each has a column ``non_steady_state_outlierXX`` that is 1 in its row.

    Raises
    ------
    InputError
        If other volumes than the first ones are marked.
    """
    values, names = read_confounds(path, [NON_STEADY], n_volumes)
    marked = np.flatnonzero((values != 0).any(axis=1))
    if len(marked) and marked[-1] != len(marked) - 1:
        raise InputError(
            f"The columns {names[0]}, ... of {path} mark the volumes {marked.tolist()}.",
            "the first volumes of the run, counted from 0",
            "give their number with --dummy-scans",
        )
    return len(marked)


def is_pattern(name: str) -> bool:
    """Tell whether a name of confounds is a shell wildcard."""
    return any(sign in name for sign in "*?[")


def matching_columns(present: Sequence[str], patterns: Sequence[str], table: str) -> list[str]:
    """Return the columns among those ``present`` that match names or shell wildcards, in their order.

    Raises
    ------
    InputError
        If a pattern matches no column; ``table`` names what was searched.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in present):
            shown = ", ".join(present[:30]) + (", ..." if len(present) > 30 else "")
            raise InputError(
                f"No column of {table} matches the confound {pattern!r}.",
                f"one of {shown}",
                nearest_name(pattern, list(present)) or "see --confounds",
            )
    return [name for name in present if any(fnmatchcase(name, pattern) for pattern in patterns)]


def check_patterns(columns: Mapping[str, Sequence[str]], patterns: Sequence[str]) -> list[str]:
    """Return what to warn of where a wildcard matches in some runs only, as columns of outliers do.

    Parameters
    ----------
    columns
        Columns that there are, by the table's name.
    patterns
        Names and shell wildcards.

    Raises
    ------
    InputError
        If a wildcard matches no column of any run.
    """
    warned = []
    for pattern in filter(is_pattern, patterns):
        without = [
            table
            for table, present in columns.items()
            if not any(fnmatchcase(name, pattern) for name in present)
        ]
        if columns and len(without) == len(columns):
            union = list(dict.fromkeys(name for present in columns.values() for name in present))
            matching_columns(union, [pattern], f"any of {len(columns)} tables of confounds")
        if without:
            shown = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            warned.append(
                f"The confound {pattern!r} matches no column in {len(without)} of {len(columns)} runs, from "
                f"which nothing is removed for it: {shown}."
            )
    return warned


def read_confounds(
    path: str | os.PathLike[str], patterns: Sequence[str], n_volumes: int
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Read the matching columns of the confounds of one run.

    Parameters
    ----------
    path
        TSV file with one row per volume.
    patterns
        Names, each of which must be there, and shell wildcards, which may match nothing in this run.
    n_volumes
        Length of the run.

    Returns
    -------
    values : array, float64, shape (n_volumes, n_columns)
        ``n/a`` is NaN (see :func:`bids_xai.images.cleaning.finite_confounds`).
    names : list of str
        The columns.

    Raises
    ------
    InputError
        If the file cannot be read, a name is missing, the number of rows is not that of the volumes, or a
        cell is neither a number nor missing.
    """
    table = read_table(path, "the confounds file")
    if len(table.rows) != n_volumes:
        raise InputError(
            f"The confounds file {path} has {len(table.rows)} rows, its run {n_volumes} volumes.",
            "one row per volume",
            "give the table that belongs to the run, or compute it again",
        )
    matching_columns(table.names, [name for name in patterns if not is_pattern(name)], str(path))
    names = [name for name in table.names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    values = np.empty((n_volumes, len(names)))
    for place, (name, cells) in enumerate(table.columns(names).items()):
        values[:, place] = [number(cell) for cell in cells]
        wrong = [row for row in np.flatnonzero(~np.isfinite(values[:, place])) if not is_missing(cells[row])]
        if wrong:
            raise InputError(
                f"The confound {name!r} in {path} is {cells[wrong[0]]!r} (line {table.lines[wrong[0]]}).",
                "numbers and n/a",
                "choose other --confounds",
            )
    return values, names
