"""Random partitions keep people whole and strata in their shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.decoding.design import make_design
from bids_xai.decoding.partitions import (
    bin_names,
    draw_balanced,
    first_sessions,
    holdout,
    leaky_volumes,
    undersample,
    validation_split,
)
from bids_xai.decoding.splits import make_folds
from bids_xai.errors import InputError


def cohort(n: int, seed: int = 0, most_sessions: int = 3) -> pd.DataFrame:
    """Return anatomical images of n people of two classes, with one to several sessions a person."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(n):
        own = {
            "subject": f"{person:03d}",
            "class": ("CN", "AD")[int(rng.random() < 0.4)] if person > 3 else ("CN", "AD")[person % 2],
            "sex": ("F", "M")[int(rng.random() < 0.4)],
        }
        age = float(rng.uniform(55, 90))
        for session in range(int(rng.integers(1, most_sessions + 1))):
            rows.append(own | {"session": f"{session}", "task": "", "run": "", "age": age + session})
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def persons(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per person, of the first session."""
    return rows.sort_values(["subject", "session"]).drop_duplicates("subject").set_index("subject")


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 80), seed=st.integers(0, 99), share=st.floats(0.05, 0.6))
def test_holdout_keeps_people_whole_and_strata_within_one_person(n: int, seed: int, share: float) -> None:
    rows = cohort(n, seed)
    stratify = ("class", "sex", "age:5")
    folds = list(holdout(rows, n_folds=2, seed=seed, test_size=share, stratify=stratify))
    everyone = persons(rows).assign(age=lambda own: own["age"] // 5)
    for fold in folds:
        assert fold.train.dtype == fold.test.dtype == np.int64
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.test])), np.arange(len(rows)))
        tested = everyone.index.isin(rows["subject"].iloc[fold.test])
        assert not set(rows["subject"].iloc[fold.test]) & set(rows["subject"].iloc[fold.train])
        for name, own in everyone.groupby("class"):
            of_class = everyone["class"] == name
            n_test = int(min(max(round(share * len(own)), 1), len(own) - 1))
            assert tested[of_class].sum() == n_test
            rate = n_test / len(own)
            for columns in (["sex"], ["sex", "age"]):
                for _, stratum in own.groupby(columns):
                    taken = tested[everyone.index.isin(stratum.index)].sum()
                    assert abs(taken - rate * len(stratum)) < 1


def test_splits_are_drawn_by_seed_and_whatever_the_order_of_the_rows() -> None:
    rows = cohort(40)
    folds = make_folds("holdout", rows, labels(rows), n_folds=3, seed=5)
    assert [fold.name for fold in folds] == ["split-1", "split-2", "split-3"]
    shuffled = rows.sample(frac=1, random_state=3)
    for fold, other in zip(
        folds, make_folds("holdout", shuffled, labels(shuffled), n_folds=3, seed=5), strict=True
    ):
        assert set(rows["subject"].iloc[fold.test]) == set(shuffled["subject"].iloc[other.test])
    different = make_folds("holdout", rows, labels(rows), n_folds=3, seed=6)
    drawn = {tuple(fold.test.tolist()) for fold in [*folds, *different]}
    assert len(drawn) == 6


def test_everybody_is_left_out_about_equally_often() -> None:
    rows = cohort(20, most_sessions=1)
    left_out, sets = np.zeros(20), set()
    for fold in holdout(rows, n_folds=400, seed=1, test_size=0.25, stratify=("class", "sex")):
        left_out[fold.test] += 1
        sets.add(tuple(fold.test))
    # Few are drawn twice: not only who starts is random.
    assert len(sets) > 200
    expected = np.empty(20)
    for name in ("AD", "CN"):
        own = (rows["class"] == name).to_numpy()
        expected[own] = 400 * round(0.25 * own.sum()) / own.sum()
    # A binomial standard deviation is 9 at most; five of them.
    assert np.abs(left_out - expected).max() < 45


def labels(rows: pd.DataFrame) -> np.ndarray:
    return (rows["class"] == "AD").to_numpy(np.int64)


def test_a_design_passes_the_options_of_its_split_on() -> None:
    rows = cohort(30).assign(event="")
    options = {"test_size": 0.5, "stratify": ["class", "sex"], "first_session": True}
    design, _ = make_design(rows, cv="holdout", n_folds=2, split_options=options)
    for fold in design.folds:
        assert rows["subject"].iloc[fold.test].is_unique
        assert set(rows["session"].iloc[fold.test]) == {"0"}
        assert abs(rows["subject"].iloc[fold.test].nunique() - 15) <= 1
    with pytest.raises(InputError, match="--cv kfold has no option 'test_size'"):
        make_design(rows, cv="kfold", split_options=options)
    with pytest.raises(InputError, match="has no option 'size'"):
        make_design(rows, cv="holdout", split_options={"size": 0.5})


def test_validation_takes_people_of_the_training_set_only() -> None:
    rows = cohort(50)
    (fold,) = holdout(rows, n_folds=1, seed=0)
    train, validation = validation_split(rows, fold.train, share=0.25, seed=4)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), fold.train)
    assert not set(rows["subject"].iloc[train]) & set(rows["subject"].iloc[validation])
    share = rows["subject"].iloc[validation].nunique() / rows["subject"].iloc[fold.train].nunique()
    assert share == pytest.approx(0.25, abs=0.05)
    again = validation_split(rows, fold.train, share=0.25, seed=np.random.SeedSequence(4))
    np.testing.assert_array_equal(again[1], validation)
    assert not np.array_equal(validation_split(rows, fold.train, share=0.25, seed=5)[1], validation)


def bold(n_people: int, n_runs: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"subject": f"{s}", "session": "", "task": "x", "run": f"{r}", "class": name}
            for s in range(n_people)
            for r in range(n_runs)
            for name in ("fear", "joy") * 3
        ]
    )


@pytest.mark.parametrize(("n_people", "unit"), [(5, "subject"), (1, "run")])
def test_people_of_all_classes_are_parted_by_person_and_one_person_by_run(n_people: int, unit: str) -> None:
    rows = bold(n_people, 5)
    train, validation = validation_split(rows, np.arange(len(rows)), share=0.2, seed=0)
    assert rows[unit].iloc[validation].nunique() == 1
    assert not set(rows[unit].iloc[validation]) & set(rows[unit].iloc[train])
    assert set(rows["class"].iloc[train]) == set(rows["class"].iloc[validation]) == {"fear", "joy"}


def test_undersampling_leaves_as_many_women_as_men_in_every_bin() -> None:
    rows = cohort(120)
    kept = undersample(rows, seed=2)
    everyone = persons(rows).assign(bin=lambda own: own["age"] // 5)
    stays = persons(rows.iloc[kept]).assign(bin=lambda own: own["age"] // 5)
    for key, own in everyone.groupby(["class", "bin"]):
        counts = own["sex"].value_counts()
        fewest = min(counts.get("F", 0), counts.get("M", 0))
        remaining = stays[(stays["class"] == key[0]) & (stays["bin"] == key[1])]["sex"].value_counts()
        assert remaining.get("F", 0) == remaining.get("M", 0) == fewest
    # All sessions of those who stay.
    assert rows["subject"].isin(stays.index).sum() == len(kept)
    assert not np.array_equal(undersample(rows, seed=3), kept)
    np.testing.assert_array_equal(undersample(rows, seed=2), kept)


def test_balanced_draws_have_n_of_every_class() -> None:
    names = pd.Series(["a"] * 9 + ["b"] * 5 + ["c"] * 30)
    drawn = draw_balanced(names, 5, seed=0)
    assert names.iloc[drawn].value_counts().to_dict() == {"a": 5, "b": 5, "c": 5}
    assert len(set(drawn.tolist())) == 15
    assert not np.array_equal(draw_balanced(names, 5, seed=1), drawn)
    with pytest.raises(InputError, match="Class 'b' has 5 samples, and 6"):
        draw_balanced(names, 6, seed=0)


def test_leaky_volumes_leak() -> None:
    rows = bold(4, 3)
    folds = make_folds("leaky-volumes", rows, (rows["class"] == "joy").to_numpy(np.int64), n_folds=3)
    assert [fold.name for fold in folds] == ["leaky-1", "leaky-2", "leaky-3"]
    for fold in folds:
        assert len(fold.test) == round(0.2 * len(rows))
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.test])), np.arange(len(rows)))
        assert set(rows["subject"].iloc[fold.test]) & set(rows["subject"].iloc[fold.train])
    assert len({tuple(fold.test.tolist()) for fold in folds}) == 3
    (half,) = leaky_volumes(rows, n_folds=1, seed=0, test_size=0.5)
    assert len(half.test) == len(rows) // 2


def test_first_sessions_are_the_first_of_each_person() -> None:
    rows = pd.DataFrame({"subject": ["a", "a", "b", "b"], "session": ["2", "1", "3", "2"]})
    np.testing.assert_array_equal(first_sessions(rows, np.array([0, 1, 2])), [1, 2])


def test_bins_are_named_in_their_order() -> None:
    ages = pd.Series([64.9, 60.0, 65.0, 8.0, 101.0])
    assert bin_names(ages, "age:5").tolist() == [
        "00060-00064", "00060-00064", "00065-00069", "00005-00009", "00100-00104",
    ]  # fmt: skip
    assert bin_names(ages, "age").tolist() == ["64.9", "60.0", "65.0", "8.0", "101.0"]


def with_values(column: str, value: Any) -> pd.DataFrame:
    rows = cohort(10, most_sessions=1)
    rows[column] = rows[column].astype(object)
    rows.loc[rows["subject"] == "004", column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "stratify", "share", "message"),
    [
        (cohort(10), ("class", "site"), 0.2, "no column 'site'"),
        (with_values("sex", None), ("sex",), 0.2, "Column 'sex' is .* for sub-004"),
        (with_values("age", "old"), ("age:5",), 0.2, "Column 'age' is 'old' for sub-004"),
        (cohort(10), ("age:x",), 0.2, "Bins 'age:x'"),
        (cohort(10), ("class",), 1.0, "A share of 1"),
        (with_values("class", "MCI"), ("class",), 0.2, "Class 'MCI' has one person \\(sub-004\\)"),
    ],
)
def test_what_cannot_be_split_is_refused(
    rows: pd.DataFrame, stratify: tuple[str, ...], share: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(holdout(rows, n_folds=1, seed=0, test_size=share, stratify=stratify))


def test_nobody_left_to_balance_is_refused() -> None:
    rows = cohort(10).assign(sex="F")
    with pytest.raises(InputError, match="No people stay when sex is balanced"):
        undersample(rows, seed=0)


def test_validation_of_one_person_takes_runs_or_events_or_at_last_samples() -> None:
    rows = bold(1, 3)
    rows["event"] = [f"{number}" for number in range(len(rows))]
    train, validation = validation_split(rows, np.arange(len(rows)), share=0.3, seed=0)
    assert not set(rows["run"].iloc[train]) & set(rows["run"].iloc[validation])
    one = bold(1, 1)
    one["event"] = np.repeat(["0", "1", "2"], 2)
    train, validation = validation_split(one, np.arange(len(one)), share=0.3, seed=0)
    assert not set(one["event"].iloc[train]) & set(one["event"].iloc[validation])
    one["event"] = one["class"]
    train, validation = validation_split(one, np.arange(len(one)), share=0.3, seed=0)
    assert set(one["class"].iloc[train]) == set(one["class"].iloc[validation]) == {"fear", "joy"}
