"""Splits keep people and runs whole, and refuse what cannot be split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.decoding import SPLITS
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.splits import Fold, make_folds, natural_cv, share_within
from bids_xai.errors import InputError

CLASSES = ("face", "house", "tool")


def table(n_subjects: int, n_runs: int, n_each: int = 2, sessions: tuple[str, ...] = ("",)) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"subject": f"{s:02d}", "session": session, "task": "x", "run": str(r), "event": e, "class": name}
            for s in range(1, n_subjects + 1)
            for session in sessions
            for r in range(1, n_runs + 1)
            for e in range(n_each)
            for name in CLASSES
        ]
    )


def codes(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    return rows["class"].map({name: code for code, name in enumerate(CLASSES)}).to_numpy(np.int64)


def runs_of(rows: pd.DataFrame, samples: npt.NDArray[np.int64]) -> set[tuple[str, ...]]:
    return set(rows.iloc[samples][["subject", "session", "task", "run"]].itertuples(index=False, name=None))


@settings(max_examples=40, deadline=None)
@given(
    # The others have tests of their own.
    cv=st.sampled_from(sorted(set(SPLITS) - {"event", "holdout", "leaky-volumes"})),
    n_subjects=st.integers(2, 5),
    n_runs=st.integers(2, 4),
    n_folds=st.integers(2, 2),
    sessions=st.sampled_from([("",), ("a", "b")]),
    seed=st.integers(0, 9),
)
def test_every_sample_is_left_out_once_and_groups_stay_whole(
    cv: str, n_subjects: int, n_runs: int, n_folds: int, sessions: tuple[str, ...], seed: int
) -> None:
    rows = table(n_subjects, n_runs, sessions=sessions)
    # Neither the order of the rows nor their index may matter.
    rows = rows.sample(frac=1, random_state=seed)
    folds = make_folds(cv, rows, codes(rows), n_folds=n_folds, seed=seed)
    left_out = np.sort(np.concatenate([fold.test for fold in folds]))
    np.testing.assert_array_equal(left_out, np.arange(len(rows)))
    assert len({fold.name for fold in folds}) == len(folds)
    people = rows["subject"].to_numpy()
    for fold in folds:
        assert fold.train.dtype == fold.test.dtype == np.int64
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.test) > 0).all()
        assert not runs_of(rows, fold.train) & runs_of(rows, fold.test)
        shared = set(people[fold.train]) & set(people[fold.test])
        assert shared == (set(people[fold.test]) if cv == "run" else set())


def test_leave_one_run_out_trains_on_the_same_subject_only() -> None:
    rows = table(2, 3, sessions=("a", "b"))
    folds = make_folds("run", rows, codes(rows))
    assert len(folds) == 12
    assert folds[0].name == "sub-01_ses-a_task-x_run-1"
    for fold in folds:
        assert rows.iloc[fold.train]["subject"].nunique() == 1
        assert len(runs_of(rows, fold.train)) == 5
        assert len(runs_of(rows, fold.test)) == 1


def test_leave_one_subject_out_has_a_fold_per_subject() -> None:
    rows = table(3, 2)
    folds = make_folds("subject", rows, codes(rows))
    assert [fold.name for fold in folds] == ["sub-01", "sub-02", "sub-03"]
    assert all(set(rows.iloc[fold.test]["subject"]) == {fold.name[4:]} for fold in folds)


def test_kfold_deals_evenly_and_by_seed() -> None:
    rows = table(7, 2)
    folds = make_folds("kfold", rows, codes(rows), n_folds=3, seed=4)
    sizes = [rows.iloc[fold.test]["subject"].nunique() for fold in folds]
    assert sorted(sizes) == [2, 2, 3]
    again = make_folds("kfold", rows, codes(rows), n_folds=3, seed=4)
    assert all((a.test == b.test).all() for a, b in zip(folds, again, strict=True))
    others = [make_folds("kfold", rows, codes(rows), n_folds=3, seed=seed) for seed in range(5)]
    assert len({tuple(fold.test.tolist() for fold in other).__repr__() for other in others}) > 1


def test_kfold_of_one_subject_goes_by_run() -> None:
    rows = table(1, 4)
    folds = make_folds("kfold", rows, codes(rows), n_folds=4)
    assert [len(runs_of(rows, fold.test)) for fold in folds] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("cv", "n_subjects", "n_runs", "n_folds", "found", "remedy"),
    [
        ("subject", 1, 3, 5, "one subject", "--cv run"),
        ("run", 2, 1, 5, "sub-01 has one run", "--cv subject"),
        ("kfold", 3, 1, 4, "4 folds and 3 subjects", "--n-folds"),
        ("kfold", 1, 2, 3, "3 folds and 2 runs", "--n-folds"),
        ("kfold", 3, 2, 1, "1 folds and 3 subjects", "--n-folds"),
        ("subjects", 2, 2, 5, "subjects", "did you mean 'subject'?"),
    ],
)
def test_what_cannot_be_split_is_refused(
    cv: str, n_subjects: int, n_runs: int, n_folds: int, found: str, remedy: str
) -> None:
    rows = table(n_subjects, n_runs)
    with pytest.raises(InputError) as refusal:
        make_folds(cv, rows, codes(rows), n_folds=n_folds)
    assert found in refusal.value.found
    assert remedy in refusal.value.remedy


def test_a_class_that_is_too_rare_to_train_on_is_refused() -> None:
    rows = table(2, 1, n_each=1)
    rows = rows[(rows["class"] != "tool") | (rows["subject"] == "02")].reset_index(drop=True)
    y = codes(rows)
    with pytest.raises(InputError, match="Class 'face' has 1 training samples in fold 'sub-01'"):
        make_folds("subject", rows, y)
    rows = pd.concat([rows, rows[rows["class"] != "tool"]], ignore_index=True)
    with pytest.raises(InputError, match="Class 'tool' has"):
        make_folds("subject", rows, codes(rows))


def people(per_class: dict[str, int], n_sessions: list[int]) -> pd.DataFrame:
    """Return rows of anatomical images: people of one class each, with one to several sessions."""
    names = [name for name, n in per_class.items() for _ in range(n)]
    return pd.DataFrame(
        [
            {"subject": f"{p:03d}", "session": str(s), "task": "", "run": "", "event": np.nan, "class": name}
            for p, name in enumerate(names)
            for s in range(n_sessions[p % len(n_sessions)])
        ]
    )


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(4, 9), min_size=2, max_size=3),
    n_sessions=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    n_folds=st.integers(2, 4),
    seed=st.integers(0, 50),
)
def test_people_of_one_class_are_dealt_in_equal_shares(
    counts: list[int], n_sessions: list[int], n_folds: int, seed: int
) -> None:
    rows = people(dict(zip(CLASSES, counts, strict=False)), n_sessions).sample(frac=1, random_state=seed)
    folds = make_folds("kfold", rows, codes(rows), n_folds=n_folds, n_repeats=1, seed=seed)
    assert sum(len(fold.test) for fold in folds) == len(rows)
    left_out = []
    for fold in folds:
        test, train = rows.iloc[fold.test], rows.iloc[fold.train]
        assert not set(test["subject"]) & set(train["subject"])
        left_out.append(
            test.drop_duplicates("subject")["class"].value_counts().reindex(CLASSES, fill_value=0)
        )
    shares = pd.DataFrame(left_out)
    assert (shares.max() - shares.min()).max() <= 1
    # The same folds have the additional people of all classes: classes of equal size are so in every fold.
    more = shares[list(CLASSES[: len(counts)])].gt(shares.min()).any(axis=1).to_numpy()
    assert more.tolist() == sorted(more.tolist(), reverse=True)
    if len(set(counts)) == 1:
        assert (shares[list(CLASSES[: len(counts)])].nunique(axis=1) == 1).all()
    assert shares.sum().tolist()[: len(counts)] == counts


def test_shares_are_dealt_by_seed_and_anew_in_every_repetition() -> None:
    rows = people({"face": 8, "house": 8}, [1, 2])
    dealt = []
    for seed in range(3):
        folds = make_folds("kfold", rows, codes(rows), n_folds=4, n_repeats=3, seed=seed)
        assert [fold.repeat for fold in folds] == [0] * 4 + [1] * 4 + [2] * 4
        assert len({fold.name for fold in folds}) == 12
        for repeat in range(3):
            own = [fold for fold in folds if fold.repeat == repeat]
            assert sorted(np.concatenate([fold.test for fold in own])) == list(range(len(rows)))
            dealt.append(tuple(tuple(fold.test) for fold in own))
    assert len(set(dealt)) == 9
    again = make_folds("kfold", rows, codes(rows), n_folds=4, n_repeats=1, seed=0)
    assert tuple(tuple(fold.test) for fold in again) == dealt[0]


@pytest.mark.parametrize(
    ("per_class", "n_folds", "n_repeats"),
    [({"face": 4, "house": 4}, 4, 5), ({"face": 20, "house": 9}, 5, 5), ({"face": 3, "house": 9}, 3, 5)],
)
def test_people_of_one_class_are_dealt_in_balanced_folds_by_default(
    per_class: dict[str, int], n_folds: int, n_repeats: int
) -> None:
    rows = people(per_class, [1])
    assert natural_cv(codes(rows), rows["subject"].to_numpy(int)) == "kfold"
    folds = make_folds("kfold", rows, codes(rows))
    assert len(folds) == n_folds * n_repeats
    assert all(set(rows["class"].iloc[fold.test]) == set(per_class) for fold in folds)


def test_people_of_all_classes_are_left_out_one_by_one_by_default() -> None:
    rows = table(4, 2)
    assert natural_cv(codes(rows), rows["subject"].to_numpy(int)) == "subject"
    assert {fold.repeat for fold in make_folds("kfold", rows, codes(rows))} == {0}


def test_folds_without_a_class_and_repetitions_of_what_is_not_dealt_are_refused() -> None:
    rows = people({"face": 4, "house": 9}, [1])
    with pytest.raises(
        InputError, match=r"5 folds, and 4 subjects of the smallest(.|\n)*--n-folds 4 or fewer"
    ):
        make_folds("kfold", rows, codes(rows), n_folds=5)
    with pytest.raises(InputError, match=r"class 'house' has one of the 5 subjects"):
        make_folds("kfold", lone := people({"face": 4, "house": 1}, [1]), codes(lone))
    with pytest.raises(InputError, match=r"--n-repeats 3 with --cv subject"):
        make_folds("subject", rows, codes(rows), n_repeats=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=6), st.integers(0, 9))
def test_labels_vary_within_people_as_dealing_them_there_shows(own: list[str], seed: int) -> None:
    labels = np.array(["abc".index(letter) for letters in own for letter in letters])
    subjects = np.repeat(np.arange(len(own)), [len(letters) for letters in own])
    if len(set(labels)) == 1:
        assert share_within(labels, subjects) == 0
        return
    rng = np.random.default_rng(seed)

    def changed(blocks: np.ndarray) -> float:
        total = 0
        for _ in range(300):
            dealt = labels.copy()
            for block in np.unique(blocks):
                dealt[blocks == block] = rng.permutation(labels[blocks == block])
            total += (dealt != labels).sum()
        return total / 300 / len(labels)

    expected = share_within(labels, subjects) * changed(np.zeros_like(labels))
    assert changed(subjects) == pytest.approx(expected, abs=0.1)


def test_leaving_one_person_out_keeps_time_points_together() -> None:
    rows = people({"face": 80, "house": 67}, [1, 3, 2])
    folds = make_folds("subject", rows, codes(rows))
    assert len(folds) == 147
    assert all(rows.iloc[fold.test]["subject"].nunique() == 1 for fold in folds)


@pytest.mark.parametrize("no_task", ["", None])
@pytest.mark.parametrize(
    ("cv", "per_class"), [("run", {"face": 3, "house": 3}), ("kfold", {"face": 1}), ("subject", {"face": 1})]
)
def test_images_of_one_head_are_not_parted(cv: str, per_class: dict[str, int], no_task: str | None) -> None:
    rows = people(per_class, [3])
    rows["task"] = no_task
    with pytest.raises(InputError, match=rf"--cv {cv} with anatomical images") as refusal:
        make_folds(cv, rows, codes(rows))
    assert "by the head" in refusal.value.expected
    assert "--cv subject" in refusal.value.remedy


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_a_fold_gives_its_rows_back(train: set[int], test: set[int]) -> None:
    fold = Fold("left out", sorted(train), sorted(test), 3)
    for same in (fold, Fold.of(json.loads(json.dumps(fold.described())))):
        assert (same.name, same.repeat) == ("left out", 3)
        assert same.train.tolist() == sorted(train)
        assert same.test.tolist() == sorted(test)
        assert same.train.dtype == same.test.dtype == np.int64


def test_folds_of_many_participants_are_small(tmp_path: Path) -> None:
    n, of_each = 1000, 8
    rows = pd.DataFrame({"subject": [f"{s:04d}" for s in range(n) for _ in range(of_each)], "session": ""})
    rows["task"], rows["run"], rows["event"] = "look", "1", np.tile(np.arange(of_each), n)
    rows["class"] = ["a", "b"] * (n * of_each // 2)
    design, _ = make_design(rows, cv="subject")
    design.save(tmp_path / "design.json")
    assert (tmp_path / "design.json").stat().st_size < 1_000_000
    again = Design.load(tmp_path / "design.json")
    assert len(again.folds) == n
    for read, made in zip(again.folds, design.folds, strict=True):
        assert np.array_equal(read.train, made.train)
        assert np.array_equal(read.test, made.test)
