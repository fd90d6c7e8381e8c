"""Which volumes of a run belong to an event, and samples made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError

# Onsets are decimal fractions: a volume this much before a bound counts as at the bound.
_TOLERANCE_S = 1e-6


def window_bounds(
    onset: float,
    duration: float,
    *,
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
) -> tuple[float, float]:
    """Return start and stop of an event's window in seconds from the start of the run.

    Without ``window``: ``[onset + shift, onset + duration + shift)``. With it:
    ``[anchor + start, anchor + stop)`` where the anchor is the onset or the event's end (``offset``).

    Raises
    ------
    InputError
        If the anchor is unknown, or the window is empty.
    """
    if anchor not in ("onset", "offset"):
        raise InputError(f"Unknown anchor {anchor!r} of the window.", "'onset' or 'offset'")
    if window is None:
        start, stop = onset + shift, onset + duration + shift
    else:
        zero = onset if anchor == "onset" else onset + duration
        start, stop = zero + window[0], zero + window[1]
    if not stop > start:
        raise InputError(
            f"The window from {start:g} to {stop:g} s is empty.",
            "a stop after the start, and events with a duration unless a window is given",
            "give --window START STOP in seconds",
        )
    return start, stop


def leaves_run(start: float, stop: float, end: float) -> bool:
    """Tell whether a window ``[start, stop)`` leaves a run of ``end`` seconds."""
    return start < -_TOLERANCE_S or stop > end + _TOLERANCE_S


def window_volumes(
    onset: float,
    duration: float,
    tr: float,
    n_volumes: int,
    *,
    window: tuple[float, float] | None = None,
    anchor: str = "onset",
    shift: float = 0.0,
    event: str = "the event",
    run: str = "the run",
) -> npt.NDArray[np.int64]:
    """Return the volumes k whose time ``k * tr`` lies in an event's window ``[start, stop)``.

    Parameters
    ----------
    onset, duration
        Of the event, in seconds.
    tr
        Repetition time in seconds.
    n_volumes
        Length of the run.
    window, anchor, shift
        See :func:`window_bounds`.
    event, run
        Names for messages.

    Returns
    -------
    array, int64
        Volume numbers from 0, ascending, at least one.

    Raises
    ------
    InputError
        If the window leaves the run ``[0, n_volumes * tr]``, or no volume falls into it.
    """
    start, stop = window_bounds(onset, duration, window=window, anchor=anchor, shift=shift)
    end = n_volumes * tr
    if leaves_run(start, stop, end):
        raise InputError(
            f"The window of {event} (onset {onset:g} s, duration {duration:g} s) runs from {start:g} to "
            f"{stop:g} s and leaves {run}, which lasts {end:g} s ({n_volumes} volumes of {tr:g} s).",
            f"windows within 0 and {end:g} s",
            "shorten --window, lower --hrf-shift, or leave the event out of the events file",
        )
    first = math.ceil((start - _TOLERANCE_S) / tr)
    last = math.ceil((stop - _TOLERANCE_S) / tr)
    if last <= first:
        raise InputError(
            f"No volume falls into the window of {event} in {run}: {start:g} to {stop:g} s, volumes "
            f"every {tr:g} s.",
            "a window at least as long as the repetition time",
            "give --window START STOP in seconds or, for pictures in blocks, --merge-events",
        )
    return np.arange(first, last, dtype=np.int64)


def without_left_out(
    windows: Sequence[npt.NDArray[np.int64]], kept: npt.NDArray[np.bool_]
) -> tuple[list[int], list[npt.NDArray[np.int64]]]:
    """Return the windows without volumes that are left out; those that lose more than half of them go.

    Parameters
    ----------
    windows
        The volumes of each event (:func:`window_volumes`).
    kept
        (n_volumes,) bool.

    Returns
    -------
    chosen : list of int
        Places in ``windows`` of those that stay.
    windows : list of arrays
        Their volumes, at least one.
    """
    inside = [volumes[kept[volumes]] for volumes in windows]
    chosen = [
        place
        for place, (all_of, left) in enumerate(zip(windows, inside, strict=True))
        if len(left) and 2 * len(left) >= len(all_of)
    ]
    return chosen, [inside[place] for place in chosen]


def take_samples(
    series: npt.NDArray, windows: Sequence[npt.NDArray[np.int64]], sample: str = "events"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Make samples of a run's time series.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    windows
        The volumes of each event (:func:`window_volumes`).
    sample
        ``events``: a sample is the mean of an event's volumes; ``volumes``: each volume is one.

    Returns
    -------
    samples : array, float32, shape (n_samples, n_voxels)
    event : array, int64, shape (n_samples,)
        Which of ``windows`` a sample comes from.
    """
    event = sample_events(windows, sample)
    if sample == "volumes":
        chosen = np.concatenate([np.empty(0, dtype=np.int64), *windows])
        return np.asarray(series[chosen], dtype=np.float32), event
    out = np.empty((len(windows), series.shape[1]), dtype=np.float32)
    for row, volumes in enumerate(windows):
        out[row] = series[volumes].mean(axis=0, dtype=np.float64)
    return out, event


def sample_events(windows: Sequence[npt.NDArray[np.int64]], sample: str = "events") -> npt.NDArray[np.int64]:
    """Return for each sample which of ``windows`` it comes from (see :func:`take_samples`)."""
    if sample not in ("events", "volumes"):
        raise InputError(f"Unknown kind of sample {sample!r}.", "'events' or 'volumes'")
    repeats = [1 if sample == "events" else len(volumes) for volumes in windows]
    return np.repeat(np.arange(len(windows), dtype=np.int64), repeats)
