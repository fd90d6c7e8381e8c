"""The summary of a functional run: motion and other confounds over time, above its carpet plot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from bids_xai.errors import InputError
from bids_xai.images.grids import volumes
from bids_xai.reports.style import GREY, OKABE_ITO, figure_style, new_figure, vector
from bids_xai.tables import read_frame

FD_LIMIT_MM = 0.5
_CARPET_ROWS = 480
_CARPET_LIMIT = 2.0  # standard deviations that are black and white
_WIDTH, _TRACE, _CARPET = 11.5, 0.72, 3.4  # inches


@dataclass(frozen=True)
class Trace:
    """Confounds that share one panel: columns, names, what they are, and a limit to mark."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    title: str
    limit: float | None = None
    degrees: bool = False


TRACES = (
    Trace(("trans_x", "trans_y", "trans_z"), ("x", "y", "z"), "Translation (mm)"),
    Trace(("rot_x", "rot_y", "rot_z"), ("x", "y", "z"), "Rotation (°)", degrees=True),
    Trace(("framewise_displacement",), ("FD",), "FD (mm)", FD_LIMIT_MM),
    Trace(("std_dvars",), ("standardised DVARS",), "std. DVARS"),
    Trace(("dvars",), ("DVARS",), "DVARS"),
    Trace(("global_signal",), ("global signal",), "Global signal"),
)


def read_confounds(path: Path, *, n_volumes: int | None = None) -> pd.DataFrame:
    """Return the confounds of a run as numbers; what is no number, such as ``n/a``, is missing.

    Parameters
    ----------
    path
        TSV file with a row per volume.
    n_volumes
        Number of rows that it must have; None: any.

    Raises
    ------
    InputError
        The file does not exist or has another number of rows.
    """
    table = read_frame(path).apply(pd.to_numeric, errors="coerce")
    if n_volumes is not None and len(table) != n_volumes:
        raise InputError(
            f"{path} has {len(table)} rows, the run has {n_volumes} volumes.",
            "a row for each volume",
            "give the confounds of this run",
        )
    return table


def carpet(bold: nb.Nifti1Image, inside: np.ndarray, n_rows: int = _CARPET_ROWS) -> np.ndarray:
    """Return time courses of voxels from the brain's edge (first row) to its centre (last row).

    Voxels are taken at equal steps of their rank by depth below the mask's surface. Each time course is freed
    from its linear trend and divided by its standard deviation; constant ones are 0.

    Parameters
    ----------
    bold
        4-D image; it is read one volume at a time.
    inside
        Voxels of the brain, boolean, shape (x, y, z). When there are none, all voxels count.
    n_rows
        Number of voxels at most.

    Returns
    -------
    array, float32, shape (rows, volumes)
    """
    if not inside.any():
        inside = np.ones_like(inside)
    # The field of view's border is an edge of the brain, too, except along an axis of one voxel.
    padding = [(0, 0) if size == 1 else (1, 1) for size in inside.shape]
    core = tuple(
        slice(before, before + size) for (before, _), size in zip(padding, inside.shape, strict=True)
    )
    depth = distance_transform_edt(np.pad(inside, padding), sampling=bold.header.get_zooms()[:3])[core]
    voxels = np.flatnonzero(inside)
    voxels = voxels[np.argsort(depth.ravel()[voxels], kind="stable")]
    taken = voxels[np.linspace(0, len(voxels) - 1, min(n_rows, len(voxels))).round().astype(int)]
    series = np.stack([volume.ravel()[taken] for volume in volumes(bold)], axis=1)
    time = np.arange(series.shape[1]) - (series.shape[1] - 1) / 2
    size = np.abs(series).max(axis=1, keepdims=True)
    series -= series.mean(axis=1, keepdims=True)
    series -= np.outer(series @ time, time) / max(float(time @ time), 1.0)
    deviation = series.std(axis=1, keepdims=True)
    # What rounding to 32 bits leaves of a straight line is no signal.
    varies = deviation > 1e-6 * size
    return np.where(varies, series / np.where(varies, deviation, 1.0), 0.0).astype(np.float32)


@figure_style()
def draw_summary(rows: np.ndarray, confounds: pd.DataFrame, tr: float | None) -> Figure:
    """Draw the traces of the confounds that there are, and the carpet plot, above one time axis.

    Parameters
    ----------
    rows
        Time courses as :func:`carpet` returns them, shape (rows, volumes).
    confounds
        Columns with fMRIPrep's names, a row per volume.
    tr
        Seconds between volumes; None: the axis counts volumes.
    """
    traces = [trace for trace in TRACES if any(_is_drawn(confounds, name) for name in trace.columns)]
    if any("std_dvars" in trace.columns for trace in traces):
        traces = [trace for trace in traces if trace.columns != ("dvars",)]
    n_volumes, step = rows.shape[1], tr or 1.0
    heights = [_TRACE] * len(traces) + [_CARPET]
    figure = new_figure(_WIDTH, sum(heights) + 0.6)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, trace in zip(panels, traces, strict=False):
        _draw_trace(panel, trace, confounds, step)
    panels[-1].imshow(
        rows, cmap="gray", vmin=-_CARPET_LIMIT, vmax=_CARPET_LIMIT, aspect="auto", interpolation="none",
        extent=(-0.5 * step, (n_volumes - 0.5) * step, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    panels[-1].set_yticks([])
    panels[-1].set_ylabel("Voxels, edge to centre", fontsize=9)
    panels[-1].set_xlabel("Time in the run (s)" if tr else "Volume")
    panels[-1].set_xlim(-0.5 * step, (n_volumes - 0.5) * step)
    figure.align_ylabels(list(panels))
    return figure


def _is_drawn(confounds: pd.DataFrame, column: str) -> bool:
    return column in confounds and bool(np.isfinite(confounds[column]).any())


def _draw_trace(panel: Axes, trace: Trace, confounds: pd.DataFrame, step: float) -> None:
    notes = []
    for position, (column, name) in enumerate(zip(trace.columns, trace.names, strict=True)):
        if not _is_drawn(confounds, column):
            continue
        values = confounds[column].to_numpy(dtype=float)
        values = np.rad2deg(values) if trace.degrees else values
        # One value between two missing ones has no line to be on.
        panel.plot(
            step * np.arange(len(values)), values, color=OKABE_ITO[position], linewidth=1.1,
            marker="." if len(values) < 12 else "", label=name,
        )  # fmt: skip
        notes.append((np.nanmean(values), np.nanmax(np.abs(values))))
    if trace.limit is not None:
        panel.axhline(trace.limit, color=GREY, linewidth=0.8, linestyle="--")
        panel.set_ylim(bottom=0)
    if len(trace.columns) > 1:
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, handlelength=1.0)
        words = f"largest {max(largest for _, largest in notes):.3g}"
    else:
        words = f"mean {notes[0][0]:.3g}, largest {notes[0][1]:.3g}"
    panel.set_title(words.replace("-", "−"), loc="right", fontsize=8.5, weight="normal", color=GREY, pad=1.5)
    panel.set_ylabel(trace.title, fontsize=8.5, rotation=0, ha="right", va="center")
    panel.tick_params(axis="x", length=0, labelbottom=False)
    panel.tick_params(axis="y", labelsize=8)
    panel.locator_params(axis="y", nbins=3)
    panel.spines["bottom"].set_visible(False)


def standalone(figure: Figure) -> str:
    """Return a figure as SVG without document type and without a style that would reach other figures."""
    text = vector(figure).decode("utf-8")
    text = re.sub(r"<!DOCTYPE.*?>\s*", "", text, count=1, flags=re.S)
    text = re.sub(
        r"\s*<style type=\"text/css\">\*\{stroke-linejoin.*?</style>", "", text, count=1, flags=re.S
    )
    return text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
