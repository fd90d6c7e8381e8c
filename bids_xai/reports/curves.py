"""Figures of reproducibility: curves over its level, against univariate effects, and over regions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from bids_xai.inference.summary import FOUND_IN, LOW_T
from bids_xai.reports.style import DENSITY, GREY, NULL, figure_style, line_styles, new_figure, shorten


@figure_style()
def reproducibility_curves(
    curves: pd.DataFrame,
    thresholds: pd.DataFrame,
    panels: list[str],
    lines: list[str],
    *,
    panel_column: str = "method",
) -> Figure:
    """Draw how many voxels reach each level of reproducibility.

    Parameters
    ----------
    curves
        Columns kind (real, null), method, class, reproducibility (fraction of runs), n_voxels, at one
        significance level.
    thresholds
        Columns method, class, reproducibility_threshold (fraction), at the same level.
    panels, lines
        What gets a panel, and what gets a line in each.
    panel_column
        ``"method"``: a panel per method with a line per class; ``"class"``: the other way round.

    Returns
    -------
    Figure
        Solid: true labels; dotted: permuted labels; triangle: highest reproducibility reached by chance.
        Figure 5 of Gotsopoulos et al. (2018).
    """
    line_column = "class" if panel_column == "method" else "method"
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(max(4.1 * columns + 0.4, 5.6), 2.9 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    styles = line_styles(lines)
    for axes, panel in zip(grid.flat, panels, strict=False):
        inside = curves[curves[panel_column] == panel]
        for name in lines:
            _curve_pair(axes, inside[inside[line_column] == name], styles[name])
            chosen = thresholds[(thresholds[panel_column] == panel) & (thresholds[line_column] == name)]
            _mark_threshold(axes, chosen, styles[name]["color"])
        axes.set_title(shorten(panel, 32))
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, None)
        axes.set_xlim(0, 1.0)
        axes.grid(True, color="#ececec", linewidth=0.7)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    # Where the grid ends early, the panel above the gap carries the axis.
    for column in range(columns):
        lowest = max(row for row in range(rows) if row * columns + column < len(panels))
        grid[lowest, column].tick_params(labelbottom=True)
    figure.supxlabel("Reproducibility (fraction of runs in which the voxel passes)", fontsize=10)
    figure.supylabel("Voxels with at least this reproducibility", fontsize=10)
    _curve_legend(figure, styles, lines)
    return figure


def _curve_pair(axes: Axes, rows: pd.DataFrame, style: dict) -> None:
    for kind, extra in (("real", {"linewidth": 1.8}), ("null", {"linewidth": 1.2, "linestyle": ":"})):
        one = rows[rows["kind"] == kind].sort_values("reproducibility")
        if len(one):
            look = {**style, **extra} if kind == "real" else {"color": style["color"], **extra}
            axes.plot(one["reproducibility"], one["n_voxels"], drawstyle="steps-pre", **look)


def _mark_threshold(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    for value in rows["reproducibility_threshold"].dropna() if len(rows) else ():
        if np.isfinite(value):
            axes.plot(
                value, 1.0, marker="v", markersize=6, color=colour, clip_on=False, alpha=0.85,
                markeredgecolor="white", markeredgewidth=0.5, transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _curve_legend(figure: Figure, styles: dict[str, dict], lines: list[str]) -> None:
    handles = [Line2D([], [], linewidth=1.8, label=shorten(name, 24), **styles[name]) for name in lines]
    handles += [
        Line2D([], [], color=GREY, linewidth=1.2, linestyle=":", label="permuted labels"),
        Line2D([], [], color=GREY, marker="v", linestyle="", label="highest by chance"),
    ]
    columns = max(2, min(len(handles), int(figure.get_figwidth() / 1.75)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=9)


@figure_style()
def univariate_scatter(
    t_values: np.ndarray,
    reproducibility: Mapping[str, np.ndarray],
    n_runs: int,
    thresholds: Mapping[str, float],
) -> Figure:
    """Draw the reproducibility of voxels against the size of their univariate effect, one class.

    Parameters
    ----------
    t_values
        One-versus-rest t of every voxel, shape (n_voxels,).
    reproducibility
        By method, the fraction of runs in which each voxel passes, shape (n_voxels,).
    n_runs
        Number of runs: the levels that the fraction can have.
    thresholds
        By method, the reproducibility reached by chance (nan: none).

    Returns
    -------
    Figure
        One panel per method: number of voxels (colour) by absolute t and reproducibility; the framed
        corner holds voxels with |t| < 1 and a reproducibility above .5, of which a univariate analysis
        sees little. Figure 6 of Gotsopoulos et al. (2018).
    """
    methods = list(reproducibility)
    size = np.abs(np.asarray(t_values, dtype=float))
    right = max(float(np.nanmax(size, initial=0.0)) * 1.02, 2 * LOW_T)
    levels = max(1, min(n_runs, 40))
    edges = (np.linspace(0, right, 61), (np.arange(levels + 2) - 0.5) / levels)
    columns = min(len(methods), 5)
    rows = -(-len(methods) // columns)
    width, height = max(2.45 * columns + 1.6, 4.4), 2.75 * rows + 0.9
    # Placed by hand: working the margins out takes longer than drawing, and there is one figure per class.
    figure = new_figure(width, height, constrained=False)
    margins = {"left": 0.8 / width, "right": 1 - 1.1 / width, "bottom": 0.6 / height, "top": 1 - 0.5 / height}
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=True, sharey=True,
        gridspec_kw={**margins, "wspace": 0.12, "hspace": 0.35},
    )  # fmt: skip
    counts = {name: np.histogram2d(size, values, bins=edges)[0] for name, values in reproducibility.items()}
    norm = LogNorm(1, max([float(count.max(initial=0)) for count in counts.values()] + [10.0]))
    for axes, name in zip(grid.flat, methods, strict=False):
        shown = np.ma.masked_less(counts[name].T, 1)
        mesh = axes.pcolormesh(*edges, shown, cmap=DENSITY, norm=norm, rasterized=True)
        framed = _frame_corner(axes, size, reproducibility[name])
        if np.isfinite(thresholds.get(name, np.nan)):
            axes.axhline(thresholds[name], color=GREY, linestyle="--", linewidth=1)
        axes.set_title(shorten(name, 24), pad=18)
        axes.text(
            0.5, 1.03, f"{framed} voxels framed", color=NULL, fontsize=8.5, ha="center",
            transform=axes.transAxes,
        )  # fmt: skip
        axes.set(xlim=(0, right), ylim=(-0.5 / levels, 1 + max(0.5 / levels, 0.02)))
    for axes in list(grid.flat)[len(methods) :]:
        axes.set_visible(False)
    figure.supxlabel("|t|, one class versus the rest", fontsize=10, y=0.1 / height, va="bottom")
    figure.supylabel("Reproducibility (fraction of runs)", fontsize=10, x=0.1 / width, ha="left")
    bar_axes = figure.add_axes((1 - 0.95 / width, 0.6 / height, 0.13 / width, 1 - 1.1 / height))
    figure.colorbar(mesh, cax=bar_axes, label="Voxels").minorticks_off()
    return figure


def _frame_corner(axes: Axes, size: np.ndarray, values: np.ndarray) -> int:
    inside = int(np.sum((size < LOW_T) & (values > FOUND_IN)))
    axes.add_patch(
        Rectangle(
            (0, FOUND_IN), LOW_T, 1 - FOUND_IN,
            fill=False, edgecolor=NULL, linewidth=1.3, clip_on=False,
        )
    )  # fmt: skip
    return inside


@figure_style()
def region_heatmap(regions: pd.DataFrame, classes: list[str], methods: list[str], names: list[str]) -> Figure:
    """Draw the share of each region's voxels that pass, by class and method.

    Parameters
    ----------
    regions
        Columns region, class, method, n_voxels, n_above.
    classes, methods
        Columns of each panel, and panels.
    names
        Regions to show, from top to bottom.

    Returns
    -------
    Figure
        One panel per method with regions as rows and classes as columns, in per cent.
    """
    cell = 0.36 if len(classes) <= 6 else 0.24
    figure = new_figure(min(15.0, 4.2 + len(methods) * (cell * len(classes) + 0.25)), 1.6 + 0.23 * len(names))
    panels = figure.subplots(1, len(methods), squeeze=False, sharey=True)[0]
    share = regions.assign(share=100 * regions["n_above"] / regions["n_voxels"].clip(lower=1))
    tables = [
        share[share["method"] == method]
        .pivot_table(index="region", columns="class", values="share", aggfunc="max")
        .reindex(index=names, columns=classes)
        .to_numpy(dtype=float)
        for method in methods
    ]
    highest = max([float(np.nanmax(table, initial=0)) for table in tables] + [1.0])
    for axes, method, table in zip(panels, methods, tables, strict=True):
        image = axes.imshow(table, cmap="cividis", vmin=0, vmax=highest, aspect="auto")
        axes.set_title(method)
        labels = [shorten(name, 16) for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=90, fontsize=8.5)
        axes.set_yticks(range(len(names)), [shorten(name, 42) for name in names], fontsize=8.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=panels, label="Voxels above threshold (%)", pad=0.01, aspect=25)
    return figure
