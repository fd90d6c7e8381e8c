"""How networks were trained: loss by epoch, and when training stopped."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bids_xai.reports.html import Fold, Gallery, Table, Text, count, listed, number
from bids_xai.reports.networks_curves import MOST_TRAININGS, training_curves
from bids_xai.reports.results import Results

_MOST_ROWS = 60
_SEARCHED = ("batch_size", "learning_rate", "patience")


def training_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return loss curves, and time and iterations until training stopped."""
    history, trainings = results.table("history"), results.table("trainings")
    blocks: list[Any] = []
    if len(trainings):
        blocks.append(Text(_training_sentence(trainings)))
    if len(history):
        n = len(history[["run", "fold"]].drop_duplicates())
        first = f" (the first {MOST_TRAININGS} of {n})" if n > MOST_TRAININGS else ""
        caption = (
            f"Loss and validation accuracy by epoch: a thin line per training (run and fold){first}, thick "
            "the median over the trainings that reached the epoch."
        )
        alt = "Curves of loss and validation accuracy over epochs"
        blocks.append(gallery.drawing(training_curves(history), "training", alt, caption))
    if len(trainings):
        blocks.append(_trainings_fold(trainings))
    return [*blocks, *_search(results)]


def _training_sentence(trainings: pd.DataFrame) -> str:
    parts = [
        f"{words} {_median(trainings[column])}"
        for column, words in (
            ("n_iterations", "iterations"),
            ("n_epochs", "epochs"),
            ("best_epoch", "best epoch"),
            ("seconds", "seconds"),
        )
        if column in trainings and trainings[column].notna().any()
    ]
    what = "median (range)" if len(trainings) > 1 else "it took"
    return f"{count(len(trainings), 'training')}; until it stopped, {what}: {listed(parts)}."


def _median(values: pd.Series) -> str:
    middle = number(float(values.median()))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(float(values.min()))} to {number(float(values.max()))})"


def _search(results: Results) -> list[Any]:
    """Return the draws of the random search, and how often each value was chosen."""
    table = results.table("search")
    if not len(table):
        return []
    columns = [name for name in table.columns if name not in ("run", "fold")]
    rows = [
        [str(row["run"]), str(row["fold"]), *(number(_scalar(row[name])) for name in columns)]
        for _, row in table.head(_MOST_ROWS).iterrows()
    ]
    more = f" (first {_MOST_ROWS} of {len(table)})" if len(table) > _MOST_ROWS else ""
    caption = f"Draws of the random search{more}. Validation: best value of what is monitored."
    header = ["Run", "Fold", *(name.replace("_", " ").capitalize() for name in columns)]
    return [Text(search_sentence(table)), Fold("All draws", [Table(header, rows, caption)])]


def search_sentence(table: pd.DataFrame) -> str:
    """Return which values of a random search were chosen how often.

    Parameters
    ----------
    table
        Columns run, fold, chosen, and batch_size, learning_rate, patience: a row per draw.
    """
    chosen = table[table["chosen"].astype(bool)]
    parts = []
    for column in _SEARCHED:
        counts = chosen[column].value_counts().sort_index()
        values = [f"{number(_scalar(value))} ({number(int(n))} ×)" for value, n in counts.items()]
        parts.append(f"{column.replace('_', ' ')} {listed(values)}")
    draws = table.groupby(["run", "fold"]).size()
    return (
        f"Random search: {count(int(draws.max()), 'draw')} in each of {count(len(draws), 'training')}, the "
        f"best on the validation people being kept. Chosen were: {'; '.join(parts)}."
    )


def _trainings_fold(trainings: pd.DataFrame) -> Fold:
    columns = [name for name in trainings.columns if name != "parameters"]
    rows = [
        [number(_scalar(row[name])) for name in columns] for _, row in trainings.head(_MOST_ROWS).iterrows()
    ]
    more = f" (first {_MOST_ROWS} of {len(trainings)})" if len(trainings) > _MOST_ROWS else ""
    header = [name.removeprefix("n_").replace("_", " ").capitalize() for name in columns]
    return Fold("All trainings", [Table(header, rows, f"Trainings by run and fold{more}.")])


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
