"""Permuted labels, and what p-values they can give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from bids_xai.errors import InputError
from bids_xai.inference import PERMUTATIONS

Codes = npt.NDArray[np.int64]
_REMEDIES = {
    "subject": "choose --permute between, which exchanges the labels of whole people",
    "run": "choose --permute subject, which exchanges labels between the runs of a person",
    "fold": "choose --permute run, which exchanges labels between the folds of a run",
    "between": "use --cv subject, or fewer folds (--n-folds)",
}


@dataclass(frozen=True)
class Exchange:
    """What may be exchanged: the labels of ``units`` within ``blocks``.

    Parameters
    ----------
    units
        Number of the unit (event, person or sample) of every sample, shape (n_samples,), from 0 without
        gaps.
    first
        First sample of every unit, shape (n_units,).
    blocks
        Block of every unit, shape (n_units,).
    """

    units: Codes
    first: Codes
    blocks: Codes


@dataclass(frozen=True)
class Origin:
    """What every sample is of: codes of shape (n_samples,); runs are unique over subjects, events over runs.

    ``folds`` is the number of the fold that leaves the sample out, or None.
    """

    subjects: Codes
    runs: Codes
    events: Codes
    folds: Codes | None = None


def permute_labels(
    y: Codes,
    scheme: str,
    subjects: Codes,
    runs: Codes,
    events: Codes,
    rng: np.random.Generator,
    folds: Codes | None = None,
    blocks: Codes | None = None,
) -> Codes:
    """Return labels as chance would deal them.

    Parameters
    ----------
    y
        Class codes, shape (n_samples,).
    scheme
        ``"subject"``, ``"run"``: the labels of whole events are exchanged within a subject or run, and all
        samples of an event keep a common label. ``"fold"``: the same within those events of a run that one
        fold leaves out. ``"between"``: the labels of whole people are exchanged,
        and all samples of a person keep a common label. ``"all"``: those of single samples are exchanged over
        everyone, as published (Gotsopoulos et al. 2018, section 2.9.1).
    subjects, runs, events
        Codes of the samples; runs are unique over subjects, events over runs.
    rng
        Source of the permutation.
    folds
        Number of the fold that leaves every sample out: ``"fold"`` and ``"between"`` exchange events and
        people of one fold only, so that the folds keep their class counts. None: one fold; ``"between"``
        also takes folds of one person each as one.
    blocks
        Block of every sample, such as a scanner: of what a scheme exchanges, only that of one block is. None:
        one block.

    Returns
    -------
    array, int64, shape (n_samples,)
        As many events (people, samples) of every class within every block as in ``y``.

    Raises
    ------
    InputError
        The samples of an event (a person) differ in class or block, or no block holds two classes.
    """
    exchange = _exchange(scheme, Origin(subjects, runs, events, folds), blocks)
    dealt = y[exchange.first].copy()
    _check_exchangeable(y, dealt, exchange, scheme, within_blocks=blocks is not None)
    for block in np.unique(exchange.blocks):
        members = np.flatnonzero(exchange.blocks == block)
        dealt[members] = dealt[rng.permutation(members)]
    return dealt[exchange.units]


def natural_scheme(cv: str, y: Codes | None = None, subjects: Codes | None = None) -> str:
    """Return the exchange that keeps the class counts of every fold.

    Where runs are left out of balanced runs, an exchange over a whole subject unbalances them: a class that a
    held-out run has too much of is missing from its training set, and the null lies below chance. Where
    events are left out, an exchange over a whole run unbalances the folds likewise, and the null lies off
    chance. Where every person is of one class, nothing can be exchanged within a person: people exchange
    their labels.

    Parameters
    ----------
    cv
        What is left out: ``"run"`` gives ``"run"``, ``"event"`` gives ``"fold"``, anything else
        ``"subject"``.
    y, subjects
        Class and person of every sample, shape (n_samples,): one class per person gives ``"between"``.
    """
    if y is not None and subjects is not None:
        _, first, people = np.unique(subjects, return_index=True, return_inverse=True)
        if np.array_equal(y[first][people], y):
            return "between"
    return {"run": "run", "event": "fold"}.get(cv, "subject")


def within_subject(of: Origin) -> Exchange:
    """Exchange events within a subject."""
    return _of_units(of.events, of.subjects)


def within_run(of: Origin) -> Exchange:
    """Exchange events within a run."""
    return _of_units(of.events, of.runs)


def within_fold(of: Origin) -> Exchange:
    """Exchange those events of a run that one fold leaves out."""
    if of.folds is None:
        return within_run(of)
    _, cells = np.unique(np.stack([of.runs, of.folds], axis=1), axis=0, return_inverse=True)
    return _of_units(of.events, cells.reshape(-1).astype(np.int64))


def between_subjects(of: Origin) -> Exchange:
    """Exchange people: within a fold, or over everyone where folds are of one person."""
    exchange = _of_units(of.subjects, np.zeros_like(of.subjects) if of.folds is None else of.folds)
    one_person_each = len(np.unique(exchange.blocks)) == len(exchange.first)
    return replace(exchange, blocks=np.zeros_like(exchange.blocks)) if one_person_each else exchange


def over_all(of: Origin) -> Exchange:
    """Exchange single samples over everyone."""
    samples = np.arange(len(of.events))
    return Exchange(samples, samples, np.zeros_like(samples))


def p_value(observed: float, null: npt.NDArray[np.float64]) -> float:
    """Return ``(b + 1) / (m + 1)``, b of m null values being at least the observed one.

    Phipson and Smyth (2010): never 0, and valid.
    """
    return float((np.count_nonzero(reaches(null, observed)) + 1) / (len(null) + 1))


def reaches(null: npt.NDArray[np.float64], observed: float) -> npt.NDArray[np.bool_]:
    """Return which null values are at least the observed one; ties count."""
    # Sums of the same counts may differ in the last bit.
    return np.asarray(null >= observed - 1e-12)


def design_p(
    y: Codes,
    scheme: str,
    subjects: Codes,
    runs: Codes,
    events: Codes,
    folds: Codes | None = None,
    blocks: Codes | None = None,
) -> float:
    """Return the smallest p-value that a design can give, however many permutations there are.

    One over the number of distinct relabelings; parameters as in :func:`permute_labels`.
    """
    exchange = _exchange(scheme, Origin(subjects, runs, events, folds), blocks)
    labels = y[exchange.first]
    log_number = 0.0
    for block in np.unique(exchange.blocks):
        counts = np.bincount(labels[exchange.blocks == block])
        log_number += gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    return float(np.exp(-log_number))


def smallest_p(n_permutations: int, y: Codes, scheme: str, *codes: Any, **more: Any) -> float:
    """Return the smallest p-value that counting a number of permutations of a design can give.

    ``max(1 / (m + 1), 1 / number of distinct relabelings)``; parameters as in :func:`design_p`.
    """
    return max(1.0 / (n_permutations + 1), design_p(y, scheme, *codes, **more))


def _exchange(scheme: str, of: Origin, blocks: Codes | None) -> Exchange:
    """Return what a scheme exchanges, within blocks of the samples."""
    exchange: Exchange = PERMUTATIONS[scheme].load()(of)
    if blocks is None:
        return exchange
    if not np.array_equal(blocks[exchange.first][exchange.units], blocks):
        unit = "person" if scheme == "between" else "event"
        raise InputError(
            f"The samples of one {unit} are of different levels of the --exchange-within column.",
            f"one level per {unit}, whose samples --permute {scheme} keeps together",
            "choose a column that is constant within people, such as a site"
            if unit == "person"
            else "choose a column that is constant within events",
        )
    of_units = np.stack([exchange.blocks, blocks[exchange.first]])
    _, cells = np.unique(of_units, axis=1, return_inverse=True)
    return replace(exchange, blocks=cells.reshape(-1).astype(np.int64))


def _check_exchangeable(
    y: Codes, of_units: Codes, exchange: Exchange, scheme: str, *, within_blocks: bool
) -> None:
    people = scheme == "between"
    if not np.array_equal(of_units[exchange.units], y):
        unit = "person" if people else "event"
        raise InputError(
            f"The samples of one {unit} belong to different classes.",
            f"one class per {unit}, whose samples --permute {scheme} keeps together",
            "choose --permute subject, which exchanges labels within a person"
            if people
            else "choose a --target that is constant within an event, or --permute all",
        )
    if len(np.unique(np.stack([exchange.blocks, of_units]), axis=1).T) == len(np.unique(exchange.blocks)):
        block, unit = ("fold", "people") if people else (scheme, "events")
        level = " and level of the --exchange-within column" if within_blocks else ""
        raise InputError(
            f"With --permute {scheme} nothing can be exchanged: every {block}{level} has {unit} of one class "
            "only.",
            f"{unit} of two or more classes within a {block}{level}",
            "leave out --exchange-within, or name another column"
            if within_blocks
            else _REMEDIES.get(scheme, "choose classes that the samples have"),
        )


def _of_units(units: Codes, blocks: Codes) -> Exchange:
    """Return the exchange of units, which are of the block that their first sample is of."""
    _, first, numbers = np.unique(units, return_index=True, return_inverse=True)
    return Exchange(numbers.astype(np.int64), first.astype(np.int64), blocks[first])
