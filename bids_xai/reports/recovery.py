"""Figures of data with known truth: maps beside the truth, and what is found at which threshold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bids_xai.inference.recovery import MEAN
from bids_xai.reports.style import GREY, figure_style, line_styles, new_figure, shorten

_STRIP_ROWS = 60  # voxels in a column of a strip, at most
_CURVES = (("accuracy", "Voxel accuracy"), ("FDR", "False discovery rate"), ("FOR", "False omission rate"))


@figure_style()
def voxel_strips(
    truth: npt.NDArray[np.bool_],
    t_values: npt.NDArray[np.float32],
    reproducibility: Mapping[str, npt.NDArray[np.float32]],
    classes: list[str],
) -> Figure:
    """Draw truth, t and reproducibility of all voxels, one column of pictures per class.

    Parameters
    ----------
    truth, t_values
        Shape (n_classes, n_voxels).
    reproducibility
        By method, the fraction of runs in which a voxel passes, same shape.
    classes
        Names of the classes.

    Returns
    -------
    Figure
        Rows: truth, t, then a method each. The voxels run down the columns of a picture, column after
        column, so that a range of voxels is a band. The content of figure 3 of Gotsopoulos et al. (2018).
    """
    # t on a scale of its own; the highest reproducibility there is sets the scale of all methods.
    reach = max(float(np.abs(t_values).max()), 1.0)
    highest = max([float(values.max()) for values in reproducibility.values()] + [0.05])
    rows = [
        ("truth", truth.astype(np.float32), "Greys", 0.0, 1.2),
        ("t", t_values, "RdBu_r", -reach, reach),
        *((name, values, "magma", 0.0, highest) for name, values in reproducibility.items()),
    ]
    figure = new_figure(2.2 * len(classes) + 1.9, 0.86 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), len(classes), squeeze=False)
    for r, (name, values, colours, low, high) in enumerate(rows):
        for c, label in enumerate(classes):
            axes = grid[r, c]
            image = axes.imshow(
                _folded(values[c]), cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
            )
            axes.set(xticks=[], yticks=[], facecolor="#dddddd")
            axes.spines[:].set_visible(True)
            if r == 0:
                axes.set_title(shorten(label, 24))
        grid[r, 0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
        if r == 1:
            figure.colorbar(image, ax=grid[1, :], pad=0.01, aspect=7, fraction=0.04)
    bar = figure.colorbar(image, ax=grid[2:, :], pad=0.01, aspect=40, fraction=0.04)
    bar.set_label("Reproducibility (fraction of runs)")
    return figure


def _folded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the voxels as a picture with a few times as many columns as rows; its rest is nan."""
    height = max(1, min(_STRIP_ROWS, round(np.sqrt(len(values) / 4))))
    width = -(-len(values) // height)
    padded = np.full(height * width, np.nan, dtype=np.float32)
    padded[: len(values)] = values
    return padded.reshape(width, height).T


@figure_style()
def recovery_figure(recovery: pd.DataFrame, thresholds: pd.DataFrame, methods: list[str]) -> Figure:
    """Draw how well the truth is found when voxels must pass in at least a fraction of the runs.

    Parameters
    ----------
    recovery
        Columns method, class, alpha, reproducibility, n_voxels, accuracy, FDR, FOR; the rows of class
        ``mean`` are drawn.
    thresholds
        Columns method, class, alpha, reproducibility_threshold (fraction of runs).
    methods
        What gets a line, in its order.

    Returns
    -------
    Figure
        Rows: voxel accuracy, false discovery rate, false omission rate; columns: levels. Triangles: the
        reproducibility that voxels reach by chance, mean over the classes. Supplementary figure 2 of
        Gotsopoulos et al. (2018).
    """
    alphas = sorted(recovery["alpha"].unique())
    figure = new_figure(max(3.4 * len(alphas) + 0.6, 5.6), 7.0)
    grid = figure.subplots(len(_CURVES), len(alphas), squeeze=False, sharex=True, sharey="row")
    styles = line_styles(methods)
    mean = recovery[recovery["class"] == MEAN]
    for column, alpha in enumerate(alphas):
        rows = mean[np.isclose(mean["alpha"], alpha)]
        limits = thresholds[np.isclose(thresholds["alpha"], alpha)]
        for axes, (measure, label) in zip(grid[:, column], _CURVES, strict=True):
            for method in methods:
                own = rows[rows["method"] == method].sort_values("reproducibility")
                # Where nothing is found there is no rate of false discoveries to draw.
                shown = own[measure].where((own["n_voxels"] > 0) | (measure != "FDR"))
                axes.plot(
                    own["reproducibility"], shown, drawstyle="steps-pre", linewidth=1.6, **styles[method]
                )
                _mark(axes, own, measure, limits[limits["method"] == method], styles[method]["color"])
            axes.grid(True, color="#ececec", linewidth=0.7)
            axes.set_xlim(0, 1)
            if column == 0:
                axes.set_ylabel(label)
        grid[0, column].set_title(f"p ≤ {alpha:g}")
    for row in grid[:2]:
        row[0].set_ylim(-0.02, 1.02)
    grid[2, 0].set_ylim(0, None)
    figure.supxlabel("Least reproducibility of a voxel that is found (fraction of runs)", fontsize=10)
    handles = [Line2D([], [], linewidth=1.8, label=shorten(name, 24), **styles[name]) for name in methods]
    handles.append(Line2D([], [], color=GREY, marker="v", linestyle="", label="highest by chance"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9)
    return figure


def _mark(axes: Axes, rows: pd.DataFrame, measure: str, limits: pd.DataFrame, colour: str) -> None:
    """Mark a curve where the reproducibility that is reached by chance ends."""
    value = limits["reproducibility_threshold"].mean() if len(limits) else np.nan
    if np.isfinite(value) and len(rows):
        height = np.interp(value, rows["reproducibility"], rows[measure])
        axes.plot(
            value, height, marker="v", markersize=6.5, color=colour, zorder=4,
            markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
