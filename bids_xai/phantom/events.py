"""When things happen in a run of the phantom, and the haemodynamic responses to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_xai.phantom.parameters import PhantomParameters

_LEAD_S, _TAIL_S = 6.0, 8.0
_GAPS_S = (1.0, 3.0)
_TRIAL_GAIN_SD = 0.2


@dataclass(frozen=True)
class Events:
    """Events of one run, in order of onset.

    Attributes
    ----------
    onsets
        Seconds from the first volume.
    codes
        Class of each event, 0 to n_classes - 1.
    gains
        Relative strength of the response to each event.
    duration
        Seconds, the same for all.
    """

    onsets: NDArray[np.float64]
    codes: NDArray[np.int64]
    gains: NDArray[np.float64]
    duration: float


def run_length(parameters: PhantomParameters) -> int:
    """Volumes of a run: the same for every run, with 8 s left after the last event."""
    n_events = parameters.trials_per_class * parameters.classes
    seconds = _LEAD_S + n_events * (parameters.duration + np.mean(_GAPS_S)) + _TAIL_S
    return math.ceil(seconds / parameters.tr)


def draw_events(parameters: PhantomParameters, rng: np.random.Generator) -> Events:
    """Draw a run: all classes equally often, in an order and with gaps (1 to 3 s) drawn at random.

    The order is a plain shuffle, not balanced in blocks, so that under the null every relabelling of a run's
    events is as likely as the one used.
    """
    n_events = parameters.trials_per_class * parameters.classes
    codes = rng.permutation(np.arange(n_events) % parameters.classes)
    gaps = np.round(rng.permutation(np.linspace(*_GAPS_S, n_events)), 1)
    onsets = _LEAD_S + np.concatenate([[0.0], np.cumsum(parameters.duration + gaps)[:-1]])
    gains = np.maximum(rng.normal(1, _TRIAL_GAIN_SD, n_events), 0)
    return Events(np.round(onsets, 1), codes, gains, parameters.duration)


def responses(events: Events, n_classes: int, tr: float, n_volumes: int) -> NDArray[np.float32]:
    """Compute the expected response to each class: boxcars of the events convolved with the Glover HRF.

    The HRF has unit sum, so that a very long event of gain 1 reaches 1.

    Parameters
    ----------
    events
        What happened.
    n_classes
        Number of classes.
    tr
        Seconds between volumes; volume k is taken at k * tr.
    n_volumes
        Length of the run.

    Returns
    -------
    ndarray, (n_classes, n_volumes)

    Source: Glover 1999, NeuroImage 9(4), 416-429; nilearn.glm.
    """
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    frame_times = np.arange(n_volumes) * tr
    result = np.zeros((n_classes, n_volumes), dtype=np.float32)
    for code in range(n_classes):
        own = events.codes == code
        condition = np.stack([events.onsets[own], np.full(own.sum(), events.duration), events.gains[own]])
        result[code] = compute_regressor(condition, "glover", frame_times)[0][:, 0]
    return result
