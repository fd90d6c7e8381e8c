"""Figures of the classification: accuracies against their null, and confusions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import gaussian_kde

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.reports.style import GREY, NULL, REAL, figure_style, new_figure, shorten

KINDS = {"null": ("permuted labels", NULL, -1), "real": ("true labels", REAL, 1)}


@figure_style()
def accuracy_violins(accuracy: pd.DataFrame, classes: list[str], chance: float) -> Figure:
    """Draw the distribution over runs of the accuracy, with true and with permuted labels.

    Parameters
    ----------
    accuracy
        Columns kind (real, null), run, scope ("all" or a class), accuracy (fraction).
    classes
        Classes in their order.
    chance
        Accuracy expected by chance (fraction).

    Returns
    -------
    Figure
        One place per scope; half violins side by side, mean and SD as dot and bar and in figures (%).
        The look of figure 2 of Gotsopoulos et al. (2018).
    """
    scopes = [ALL_CLASSES, *classes]
    figure = new_figure(min(13.0, 2.6 + 1.0 * len(scopes)), 4.4)
    axes = figure.subplots()
    top = 0.0
    for position, scope in enumerate(scopes):
        highest = 0.0
        for kind, (_, colour, side) in KINDS.items():
            rows = accuracy[(accuracy["kind"] == kind) & (accuracy["scope"] == scope)]
            values = 100 * rows["accuracy"].dropna().to_numpy(dtype=float)
            if not values.size:
                continue
            highest = max(highest, _half_violin(axes, position, values, side, colour))
            top = max(top, highest)
            if kind == "real":
                axes.annotate(
                    _mean_sd(values), (position + 0.12, highest), xytext=(0, 4), textcoords="offset points",
                    ha="center", va="bottom", fontsize=8.5, linespacing=1.05,
                )  # fmt: skip
    axes.axhline(100 * chance, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.axvline(0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xlim(-0.6, len(scopes) - 0.4)
    axes.set_ylim(0, max(top * 1.18, 100 * chance * 1.5, 1))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    axes.set_ylabel("Cross-validated accuracy (%)")
    _class_ticks(axes, ["all classes", *classes])
    _accuracy_legend(figure, chance)
    return figure


@figure_style()
def subject_accuracies(tests: pd.DataFrame, chance: float) -> Figure:
    """Draw every person's accuracy with true labels on the range of the permuted ones.

    Parameters
    ----------
    tests
        Columns subject, mean, sd (may be missing), null_low, null_high (fractions), in the order of drawing.
    chance
        Accuracy expected by chance (fraction).

    Returns
    -------
    Figure
        One place per person: dot and bar for mean and SD, a box from null_low to null_high.
    """
    figure = new_figure(min(13.0, max(4.5, 1.6 + 0.34 * len(tests))), 3.4)
    axes = figure.subplots()
    places = np.arange(len(tests))
    low, high = 100 * tests["null_low"].to_numpy(float), 100 * tests["null_high"].to_numpy(float)
    mean, sd = 100 * tests["mean"].to_numpy(float), 100 * np.nan_to_num(tests["sd"].to_numpy(float))
    # A null without spread is a line, not nothing.
    axes.bar(places, np.maximum(high - low, 0.3), 0.56, low, color=NULL, alpha=0.35, linewidth=0)
    axes.errorbar(
        places, mean, yerr=sd, color=REAL, marker="o", markersize=4.5, linewidth=1.6, linestyle="none",
        elinewidth=1.6, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
    )  # fmt: skip
    axes.axhline(100 * chance, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_xlim(-0.7, len(tests) - 0.3)
    axes.set_ylim(0, min(max((mean + sd).max(), high.max()) * 1.1, 102))
    axes.set_ylabel("Cross-validated accuracy (%)")
    names = [shorten(f"sub-{name}", 14) for name in tests["subject"]]
    upright = max(map(len, names)) * len(names) > 60
    axes.set_xticks(places, names, rotation=90 if upright else 0, fontsize=8 if upright else None)
    axes.tick_params(axis="x", length=0)
    handles = [
        Line2D([], [], color=REAL, marker="o", markersize=4.5, linewidth=1.6, label="true labels, mean ± SD"),
        Patch(facecolor=NULL, alpha=0.35, label="permuted labels, 95 %"),
        Line2D([], [], color=GREY, linestyle="--", label=f"chance ({100 * chance:.1f} %)"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=1 if figure.get_figwidth() < 6 else 3)
    return figure


def _mean_sd(values: np.ndarray) -> str:
    mean = f"{values.mean():.1f}"
    return mean if values.size == 1 else f"{mean}\n±{values.std(ddof=1):.1f}"


def _half_violin(axes: Axes, position: float, values: np.ndarray, side: int, colour: str) -> float:
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    end = max(float(values.max()), float(values.mean() + spread))
    # A density needs spread: without it (one run, or all alike) the dot and bar say everything.
    if values.size >= 3 and values.std() > 1e-6:
        density = gaussian_kde(values)
        margin = 2 * float(np.sqrt(density.covariance[0, 0]))
        grid = np.linspace(max(values.min() - margin, 0), min(values.max() + margin, 100), 128)
        width = density(grid)
        edge = position + side * (0.02 + 0.40 * width / width.max())
        axes.fill_betweenx(grid, position + side * 0.02, edge, color=colour, alpha=0.35, linewidth=0)
        axes.plot(edge, grid, color=colour, linewidth=0.8)
        end = float(grid[-1])
    axes.errorbar(
        position + side * 0.1, values.mean(), yerr=spread, color=colour, marker="o", markersize=4.5,
        linewidth=1.6, capsize=0, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
    )  # fmt: skip
    return end


def _class_ticks(axes: Axes, names: list[str]) -> None:
    axes.set_xticks(range(len(names)))
    crowded = max(map(len, names)) * len(names) > 90
    labels = [shorten(name, 24 if crowded else 18) for name in names]
    axes.set_xticklabels(labels, rotation=35 if crowded else 0, ha="right" if crowded else "center")
    axes.tick_params(axis="x", length=0)


def _accuracy_legend(figure: Figure, chance: float) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, alpha=0.5, label=label) for label, colour, _ in reversed(KINDS.values())
    ]
    handles.append(Line2D([], [], color=GREY, linestyle="--", label=f"chance ({100 * chance:.1f} %)"))
    handles.append(
        Line2D([], [], color=GREY, marker="o", markersize=4.5, linewidth=1.6, label="mean ± SD over runs")
    )
    figure.legend(handles=handles, loc="outside upper left", ncols=2 if figure.get_figwidth() < 7 else 4)


@figure_style()
def confusion_matrices(confusion: pd.DataFrame, classes: list[str]) -> Figure:
    """Draw the mean confusion matrices with true and permuted labels.

    Parameters
    ----------
    confusion
        Columns kind, true, predicted, rate (fraction of the samples of the true class).
    classes
        Classes in their order.

    Returns
    -------
    Figure
        One matrix per kind that is there, rows true and columns predicted, in per cent, on one scale.
    """
    kinds = [kind for kind in ("real", "null") if (confusion["kind"] == kind).any()]
    side = min(5.6, max(3.0, 0.42 * len(classes) + 1.6))
    figure = new_figure(side * len(kinds) + 1.4, side + 0.9)
    figure.set_layout_engine("compressed")
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    matrices = [_matrix(confusion[confusion["kind"] == kind], classes) for kind in kinds]
    highest = max([float(np.nanmax(matrix, initial=0)) for matrix in matrices] + [1.0])
    size = 9.5 if len(classes) <= 6 else 7.5 if len(classes) <= 9 else 6.5
    for axes, kind, matrix in zip(panels, kinds, matrices, strict=True):
        image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=highest)
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                colour = "white" if value > 0.6 * highest else "#222222"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=colour)
        axes.set_title(KINDS[kind][0].capitalize())
        axes.set_xlabel("Predicted class")
        labels = [shorten(name, 18) for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("True class")
    figure.colorbar(image, ax=panels, label="Samples of the true class (%)", shrink=0.85, pad=0.02)
    return figure


def _matrix(rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    table = rows.pivot_table(index="true", columns="predicted", values="rate", aggfunc="mean")
    return 100 * table.reindex(index=classes, columns=classes).to_numpy(dtype=float)
