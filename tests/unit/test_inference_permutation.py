"""Permuted labels and p-values, against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.errors import InputError
from bids_xai.inference import PERMUTATIONS
from bids_xai.inference.permutation import natural_scheme, p_value, permute_labels, smallest_p


def _design(
    n_subjects: int = 3, n_runs: int = 2, n_events: int = 6, n_volumes: int = 2
) -> tuple[np.ndarray, ...]:
    """Return labels, subjects, runs, events; unequal classes, events of several samples."""
    event = np.arange(n_subjects * n_runs * n_events)
    of_event = np.array([0, 1, 2, 0, 1, 1])[event % 6]
    events = np.repeat(event, n_volumes)
    runs = events // n_events
    return np.repeat(of_event, n_volumes), runs // n_runs, runs, events


@pytest.mark.parametrize(("scheme", "block"), [("subject", 0), ("run", 1), ("all", None)])
def test_labels_stay_within_their_blocks(scheme: str, block: int | None, rng: np.random.Generator) -> None:
    y, *codes = _design()
    blocks = np.zeros_like(y) if block is None else codes[block]
    permuted = permute_labels(y, scheme, *codes, rng)
    assert (permuted != y).any()
    for b in np.unique(blocks):
        np.testing.assert_array_equal(np.bincount(permuted[blocks == b]), np.bincount(y[blocks == b]))


@pytest.mark.parametrize("scheme", ["subject", "run"])
def test_samples_of_an_event_keep_a_common_label(scheme: str, rng: np.random.Generator) -> None:
    y, subjects, runs, events = _design()
    order = rng.permutation(len(y))  # samples in any order
    permuted = permute_labels(y[order], scheme, subjects[order], runs[order], events[order], rng)
    for event in np.unique(events):
        assert len(np.unique(permuted[events[order] == event])) == 1


def test_labels_leave_their_run_within_subject_and_their_subject_over_all(rng: np.random.Generator) -> None:
    y, subjects, runs, events = _design()

    def moved(scheme: str, blocks: np.ndarray) -> bool:
        permuted = permute_labels(y, scheme, subjects, runs, events, rng)
        counted = [np.histogram2d(blocks, labels, [blocks.max() + 1, 3])[0] for labels in (permuted, y)]
        return bool((counted[0] != counted[1]).any())

    assert any(moved("subject", runs) for _ in range(5))
    assert any(moved("all", subjects) for _ in range(5))


def test_every_relabeling_is_equally_likely() -> None:
    y, subjects = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    rng, samples = np.random.default_rng(3), np.arange(6)
    draws = [tuple(permute_labels(y, "subject", subjects, subjects, samples, rng)) for _ in range(2400)]
    found, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(found) == 6 * 2
    assert ((counts - 200) ** 2 / 200).sum() < 31.3  # chi-squared, 11 degrees of freedom, p = .001


def test_the_same_seed_gives_the_same_labels() -> None:
    y, *codes = _design()
    first, second = (permute_labels(y, "subject", *codes, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_design_without_exchange_is_refused(rng: np.random.Generator) -> None:
    y, subjects = np.array([0, 1, 0, 1]), np.arange(4)
    with pytest.raises(InputError, match="--permute all"):
        permute_labels(y, "subject", subjects, subjects, subjects, rng)
    assert sorted(permute_labels(y, "all", subjects, subjects, subjects, rng)) == [0, 0, 1, 1]


def test_events_of_two_classes_are_refused(rng: np.random.Generator) -> None:
    zeros = np.zeros(4, dtype=np.int64)
    with pytest.raises(InputError, match="one event belong to different classes"):
        permute_labels(np.array([0, 1, 0, 1]), "run", zeros, zeros, np.array([0, 0, 1, 1]), rng)


def test_an_unknown_scheme_is_refused_with_the_nearest(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="did you mean 'subject'"):
        permute_labels(np.array([0, 1]), "subjects", *[np.zeros(2, np.int64)] * 3, rng)


def test_every_scheme_loads() -> None:
    for entry in PERMUTATIONS.values():
        assert callable(entry.load())


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(-6, 6))
def test_p_value_is_the_rank_of_the_observed_among_all(null: list[int], observed: int) -> None:
    p = p_value(observed, np.array(null, dtype=np.float64))
    together = sorted([*null, observed], reverse=True)
    rank_of_observed = len(together) - together[::-1].index(observed)  # ties count as larger
    assert p == pytest.approx(rank_of_observed / len(together))
    assert 0 < p <= 1


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=2))
def test_smallest_p_counts_distinct_relabelings(blocks: list[list[int]]) -> None:
    y = np.concatenate(blocks)
    subjects = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    number = np.prod([len(set(itertools.permutations(block))) for block in blocks])
    samples = np.arange(len(y))
    assert smallest_p(10**9, y, "subject", subjects, subjects, samples) == pytest.approx(1 / number)
    assert smallest_p(3, y, "subject", subjects, subjects, samples) == pytest.approx(max(1 / 4, 1 / number))


def test_smallest_p_does_not_overflow() -> None:
    y, zeros = np.arange(20000) % 8, np.zeros(20000, dtype=np.int64)
    assert smallest_p(999, y, "all", zeros, zeros, np.arange(20000)) == pytest.approx(0.001)


def test_the_natural_scheme_keeps_the_class_counts_of_every_fold(rng: np.random.Generator) -> None:
    subjects = np.repeat([0, 1], 12)
    runs = np.repeat([0, 1, 2, 3], 6)
    events = np.arange(24)
    y = np.tile([0, 0, 1, 1, 2, 2], 4)
    for cv, left_out in (("run", runs), ("subject", subjects)):
        permuted = permute_labels(y, natural_scheme(cv), subjects, runs, events, rng)
        assert not np.array_equal(permuted, y)
        for unit in np.unique(left_out):
            assert sorted(permuted[left_out == unit]) == sorted(y[left_out == unit])
