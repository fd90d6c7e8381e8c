"""Events that follow each other closely, as pictures in a block do, made into one."""

from __future__ import annotations

import os

import pandas as pd

from bids_xai.errors import InputError

# Onsets and durations are decimal fractions: a gap this much above the limit counts as at the limit.
_TOLERANCE_S = 1e-6


def merge_events(events: pd.DataFrame, seconds: float, path: str | os.PathLike[str]) -> pd.DataFrame:
    """Make one event of consecutive events of a class.

    An event joins the one before it if both are of one class and it begins at most ``seconds`` after the end
    of that one. An event of another class, or of none, in between ends a block.

    Parameters
    ----------
    events
        All events of a run, ordered by onset: ``event`` (row in the file), ``onset``, ``duration``,
        ``trial_type`` and ``class`` (NaN: of no class).
    seconds
        Longest gap within a block, 0 or more.
    path
        The events file, for messages.

    Returns
    -------
    DataFrame
        The events of a class, merged: ``event`` and ``onset`` of the first, ``duration`` to the end of the
        last, ``trial_type`` of all (joined by + where they differ).

    Raises
    ------
    InputError
        If the duration of an event of a class is not known.
    """
    of_class = events["class"].notna()
    unknown = events[of_class & events["duration"].isna()]
    if len(unknown):
        first = unknown.iloc[0]
        raise InputError(
            f"The duration of event {first['event']} ({first['trial_type']}) of {path} is n/a.",
            "durations, which --merge-events measures gaps from",
            "add the durations, or leave out --merge-events",
        )
    streak = (events["class"] != events["class"].shift()).cumsum()
    end = events["onset"] + events["duration"]
    # A long event may reach beyond the end of those that began after it.
    reached = end.groupby(streak).cummax().shift()
    begins = (streak != streak.shift()) | (events["onset"] - reached > seconds + _TOLERANCE_S)
    blocks = events.assign(end=end)[of_class].groupby(begins.cumsum()[of_class])
    merged = blocks.agg(
        event=("event", "first"),
        onset=("onset", "first"),
        end=("end", "max"),
        trial_type=("trial_type", lambda levels: "+".join(dict.fromkeys(levels))),
    )
    merged.insert(2, "duration", merged["end"] - merged["onset"])
    return merged.drop(columns="end").assign(**{"class": blocks["class"].first()}).reset_index(drop=True)
