"""Which samples train and which test: what is left out is a person, or a run or an event of one person."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding import SPLITS
from bids_xai.errors import InputError

N_FOLDS, N_REPEATS = 5, 5
# Labels that vary less than this within people, relative to over all samples, are labels of people.
_MOSTLY_WITHIN = 0.5
_FEWEST_TRAINING_SAMPLES = 2
_RUN = ["session", "task", "run"]
_SHARED = ("rows", "n_folds", "n_repeats", "seed")


class Fold:
    """Training and test samples of one fold.

    Kept as stretches of consecutive rows: with a fold per participant, lists of all rows would take memory
    with the square of the number of participants.

    Parameters
    ----------
    name
        What is left out.
    train, test
        Numbers of rows, ascending.
    repeat
        Folds of one repeat leave a sample out once at most; those of another were dealt afresh.
    """

    def __init__(self, name: str, train: npt.ArrayLike, test: npt.ArrayLike, repeat: int = 0) -> None:
        self.name, self.repeat = name, repeat
        self._train, self._test = to_stretches(train), to_stretches(test)

    @property
    def train(self) -> npt.NDArray[np.int64]:
        """Numbers of the training rows, int64, ascending."""
        return from_stretches(self._train)

    @property
    def test(self) -> npt.NDArray[np.int64]:
        """Numbers of the test rows, int64, ascending."""
        return from_stretches(self._test)

    def described(self) -> dict[str, Any]:
        """Return plain values that :meth:`of` takes back."""
        parts = {"train": self._train.tolist(), "test": self._test.tolist()}
        return {"name": self.name, "repeat": self.repeat, **parts}

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Fold:
        """Return the fold that :meth:`described` described."""
        train, test = (
            from_stretches(np.array(described[part], np.int64).reshape(-1, 2)) for part in ("train", "test")
        )
        return cls(described["name"], train, test, described["repeat"])


def to_stretches(rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return ascending numbers of rows as stretches of consecutive ones, shape (n, 2): first, last + 1."""
    numbers = np.asarray(rows, dtype=np.int64)
    if not len(numbers):
        return np.empty((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    first, last = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
    return np.stack([first, last + 1], axis=1)


def from_stretches(stretches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers of rows that :func:`to_stretches` was given."""
    lengths = stretches[:, 1] - stretches[:, 0]
    skipped = np.repeat(stretches[:, 0] - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
    return np.asarray(np.arange(int(lengths.sum()), dtype=np.int64) + skipped)


def share_within(labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.int64]) -> float:
    """Return how much of the labels' variation lies within people: 0 where each is of one class, 1 at most.

    The expected share of samples whose label changes when labels are dealt anew within every person, over
    that when they are dealt over everyone: ``sum_s (1 - n(s's person, s's class) / n(s's person))`` over
    ``sum_s (1 - n(s's class) / n)``.

    Parameters
    ----------
    labels, subjects
        Class and person of every sample, shape (n_samples,).
    """
    _, people = np.unique(subjects, return_inverse=True)
    counts = np.zeros((people.max() + 1, int(labels.max()) + 1))
    np.add.at(counts, (people, labels), 1)
    of_all = len(labels) - (counts.sum(axis=0) ** 2).sum() / len(labels)
    within = len(labels) - ((counts**2).sum(axis=1) / counts.sum(axis=1)).sum()
    return float(within / of_all) if of_all > 0 else 0.0


def are_of_people(labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.int64]) -> bool:
    """Return whether classes are, all or mostly, of whole people, such as patients and controls."""
    return len(np.unique(subjects)) > 1 and share_within(labels, subjects) < _MOSTLY_WITHIN


def natural_cv(labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.int64]) -> str:
    """Return what is left out by default: one subject, or folds balanced by class where people have classes.

    Where one person of a class is left out, the others of that class are one fewer in training than those of
    another: what leans to the larger class is wrong on the person left out, and accuracies lie below chance.

    Parameters
    ----------
    labels, subjects
        Class and person of every sample, shape (n_samples,).
    """
    return "kfold" if are_of_people(labels, subjects) else "subject"


def make_folds(
    cv: str,
    rows: pd.DataFrame,
    y: npt.NDArray[np.int64],
    *,
    n_folds: int | None = None,
    n_repeats: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Fold]:
    """Split labelled samples.

    Parameters
    ----------
    cv
        ``"subject"``: leave one subject out. ``"run"``: within every subject, leave one run out and train
        on the other runs of that subject only. ``"event"``: within every subject, leave the n-th event of
        every class of every run out (:func:`bids_xai.decoding.event_folds.leave_events_out`). ``"kfold"``:
        ``n_folds`` groups of subjects, or of runs if there is one subject, dealt ``n_repeats`` times. Where
        every subject is of one class, the groups have the classes in equal shares. ``"holdout"``:
        ``n_folds`` random splits of
        subjects (:func:`bids_xai.decoding.partitions.holdout`). ``"leaky-volumes"``: of volumes.
    rows
        One row per sample: ``subject, session, task, run, class``, for ``"event"`` also the times of the
        event; an anatomical image has no task.
    y
        Class codes, shape (n_samples,).
    n_folds
        Number of groups of ``kfold``, of splits of ``holdout`` and ``leaky-volumes``. None: 5; of ``kfold``
        fewer where a class, or all, have fewer people.
    n_repeats
        How often ``kfold`` deals; None: 5 times where subjects are of one class each, else once.
    seed
        Deals subjects, runs or volumes.
    options
        Further options of the split: ``test_size, stratify, first_session`` of ``holdout``, ``test_size`` of
        ``leaky-volumes``.

    Raises
    ------
    InputError
        There is nothing to leave out, a class is missing from a training set, or anatomical images of one
        person would be on both sides, or the split has no such option.
    """
    _refuse_shared_anatomy(cv, rows)
    split = SPLITS[cv].load()
    known = [name for name in inspect.signature(split).parameters if name not in _SHARED]
    unknown = [name for name in options or {} if name not in known]
    if unknown:
        raise InputError(
            f"--cv {cv} has no option {unknown[0]!r}.",
            f"one of {', '.join(known)}" if known else "no options",
            "leave the option out, or use --cv holdout",
        )
    given = dict(options or {})
    if "n_repeats" in inspect.signature(split).parameters:
        given["n_repeats"] = n_repeats
    elif n_repeats not in (None, 1):
        raise InputError(
            f"--n-repeats {n_repeats} with --cv {cv}, which deals nothing at random, or every split anew.",
            "no repetitions",
            "leave it out, or use --cv kfold",
        )
    folds = list(split(rows, n_folds=n_folds, seed=seed, **given))
    names = dict(zip(y.tolist(), rows["class"], strict=True))
    for fold in folds:
        counts = np.bincount(y[fold.train], minlength=max(names) + 1)
        for code, name in sorted(names.items()):
            if counts[code] < _FEWEST_TRAINING_SAMPLES:
                raise InputError(
                    f"Class {name!r} has {counts[code]} training samples in fold {fold.name!r} of --cv {cv}.",
                    f"at least {_FEWEST_TRAINING_SAMPLES} in every fold",
                    "leave the class out with --classes, merge it with another, or use "
                    + ("--sample volumes" if cv == "event" else "another --cv"),
                )
    return folds


def _refuse_shared_anatomy(cv: str, rows: pd.DataFrame) -> None:
    """Refuse to part a person's anatomical images: one head is recognised in all of them."""
    one_subject = rows["subject"].nunique() == 1
    anatomical = rows["task"].fillna("").eq("").all() and ("event" not in rows or rows["event"].isna().all())
    if (cv in ("run", "event") or one_subject) and anatomical:
        of = f" of one subject ({rows['subject'].iloc[0]})" if one_subject else ""
        raise InputError(
            f"--cv {cv} with anatomical images{of}.",
            "folds of whole people: an image in training would give away the person in the test by the head",
            "use --cv subject or kfold, with several subjects",
        )


def leave_one_subject_out(rows: pd.DataFrame, *, n_folds: int | None, seed: int) -> Iterator[Fold]:  # noqa: ARG001
    """Yield one fold per subject."""
    subjects = sorted(rows["subject"].unique())
    if len(subjects) < 2:
        raise InputError(
            f"--cv subject with one subject ({subjects[0]}).",
            "two subjects or more to leave one out",
            "use --cv run to leave out runs within the subject",
        )
    for subject in subjects:
        held_out = (rows["subject"] == subject).to_numpy()
        yield Fold(f"sub-{subject}", np.flatnonzero(~held_out), np.flatnonzero(held_out))


def leave_one_run_out(rows: pd.DataFrame, *, n_folds: int | None, seed: int) -> Iterator[Fold]:  # noqa: ARG001
    """Yield one fold per subject and run, trained on the subject's other runs."""
    for subject, own in rows.groupby("subject", sort=True):
        runs = own.groupby(_RUN, sort=True, dropna=False)
        if runs.ngroups < 2:
            raise InputError(
                f"--cv run: sub-{subject} has one run.",
                "two runs or more of every subject",
                "use --cv event or --cv subject, or leave the subject out with --participant-label",
            )
        positions = rows.index.get_indexer(own.index)
        for key, run in runs:
            test = rows.index.get_indexer(run.index)
            yield Fold(
                "_".join([f"sub-{subject}", *_entities(key)]), np.setdiff1d(positions, test), np.sort(test)
            )


def grouped_kfold(
    rows: pd.DataFrame, *, n_folds: int | None, seed: int, n_repeats: int | None = None
) -> Iterator[Fold]:
    """Yield ``n_folds`` folds of whole subjects, or of the whole runs of one subject, ``n_repeats`` times.

    Subjects are dealt class by class (those of several classes by all of theirs), so that the number of
    people of a class differs by one at most between folds. The first folds have the additional people of
    every class: where classes are of equal size, they are in every fold, of the left out and of the others.
    (scikit-learn's StratifiedKFold evens out the sizes of folds instead: a fold with one more of one class
    than of another trains on one fewer, which is wrong more often than chance.)

    Every repetition is dealt anew, from the seed.
    """
    one_subject = rows["subject"].nunique() == 1
    by = _RUN if one_subject else ["subject"]
    group = rows.groupby(by, sort=True, dropna=False).ngroup().to_numpy()
    n_groups = int(group.max()) + 1
    own = rows["class"].astype(str).groupby(group).unique()
    classes = own.map(sorted).map("+".join).to_numpy()
    balanced = bool((own.map(len) == 1).all()) and len(np.unique(classes)) > 1
    names, sizes = np.unique(classes, return_counts=True)
    fewest, what = int(sizes.min()) if balanced else n_groups, "runs" if one_subject else "subjects"
    if fewest < 2 <= n_groups:
        raise InputError(
            f"--cv kfold: class {str(names[sizes.argmin()])!r} has one of the {n_groups} {what}.",
            "two or more of every class, one to train on and one to leave out",
            f"leave the class out with --classes, merge it with another, or add {what}",
        )
    if n_folds is None:
        n_folds = min(N_FOLDS, fewest)
    _check_folds(n_folds, n_groups, fewest, what)
    repeats = n_repeats or (N_REPEATS if balanced else 1)
    for repeat, child in enumerate(np.random.SeedSequence(seed).spawn(repeats)):
        dealt = _deal(classes, n_folds, np.random.default_rng(child))
        for number in range(n_folds):
            held_out = dealt[group] == number
            name = f"fold-{number + 1}" if repeats == 1 else f"repeat-{repeat + 1}_fold-{number + 1}"
            yield Fold(name, np.flatnonzero(~held_out), np.flatnonzero(held_out), repeat)


def _deal(strata: npt.NDArray, n_folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a fold for every group: those of a stratum in equal shares, at random."""
    order = rng.permutation(len(strata))
    dealt = np.empty(len(strata), dtype=np.int64)
    begin = 0
    for stratum in np.unique(strata):
        own = order[strata[order] == stratum]
        # People of several classes unbalance nothing: they go on where those before them stopped.
        dealt[own] = (np.arange(len(own)) + (begin if "+" in str(stratum) else 0)) % n_folds
        begin += len(own)
    return dealt


def _check_folds(n_folds: int, n_groups: int, fewest: int, what: str) -> None:
    if not 2 <= n_folds <= n_groups:
        raise InputError(
            f"--cv kfold with {n_folds} folds and {n_groups} {what}.",
            "two folds or more, and something to leave out in each",
            "change --n-folds, or add subjects or runs",
        )
    if n_folds > fewest:
        raise InputError(
            f"--cv kfold with {n_folds} folds, and {fewest} {what} of the smallest class.",
            "one of every class in every fold: without, accuracies lie below chance",
            f"use --n-folds {fewest} or fewer",
        )


def _entities(key: tuple[Hashable, ...]) -> list[str]:
    return [f"{name}-{value}" for name, value in zip(("ses", "task", "run"), key, strict=True) if value]
