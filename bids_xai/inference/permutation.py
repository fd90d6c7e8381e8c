"""Permuted labels, and what p-values they can give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from bids_xai.decoding.design import Design
from bids_xai.decoding.splits import Fold, are_of_people
from bids_xai.errors import InputError
from bids_xai.inference import PERMUTATIONS

Codes = npt.NDArray[np.int64]
_REMEDIES = {
    "subject": "choose --permute between, which exchanges the labels of whole people",
    "run": "choose --permute subject, which exchanges labels between the runs of a person",
    "fold": "choose --permute run, which exchanges labels between the folds of a run",
    "whole": "choose --permute subject, which exchanges labels within a person",
}
# The smallest p-value that a default exchange must be able to give.
_FINE_ENOUGH = 1e-4


@dataclass(frozen=True)
class Exchange:
    """What may be exchanged: the labels of ``units`` within ``blocks``, and the folds that people are of.

    Parameters
    ----------
    units
        Number of the unit (event, person or sample) of every sample, shape (n_samples,), from 0 without
        gaps.
    first
        First sample of every unit, shape (n_units,).
    blocks
        Block of every unit, shape (n_units,).
    ranks
        Place of every sample in the sequence of its unit, whose labels are exchanged in their order, shape
        (n_samples,). None: a unit has one label.
    of_people
        Whether the units are people, whose codes they bear: these exchange folds as well.
    """

    units: Codes
    first: Codes
    blocks: Codes
    ranks: Codes | None = None
    of_people: bool = False

    def values(self, y: Codes) -> Codes:
        """Return what a unit gives to another: the code of its label, or of its sequence of labels."""
        if self.ranks is None:
            return y[self.first]
        table = np.full((len(self.first), int(self.ranks.max()) + 1), -1, dtype=np.int64)
        table[self.units, self.ranks] = y
        return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def labels(self, y: Codes, donors: Codes) -> Codes:
        """Return the labels of the samples whose units take those of other units, shape (n_samples,)."""
        if self.ranks is None:
            return y[self.first][donors][self.units]
        table = np.zeros((len(self.first), int(self.ranks.max()) + 1), dtype=np.int64)
        table[self.units, self.ranks] = y
        return np.asarray(table[donors[self.units], self.ranks])


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
        fold leaves out. ``"between"``: the labels of whole people are exchanged, and all samples of a person
        keep a common label. ``"whole"``: people exchange the labels of all their samples, in their order,
        with people who have as many. ``"all"``: those of single samples are exchanged over everyone, as
        published (Gotsopoulos et al. 2018, section 2.9.1).
    subjects, runs, events
        Codes of the samples; runs are unique over subjects, events over runs.
    rng
        Source of the permutation.
    folds
        Number of the fold that leaves every sample out: ``"fold"`` exchanges events of one fold only. None:
        one fold.
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
    return exchange.labels(y, _donors(y, exchange, scheme, rng, within_blocks=blocks is not None))


def permute_design(design: Design, scheme: str, rng: np.random.Generator) -> tuple[Codes, tuple[Fold, ...]]:
    """Return labels as chance would deal them (:func:`permute_labels`), and the folds that go with them.

    People who exchange labels exchange their folds, which may have been dealt by class
    (:meth:`bids_xai.decoding.design.Design.moved_folds`).
    """
    exchange = exchange_of(design, scheme)
    donors = _donors(design.labels, exchange, scheme, rng, within_blocks=design.blocks is not None)
    moved = design.moved_folds(donors) if exchange.of_people else design.folds
    return exchange.labels(design.labels, donors), moved


def exchange_of(design: Design, scheme: str) -> Exchange:
    """Return what a scheme exchanges in a design."""
    *codes, blocks = design.exchange_codes
    return _exchange(scheme, Origin(*codes), blocks)


def _donors(
    y: Codes, exchange: Exchange, scheme: str, rng: np.random.Generator, *, within_blocks: bool
) -> Codes:
    """Return the unit whose labels every unit takes."""
    _check_exchangeable(y, exchange, scheme, within_blocks=within_blocks)
    donors = np.arange(len(exchange.first))
    for block in np.unique(exchange.blocks):
        members = np.flatnonzero(exchange.blocks == block)
        donors[members] = rng.permutation(members)
    return donors


def natural_scheme(
    cv: str,
    y: Codes | None = None,
    subjects: Codes | None = None,
    runs: Codes | None = None,
    events: Codes | None = None,
) -> str:
    """Return the exchange that keeps the class counts of every fold, and changes labels.

    Where runs are left out of balanced runs, an exchange over a whole subject unbalances them: a class that a
    held-out run has too much of is missing from its training set, and the null lies below chance. Where
    events are left out, an exchange over a whole run unbalances the folds likewise, and the null lies off
    chance. Where every person is of one class, nothing can be exchanged within a person: people exchange
    their labels. Where most people are, an exchange within the others would leave most labels as they are:
    people exchange the sequences of their labels. Where people are left out, events are exchanged within
    their runs if every run has two classes and there are arrangements enough: samples are standardised run by
    run, and an exchange between runs does not keep what that takes away (measured on noise with balanced
    runs: 5.7-6.5 % of voxels below .05, against 4.4-5.2 % within runs).

    Parameters
    ----------
    cv
        What is left out: ``"run"``, and ``"kfold"`` of one subject's runs, give ``"run"``, ``"event"`` gives
        ``"fold"``, anything else ``"run"`` or ``"subject"``.
    y, subjects
        Class and person of every sample, shape (n_samples,): one class per person gives ``"between"``,
        classes that are mostly of people (:func:`bids_xai.decoding.splits.are_of_people`) ``"whole"``.
    runs, events
        Run and event of every sample, shape (n_samples,).
    """
    within = {"run": "run", "event": "fold"}
    if y is None or subjects is None:
        return within.get(cv, "subject")
    _, first, people = np.unique(subjects, return_index=True, return_inverse=True)
    if np.array_equal(y[first][people], y):
        return "between"
    if cv in within or (len(first) == 1 and cv == "kfold"):
        return within.get(cv, "run")
    if are_of_people(y, subjects):
        return "whole"
    return "run" if _may_stay_in_runs(y, subjects, runs, events) else "subject"


def _may_stay_in_runs(y: Codes, subjects: Codes, runs: Codes | None, events: Codes | None) -> bool:
    """Return whether every run has two classes, and runs give p-values that are small enough."""
    if runs is None or events is None:
        return False
    several = all(len(np.unique(y[runs == run])) > 1 for run in np.unique(runs))
    return several and design_p(y, "run", subjects, runs, events) <= _FINE_ENOUGH


def expected_change(
    y: Codes,
    scheme: str,
    subjects: Codes,
    runs: Codes,
    events: Codes,
    folds: Codes | None = None,
    blocks: Codes | None = None,
) -> float:
    """Return the expected share of samples whose label a permutation changes.

    Mean over the samples of ``1 - n(same label in their place, in their block) / n(units of their block)``;
    parameters as in :func:`permute_labels`.
    """
    exchange = _exchange(scheme, Origin(subjects, runs, events, folds), blocks)
    of_sample = exchange.blocks[exchange.units]
    place = np.zeros_like(y) if exchange.ranks is None else exchange.ranks
    # Every unit counts once in a place, however many samples it has there.
    cells = np.stack([of_sample, place, y, exchange.units])
    _, first = np.unique(cells, axis=1, return_index=True)
    same: dict[tuple[int, ...], int] = {}
    for cell in zip(of_sample[first], place[first], y[first], strict=True):
        same[cell] = same.get(cell, 0) + 1
    sizes = np.bincount(exchange.blocks)
    kept = [same[cell] / sizes[cell[0]] for cell in zip(of_sample, place, y, strict=True)]
    return float(1 - np.mean(kept))


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
    """Exchange people, who take each other's place in the folds too."""
    return replace(_of_units(of.subjects, np.zeros_like(of.subjects)), of_people=True)


def whole_blocks(of: Origin) -> Exchange:
    """Exchange the sequences of labels of people who have as many samples in as many events, in their order.

    Sessions keep their order, so that a trend over time is in permuted labels as it is in the true ones.
    """
    exchange = _of_units(of.subjects, np.zeros_like(of.subjects))
    ranks = np.zeros_like(of.subjects)
    structures = []
    for unit in range(len(exchange.first)):
        own = np.flatnonzero(exchange.units == unit)
        ranks[own] = np.arange(len(own))
        runs, events = (np.unique(codes[own], return_inverse=True)[1] for codes in (of.runs, of.events))
        structures.append((tuple(_by_appearance(runs)), tuple(_by_appearance(events))))
    known = {structure: number for number, structure in enumerate(dict.fromkeys(structures))}
    blocks = np.array([known[structure] for structure in structures], dtype=np.int64)
    return replace(exchange, blocks=blocks, ranks=ranks, of_people=True)


def _by_appearance(codes: npt.NDArray) -> list[int]:
    order = {code: number for number, code in enumerate(dict.fromkeys(codes.tolist()))}
    return [order[code] for code in codes.tolist()]


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
    labels = exchange.values(y)
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
        unit = "person" if exchange.of_people else "event"
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


def _check_exchangeable(y: Codes, exchange: Exchange, scheme: str, *, within_blocks: bool) -> None:
    people = exchange.of_people
    if exchange.ranks is None and not np.array_equal(y[exchange.first][exchange.units], y):
        unit = "person" if people else "event"
        raise InputError(
            f"The samples of one {unit} belong to different classes.",
            f"one class per {unit}, whose samples --permute {scheme} keeps together",
            "choose --permute subject, which exchanges labels within a person, or whole, which exchanges "
            "those of all sessions of people"
            if people
            else "choose a --target that is constant within an event, or --permute all",
        )
    cells = np.stack([exchange.blocks, exchange.values(y)])
    if len(np.unique(cells, axis=1).T) == len(np.unique(exchange.blocks)):
        level = "level of the --exchange-within column" if within_blocks else ""
        block = {"between": "", "whole": "number of samples", "all": ""}.get(scheme, scheme)
        each = " and ".join(word for word in (block, level) if word)
        unit = "people" if people else "events"
        raise InputError(
            f"With --permute {scheme} nothing can be exchanged: every {each} has {unit} of one class only."
            if each
            else f"With --permute {scheme} nothing can be exchanged: all {unit} are of one class.",
            f"{unit} of two or more classes{f' within a {each}' if each else ''}",
            "leave out --exchange-within, or name another column"
            if within_blocks
            else _REMEDIES.get(scheme, "choose classes that the samples have"),
        )


def _of_units(units: Codes, blocks: Codes) -> Exchange:
    """Return the exchange of units, which are of the block that their first sample is of."""
    _, first, numbers = np.unique(units, return_index=True, return_inverse=True)
    return Exchange(numbers.astype(np.int64), first.astype(np.int64), blocks[first])
