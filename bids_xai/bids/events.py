"""Events files: reading, classes, and the labelled rows that a run gives."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.bids.blocks import merge_events
from bids_xai.bids.names import check_file_names
from bids_xai.decoding.design import TAKEN_NAMES, check_class_names
from bids_xai.errors import InputError
from bids_xai.images.windows import (
    leaves_run,
    sample_events,
    window_bounds,
    window_volumes,
    without_left_out,
)
from bids_xai.registry import nearest_name
from bids_xai.tables import MISSING, alike, is_missing, number, read_frame, read_table

if TYPE_CHECKING:
    from bids_xai.bids.records import RunRecord

LOGGER = logging.getLogger("bids_xai.bids")
# Levels that are not classes unless they are asked for by name.
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


class Events(NamedTuple):
    """The rows of an events file, in its order.

    Parameters
    ----------
    onset, duration
        In seconds, float64, shape (n_rows,); NaN is BIDS' ``n/a``.
    level
        Levels of the target column.
    line
        Number of each row's line in the file, counted from 1.
    """

    onset: npt.NDArray[np.float64]
    duration: npt.NDArray[np.float64]
    level: list[str]
    line: list[int]


def read_events(path: str | os.PathLike[str], target: str = "trial_type") -> Events:
    """Read an events file; one that has not changed since is read from disk once.

    Parameters
    ----------
    path
        TSV file with the columns onset, duration and ``target``.
    target
        Column with the levels.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has an onset or a duration that is neither a number nor
        missing, or a duration that is negative.
    """
    path = Path(path)
    try:
        status = path.stat()
        stamp: tuple[int, ...] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError:
        # The reader says what is wrong.
        stamp = ()
    return _read_events(path, target, stamp)


@cache
def _read_events(path: Path, target: str, stamp: tuple[int, ...]) -> Events:  # noqa: ARG001 (of the memo)
    table = read_table(path, "the events file")
    onsets = table.column("onset", "add the column: BIDS requires it")
    durations = table.column("duration", "add the column: BIDS requires it")
    levels = table.column(target, "choose a column with --target")
    onset, duration = (np.array([number(cell) for cell in cells]) for cells in (onsets, durations))
    for name, cells, wrong, expected in (
        ("onset", onsets, ~np.isfinite(onset), "a number of seconds"),
        (
            "duration",
            durations,
            ~np.isfinite(duration) | (duration < 0),
            "a number of seconds, 0 or more, or n/a",
        ),
    ):
        rows = [row for row in np.flatnonzero(wrong) if not is_missing(cells[row])]
        if rows:
            raise _wrong(path, name, cells[rows[0]], [table.lines[row] for row in rows], expected)
    # Levels repeat: each is kept once.
    return Events(onset, duration, [sys.intern(level) for level in levels], table.lines)


def _wrong(path: Path, column: str, cell: str, lines: Sequence[int], expected: str) -> InputError:
    listed = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    return InputError(f"{path} has {column} {cell!r} (line {listed}).", expected, "correct the events file")


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
        levels |= set(read_events(path, target).level)
    return check_classes(parse_classes(classes, levels), levels, target)


def check_classes(
    classes: dict[str, tuple[str, ...]],
    levels: Iterable[str],
    target: str = "trial_type",
    table: str = "the events files",
) -> dict[str, tuple[str, ...]]:
    """Return ``classes`` if all levels exist, there are two or more, and no name is taken; else InputError.

    ``target`` and ``table`` are the names of the column and of what holds it.
    """
    present = sorted(set(levels))
    check_class_names(list(classes), TAKEN_NAMES)
    for name, members in classes.items():
        for level in members:
            if level not in present:
                where = "" if level == name else f" of class {name!r}"
                raise InputError(
                    f"Unknown class: the level {level!r}{where} is not in the column {target!r} of {table}.",
                    f"one of {', '.join(present)}",
                    nearest_name(level, present) or "see --classes and --target",
                )
    check_file_names(classes)
    if len(classes) < 2:
        raise InputError(
            f"Only {len(classes)} class ({', '.join(classes) or 'none'}) in the column {target!r} of "
            f"{table}.",
            f"two classes or more; levels there are: {', '.join(present) or 'none'}",
            "choose another --target, or more --classes",
        )
    return classes


def warn_alike(
    classes: Mapping[str, Sequence[str]], levels: Iterable[str], target: str, table: str = "the events files"
) -> None:
    """Log levels that differ only in how they are written, unless they are of one class.

    Parameters as in :func:`check_classes`.
    """
    class_of = {level: name for name, members in classes.items() for level in members}
    apart = [group for group in alike(levels) if len({class_of.get(level) for level in group}) > 1]
    if apart:
        LOGGER.warning(
            "Levels of the column %r of %s that differ only in how they are written are not taken as one "
            "class: %s. To merge them, use --classes NAME=%s.",
            target,
            table,
            "; ".join(" and ".join(map(repr, group)) for group in apart),
            "+".join(apart[0]),
        )


def labelled_events(
    path: str | os.PathLike[str],
    target: str,
    classes: Mapping[str, Sequence[str]],
    merge: float | None = None,
) -> dict[str, list[Any]]:
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
    dict
        Columns ``event`` (row in the file), ``onset``, ``duration``, ``trial_type`` (the level), ``class``;
        ordered by onset.

    Raises
    ------
    InputError
        If the onset of an event of a class is missing.
    """
    events = read_events(path, target)
    class_of = {level: name for name, members in classes.items() for level in members}
    of_class = [class_of.get(level) for level in events.level]
    onset = events.onset.tolist()
    unknown = [row for row, name in enumerate(of_class) if name is not None and math.isnan(onset[row])]
    if unknown:
        raise InputError(
            f"{path} has onset n/a of {events.level[unknown[0]]!r} (line "
            f"{', '.join(str(events.line[row]) for row in unknown[:5])}).",
            "a number of seconds for every event of a class",
            "correct the events file, or leave the level out with --classes",
        )
    # Where blocks are made, events of no class end them: all are needed that have a time.
    rows = [
        row
        for row, name in enumerate(of_class)
        if (name is not None if merge is None else not math.isnan(onset[row]))
    ]
    rows.sort(key=onset.__getitem__)
    duration = events.duration.tolist()
    columns: dict[str, list[Any]] = {
        "event": rows,
        "onset": [onset[row] for row in rows],
        "duration": [duration[row] for row in rows],
        "trial_type": [events.level[row] for row in rows],
        "class": [of_class[row] for row in rows],
    }
    if merge is None:
        return columns
    merged = merge_events(pd.DataFrame(columns), merge, path)
    return {name: merged[name].tolist() for name in columns}


@dataclass(frozen=True)
class RunSamples:
    """The labelled samples of a run.

    Parameters
    ----------
    columns
        One entry per sample in each of :data:`ROW_COLUMNS`.
    windows
        Volume numbers per event that gives samples.
    outside
        The events of a class that give none, as their window leaves the run: what each is, for messages.
    left_out
        Those that give none as most of the volumes of their window are left out.
    """

    columns: dict[str, list[Any]]
    windows: list[npt.NDArray[np.int64]]
    outside: list[str]
    left_out: list[str] = field(default_factory=list)


def rows_frame(columns: Sequence[Mapping[str, list[Any]]]) -> pd.DataFrame:
    """Return the rows of several runs, one below the other, as a table of :data:`ROW_COLUMNS`."""
    joined = {name: [cell for run in columns for cell in run[name]] for name in ROW_COLUMNS}
    frame = pd.DataFrame(joined)
    whole = dict.fromkeys(("event", "first_volume", "last_volume"), np.int64)
    return frame.astype({**whole, "onset": np.float64, "duration": np.float64})


def event_windows(
    run: RunRecord,
    events: Mapping[str, list[Any]],
    *,
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
) -> tuple[list[int], list[npt.NDArray[np.int64]], list[str]]:
    """Return which labelled events of a run have their window in it, the volumes of each, and the others.

    Parameters
    ----------
    run
        The run.
    events
        See :func:`labelled_events`.
    window, anchor, shift
        See :func:`bids_xai.images.windows.window_bounds`.

    Returns
    -------
    inside : list of int
        Places of the events in ``events``.
    windows : list of arrays
        Their volumes.
    outside : list of str
        The events whose window leaves the run.

    Raises
    ------
    InputError
        If a duration that is needed is missing, or no volume falls into a window.
    """
    inside, windows, outside = [], [], []
    end = run.n_volumes * run.tr
    bounds: dict[str, Any] = {"window": window, "anchor": anchor, "shift": shift}
    columns = (events[name] for name in ("event", "trial_type", "onset", "duration"))
    for place, (row, level, onset, duration) in enumerate(zip(*columns, strict=True)):
        unknown = math.isnan(duration)
        if unknown and (window is None or anchor == "offset"):
            raise InputError(
                f"The duration of event {row} ({level}) of {run.events} is n/a.",
                "a duration, which the window needs",
                "give --window START STOP relative to the onset",
            )
        known = 0.0 if unknown else duration
        start, stop = window_bounds(onset, known, **bounds)
        if leaves_run(start, stop, end):
            outside.append(f"event {row} ({level}, onset {onset:g} s, window {start:g} to {stop:g} s)")
            continue
        name = f"event {row} ({level}) of {run.events}"
        length = (run.tr, run.n_volumes)
        windows.append(window_volumes(onset, known, *length, **bounds, event=name, run=str(run.bold)))
        inside.append(place)
    return inside, windows, outside


def run_samples(
    run: RunRecord,
    *,
    target: str,
    classes: Mapping[str, Sequence[str]],
    sample: str = "events",
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
    merge: float | None = None,
    kept: npt.NDArray[np.bool_] | None = None,
) -> RunSamples:
    """Return the labelled samples of a run and the volumes of each of its events.

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
    kept
        (n_volumes,) bool: volumes that are not left out (:func:`bids_xai.images.windows.without_left_out`);
        None: all but the run's dummies.

    Returns
    -------
    RunSamples
        Samples in the order of :func:`bids_xai.images.windows.take_samples`.
    """
    events = labelled_events(run.events, target, classes, merge)
    inside, windows, outside = event_windows(run, events, window=window, anchor=anchor, shift=shift)
    kept = np.arange(run.n_volumes) >= run.dummies if kept is None else kept
    chosen, windows = without_left_out(windows, kept)
    names = [f"event {events['event'][place]} ({events['trial_type'][place]})" for place in inside]
    left_out = [name for place, name in enumerate(names) if place not in set(chosen)]
    inside = [inside[place] for place in chosen]
    # Per sample, which of the windows it is of.
    places = sample_events(windows, sample).tolist()
    columns: dict[str, list[Any]] = {
        name: [value] * len(places)
        for name, value in zip(
            ("subject", "session", "run", "task"),
            (run.subject, run.session, run.run, run.task),
            strict=True,
        )
    }
    columns |= {name: [cells[inside[place]] for place in places] for name, cells in events.items()}
    if sample == "events":
        columns["first_volume"] = [int(volumes[0]) for volumes in windows]
        columns["last_volume"] = [int(volumes[-1]) for volumes in windows]
    else:
        columns["first_volume"] = [int(volume) for volumes in windows for volume in volumes]
        columns["last_volume"] = columns["first_volume"]
    return RunSamples({name: columns[name] for name in ROW_COLUMNS}, windows, outside, left_out)


def sample_rows(run: RunRecord, **options: Any) -> tuple[pd.DataFrame, list[npt.NDArray[np.int64]]]:
    """Return the labelled rows of a run as a table, and the volumes of each of its events.

    Parameters as in :func:`run_samples`.
    """
    samples = run_samples(run, **options)
    return rows_frame([samples.columns]), samples.windows


def check_outside(run: RunRecord, samples: RunSamples, share: float) -> str | None:
    """Return what to warn of where windows of events leave their run; None where none does.

    Parameters
    ----------
    run, samples
        The run and its samples.
    share
        Largest share of the run's events that may be left out.

    Raises
    ------
    InputError
        If more events leave the run.
    """
    n_outside, n_events = len(samples.outside), len(samples.outside) + len(samples.windows)
    if not n_outside:
        return None
    end = run.n_volumes * run.tr
    shown = ", ".join(samples.outside[:3]) + (", ..." if n_outside > 3 else "")
    found = (
        f"{n_outside} of {n_events} events of {run.events} have a window that leaves the run, which lasts "
        f"{end:g} s ({run.n_volumes} volumes of {run.tr:g} s): {shown}."
    )
    if n_outside > share * n_events:
        raise InputError(
            found,
            f"windows within 0 and {end:g} s for all but a share of {share:g} of the events of a run",
            "check that the events file belongs to this run and that the image is complete; shorten "
            "--window, lower --hrf-shift, or raise --max-events-outside, which leaves them out",
        )
    return f"Left out: {found}"


def read_rows(path: str | os.PathLike[str], exchange_within: str | None = None) -> pd.DataFrame:
    """Read the rows of samples that :func:`run_samples` gave; labels that they lack are empty.

    Parameters
    ----------
    path
        A TSV file with :data:`ROW_COLUMNS`.
    exchange_within
        ``COLUMN`` or ``TABLE:COLUMN``; that of the blocks, which are labels. None: there are none.
    """
    labels = [] if exchange_within is None else [exchange_within.rpartition(":")[2]]
    return read_frame(path, labels=labels).fillna({"session": "", "task": "", "run": ""})
