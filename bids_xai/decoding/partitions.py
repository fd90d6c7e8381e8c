"""Random partitions of people: hold-out splits, validation sets, and balanced draws.

A column to stratify by is named ``COLUMN`` (its values) or ``COLUMN:WIDTH`` (bins of a number: ``age:5`` is
60-64, 65-69 and so on). A person's value is that of their first session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.splits import N_FOLDS, Fold
from bids_xai.errors import InputError

Positions = npt.NDArray[np.int64]
Seed = int | np.random.SeedSequence
STRATIFY = ("class",)
LEAKY_CAVEAT = (
    "Volumes were split at random: neighbouring volumes of one run, and volumes of one person, are on both "
    "sides, so that the accuracy is not that for new people or new runs."
)


def holdout(
    rows: pd.DataFrame,
    *,
    n_folds: int | None,
    seed: int,
    test_size: float = 0.2,
    stratify: Sequence[str] = STRATIFY,
    first_session: bool = False,
) -> Iterator[Fold]:
    """Yield ``n_folds`` random splits of whole people, each drawn afresh (Klingenberg et al. 2021, 2.1).

    People are sorted by class and then by the other columns, shuffled within each stratum, and taken at equal
    steps: of a stratum, and of all strata of one class, the test set has ``test_size`` times its people, up
    to one person.

    Parameters
    ----------
    rows
        One row per sample: ``subject, session, class`` and the columns to stratify by.
    n_folds, seed
        Number of splits (None: 5), and the seed of all of them.
    test_size
        Share of the people of every class that is left out; one person at least.
    stratify
        Columns.
    first_session
        Test on the first session of every person only, as in Klingenberg et al. (2021).

    Raises
    ------
    InputError
        A class has one person, or a person has no value in a column to stratify by.
    """
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(n_folds or N_FOLDS)):
        everyone = np.arange(len(rows), dtype=np.int64)
        train, test = _part(rows, everyone, test_size, stratify, child)
        tested = first_sessions(rows, test) if first_session else test
        yield Fold(f"split-{number + 1}", train, tested, repeat=number)


def leaky_volumes(
    rows: pd.DataFrame, *, n_folds: int | None, seed: int, test_size: float = 0.2
) -> Iterator[Fold]:
    """Yield random splits of volumes, whoever and whichever run they are of.

    **This leaks**: neighbouring volumes of a run are nearly equal, and one is in training where the other is
    tested (:data:`LEAKY_CAVEAT`). It is here to reproduce published accuracies (of 80 % to train on and
    20 % to test), under this name only.
    """
    _check_share(test_size)
    n_test = int(np.clip(round(test_size * len(rows)), 1, len(rows) - 1))
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(n_folds or N_FOLDS)):
        drawn = np.random.default_rng(child).permutation(len(rows))
        yield Fold(f"leaky-{number + 1}", np.sort(drawn[n_test:]), np.sort(drawn[:n_test]), repeat=number)


def validation_split(
    rows: pd.DataFrame, train: Positions, *, share: float, stratify: Sequence[str] = STRATIFY, seed: Seed
) -> tuple[Positions, Positions]:
    """Part a training set into people to train on and people to stop by; of one person: into runs or events.

    Where a class of one person has a single event, samples are parted: those that stop the training are then
    neighbours of those that it learns from, and it stops later than it should.

    Parameters
    ----------
    rows
        As in :func:`holdout`; to part one person also ``task, run``.
    train
        Numbers of the rows of the training set, int64.
    share
        Share of the people (of every class) that validate.
    stratify, seed
        As in :func:`holdout`.

    Returns
    -------
    train, validation : arrays, int64, ascending
        Numbers of rows.
    """
    seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return _part(rows, train, share, stratify, seed)


def undersample(
    rows: pd.DataFrame, *, seed: Seed, balance: str = "sex", within: Sequence[str] = ("class", "age:5")
) -> Positions:
    """Leave people out until every bin has as many women as men (Klingenberg et al. 2021, 2.1).

    Parameters
    ----------
    rows
        One row per sample: ``subject, session, class``, the column to balance and those of the bins.
    seed
        Of who is left out.
    balance
        Column whose values are to be equally frequent; a value that a bin lacks empties the bin.
    within
        Columns whose combinations are the bins.

    Returns
    -------
    array, int64, ascending
        Numbers of the rows that stay.

    Raises
    ------
    InputError
        Somebody has no value in a column, or nobody stays.
    """
    everyone = np.arange(len(rows), dtype=np.int64)
    people = _strata(rows, everyone, _people(rows), (balance, *within))
    levels = people[balance].unique()
    rng = np.random.default_rng(seed)
    kept: list[str] = []
    for _, own in people.groupby(list(within), sort=True):
        groups = [own.index[own[balance] == level].to_numpy() for level in sorted(levels)]
        fewest = min(map(len, groups))
        for group in groups:
            kept.extend(group[rng.permutation(len(group))[:fewest]])
    if not kept or len(levels) < 2:
        raise InputError(
            f"No people stay when {balance} is balanced within {', '.join(within)}: it has the values "
            f"{', '.join(map(str, sorted(levels)))}.",
            f"people of two values of {balance} in one bin at least",
            "use wider bins (age:10), or do not undersample",
        )
    return np.flatnonzero(_people(rows).isin(kept)).astype(np.int64)


def draw_balanced(classes: Sequence[str] | pd.Series, n: int, *, seed: Seed) -> Positions:
    """Draw n samples of every class without replacement; return numbers of rows, ascending.

    Raises
    ------
    InputError
        A class has fewer than n.
    """
    names = np.asarray(classes, dtype=str)
    rng = np.random.default_rng(seed)
    drawn = []
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        if len(own) < n:
            raise InputError(
                f"Class {str(name)!r} has {len(own)} samples, and {n} of every class are to be drawn.",
                f"{n} samples or more of every class",
                "draw fewer, or leave the class out with --classes",
            )
        drawn.append(rng.choice(own, n, replace=False))
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def first_sessions(rows: pd.DataFrame, positions: Positions) -> Positions:
    """Return those of the positions that are of the first session of their person."""
    chosen = rows.iloc[positions]
    sessions = chosen["session"].fillna("").astype(str)
    first = sessions.groupby(chosen["subject"].to_numpy()).transform("min")
    return positions[(sessions == first).to_numpy()]


def bin_names(values: pd.Series, spec: str) -> pd.Series:
    """Return the strata of values as text: the values, or ``60-64`` for a spec ``age:5``.

    Raises
    ------
    InputError
        A value is missing, or is no number where there are bins; the width is no positive number.
    """
    column, _, width = spec.partition(":")
    missing = values.isna() | values.astype(str).isin(["", "n/a"])
    numbers = pd.to_numeric(values, errors="coerce")
    if missing.any() or (width and numbers.isna().any()):
        wrong = (missing | (numbers.isna() if width else missing)).to_numpy()
        raise InputError(
            f"Column {column!r} is {str(values[wrong].iloc[0])!r} for sub-{values.index[wrong][0]}.",
            "a number for everybody" if width else "a value for everybody",
            "add it to the table, or leave those people out with --participant-label",
        )
    if not width:
        return values.astype(str)
    if not width.isdigit() or int(width) < 1:
        raise InputError(f"Bins {spec!r}.", "COLUMN or COLUMN:WIDTH with a whole width", "write age:5, say")
    low = (np.floor(numbers / int(width)) * int(width)).astype(int)
    # Zeros in front keep text in the order of the numbers.
    return low.map(lambda start: f"{start:05d}-{start + int(width) - 1:05d}")


def _people(rows: pd.DataFrame) -> pd.Series:
    return rows["subject"].astype(str)


def _units(rows: pd.DataFrame, positions: Positions) -> pd.Series:
    """Name what stays whole of every row: a person; of one person a run, an event or a sample.

    Of one person the largest of these of which every class has two.
    """
    if rows.iloc[positions]["subject"].nunique() > 1 or not {"task", "run"} <= set(rows.columns):
        return _people(rows)
    run = ["subject", "session", "task", "run"]
    levels = [run, [*run, "event"]] if "event" in rows else [run]
    for columns in levels:
        units = rows[columns].fillna("").astype(str).agg("_".join, axis=1)
        own = units.iloc[positions].groupby(rows["class"].iloc[positions].to_numpy())
        if own.nunique().ge(2).all():
            return units
    return pd.Series([f"sample {number}" for number in range(len(rows))], index=rows.index)


def _strata(rows: pd.DataFrame, positions: Positions, units: pd.Series, specs: Sequence[str]) -> pd.DataFrame:
    """Return the strata of every person (or run), sorted by name: a column per spec, and all classes."""
    chosen = rows.iloc[positions].assign(unit=units.iloc[positions].to_numpy())
    chosen = chosen.assign(session=chosen["session"].fillna("").astype(str) if "session" in chosen else "")
    chosen = chosen.sort_values(["unit", "session"], kind="stable")
    # What somebody is at the first visit; diagnoses of all visits count.
    people = chosen.groupby("unit", sort=True).first()
    people["class"] = chosen.groupby("unit", sort=True)["class"].agg(lambda own: "+".join(sorted({*own})))
    strata = {"class": people["class"]}
    for spec in specs:
        column = spec.partition(":")[0]
        if column not in people:
            raise InputError(
                f"The samples have no column {column!r} to stratify by.",
                f"one of {', '.join(map(str, rows.columns))}",
                "add the column to participants.tsv, or stratify by another",
            )
        strata[spec] = bin_names(people[column], spec)
    return pd.DataFrame(strata)


def _part(
    rows: pd.DataFrame,
    positions: Positions,
    share: float,
    stratify: Sequence[str],
    seed: np.random.SeedSequence,
) -> tuple[Positions, Positions]:
    """Return positions without, and of, a stratified share of their people."""
    _check_share(share)
    units = _units(rows, positions)
    people = _strata(rows, positions, units, stratify)
    refuse_lone_people(rows.iloc[positions]["class"], units.iloc[positions])
    rng = np.random.default_rng(seed)
    shuffled = people.iloc[rng.permutation(len(people))]
    columns = ["class", *(spec for spec in stratify if spec != "class")]
    ordered = shuffled.sort_values(columns, kind="stable")
    one_class_each = not people["class"].str.contains("+", regex=False).any()
    groups = ordered.groupby("class", sort=True) if one_class_each else [("", ordered)]
    taken = np.concatenate([_equal_steps(own.index.to_numpy(), share, rng) for _, own in groups])
    left_out = units.iloc[positions].isin(taken).to_numpy()
    return np.sort(positions[~left_out]), np.sort(positions[left_out])


def _equal_steps(names: npt.NDArray, share: float, rng: np.random.Generator) -> npt.NDArray:
    """Return a share of the names at equal steps from a random start: at least one, and not all."""
    n = int(np.clip(round(share * len(names)), 1, len(names) - 1))
    steps = (np.arange(n) + rng.random()) * len(names) / n
    return names[steps.astype(np.int64)]


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"A share of {share:g} to leave out.", "a number between 0 and 1", "use 0.2, say")


def refuse_lone_people(classes: pd.Series, units: pd.Series) -> None:
    """Refuse a class with one person: nobody would be left on one of the sides."""
    for name, own in units.groupby(classes.to_numpy(), sort=True):
        if own.nunique() < 2:
            raise InputError(
                f"Class {name!r} has one person (sub-{own.iloc[0]}).",
                "two people or more of every class, one on each side of the split",
                "leave the class out with --classes, merge it with another, or add people",
            )
