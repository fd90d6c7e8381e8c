"""Charts of networks: regions, distances between trainings, and what is alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bids_xai.reports.style import (
    GREY,
    OKABE_ITO,
    REAL,
    figure_style,
    line_styles,
    literal,
    new_figure,
    shorten,
)

METRICS = {
    "sum": "Sum of relevance",
    "density": "Density (sum per voxel)",
    "gain": "Gain over the other class",
}
_MOST_VECTORS = 300
_VIEWS = ((1, 2, "y (mm)", "z (mm)"), (0, 2, "x (mm)", "z (mm)"), (0, 1, "x (mm)", "y (mm)"))


@figure_style()
def region_bars(leading: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the leading regions of each metric as bars.

    Parameters
    ----------
    leading
        By metric (sum, density, gain): rows with columns region and value, the leading region first.

    Returns
    -------
    Figure
        One panel per metric; figure 5 of Böhle et al. (2019).
    """
    most = max(len(rows) for rows in leading.values())
    figure = new_figure(4.6 * len(leading), 1.0 + 0.205 * most)
    for axes, (metric, rows) in zip(
        figure.subplots(1, len(leading), squeeze=False)[0], leading.items(), strict=True
    ):
        places = np.arange(len(rows))
        axes.barh(places, rows["value"], color=REAL, height=0.72)
        axes.set_yticks(places, [shorten(name, 34) for name in rows["region"]], fontsize=8)
        axes.set_ylim(most - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_title(METRICS.get(metric, metric))
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
        reference = 1.0 if metric == "gain" else 0.0
        axes.axvline(reference, color=GREY, linewidth=0.9, linestyle="--" if reference else "-")
        axes.locator_params(axis="x", nbins=4)
    return figure


@figure_style()
def dots(values: Mapping[str, np.ndarray], label: str, reference: float | None = None) -> Figure:
    """Draw single values of each name beside their mean and standard deviation.

    Parameters
    ----------
    values
        By name, values of shape (n,).
    label
        Name and unit of the values.
    reference
        Value that would be expected by chance, as a dashed line.

    Returns
    -------
    Figure
        One row per name. Dots of equal value are spread by their order, not at random.
    """
    figure = new_figure(6.2, 0.9 + 0.42 * len(values))
    axes = figure.subplots()
    for place, given in enumerate(values.values()):
        found = np.sort(given[np.isfinite(given)])
        if not found.size:
            continue
        colour = OKABE_ITO[place % len(OKABE_ITO)]
        # The golden ratio spreads neighbours apart.
        spread = (np.arange(found.size) * 0.618034 % 1 - 0.5) * 0.34
        axes.scatter(
            found, place + spread, s=12, color=colour, alpha=0.45, linewidth=0,
            rasterized=found.size > _MOST_VECTORS,
        )  # fmt: skip
        error = float(found.std(ddof=1)) if found.size > 1 else 0.0
        axes.errorbar(
            found.mean(), place, xerr=error, color=colour, marker="o", markersize=6, linewidth=1.8,
            markeredgecolor="white", markeredgewidth=0.8, zorder=3,
        )  # fmt: skip
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(values)), [shorten(name, 34) for name in values])
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    return figure


@figure_style()
def load_scatter(table: pd.DataFrame, titles: Mapping[str, str], classes: Sequence[str]) -> Figure:
    """Draw the sum of relevance over the number of lesion voxels.

    Parameters
    ----------
    table
        Columns method, true, lesion_voxels, relevance: a row per sample.
    titles
        Title of each method that is drawn.
    classes
        Classes in their order; each has its colour.

    Returns
    -------
    Figure
        One panel per method; figure 4 of Eitel et al. (2019).
    """
    across = min(len(titles), 4)
    down = -(-len(titles) // across)
    figure = new_figure(3.4 * across + 0.4, 2.9 * down + 0.5)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    styles = line_styles(list(classes))
    for axes, (method, title) in zip(panels, titles.items(), strict=False):
        for name in classes:
            rows = table[(table["method"] == method) & (table["true"] == name)]
            axes.scatter(
                rows["lesion_voxels"], rows["relevance"], s=16, alpha=0.7, linewidth=0,
                color=styles[name]["color"], label=shorten(name, 24),
            )  # fmt: skip
        axes.set_title(shorten(title, 34), fontsize=9.5)
        axes.set_xlabel("Lesion voxels")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    for axes in panels[:: across or 1]:
        axes.set_ylabel("Sum of relevance")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 8), fontsize=9)
    return figure


@figure_style()
def dissimilarities(rdm: pd.DataFrame, classes: Sequence[str], titles: Mapping[str, str]) -> Figure:
    """Draw the dissimilarity of every pair of classes, one matrix per kind.

    Parameters
    ----------
    rdm
        Columns kind, class_a, class_b, distance (1 - correlation, 0 to 2); pairs in one order suffice.
    classes
        Classes in their order.
    titles
        Title of each kind.

    Returns
    -------
    Figure
        Symmetric matrices on one scale.
    """
    kinds = list(dict.fromkeys(rdm["kind"]))
    side = min(5.0, max(3.0, 0.5 * len(classes) + 1.4))
    figure = new_figure(side * len(kinds) + 1.2, side + 0.7)
    figure.set_layout_engine("compressed")
    highest = max(float(rdm["distance"].max()), 1e-9)
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        matrix = symmetric(rdm[rdm["kind"] == kind], classes)
        image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=highest)
        if len(classes) <= 10:
            for (row, column), value in np.ndenumerate(matrix):
                if np.isfinite(value):
                    colour = "#111111" if value > 0.55 * highest else "white"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(titles.get(kind, kind))
        labels = [shorten(name, 16) for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=panels, label="1 − correlation", shrink=0.85, pad=0.02)
    return figure


def symmetric(pairs: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return distances of pairs as a symmetric matrix with zeros on its diagonal; nan: not given."""
    order = {name: place for place, name in enumerate(classes)}
    matrix = np.full((len(order), len(order)), np.nan)
    np.fill_diagonal(matrix, 0.0)
    for a, b, distance in zip(pairs["class_a"], pairs["class_b"], pairs["distance"], strict=True):
        if a in order and b in order:
            matrix[order[a], order[b]] = matrix[order[b], order[a]] = distance
    return matrix


@figure_style()
def positions_figure(
    positions: pd.DataFrame, classes: Sequence[str], mask: np.ndarray, affine: np.ndarray
) -> Figure:
    """Draw the positions whose occlusion costs a class most, in the brain and as UMAP sees them.

    Parameters
    ----------
    positions
        Columns class, x, y, z (mm), and embeddings umap_1, umap_2 (of the places), functional_1,
        functional_2 (of the drops of all classes), each where it was computed.
    classes
        Classes in their order.
    mask, affine
        Brain mask of shape (x, y, z) and its affine to millimetres, for the outline.

    Returns
    -------
    Figure
        Three views through the brain, then the embeddings.
    """
    maps = [
        (first, second, title)
        for first, second, title in (
            ("umap_1", "umap_2", "UMAP of places"),
            ("functional_1", "functional_2", "UMAP of drops"),
        )
        if first in positions and positions[first].notna().any()
    ]
    figure = new_figure(3.3 * (3 + len(maps)), 3.9)
    panels = figure.subplots(1, 3 + len(maps), squeeze=False)[0]
    styles = line_styles(list(classes))
    for axes, (across, up, horizontal, vertical) in zip(panels, _VIEWS, strict=False):
        _outline(axes, mask, affine, across, up)
        _points(axes, positions, classes, "xyz"[across], "xyz"[up])
        axes.set_xlabel(horizontal)
        axes.set_ylabel(vertical)
        axes.set_aspect("equal")
    for axes, (first, second, title) in zip(panels[3:], maps, strict=True):
        _points(axes, positions, classes, first, second)
        axes.set_title(literal(title))
        axes.set_xticks([])
        axes.set_yticks([])
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=style["color"], label=shorten(name, 24))
        for name, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 8), fontsize=9)
    return figure


def _outline(axes: Axes, mask: np.ndarray, affine: np.ndarray, across: int, up: int) -> None:
    other = 3 - across - up
    flat = mask.any(axis=other).astype(float)
    corners = affine[:3, :3].diagonal(), affine[:3, 3]
    grids = [corners[1][axis] + corners[0][axis] * np.arange(mask.shape[axis]) for axis in (across, up)]
    if min(flat.shape) > 1:
        axes.contour(*grids, flat.T, levels=[0.5], colors="#9a9a9a", linewidths=1)


def _points(axes: Axes, positions: pd.DataFrame, classes: Sequence[str], first: str, second: str) -> None:
    styles = line_styles(list(classes))
    for name in classes:
        rows = positions[positions["class"] == name]
        axes.scatter(rows[first], rows[second], s=7, alpha=0.55, linewidth=0, color=styles[name]["color"])
