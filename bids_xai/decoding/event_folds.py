"""Folds that leave whole events (blocks, trials) out of a run, for subjects with one run or few."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

import numpy as np
import pandas as pd

from bids_xai.decoding.splits import Fold
from bids_xai.errors import InputError

# An event that begins this soon after another of its class shares its response, or is of one block with it.
TOUCHING_S = 5.0
_TOLERANCE_S = 1e-6
_RUN = ["subject", "session", "task", "run"]
_TIMES = ["onset", "duration", "first_volume", "last_volume"]


def leave_events_out(rows: pd.DataFrame, *, n_folds: int | None, seed: int) -> Iterator[Fold]:  # noqa: ARG001
    """Yield, within every subject, folds that leave the n-th event of every class out of every run.

    Fold n trains on the other events of the same subject. There are as many folds as the smallest number of
    events that a class has in a run of the subject, N; where a class has more, its event k (from 0, by onset)
    is left out in fold ``k mod N``. Every run must have all classes, so that a run gives away none.

    Parameters
    ----------
    rows
        One row per sample: ``subject, session, task, run, event, class``, and ``onset``, ``duration`` (s),
        ``first_volume`` and ``last_volume`` of the event or sample.
    n_folds, seed
        Not used: nothing is dealt at random.

    Raises
    ------
    InputError
        A class has fewer than two events in a run, an event begins at most :data:`TOUCHING_S` after the end
        of the one of its class before it, or events of two folds share volumes.
    """
    absent = [name for name in _TIMES if name not in rows or (name != "duration" and rows[name].isna().any())]
    if absent:
        raise InputError(
            f"--cv event: the samples have no {', '.join(absent)}.",
            "when each event took place, as the participant level writes it",
            "run the participant level again",
        )
    samples = rows.reset_index(drop=True)
    samples[_RUN] = samples[_RUN].fillna("")
    events = _events(samples)
    _refuse_touching(events)
    _refuse_shared_volumes(events)
    keys = [*_RUN, "event"]
    fold_of = events.set_index(keys)["fold"]
    folds = fold_of.loc[pd.MultiIndex.from_frame(samples[keys])].to_numpy(np.int64)
    for subject, own in samples.groupby("subject", sort=True):
        positions = own.index.to_numpy(np.int64)
        of_own = folds[positions]
        for number in range(int(of_own.max()) + 1):
            held_out = of_own == number
            yield Fold(f"sub-{subject}_event-{number + 1}", positions[~held_out], positions[held_out])


def _events(samples: pd.DataFrame) -> pd.DataFrame:
    """Return one row per event, ordered by onset, with the fold that leaves it out."""
    events = (
        samples.groupby([*_RUN, "event"], sort=True)
        .agg(
            **{"class": ("class", "first")},
            onset=("onset", "first"),
            duration=("duration", "first"),
            first_volume=("first_volume", "min"),
            last_volume=("last_volume", "max"),
        )
        .reset_index()
        .sort_values("onset", kind="stable")
    )
    counts = events.groupby([*_RUN, "class"]).size().unstack(fill_value=0)
    for run, row in zip(counts.index.tolist(), counts.to_numpy(), strict=True):
        fewest = int(row.min())
        if fewest < 2:
            name = counts.columns[int(row.argmin())]
            raise InputError(
                f"--cv event: class {name!r} has {fewest} event{'' if fewest == 1 else 's'} in "
                f"{_run_name(run)}.",
                "two events or more of every class in every run: one to leave out, one to train on",
                "leave the class out with --classes, give a smaller --merge-events, or use --cv run or "
                "--cv subject",
            )
    n_folds = counts.groupby("subject").min().min(axis=1)
    place = events.groupby([*_RUN, "class"]).cumcount()
    return events.assign(fold=place % events["subject"].map(n_folds))


def _refuse_touching(events: pd.DataFrame) -> None:
    """Refuse events of a class that follow each other so closely that one gives the other away."""
    for (*run, name), own in events.groupby([*_RUN, "class"]):
        onset, number = own["onset"].to_numpy(np.float64), own["event"].tolist()
        end = onset + own["duration"].fillna(0.0).to_numpy(np.float64)
        # The next event of a class is always of another fold, and later ones are further off.
        gaps = onset[1:] - end[:-1]
        touching = np.flatnonzero(gaps <= TOUCHING_S + _TOLERANCE_S)
        if len(touching):
            k = int(touching[0])
            raise InputError(
                f"--cv event: in {_run_name(run)}, event {number[k + 1]} ({name}, at {onset[k + 1]:g} s) "
                f"begins {gaps[k]:.3g} s after the end of event {number[k]} of the same class, and one would "
                f"be left out while the other trains ({len(touching)} such pairs of this class).",
                f"more than {TOUCHING_S:g} s between events of a class: else a block is on both sides",
                f"make one event of a block with --merge-events {TOUCHING_S:g} (at the participant level); "
                "where other events lie in between, use --cv run or --cv subject",
            )


def _refuse_shared_volumes(events: pd.DataFrame) -> None:
    """Refuse windows that overlap: a volume would be in training and in the test."""
    for run, own in events.groupby(_RUN):
        taken: dict[int, tuple[int, int]] = {}
        columns = (own[name].astype(int) for name in ("event", "fold", "first_volume", "last_volume"))
        for event, fold, first, last in zip(*columns, strict=True):
            for volume in range(first, last + 1):
                other, fold_of_other = taken.setdefault(volume, (event, fold))
                if fold_of_other != fold:
                    raise InputError(
                        f"--cv event: in {_run_name(run)}, the windows of events {other} and {event} share "
                        f"volume {volume}, which would be left out and train.",
                        "windows of events that do not overlap",
                        "shorten --window, or use --cv run or --cv subject",
                    )


def _run_name(run: Iterable[Hashable]) -> str:
    names = zip(("sub", "ses", "task", "run"), run, strict=True)
    return "_".join(f"{name}-{value}" for name, value in names if value)
