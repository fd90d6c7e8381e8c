"""Folds of events: whole, apart in time, and at chance where there is nothing to find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.attribution.runs import run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.event_folds import TOUCHING_S
from bids_xai.decoding.scores import accuracy
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.errors import InputError
from bids_xai.inference.permutation import natural_scheme, permute_labels, smallest_p

BLOCKS = ("face", "house", "tool", "tool", "house", "face")


def run_rows(
    events: Sequence[str],
    *,
    subject: str = "01",
    run: str = "1",
    duration: float = 8.0,
    gap: float = 8.0,
    tr: float = 2.0,
    n_rows: int | None = None,
) -> list[dict[str, object]]:
    """Return rows of a run: one per volume of its events, which last and lie apart as told, in seconds."""
    rows = []
    for number, name in enumerate(events):
        onset = number * (duration + gap)
        first = int(np.ceil(onset / tr))
        volumes = range(first, first + (n_rows or int(duration / tr)))
        rows += [
            {
                "subject": subject, "session": "", "run": run, "task": "x", "event": 3 * number,
                "onset": onset, "duration": duration, "first_volume": volume, "last_volume": volume,
                "class": name,
            }
            for volume in volumes
        ]  # fmt: skip
    return rows


def table(events: Sequence[str] = BLOCKS, **options: object) -> pd.DataFrame:
    return pd.DataFrame(run_rows(events, **options))


def design_of(rows: pd.DataFrame) -> Design:
    return make_design(rows, cv="event")[0]


def permuted(design: Design, rng: np.random.Generator, scheme: str = "fold") -> npt.NDArray[np.int64]:
    codes = (design.subjects, design.runs, design.events)
    return permute_labels(design.labels, scheme, *codes, rng, design.left_out)


def test_fold_n_leaves_out_the_nth_block_of_every_class() -> None:
    rows = table()
    folds = design_of(rows).folds
    assert [fold.name for fold in folds] == ["sub-01_event-1", "sub-01_event-2"]
    assert sorted(set(rows.iloc[folds[0].test]["event"])) == [0, 3, 6]
    assert sorted(set(rows.iloc[folds[1].test]["event"])) == [9, 12, 15]
    np.testing.assert_array_equal(folds[0].train, folds[1].test)


def test_the_onset_counts_not_the_number_of_the_event() -> None:
    rows = table()
    rows["event"] = 100 - rows["event"]
    assert rows.iloc[design_of(rows).folds[0].test]["onset"].max() == 32


def test_surplus_events_are_dealt_in_turn() -> None:
    rows = table(["face", "house"] * 2 + ["face", "rest"] * 3)
    rows = rows[rows["class"] != "rest"].reset_index(drop=True)
    faces = [rows.iloc[fold.test].query("`class` == 'face'")["event"] for fold in design_of(rows).folds]
    # Five faces, two houses: two folds.
    assert [sorted(set(events)) for events in faces] == [[0, 12, 24], [6, 18]]


def test_runs_of_a_subject_go_together_and_subjects_apart() -> None:
    rows = pd.DataFrame(
        [
            row
            for subject in ("01", "02")
            for run in ("1", "2")
            for row in run_rows(BLOCKS, subject=subject, run=run)
        ]
    )
    folds = design_of(rows).folds
    assert [fold.name for fold in folds] == [f"sub-0{s}_event-{n}" for s in (1, 2) for n in (1, 2)]
    for fold in folds:
        assert rows.iloc[np.r_[fold.train, fold.test]]["subject"].nunique() == 1
        assert rows.iloc[fold.test]["run"].nunique() == 2


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from(["01", "02"]), st.lists(st.integers(2, 5), min_size=3, max_size=3)),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 99),
)
def test_no_event_is_on_both_sides_and_folds_keep_their_counts(
    runs: list[tuple[str, list[int]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [
            row
            for number, (subject, counts) in enumerate(runs)
            for row in run_rows(
                rng.permutation(np.repeat(["face", "house", "tool"], counts)).tolist(),
                subject=subject,
                run=str(number),
                n_rows=int(rng.integers(2, 5)),
            )
        ]
    ).sample(frac=1, random_state=seed)
    design = design_of(rows)
    tested = np.concatenate([fold.test for fold in design.folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(rows)))
    for fold in design.folds:
        assert not set(design.events[fold.train]) & set(design.events[fold.test])
        assert set(design.subjects[fold.train]) == set(design.subjects[fold.test])
        assert set(design.labels[fold.test]) == set(design.labels[fold.train]) == {0, 1, 2}
    labels = permuted(design, rng)
    _, first = np.unique(design.events, return_index=True)
    np.testing.assert_array_equal(labels, labels[first][design.events[first].searchsorted(design.events)])
    for cell in np.unique(np.stack([design.left_out, design.runs])[:, first], axis=1).T:
        own = first[(design.left_out[first] == cell[0]) & (design.runs[first] == cell[1])]
        np.testing.assert_array_equal(np.sort(labels[own]), np.sort(design.labels[own]))


def test_pictures_of_one_block_are_refused() -> None:
    pictures = table([name for name in BLOCKS for _ in range(4)], duration=0.9, gap=0.1, tr=1.0, n_rows=1)
    with pytest.raises(
        InputError, match=r"event 3 \(face, at 1 s\) begins 0.1 s after the end of event 0"
    ) as no:
        design_of(pictures)
    assert "6 such pairs" in no.value.found
    assert f"--merge-events {TOUCHING_S:g}" in no.value.remedy


@pytest.mark.parametrize(("gap", "apart"), [(TOUCHING_S, False), (TOUCHING_S + 0.1, True)])
def test_blocks_of_a_class_must_lie_apart(gap: float, apart: bool) -> None:
    rows = table(gap=gap, tr=0.1, n_rows=2)  # two blocks of tools follow each other
    if apart:
        assert len(design_of(rows).folds) == 2
    else:
        with pytest.raises(InputError, match=r"\(tool, at 39 s\) begins 5 s after"):
            design_of(rows)


def test_windows_that_share_volumes_are_refused() -> None:
    rows = table(["face", "house"] * 2, n_rows=9)
    # Events of one fold may overlap: neither trains for the other.
    with pytest.raises(InputError, match=r"events 3 and 6 share volume 16(.|\n)*--window"):
        design_of(rows)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (["face", "house", "face"], r"class 'house' has 1 event in sub-01_task-x_run-1(.|\n)*--classes"),
        (["face", "house", "face", "tool", "house"], r"class 'tool' has 1 event"),
    ],
)
def test_classes_need_two_events(events: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        design_of(table(events))


def test_every_run_needs_every_class() -> None:
    rows = run_rows(["face", "house"] * 2) + run_rows(["face"] * 2, run="2")
    with pytest.raises(InputError, match=r"class 'house' has 0 events in sub-01_task-x_run-2"):
        design_of(pd.DataFrame(rows))


def test_one_sample_of_a_class_is_too_few_to_train_on() -> None:
    with pytest.raises(InputError, match=r"1 training samples(.|\n)*--sample volumes"):
        design_of(table(n_rows=1))


def test_samples_without_times_are_refused() -> None:
    with pytest.raises(InputError, match=r"no duration, first_volume(.|\n)*participant level again"):
        design_of(table().drop(columns=["duration", "first_volume"]))
    rows = table()
    rows["duration"] = np.nan  # with --window, BIDS' n/a
    assert len(design_of(rows).folds) == 2


def test_anatomical_images_are_refused() -> None:
    with pytest.raises(InputError, match="--cv event with anatomical images"):
        design_of(table().assign(task="", event=np.nan))


def test_the_natural_exchange_is_within_folds() -> None:
    design = design_of(table())
    assert natural_scheme("event", design.labels, design.subjects) == "fold"
    codes = (design.subjects, design.runs, design.events, design.left_out)
    # Three blocks in each of two folds.
    assert smallest_p(10**6, design.labels, "fold", *codes) == pytest.approx(1 / 36)
    assert smallest_p(10**6, design.labels, "run", *codes) == pytest.approx(1 / 90)
    assert smallest_p(10**6, design.labels, "fold", *codes[:3]) == pytest.approx(1 / 90)
    rng = np.random.default_rng(1)
    draws = [tuple(permuted(design, rng)) for _ in range(1800)]
    found, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(found) == 36
    assert ((counts - 50) ** 2 / 50).sum() < 66.6  # chi-squared, 35 degrees of freedom, p = .001


def test_a_fold_of_one_class_exchanges_nothing() -> None:
    y, events, zeros = np.array([0, 0, 1, 1]), np.arange(4), np.zeros(4, np.int64)
    with pytest.raises(InputError, match=r"every fold has events of one class(.|\n)*--permute run"):
        permute_labels(y, "fold", zeros, zeros, events, np.random.default_rng(0), y)


def null_accuracies(scheme: str, n: int = 150) -> npt.NDArray[np.float64]:
    """Return accuracies on permuted labels of noise that the volumes of a block share in part, and drift."""
    rows = table(n_rows=3)
    design = design_of(rows)
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((design.events.max() + 1, 30))[design.events]
    drift = np.linspace(-1, 1, len(rows))[:, None] * rng.standard_normal(30)
    X = (shared + drift + rng.standard_normal(shared.shape)).astype(np.float32)
    accuracies = []
    for number in range(n):
        (repetition,) = run_repetitions(
            X,
            training_basis(X),
            permuted(design, rng, scheme)[None],
            design.subjects,
            design.folds,
            len(design.classes),
            seeds=[np.random.SeedSequence(number)],
            parameters=SgdParameters(learning_rate=0.05, batch_size=6, n_updates=60, l2=0.0),
            methods=("W",),
            trainer=CpuTrainer(),
        )
        accuracies.append(accuracy(repetition.confusions.sum(axis=0)))
    return np.array(accuracies)


def test_permuted_accuracy_of_noise_is_at_chance() -> None:
    accuracies = null_accuracies("fold")
    assert abs(accuracies.mean() - 1 / 3) < 3.5 * accuracies.std() / np.sqrt(len(accuracies))


def test_exchanging_over_the_run_would_put_it_off_chance() -> None:
    # Shows that the bound above can fail: folds lose their class counts.
    accuracies = null_accuracies("run")
    assert abs(accuracies.mean() - 1 / 3) > 3.5 * accuracies.std() / np.sqrt(len(accuracies))
