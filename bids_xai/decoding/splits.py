"""Which samples train and which test: what is left out is a person, or a run or an event of one person."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding import SPLITS
from bids_xai.errors import InputError

_FEWEST_TRAINING_SAMPLES = 2
_RUN = ["session", "task", "run"]


@dataclass(frozen=True)
class Fold:
    """Training and test samples of one fold, as numbers of rows (int64, ascending)."""

    name: str
    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def make_folds(
    cv: str,
    rows: pd.DataFrame,
    y: npt.NDArray[np.int64],
    *,
    n_folds: int = 5,
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
        ``n_folds`` groups of subjects, or of runs if there is one subject. Where every subject is of one
        class, the groups have the classes in equal shares. ``"holdout"``: ``n_folds`` random splits of
        subjects (:func:`bids_xai.decoding.partitions.holdout`). ``"leaky-volumes"``: of volumes.
    rows
        One row per sample: ``subject, session, task, run, class``, for ``"event"`` also the times of the
        event; an anatomical image has no task.
    y
        Class codes, shape (n_samples,).
    n_folds, seed
        Number of groups of ``kfold``, of splits of ``holdout`` and ``leaky-volumes``, and the seed that deals
        subjects, runs or volumes to them.
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
    known = [name for name in inspect.signature(split).parameters if name not in ("rows", "n_folds", "seed")]
    unknown = [name for name in options or {} if name not in known]
    if unknown:
        raise InputError(
            f"--cv {cv} has no option {unknown[0]!r}.",
            f"one of {', '.join(known)}" if known else "no options",
            "leave the option out, or use --cv holdout",
        )
    folds = list(split(rows, n_folds=n_folds, seed=seed, **(options or {})))
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


def leave_one_subject_out(rows: pd.DataFrame, *, n_folds: int, seed: int) -> Iterator[Fold]:  # noqa: ARG001
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


def leave_one_run_out(rows: pd.DataFrame, *, n_folds: int, seed: int) -> Iterator[Fold]:  # noqa: ARG001
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


def grouped_kfold(rows: pd.DataFrame, *, n_folds: int, seed: int) -> Iterator[Fold]:
    """Yield ``n_folds`` folds of whole subjects, or of whole runs if there is one subject.

    Subjects of one class each are dealt class by class, so that the number of people of a class, and of all,
    differs by one at most between folds.
    """
    one_subject = rows["subject"].nunique() == 1
    by = _RUN if one_subject else ["subject"]
    group = rows.groupby(by, sort=True, dropna=False).ngroup().to_numpy()
    n_groups = int(group.max()) + 1
    if not 2 <= n_folds <= n_groups:
        raise InputError(
            f"--cv kfold with {n_folds} folds and {n_groups} {'runs' if one_subject else 'subjects'}.",
            "two folds or more, and something to leave out in each",
            "change --n-folds, or add subjects or runs",
        )
    rng = np.random.default_rng(seed)
    classes = rows["class"].groupby(group).unique()
    if one_subject or (classes.map(len) > 1).any():
        dealt = rng.permutation(n_groups) % n_folds
    else:
        # Shuffled, then sorted by class (a stable sort): dealing goes on where the class before it stopped.
        order = rng.permutation(n_groups)
        order = order[np.argsort(classes.map(lambda own: str(own[0])).to_numpy()[order], kind="stable")]
        dealt = np.empty(n_groups, dtype=np.int64)
        dealt[order] = np.arange(n_groups) % n_folds
    for number in range(n_folds):
        held_out = dealt[group] == number
        yield Fold(f"fold-{number + 1}", np.flatnonzero(~held_out), np.flatnonzero(held_out))


def _entities(key: tuple[Hashable, ...]) -> list[str]:
    return [f"{name}-{value}" for name, value in zip(("ses", "task", "run"), key, strict=True) if value]
