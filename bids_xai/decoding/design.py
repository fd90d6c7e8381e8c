"""What is trained on what: classes, labels, exchangeability blocks and folds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.partitions import first_sessions
from bids_xai.decoding.splits import Fold, make_folds, natural_cv
from bids_xai.errors import InputError
from bids_xai.tables import MISSING

Codes = npt.NDArray[np.int64]
# What tables and maps have in the place of a class where a row is of all classes together.
ALL_CLASSES = "all"
# No class may be called so: neither as that row nor as what tables read as missing, in whatever case.
TAKEN_NAMES = (ALL_CLASSES, *sorted(MISSING - {""}))


@dataclass(frozen=True)
class Design:
    """The design of one analysis of n samples.

    Parameters
    ----------
    classes
        Names of the classes; a label is an index into them.
    labels, subjects, runs, events
        int64 codes, shape (n,): class, person, run (unique over people) and event (unique over runs).
    folds
        Training and test samples of every fold.
    people
        Labels of the people; a code of ``subjects`` is an index into them.
    blocks
        int64 codes, shape (n,): block within which labels are exchanged (a scanner, say). None: one block.
    cv
        What is left out (:data:`bids_xai.decoding.SPLITS`).
    testable
        bool, shape (n,): samples that are tested when their person is left out. None: all.
    """

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.int64]
    runs: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    folds: tuple[Fold, ...]
    people: tuple[str, ...]
    blocks: npt.NDArray[np.int64] | None = None
    cv: str = "subject"
    testable: npt.NDArray[np.bool_] | None = None

    @property
    def n_repeats(self) -> int:
        """How often the samples are dealt to folds."""
        return max(fold.repeat for fold in self.folds) + 1

    def describe_folds(self) -> str:
        """Return what is left out, how many folds there are and how often they were dealt, in words."""
        n_folds, n_repeats = len(self.folds), self.n_repeats
        if n_repeats in (1, n_folds):
            return f"{self.cv}, {n_folds} folds"
        return f"{self.cv}, {n_folds // n_repeats} folds, dealt {n_repeats} times"

    @property
    def exchange_codes(self) -> tuple[Codes, Codes, Codes, Codes, Codes | None]:
        """What labels are exchanged by: codes of subjects, runs, events, folds, and blocks (or None)."""
        return self.subjects, self.runs, self.events, self.left_out, self.blocks

    @property
    def within_people(self) -> bool:
        """Whether every fold trains and tests on the samples of one and the same person."""
        return all(
            len(np.unique(self.subjects[np.concatenate([fold.train, fold.test])])) == 1 for fold in self.folds
        )

    @property
    def left_out(self) -> npt.NDArray[np.int64]:
        """Number of the fold that every sample is left out in, shape (n,), or -1 if in none.

        All 0 where folds share samples: splits that are drawn afresh part nobody for good.
        """
        codes = np.full(len(self.labels), -1, dtype=np.int64)
        if len(np.unique(tested := np.concatenate([fold.test for fold in self.folds]))) < len(tested):
            return np.zeros_like(codes)
        for number, fold in enumerate(self.folds):
            codes[fold.test] = number
        return codes

    def moved_folds(self, donors: Codes) -> tuple[Fold, ...]:
        """Return the folds when every person is trained on and tested in place of another.

        Folds may have been dealt by class. People who exchange their labels exchange their folds with them:
        else those of permuted labels would have classes in unequal shares, and lie below chance where the
        true ones do not. It is the same as to leave labels and folds, and to exchange the images of people.

        Parameters
        ----------
        donors
            Person whose place every person takes, codes of ``subjects``, shape (n_people,).
        """
        moved = []
        for fold in self.folds:
            train, test = (
                np.isin(donors, self.subjects[own])[self.subjects] for own in (fold.train, fold.test)
            )
            if (train & test).any():
                # People are parted: they keep what is theirs.
                return self.folds
            tested = test if self.testable is None else test & self.testable
            moved.append(Fold(fold.name, np.flatnonzero(train), np.flatnonzero(tested), fold.repeat))
        return tuple(moved)

    def save(self, path: Path) -> None:
        """Write the design as JSON."""
        content: dict[str, Any] = {"classes": list(self.classes), "people": list(self.people)}
        for name in ("labels", "subjects", "runs", "events"):
            content[name] = getattr(self, name).tolist()
        content["folds"] = [fold.described() for fold in self.folds]
        content["blocks"] = None if self.blocks is None else self.blocks.tolist()
        content["testable"] = None if self.testable is None else self.testable.tolist()
        content["cv"] = self.cv
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Design:
        """Read what :meth:`save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        codes = {name: np.array(content[name], np.int64) for name in ("labels", "subjects", "runs", "events")}
        blocks, testable = content["blocks"], content["testable"]
        return cls(
            classes=tuple(content["classes"]),
            folds=tuple(map(Fold.of, content["folds"])),
            people=tuple(content["people"]),
            blocks=None if blocks is None else np.array(blocks, np.int64),
            cv=content["cv"],
            testable=None if testable is None else np.array(testable, bool),
            **codes,
        )


def make_design(
    rows: pd.DataFrame,
    *,
    classes: Sequence[str] = (),
    cv: str | None = None,
    n_folds: int | None = None,
    n_repeats: int | None = None,
    seed: int = 0,
    exchange_within: str | None = None,
    split_options: Mapping[str, Any] | None = None,
) -> tuple[Design, npt.NDArray[np.int64]]:
    """Return the design of labelled rows, and which rows it is of.

    Parameters
    ----------
    rows
        One row per sample: ``subject, session, task, run, event, class``, for cv ``event`` also the times of
        the event; an anatomical image has no task and no event.
    classes
        Classes in their order; rows of others are left out. Empty: all, sorted.
    cv
        What is left out; None: what suits the classes (:func:`bids_xai.decoding.splits.natural_cv`).
    n_folds, n_repeats, seed
        See :func:`bids_xai.decoding.splits.make_folds`.
    exchange_within
        Column of ``rows`` whose levels are the blocks; ``TABLE:COLUMN`` names the same column. None: one
        block.
    split_options
        ``options`` of :func:`bids_xai.decoding.splits.make_folds`.

    Returns
    -------
    design : Design
    kept : array, int64, shape (n,)
        Positions in ``rows`` of the samples of the design.

    Raises
    ------
    InputError
        A class has no samples or a name of :data:`TAKEN_NAMES`, there is one class, the folds cannot be made,
        or there is no such column.
    """
    names = tuple(dict.fromkeys(classes)) or tuple(sorted(rows["class"].unique()))
    absent = [name for name in names if name not in set(rows["class"])]
    if absent or len(names) < 2:
        raise InputError(
            f"Classes {', '.join(names)}: no samples of {', '.join(absent) or 'a second class'}.",
            f"two or more of {', '.join(sorted(rows['class'].unique()))}",
            "change --classes, or run the participant level again with them",
        )
    check_class_names(names, TAKEN_NAMES)
    kept = np.flatnonzero(rows["class"].isin(names)).astype(np.int64)
    chosen = rows.iloc[kept].reset_index(drop=True)
    codes = {name: code for code, name in enumerate(names)}
    labels: npt.NDArray[np.int64] = np.array(chosen["class"].map(codes), dtype=np.int64)
    run_columns = ["subject", "session", "task", "run"]
    subjects, options = _codes(chosen, ["subject"]), split_options or {}
    cv = cv or natural_cv(labels, subjects)
    folds = make_folds(cv, chosen, labels, n_folds=n_folds, n_repeats=n_repeats, seed=seed, options=options)
    everyone = np.arange(len(chosen), dtype=np.int64)
    first = np.isin(everyone, first_sessions(chosen, everyone)) if options.get("first_session") else None
    design = Design(
        classes=names,
        labels=labels,
        subjects=subjects,
        runs=_codes(chosen, run_columns),
        events=_codes(chosen, [*run_columns, "event"]),
        folds=tuple(folds),
        people=tuple(chosen["subject"].drop_duplicates().astype(str)),
        blocks=None if exchange_within is None else _blocks(chosen, exchange_within),
        cv=cv,
        testable=first,
    )
    return design, kept


def check_class_names(classes: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse classes with the name of something else: a row or a map could be taken for the other.

    Parameters
    ----------
    classes
        Names of the classes.
    taken
        Names that results have for something else.

    Raises
    ------
    InputError
        A class has one of these names.
    """
    wrong = [name for name in classes if name in taken or name.lower() in MISSING]
    if wrong:
        renamed = " ".join(f"class-{name.lower()}={name}" if name in wrong else name for name in classes)
        raise InputError(
            f"A class is called {wrong[0]!r}, which tables and maps keep for something else.",
            f"a name other than {', '.join(taken)}",
            f"rename it, at the participant level already: --classes {renamed}",
        )


def _codes(rows: pd.DataFrame, columns: list[str]) -> npt.NDArray[np.int64]:
    codes = rows.groupby(columns, sort=False, dropna=False).ngroup()
    return np.array(codes.tolist(), dtype=np.int64)


def _blocks(rows: pd.DataFrame, exchange_within: str) -> npt.NDArray[np.int64]:
    column = exchange_within.rpartition(":")[2]
    if column not in rows:
        raise InputError(
            f"--exchange-within {exchange_within}: the samples have no column {column!r}.",
            f"one of {', '.join(rows.columns)}",
            "run the participant level again with the same --exchange-within, which adds it",
        )
    missing = rows[column].isna() | rows[column].astype(str).isin(["", "n/a"])
    if missing.any():
        raise InputError(
            f"--exchange-within {exchange_within}: {int(missing.sum())} of {len(rows)} samples have no level "
            f"(sub-{rows['subject'][missing].iloc[0]}).",
            "a level for every sample",
            "add it to the table, or leave those people out with --participant-label",
        )
    return _codes(rows, [column])
