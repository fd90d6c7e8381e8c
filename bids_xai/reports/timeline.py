"""Figure of when the samples of a subject were taken."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from bids_xai.reports.style import figure_style, line_styles, new_figure, shorten


@figure_style()
def sample_timeline(rows: pd.DataFrame, classes: list[str]) -> Figure:
    """Draw the onsets of the samples of each run, one line per run and one row of ticks per class.

    Parameters
    ----------
    rows
        Columns session, task, run, onset (s), class.
    classes
        Classes in the order of their colours.
    """
    entities = rows[["session", "task", "run"]].astype(str).agg(tuple, axis=1)
    runs = [(key, rows[entities == key]) for key in sorted(set(entities), key=natural)]
    styles = line_styles(classes)
    figure = new_figure(11.5, min(9.0, 1.5 + max(0.3, 0.025 * len(classes) + 0.16) * len(runs)))
    axes = figure.subplots()
    height = 0.8 / len(classes)
    for line, (_, run) in enumerate(runs):
        for place, name in enumerate(classes):
            onsets = run.loc[run["class"] == name, "onset"].astype(float)
            middle = line - 0.4 + (place + 0.5) * height
            axes.vlines(
                onsets, middle - height / 2, middle + height / 2, color=styles[name]["color"], linewidth=2.4,
                label=shorten(name, 24) if line == 0 else "_",
            )  # fmt: skip
    axes.set_yticks(range(len(runs)), [run_name(*key) for key, _ in runs])
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlabel("Time in the run (s)")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=min(len(classes), 8), handlelength=1.2)
    return figure


def natural(entities: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return a key that sorts run 2 before run 10, whether or not labels are padded with zeros."""
    return [(int(label) if label.isdigit() else -1, label) for label in entities]


def run_name(session: str, task: str, run: str) -> str:
    """Return a run's entities as they stand in file names."""
    parts = [("ses", session), ("task", task), ("run", run)]
    return " ".join(f"{key}-{value}" for key, value in parts if value) or "run"
