"""Permuted labels, and what p-values they can give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from bids_xai.errors import InputError
from bids_xai.inference import PERMUTATIONS

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exchange:
    """What may be exchanged: the labels of ``units`` within ``blocks``.

    Parameters
    ----------
    units
        Number of the unit (event or sample) of every sample, shape (n_samples,), from 0 without gaps.
    first
        First sample of every unit, shape (n_units,).
    blocks
        Block of every unit, shape (n_units,).
    """

    units: Codes
    first: Codes
    blocks: Codes


def permute_labels(
    y: Codes, scheme: str, subjects: Codes, runs: Codes, events: Codes, rng: np.random.Generator
) -> Codes:
    """Return labels as chance would deal them.

    Parameters
    ----------
    y
        Class codes, shape (n_samples,).
    scheme
        ``"subject"``, ``"run"``: the labels of whole events are exchanged within a subject or run, and all
        samples of an event keep a common label. ``"all"``: those of single samples are exchanged over
        everyone, as published (Gotsopoulos et al. 2018, section 2.9.1).
    subjects, runs, events
        Codes of the samples; runs are unique over subjects, events over runs.
    rng
        Source of the permutation.

    Returns
    -------
    array, int64, shape (n_samples,)
        As many of every class within every block as in ``y``.

    Raises
    ------
    InputError
        The samples of an event differ in class, or no block holds events of two classes.
    """
    exchange: Exchange = PERMUTATIONS[scheme].load()(subjects, runs, events)
    dealt = y[exchange.first].copy()
    _check_exchangeable(y, dealt, exchange, scheme)
    for block in np.unique(exchange.blocks):
        members = np.flatnonzero(exchange.blocks == block)
        dealt[members] = dealt[rng.permutation(members)]
    return dealt[exchange.units]


def natural_scheme(cv: str) -> str:
    """Return the exchange that keeps the class counts of every fold.

    Where runs are left out of balanced runs, an exchange over a whole subject unbalances them: a class that a
    held-out run has too much of is missing from its training set, and the null lies below chance.

    Parameters
    ----------
    cv
        What is left out: ``"run"`` gives ``"run"``, anything else ``"subject"``.
    """
    return "run" if cv == "run" else "subject"


def within_subject(subjects: Codes, runs: Codes, events: Codes) -> Exchange:  # noqa: ARG001
    """Exchange events within a subject."""
    return _of_events(subjects, events)


def within_run(subjects: Codes, runs: Codes, events: Codes) -> Exchange:  # noqa: ARG001
    """Exchange events within a run."""
    return _of_events(runs, events)


def over_all(subjects: Codes, runs: Codes, events: Codes) -> Exchange:  # noqa: ARG001
    """Exchange single samples over everyone."""
    samples = np.arange(len(events))
    return Exchange(samples, samples, np.zeros_like(samples))


def p_value(observed: float, null: npt.NDArray[np.float64]) -> float:
    """Return ``(b + 1) / (m + 1)``, b of m null values being at least the observed one.

    Phipson and Smyth (2010): never 0, and valid.
    """
    # Sums of the same counts may differ in the last bit: a tie counts as reached.
    reached = np.count_nonzero(null >= observed - 1e-12)
    return float((reached + 1) / (len(null) + 1))


def smallest_p(
    n_permutations: int, y: Codes, scheme: str, subjects: Codes, runs: Codes, events: Codes
) -> float:
    """Return the smallest p-value that a number of permutations and a design can give.

    ``max(1 / (m + 1), 1 / number of distinct relabelings)``.
    """
    exchange: Exchange = PERMUTATIONS[scheme].load()(subjects, runs, events)
    labels = y[exchange.first]
    log_number = 0.0
    for block in np.unique(exchange.blocks):
        counts = np.bincount(labels[exchange.blocks == block])
        log_number += gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    return float(max(1.0 / (n_permutations + 1), np.exp(-log_number)))


def _check_exchangeable(y: Codes, of_units: Codes, exchange: Exchange, scheme: str) -> None:
    if not np.array_equal(of_units[exchange.units], y):
        raise InputError(
            "The samples of one event belong to different classes.",
            f"one class per event, whose samples --permute {scheme} keeps together",
            "choose a --target that is constant within an event, or --permute all",
        )
    if len(np.unique(np.stack([exchange.blocks, of_units]), axis=1).T) == len(np.unique(exchange.blocks)):
        raise InputError(
            f"With --permute {scheme} nothing can be exchanged: every {scheme} has events of one class only.",
            f"events of two or more classes within a {scheme}",
            "choose --permute all, which exchanges labels between subjects",
        )


def _of_events(blocks: Codes, events: Codes) -> Exchange:
    _, first, units = np.unique(events, return_index=True, return_inverse=True)
    return Exchange(units.astype(np.int64), first.astype(np.int64), blocks[first])
