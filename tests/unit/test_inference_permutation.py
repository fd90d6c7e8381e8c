"""Permuted labels and p-values, against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.decoding.design import make_design
from bids_xai.errors import InputError
from bids_xai.inference import PERMUTATIONS
from bids_xai.inference.permutation import (
    design_p,
    expected_change,
    natural_scheme,
    p_value,
    permute_design,
    permute_labels,
    smallest_p,
)


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
    with pytest.raises(InputError, match="--permute between"):
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


def _groups(n_people: list[int], n_sessions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and subjects of people of one class each, with one to several samples."""
    of_person = np.repeat(np.arange(len(n_people)), n_people)
    times = np.resize(n_sessions, len(of_person))
    return np.repeat(of_person, times), np.repeat(np.arange(len(of_person)), times)


@settings(max_examples=60)
@given(
    n_people=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    n_sessions=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_people_exchange_their_labels(n_people: list[int], n_sessions: list[int], seed: int) -> None:
    y, subjects = _groups(n_people, n_sessions)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    y, subjects = y[order], subjects[order]
    events = np.arange(len(y))
    permuted = permute_labels(y, "between", subjects, events, events, rng)
    _, first = np.unique(subjects, return_index=True)
    for subject in np.unique(subjects):
        assert len(set(permuted[subjects == subject])) == 1
    np.testing.assert_array_equal(np.sort(permuted[first]), np.sort(y[first]))


def test_every_relabeling_of_people_is_equally_likely() -> None:
    y, subjects = _groups([2, 2], [1, 3])
    rng, events = np.random.default_rng(3), np.arange(len(y))
    draws = [tuple(permute_labels(y, "between", subjects, events, events, rng)) for _ in range(1200)]
    found, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(found) == 6
    assert ((counts - 200) ** 2 / 200).sum() < 20.5  # chi-squared, 5 degrees of freedom, p = .001


def test_people_are_exchanged_over_all_folds() -> None:
    y, subjects = _groups([3, 3], [2])
    events = np.arange(len(y))
    codes = (subjects, events, events)
    for folds in (None, subjects, subjects % 3):
        assert smallest_p(10**9, y, "between", *codes, folds=folds) == pytest.approx(1 / 20)


def test_people_of_several_classes_exchange_nothing_between_them(rng: np.random.Generator) -> None:
    subjects, y = np.repeat(np.arange(3), 2), np.array([0, 1] * 3)
    with pytest.raises(InputError, match=r"one person belong to different classes(.|\n)*--permute subject"):
        permute_labels(y, "between", subjects, np.arange(6), np.arange(6), rng)
    assert natural_scheme("subject", y, subjects) == "subject"
    assert natural_scheme("run", y, subjects) == "run"


@pytest.mark.parametrize("cv", ["subject", "kfold"])
def test_groups_of_people_are_exchanged_by_person(cv: str, rng: np.random.Generator) -> None:
    y, subjects = _groups([4, 4], [1, 2])
    order = rng.permutation(len(y))
    assert natural_scheme(cv, y[order], subjects[order]) == "between"


def _rows(y: np.ndarray, subjects: np.ndarray) -> pd.DataFrame:
    """Return rows of images, each of a session of its own."""
    rows = pd.DataFrame({"subject": subjects.astype(str), "class": y.astype(str)})
    return rows.assign(session=np.arange(len(y)).astype(str), task="", run="", event=np.nan)


@settings(max_examples=30, deadline=None)
@given(
    n_people=st.lists(st.integers(4, 7), min_size=2, max_size=3),
    cv=st.sampled_from(["kfold", "holdout", "subject"]),
    seed=st.integers(0, 20),
)
def test_people_exchange_their_folds_with_their_labels(n_people: list[int], cv: str, seed: int) -> None:
    y, subjects = _groups(n_people, [1, 2, 3])
    design, _ = make_design(_rows(y, subjects), cv=cv, n_folds=None if cv == "subject" else 3, seed=seed)
    labels, folds = permute_design(design, "between", np.random.default_rng(seed))
    _, first = np.unique(design.subjects, return_index=True)

    def counted(y: np.ndarray, part: np.ndarray) -> list[int]:
        return np.bincount(y[np.intersect1d(first, part)], minlength=len(n_people)).tolist()

    for old, new in zip(design.folds, folds, strict=True):
        assert (old.name, old.repeat) == (new.name, new.repeat)
        # As many people of every (permuted) class train and are tested as before, and none does both.
        assert counted(labels, new.train) == counted(design.labels, old.train)
        assert counted(labels, new.test) == counted(design.labels, old.test)
        assert not set(design.subjects[new.train]) & set(design.subjects[new.test])
        # All samples of a person go together.
        for part in (new.train, new.test):
            np.testing.assert_array_equal(np.isin(design.subjects, design.subjects[part]).nonzero()[0], part)


def test_folds_that_nobody_exchanges_stay(rng: np.random.Generator) -> None:
    y, subjects = _groups([4, 4], [2])
    design, _ = make_design(_rows(y, subjects), cv="kfold", n_folds=2)
    for old, new in zip(design.folds, design.moved_folds(np.arange(8)), strict=True):
        np.testing.assert_array_equal(old.train, new.train)
        np.testing.assert_array_equal(old.test, new.test)
    assert permute_design(design, "all", rng)[1] is design.folds


def test_holdout_tests_first_sessions_of_those_who_take_the_place() -> None:
    y, subjects = _groups([4, 4], [2])
    options = {"first_session": True, "test_size": 0.5}
    design, _ = make_design(_rows(y, subjects), cv="holdout", n_folds=2, split_options=options)
    _, folds = permute_design(design, "between", np.random.default_rng(1))
    for fold in folds:
        assert len(fold.test) == 4
        assert set(fold.test) < set(range(0, 16, 2))


def _sessions(sequences: list[str]) -> tuple[np.ndarray, ...]:
    """Return labels, subjects, runs, events of people with a letter per session."""
    subjects = np.repeat(np.arange(len(sequences)), [len(own) for own in sequences])
    y = np.array(["AB".index(letter) for own in sequences for letter in own])
    return y, subjects, np.arange(len(y)), np.arange(len(y))


def test_whole_sequences_are_exchanged_between_people_with_as_many_sessions() -> None:
    y, *codes = _sessions(["AA", "AB", "BB", "AAB", "ABB", "B"])
    rng = np.random.default_rng(0)
    draws = {tuple(permute_labels(y, "whole", *codes, rng)) for _ in range(400)}
    # Three sequences of two sessions, two of three: 3! x 2! relabelings.
    assert len(draws) == 12
    assert design_p(y, "whole", *codes) == pytest.approx(1 / 12)
    for drawn in draws:
        own = ["".join("AB"[label] for label in np.array(drawn)[codes[0] == person]) for person in range(6)]
        assert sorted(own[:3]) == ["AA", "AB", "BB"]
        assert sorted(own[3:5]) == ["AAB", "ABB"]
        assert own[5] == "B"


def test_sequences_go_by_the_order_of_sessions_and_of_events_within_them() -> None:
    y, subjects = np.array([0, 1, 1, 1, 0, 0]), np.array([0, 0, 0, 1, 1, 1])
    runs = np.array([0, 0, 1, 2, 3, 3])
    # Two events in one run and one in another are not as one and two.
    with pytest.raises(InputError, match="nothing can be exchanged"):
        permute_labels(y, "whole", subjects, runs, np.arange(6), np.random.default_rng(0))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text("AB", min_size=1, max_size=3), min_size=2, max_size=6),
    st.sampled_from(["whole", "subject", "all"]),
)
def test_the_expected_change_is_the_mean_over_permutations(sequences: list[str], scheme: str) -> None:
    y, *codes = _sessions(sequences)
    try:
        rng = np.random.default_rng(0)
        changed = [(permute_labels(y, scheme, *codes, rng) != y).mean() for _ in range(2000)]
    except InputError:
        assert expected_change(y, scheme, *codes) == pytest.approx(0)
        return
    assert expected_change(y, scheme, *codes) == pytest.approx(np.mean(changed), abs=0.04)


def test_an_exchange_that_changes_labels_is_chosen() -> None:
    # The example: 28 of 40 people never change.
    y, *codes = _sessions(["AA"] * 14 + ["BB"] * 14 + ["AB"] * 12)
    assert natural_scheme("kfold", y, codes[0]) == "whole"
    assert natural_scheme("subject", y, codes[0]) == "whole"
    # Within people, only those who change can: half of their labels; 2/7 of people have the same sequence.
    assert expected_change(y, "subject", *codes) == pytest.approx(0.3 * 0.5)
    assert expected_change(y, "whole", *codes) > 0.42
    # Where all but a few change, labels are exchanged within people.
    y, *codes = _sessions(["AB"] * 18 + ["AA", "BB"])
    assert natural_scheme("subject", y, codes[0]) == "subject"


def test_runs_of_several_classes_keep_their_labels_where_people_are_left_out() -> None:
    y, *codes = _design(n_subjects=4)
    assert natural_scheme("subject", y, *codes[:3]) == "run"
    # One run has one class only, or there are few arrangements: exchanged within people.
    one = np.where(codes[1] == codes[1][0], y[0], y)
    assert natural_scheme("subject", one, *codes[:3]) == "subject"
    y, subjects, runs = np.tile([0, 1], 6), np.repeat([0, 1, 2], 4), np.repeat(np.arange(6), 2)
    assert smallest_p(10**9, y, "run", subjects, runs, np.arange(12)) == pytest.approx(2.0**-6)
    assert natural_scheme("subject", y, subjects, runs, np.arange(12)) == "subject"


def test_runs_of_one_subject_keep_their_class_counts_in_folds_of_runs() -> None:
    y, subjects, *_ = _design(n_subjects=1)
    assert natural_scheme("kfold", y, subjects) == "run"


@settings(max_examples=40)
@given(st.sampled_from(["subject", "run", "all"]), st.integers(0, 50))
def test_labels_stay_within_the_blocks_of_the_user_and_of_the_scheme(scheme: str, seed: int) -> None:
    y, subjects, runs, events = _design(n_events=12)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 2, events.max() + 1)[events]  # levels that events are of
    try:
        permuted = permute_labels(y, scheme, subjects, runs, events, rng, None, blocks)
    except InputError:
        return
    of_scheme = {"subject": subjects, "run": runs, "all": np.zeros_like(y)}[scheme]
    for cell in set(zip(of_scheme, blocks, strict=True)):
        own = (of_scheme == cell[0]) & (blocks == cell[1])
        np.testing.assert_array_equal(np.bincount(permuted[own]), np.bincount(y[own]))


def test_people_are_exchanged_within_a_site() -> None:
    y, subjects = _groups([4, 4], [1, 2])
    site = subjects % 2
    codes = (subjects, np.arange(len(y)), np.arange(len(y)))
    rng = np.random.default_rng(0)
    draws = {tuple(permute_labels(y, "between", *codes, rng, None, site)) for _ in range(600)}
    # Two of four people at each of two sites: 6 x 6 relabelings.
    assert len(draws) == 36
    assert design_p(y, "between", *codes, blocks=site) == pytest.approx(1 / 36)
    assert smallest_p(19, y, "between", *codes, blocks=site) == pytest.approx(1 / 20)
    for drawn in draws:
        np.testing.assert_array_equal(np.bincount(np.array(drawn)[site == 0]), np.bincount(y[site == 0]))


def test_blocks_that_split_a_unit_or_leave_nothing_to_exchange_are_refused() -> None:
    y, subjects = _groups([2, 2], [2])
    codes, rng = (subjects, np.arange(len(y)), np.arange(len(y))), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"one person are of different levels(.|\n)*such as a site"):
        permute_labels(y, "between", *codes, rng, None, np.arange(len(y)) % 2)
    with pytest.raises(InputError, match=r"every level of(.|\n)*leave out --exchange-within"):
        permute_labels(y, "between", *codes, rng, None, y)
