"""How figures look: colours that colour-blind readers tell apart, and one typography."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

# Okabe & Ito (2008), without the yellow that white paper swallows.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
REAL, NULL = "#0072B2", "#D55E00"
GREY = "#5f6368"
DPI = 130

_RC: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.facecolor": "white",
    # Equal results give equal files.
    "svg.hashsalt": "bids_xai",
}

DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", ["#b9e3ff", "#56B4E9", "#0072B2", "#10314a", "#5a1a00", "#D55E00", "#F5A623", "#FFF3A3"]
)
DENSITY = LinearSegmentedColormap.from_list("density", ["#c9dff0", "#56B4E9", "#0072B2", "#06192b"])
SEQUENTIAL = LinearSegmentedColormap.from_list("sequential", ["#5a1a00", "#D55E00", "#F5A623", "#FFF3A3"])


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the style of the reports, whatever the user's matplotlibrc says, and undo it afterwards."""
    with matplotlib.style.context(["default", _RC]):
        yield


def new_figure(width: float, height: float, *, constrained: bool = True, dpi: float = 100) -> Figure:
    """Return an Agg figure of a size in inches that pyplot has never heard of."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


@figure_style()
def vector(figure: Figure) -> bytes:
    """Return a figure as the bytes of an SVG file, without the date in it."""
    _settle(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", dpi=DPI, metadata={"Date": None})
    return stream.getvalue()


def _settle(figure: Figure) -> None:
    # The solver of the layout leaves last digits that differ from run to run, and names are made of them.
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(tuple(round(value, 5) for value in axes.get_position(original=True).bounds))


@figure_style()
def raster(figure: Figure) -> Image.Image:
    """Return a figure as an RGB image of ``DPI`` pixels an inch."""
    if figure.get_dpi() != DPI:
        figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def line_styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return colour and marker by name; after eight names the colours come again with markers."""
    markers = ("", "o", "s", "D")
    styles: dict[str, dict[str, Any]] = {}
    for position, name in enumerate(names):
        cycle, colour = divmod(position, len(OKABE_ITO))
        styles[name] = {
            "color": OKABE_ITO[colour],
            "marker": markers[min(cycle, len(markers) - 1)],
            "markevery": 0.1,
            "markersize": 4,
        }
    return styles


def shorten(name: str, length: int) -> str:
    """Return a name of at most ``length`` characters for a figure, cut in the middle."""
    head = (length - 1) // 2
    cut = name if len(name) <= length else f"{name[:head]}…{name[-(length - 1 - head) :]}"
    return literal(cut)


def literal(name: str) -> str:
    """Return a name that matplotlib draws as it is: ``$`` may begin a formula, legends leave out ``_``."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
