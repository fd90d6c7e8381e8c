"""Events files: reading, classes, and the labelled rows that a run gives."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.bids.blocks import merge_events
from bids_xai.errors import InputError
from bids_xai.images.windows import sample_events, window_volumes
from bids_xai.registry import nearest_name

if TYPE_CHECKING:
    from bids_xai.bids.records import RunRecord

# Levels that are not classes unless they are asked for by name.
MISSING = frozenset({"n/a", "", "nan"})
NOT_CLASSES = MISSING | {"rest", "baseline", "fixation"}

ROW_COLUMNS = {
    "subject": "Participant label without 'sub-'",
    "session": "Session label without 'ses-'; empty when the dataset has no sessions",
    "run": "Run label, unique within participant, session and task",
    "task": "Task label; n/a for an anatomical image",
    "event": "Row of the event (of the first of merged ones) in its events file, counted from 0; n/a for an "
    "anatomical image",
    "onset": {"Description": "Onset of the event in its run; n/a for an anatomical image", "Units": "s"},
    "duration": {"Description": "Duration of the event; n/a for an anatomical image", "Units": "s"},
    "first_volume": "First volume of the run in the sample, counted from 0; n/a for an anatomical image",
    "last_volume": "Last volume of the run in the sample; n/a for an anatomical image",
    "trial_type": "Level of the target column, as in the table that holds it",
    "class": "Class that the sample is labelled with",
}


def read_events(path: str | os.PathLike[str], target: str = "trial_type") -> pd.DataFrame:
    """Read an events file.

    Parameters
    ----------
    path
        TSV file with the columns onset, duration and ``target``.
    target
        Column with the levels.

    Returns
    -------
    DataFrame
        ``onset`` and ``duration`` in seconds (float; a duration may be NaN, which is BIDS' ``n/a``),
        ``level`` (str), indexed by the row in the file from 0.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has an onset that is not a number or a duration
        that is negative or text.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"The events file {path} cannot be read: {error}",
            "a tab-separated file with the columns onset, duration and " + target,
            "correct the file",
        ) from error
    for column in ("onset", "duration", target):
        if column not in table.columns:
            remedy = nearest_name(column, list(table.columns))
            raise InputError(
                f"The events file {path} has no column {column!r}.",
                f"one of its columns: {', '.join(map(str, table.columns))}",
                remedy or ("choose a column with --target" if column == target else "add the column"),
            )
    onset = pd.to_numeric(table["onset"].str.strip(), errors="coerce")
    duration = pd.to_numeric(table["duration"].str.strip(), errors="coerce")
    text = table["duration"].str.strip().str.lower()
    _refuse_rows(path, "onset", table["onset"], ~np.isfinite(onset), "a number of seconds")
    wrong = (duration.isna() & ~text.isin(["n/a", "nan", ""])) | (duration < 0) | np.isinf(duration)
    _refuse_rows(path, "duration", table["duration"], wrong, "a number of seconds, 0 or more, or n/a")
    level = table[target].str.strip()
    return pd.DataFrame({"onset": onset.astype(float), "duration": duration.astype(float), "level": level})


def _refuse_rows(
    path: str | os.PathLike[str], column: str, values: pd.Series, wrong: pd.Series, expected: str
) -> None:
    if wrong.any():
        rows = np.flatnonzero(wrong)
        # Line 1 of the file holds the names of the columns.
        lines = ", ".join(str(row + 2) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise InputError(
            f"{path} has {column} {values.iloc[rows[0]]!r} (line {lines}).",
            expected,
            "correct the events file",
        )


def parse_classes(
    specs: Sequence[str], levels: Iterable[str] = (), leave_out: Set[str] = NOT_CLASSES
) -> dict[str, tuple[str, ...]]:
    """Read the classes that were asked for.

    Parameters
    ----------
    specs
        ``LEVEL``, or ``NAME=LEVEL[+LEVEL...]`` to rename or merge. Empty: all levels but those of
        ``leave_out``, sorted.
    levels
        The levels there are. A spec that is one of them is taken literally even if it contains = or +.
    leave_out
        Levels in lower case that are no classes unless asked for: ``n/a``, rest, baseline and fixation.

    Returns
    -------
    dict
        Class -> its levels, in the order asked.

    Raises
    ------
    InputError
        If a class or level appears twice, or a spec has no name or level.
    """
    present = set(levels)
    if not specs:
        return {level: (level,) for level in sorted(present) if level.lower() not in leave_out}
    classes: dict[str, tuple[str, ...]] = {}
    used: dict[str, str] = {}
    for spec in specs:
        name, equals, merged = (spec, "", "") if spec in present else spec.partition("=")
        members = (spec,) if not equals else (merged,) if merged in present else tuple(merged.split("+"))
        if not name or not all(members):
            raise InputError(
                f"The class {spec!r} lacks a name or a level.", "LEVEL or NAME=LEVEL+LEVEL", "see --classes"
            )
        if name in classes:
            raise InputError(f"The class {name!r} is asked for twice.", "each class once", "see --classes")
        for level in members:
            if level in used:
                raise InputError(
                    f"The level {level!r} is in the classes {used[level]!r} and {name!r}.",
                    "each level in one class",
                    "leave it out of one of them",
                )
            used[level] = name
        classes[name] = members
    return classes


def resolve_classes(
    events: Iterable[str | os.PathLike[str]], target: str = "trial_type", classes: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return class -> levels for a list of events files, checked against the levels in them.

    Raises
    ------
    InputError
        If a level does not exist (the nearest is named) or fewer than two classes are left.
    """
    levels: set[str] = set()
    for path in dict.fromkeys(map(Path, events)):
        levels |= set(read_events(path, target)["level"])
    return check_classes(parse_classes(classes, levels), levels, target)


def check_classes(
    classes: dict[str, tuple[str, ...]],
    levels: Iterable[str],
    target: str = "trial_type",
    table: str = "the events files",
) -> dict[str, tuple[str, ...]]:
    """Return ``classes`` if all their levels exist and there are at least two; else InputError.

    ``target`` and ``table`` are the names of the column and of what holds it.
    """
    present = sorted(set(levels))
    for name, members in classes.items():
        for level in members:
            if level not in present:
                where = "" if level == name else f" of class {name!r}"
                raise InputError(
                    f"Unknown class: the level {level!r}{where} is not in the column {target!r} of {table}.",
                    f"one of {', '.join(present)}",
                    nearest_name(level, present) or "see --classes and --target",
                )
    if len(classes) < 2:
        raise InputError(
            f"Only {len(classes)} class ({', '.join(classes) or 'none'}) in the column {target!r} of "
            f"{table}.",
            f"two classes or more; levels there are: {', '.join(present) or 'none'}",
            "choose another --target, or more --classes",
        )
    return classes


def labelled_events(
    path: str | os.PathLike[str],
    target: str,
    classes: Mapping[str, Sequence[str]],
    merge: float | None = None,
) -> pd.DataFrame:
    """Return the events of a file that belong to a class.

    Parameters
    ----------
    path, target
        See :func:`read_events`.
    classes
        Class -> its levels.
    merge
        Longest gap in seconds between events that are made into one
        (:func:`bids_xai.bids.blocks.merge_events`); None: none are.

    Returns
    -------
    DataFrame
        ``event`` (row in the file), ``onset``, ``duration``, ``trial_type`` (the level), ``class``;
        ordered by onset.
    """
    table = read_events(path, target)
    class_of = {level: name for name, members in classes.items() for level in members}
    table["class"] = table["level"].map(class_of)
    table = table.rename_axis("event").reset_index().rename(columns={"level": "trial_type"})
    table = table.sort_values("onset", kind="stable").reset_index(drop=True)
    chosen = table.dropna(subset=["class"]) if merge is None else merge_events(table, merge, path)
    return chosen[["event", "onset", "duration", "trial_type", "class"]].reset_index(drop=True)


def event_windows(
    run: RunRecord,
    events: pd.DataFrame,
    *,
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
) -> list[npt.NDArray[np.int64]]:
    """Return the volumes of each labelled event of a run.

    Raises
    ------
    InputError
        If an onset lies outside the run, a duration that is needed is missing, or a window leaves the run.
    """
    end = run.n_volumes * run.tr
    windows = []
    numbers, levels = events["event"].tolist(), events["trial_type"].tolist()
    onsets, durations = events["onset"].tolist(), events["duration"].tolist()
    for number, level, onset, duration in zip(numbers, levels, onsets, durations, strict=True):
        name = f"event {number} ({level}) of {run.events}"
        if not 0 <= onset < end:
            raise InputError(
                f"The onset of {name} is {onset:g} s, outside the run: {run.bold} lasts {end:g} s "
                f"({run.n_volumes} volumes of {run.tr:g} s).",
                f"onsets from 0 to below {end:g} s",
                "check that the events file belongs to this run and that the image is complete",
            )
        unknown = math.isnan(duration)
        if unknown and (window is None or anchor == "offset"):
            raise InputError(
                f"The duration of {name} is n/a.",
                "a duration, which the window needs",
                "give --window START STOP relative to the onset",
            )
        windows.append(
            window_volumes(
                onset,
                0.0 if unknown else duration,
                run.tr,
                run.n_volumes,
                window=window,
                anchor=anchor,
                shift=shift,
                event=name,
                run=str(run.bold),
            )
        )
    return windows


def sample_rows(
    run: RunRecord,
    *,
    target: str,
    classes: Mapping[str, Sequence[str]],
    sample: str = "events",
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
    merge: float | None = None,
) -> tuple[pd.DataFrame, list[npt.NDArray[np.int64]]]:
    """Return the labelled rows of a run and the volumes of each of its events.

    Parameters
    ----------
    run
        The run.
    target, classes, merge
        See :func:`labelled_events`.
    sample
        ``"events"`` or ``"volumes"`` (:func:`bids_xai.images.windows.take_samples`).
    window, anchor, shift
        See :func:`bids_xai.images.windows.window_bounds`.

    Returns
    -------
    rows : DataFrame
        One row per sample with the columns of :data:`ROW_COLUMNS`, in the order of
        :func:`bids_xai.images.windows.take_samples`.
    windows : list of arrays
        Volume numbers per event.
    """
    events = labelled_events(run.events, target, classes, merge)
    windows = event_windows(run, events, window=window, anchor=anchor, shift=shift)
    rows = events.iloc[sample_events(windows, sample)].reset_index(drop=True)
    for end, column in ((0, "first_volume"), (-1, "last_volume")):
        of_events = [volumes[[end]] for volumes in windows]
        taken = of_events if sample == "events" else windows
        rows[column] = np.concatenate([np.empty(0, dtype=np.int64), *taken])
    rows.insert(0, "task", run.task)
    rows.insert(0, "run", run.run)
    rows.insert(0, "session", run.session)
    rows.insert(0, "subject", run.subject)
    return rows[list(ROW_COLUMNS)], windows
