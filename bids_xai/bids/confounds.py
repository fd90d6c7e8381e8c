"""Confounds tables of fMRIPrep and its like."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

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


def confound_columns(path: str | os.PathLike[str], patterns: Sequence[str]) -> list[str]:
    """Return the columns of a confounds file that match names or shell wildcards, in the file's order.

    Raises
    ------
    InputError
        If the file cannot be read or a pattern matches no column.
    """
    try:
        present = [str(name) for name in pd.read_csv(path, sep="\t", nrows=0).columns]
    except (OSError, ValueError) as error:
        raise InputError(
            f"The confounds file {path} cannot be read: {error}", "a tab-separated table", "correct it"
        ) from error
    return matching_columns(present, patterns, str(path))


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


def read_confounds(
    path: str | os.PathLike[str], patterns: Sequence[str]
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Read the matching columns of a confounds file.

    Returns
    -------
    values : array, float64, shape (n_volumes, n_columns)
        ``n/a`` is NaN (see :func:`bids_xai.images.cleaning.finite_confounds`).
    names : list of str
        The columns.
    """
    names = confound_columns(path, patterns)
    try:
        table = pd.read_csv(path, sep="\t", usecols=names, na_values=["n/a"], dtype=np.float64)[names]
    except ValueError as error:
        raise InputError(
            f"A confound in {path} is not a number: {error}", "numbers and n/a", "choose other --confounds"
        ) from error
    return table.to_numpy(dtype=np.float64), names
