"""Curves of networks: ROC, training, and the tests of whether explanations can be trusted."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bids_xai.reports.style import GREY, NULL, REAL, figure_style, line_styles, literal, new_figure, shorten

RANDOM = "random"
MOST_TRAININGS = 50
_MODES = {
    "cascading": "Randomised from the output down",
    "independent": "One layer randomised at a time",
}


@figure_style()
def roc_curves(roc: pd.DataFrame, classes: list[str]) -> Figure:
    """Draw the mean ROC curve of each class with its standard error.

    Parameters
    ----------
    roc
        Columns class, fpr, tpr, se (of tpr; may be missing).
    classes
        Classes to draw.

    Returns
    -------
    Figure
        True against false positive rate; the area under each mean curve, by trapezoids, in the legend.
    """
    figure = new_figure(4.6, 4.4)
    axes = figure.subplots()
    for name, style in line_styles(classes).items():
        rows = roc[roc["class"] == name].sort_values(["fpr", "tpr"])
        if not len(rows):
            continue
        fpr, tpr = rows["fpr"].to_numpy(float), rows["tpr"].to_numpy(float)
        area = float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())
        axes.plot(
            fpr, tpr, color=style["color"], linewidth=1.8, label=f"{shorten(name, 22)} (area {area:.3f})"
        )
        _band(axes, fpr, tpr, rows, style["color"])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="chance (area 0.500)")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes.set_xlabel("False positive rate")
    axes.set_ylabel("True positive rate")
    axes.legend(loc="lower right", fontsize=8.5)
    return figure


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, rows: pd.DataFrame, colour: str) -> None:
    if "se" in rows and rows["se"].notna().any():
        error = np.nan_to_num(rows["se"].to_numpy(float))
        axes.fill_between(
            x, np.clip(y - error, 0, 1), np.clip(y + error, 0, 1), color=colour, alpha=0.22, linewidth=0
        )


@figure_style()
def training_curves(history: pd.DataFrame) -> Figure:
    """Draw the losses and the validation accuracy of every training by epoch.

    Parameters
    ----------
    history
        Columns run, fold, epoch, train_loss, and where there was validation validation_loss and
        validation_accuracy.

    Returns
    -------
    Figure
        A thin line for each of the first trainings; the thick line is the median over all that reached the
        epoch.
    """
    panels = [
        (title, [(column, colour, name) for column, colour, name in lines if _known(history, column)])
        for title, lines in (
            ("Loss", [("train_loss", REAL, "training"), ("validation_loss", NULL, "validation")]),
            ("Accuracy", [("validation_accuracy", NULL, "validation")]),
        )
    ]
    panels = [panel for panel in panels if panel[1]]
    figure = new_figure(4.8 * len(panels), 3.4)
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column, colour, name in lines:
            for _, rows in islice(history.groupby(["run", "fold"], sort=False), MOST_TRAININGS):
                steps = rows.sort_values("epoch")
                axes.plot(steps["epoch"], steps[column], color=colour, linewidth=0.6, alpha=0.35)
            median = history.groupby("epoch")[column].median()
            axes.plot(median.index, median, color=colour, linewidth=2, label=name)
        axes.set_title(literal(title))
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, None if title == "Loss" else 1.02)
        axes.grid(True, color="#ececec", linewidth=0.7)
        axes.legend(loc="best", fontsize=9)
    return figure


def _known(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())


@figure_style()
def randomisation_curves(table: pd.DataFrame, methods: list[str]) -> Figure:
    """Draw how similar heatmaps stay to the original as the parameters of layers are randomised.

    Parameters
    ----------
    table
        Columns method, mode (cascading, independent), depth (number of layers from the output), layer,
        and measures of similarity: spearman_abs, spearman, ssim.
    methods
        Methods to draw, each a line.

    Returns
    -------
    Figure
        A row of panels per mode, a column per measure of similarity. Adebayo et al. (2018), figure 2.
    """
    modes = [mode for mode in _MODES if (table["mode"] == mode).any()]
    modes += sorted(set(table["mode"]) - set(_MODES))
    measures = [
        (column, title)
        for column, title in (
            ("spearman_abs", "Rank correlation of |values|"),
            ("spearman", "Rank correlation"),
            ("ssim", "Structural similarity"),
        )
        if _known(table, column)
    ]
    figure = new_figure(3.9 * len(measures) + 0.6, 3.5 * len(modes) + 0.7)
    grid = figure.subplots(len(modes), len(measures), squeeze=False, sharey=True)
    styles = line_styles(methods)
    for row, mode in enumerate(modes):
        inside = table[table["mode"] == mode]
        layers = inside.groupby("depth")["layer"].first().sort_index()
        for axes, (column, title) in zip(grid[row], measures, strict=True):
            for name in methods:
                mean = inside[inside["method"] == name].groupby("depth")[column].mean()
                look = {**styles[name], "markevery": 1, "marker": styles[name]["marker"] or "o"}
                axes.plot(mean.index, mean, linewidth=1.5, **look)
            axes.set_title(literal(title))
            names = [shorten(str(layer), 14) for layer in layers]
            axes.set_xticks(layers.index, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
            axes.axhline(0, color="#bbbbbb", linewidth=0.8)
            axes.grid(True, axis="y", color="#ececec", linewidth=0.7)
        grid[row, 0].set_ylabel(f"{_MODES.get(mode, mode)}:\nsimilarity to the original", fontsize=9)
    low = min([float(table[column].min()) for column, _ in measures] + [0.0])
    grid[0, 0].set_ylim(low - 0.05, 1.05)
    method_legend(figure, styles)
    return figure


@figure_style()
def deletion_curves(table: pd.DataFrame, methods: list[str]) -> Figure:
    """Draw the probability of the explained class as the most relevant voxels are removed.

    Parameters
    ----------
    table
        Columns method (``"random"``: voxels removed at random), fraction (of voxels removed), probability,
        se (may be missing).
    methods
        Methods to draw, each a line.

    Returns
    -------
    Figure
        One line per method with its standard error; random removal dashed in grey. Samek et al. (2017).
    """
    figure = new_figure(6.4, 3.9)
    axes = figure.subplots()
    styles = {**line_styles(methods), RANDOM: {"color": GREY}}
    for name in [*methods, RANDOM]:
        rows = table[table["method"] == name].sort_values("fraction")
        if not len(rows):
            continue
        x, y = 100 * rows["fraction"].to_numpy(float), rows["probability"].to_numpy(float)
        dashes = "--" if name == RANDOM else "-"
        axes.plot(x, y, color=styles[name]["color"], linestyle=dashes, linewidth=1.7)
        _band(axes, x, y, rows, styles[name]["color"])
    axes.set(ylim=(-0.02, 1.02), xlim=(0, None))
    axes.set_xlabel("Voxels removed (%), most relevant first")
    axes.set_ylabel("Probability of the explained class")
    axes.grid(True, color="#ececec", linewidth=0.7)
    has_random = bool((table["method"] == RANDOM).any())
    method_legend(figure, line_styles(methods), random=has_random)
    return figure


def method_legend(figure: Figure, styles: dict[str, dict[str, Any]], *, random: bool = False) -> None:
    """Put a legend of methods above a figure; ``random`` adds the removal of voxels at random."""
    handles = [
        Line2D([], [], linewidth=1.7, label=shorten(name, 30), **style) for name, style in styles.items()
    ]
    if random:
        handles.append(Line2D([], [], color=GREY, linestyle="--", label="voxels at random"))
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 2.3)))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=8.5)
