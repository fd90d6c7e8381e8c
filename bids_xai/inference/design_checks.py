"""What a design cannot show: folds that are biased, and permutations that change little."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.design import Design
from bids_xai.decoding.splits import are_of_people
from bids_xai.inference.permutation import Codes, exchange_of, expected_change

# Permutations that change fewer labels than this, relative to dealing over everyone, change little.
_LITTLE = 0.5
# Folds whose classes are this much more equal than the exchange makes them were balanced.
_BALANCED = 0.5


def design_warnings(design: Design, scheme: str | None) -> list[str]:
    """Return what is to be known of the accuracies and p-values of a design.

    Parameters
    ----------
    design
        Labels, people and folds.
    scheme
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`); None: there are no
        permutations.
    """
    found = []
    if leaves_out_classes(design):
        found.append(
            f"Classes are of whole participants, and --cv {design.cv} leaves out participants of one class "
            "at a time: the others of that class are then fewer in training, and accuracies lie below chance "
            "where there is nothing to find. Compare them with those of permuted labels, not with one over "
            "the number of classes; --cv kfold, the default here, has folds balanced by class."
        )
    if scheme is None:
        return found
    if unbalances_folds(design, scheme):
        found.append(
            f"--permute {scheme} exchanges labels between folds, whose classes the true labels have in equal "
            "shares: permuted accuracies lie somewhat below chance, and p-values of accuracies are somewhat "
            "too small. The default exchange keeps the shares."
        )
    if scheme == "all" and are_of_people(design.labels, design.subjects) and _has_several(design):
        found.append(
            "--permute all exchanges single samples, and those of one participant, who is of one class, are "
            "alike: p-values are too small. The default exchanges whole participants."
        )
    change, possible = label_change(design, scheme)
    if change < _LITTLE * possible:
        found.append(
            f"With --permute {scheme} a permutation changes the labels of {100 * change:.0f} % of the "
            f"samples on average; labels dealt over everyone would change {100 * possible:.0f} %. Permuted "
            "labels are much like the true ones, and what is there may not be found."
        )
    return found


def label_change(design: Design, scheme: str) -> tuple[float, float]:
    """Return the expected share of labels that a permutation changes, and that of dealing over everyone."""
    counts = np.bincount(design.labels)
    possible = 1 - float((counts**2).sum()) / len(design.labels) ** 2
    return expected_change(design.labels, scheme, *design.exchange_codes), possible


def leaves_out_classes(design: Design) -> bool:
    """Return whether classes are of people, and folds leave out people of some classes only."""
    n_classes = len(np.unique(design.labels))
    lacking = [len(np.unique(design.labels[fold.test])) < n_classes for fold in design.folds]
    return are_of_people(design.labels, design.subjects) and bool(np.mean(lacking) > 0.5)


def unbalances_folds(design: Design, scheme: str) -> bool:
    """Return whether the true labels are in more equal shares in the folds than permuted labels would be.

    A class that a held-out fold has too much of is missing from its training set, so that the accuracy lies
    below chance. The unevenness ``sum (n(fold, class) - n(fold) p(class))^2`` over the units that are
    exchanged with each other is compared with its expectation when they are dealt at random (that of a
    hypergeometric distribution).
    """
    exchange = exchange_of(design, scheme)
    if exchange.of_people:  # their folds move with them
        return False
    labels = design.labels[exchange.first]
    for folds in _parts(design):
        of_units = folds[exchange.first]
        true, expected = 0.0, 0.0
        for block in np.unique(exchange.blocks):
            own = (exchange.blocks == block) & (of_units >= 0)
            counts = _crossed(of_units[own], labels[own])
            n, sizes, shares = counts.sum(), counts.sum(axis=1), counts.sum(axis=0) / max(counts.sum(), 1)
            if len(sizes) < 2 or n < 2:
                continue
            true += float(((counts - np.outer(sizes, shares)) ** 2).sum())
            expected += float((sizes * (n - sizes)).sum() / (n - 1) * (shares * (1 - shares)).sum())
        if true < _BALANCED * expected:
            return True
    return False


def _parts(design: Design) -> Iterator[Codes]:
    """Yield, for every repetition, the number of the fold that leaves a sample out; -1 where none does."""
    for repeat in range(design.n_repeats):
        codes = np.full(len(design.labels), -1, dtype=np.int64)
        for number, fold in enumerate(design.folds):
            if fold.repeat == repeat:
                codes[fold.test] = number
        if len(np.unique(codes[codes >= 0])) > 1:
            yield codes


def _crossed(rows: Codes, columns: Codes) -> npt.NDArray[np.float64]:
    _, i = np.unique(rows, return_inverse=True)
    _, j = np.unique(columns, return_inverse=True)
    counts = np.zeros((i.max(initial=-1) + 1, j.max(initial=-1) + 1))
    np.add.at(counts, (i, j), 1)
    return counts


def _has_several(design: Design) -> bool:
    return len(design.labels) > len(design.people)
