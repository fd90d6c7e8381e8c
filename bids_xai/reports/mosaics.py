"""Mosaics of slices: one strip of slices per map, with its colour bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from bids_xai.reports.slices import Cut, SliceView, outline
from bids_xai.reports.style import DIVERGING, DPI, SEQUENTIAL, figure_style, literal, new_figure

_GAP = 6  # black pixels between slices
_MOST_PIXELS = 1500  # of a strip, when a slice's pixels are enlarged
# Pixels: left of the strips, right of them for the colour bars, titles, names of slices, narrowest strip.
_LEFT, _RIGHT, _TITLE, _FOOT, _LEAST_WIDTH = 6, 150, 35, 40, 420


@dataclass(frozen=True)
class Layer:
    """One strip of a mosaic.

    Parameters
    ----------
    title
        What the strip shows.
    values
        Volume of the mask's shape.
    label
        Name and unit of the values, for the colour bar.
    limits
        Values at the ends of the colour bar.
    fade
        True: colours fade into the background as values near 0; False: all but ``hidden`` are opaque.
    shown
        Voxels that are coloured, shape as ``values``; None: those that are not 0.
    framed
        Voxels that are outlined in white; None: none.
    n_steps
        Number of discrete colours, for values that count; 0: continuous.
    """

    title: str
    values: np.ndarray
    label: str
    limits: tuple[float, float]
    fade: bool = False
    shown: np.ndarray | None = None
    framed: np.ndarray | None = None
    n_steps: int = 0

    @property
    def colormap(self) -> Colormap:
        """Colours of the strip: diverging where values of both signs are shown."""
        if self.n_steps:
            return ListedColormap(SEQUENTIAL(np.linspace(0.15, 1, self.n_steps)))
        return DIVERGING if self.limits[0] < 0 else SEQUENTIAL

    @property
    def norm(self) -> Normalize:
        """How values become positions on the colour bar."""
        if self.n_steps:
            return BoundaryNorm(np.arange(self.n_steps + 1) + 0.5, self.n_steps)
        return Normalize(*self.limits, clip=True)


def robust_limits(values: np.ndarray, *, signed: bool | None = None) -> tuple[float, float]:
    """Return colour limits: 0 or minus the 99.5th percentile of the absolute values, and that percentile.

    Parameters
    ----------
    values
        Any shape; zeros and values that are not finite do not count.
    signed
        Whether limits are symmetric about 0; None: when any value is negative.
    """
    finite = values[np.isfinite(values) & (values != 0)]
    top = float(np.percentile(np.abs(finite), 99.5)) if finite.size else 1.0
    negative = bool((finite < 0).any()) if signed is None else signed
    return (-top if negative else 0.0), top


@figure_style()
def mosaic(view: SliceView, cuts: list[Cut], layers: list[Layer]) -> Figure:
    """Draw layers as strips of the same slices under each other.

    Parameters
    ----------
    view
        Where the slices come from.
    cuts
        Slices from left to right.
    layers
        Strips from top to bottom.

    Returns
    -------
    Figure
        Right is right; slices are named in millimetres of world space under the last strip. A pixel of
        a slice is a whole number of pixels of the figure. There are no axes in it: images and words are
        placed by the pixel, which is several times faster, and a report holds dozens.
    """
    strips = [_strip(view, cuts, layer) for layer in layers]
    rows, columns = strips[0].shape[:2]
    zoom = max(1, min(_MOST_PIXELS // columns, _MOST_PIXELS // 4 // rows))
    width, height = zoom * columns, zoom * rows
    total_width = _LEFT + max(width, _LEAST_WIDTH) + _RIGHT
    total = len(layers) * (height + _TITLE) + _FOOT
    figure = new_figure(total_width / DPI, total / DPI, constrained=False, dpi=DPI)
    page = _Page(figure, total_width, total)
    for number, (layer, strip) in enumerate(zip(layers, strips, strict=True)):
        bottom = total - (number + 1) * (height + _TITLE)
        page.image(np.kron(strip, np.ones((zoom, zoom, 1), np.uint8)), _LEFT, bottom)
        page.words(layer.title, _LEFT, bottom + height + 6, fontsize=10.5, weight="bold")
        _colour_bar(page, layer, _LEFT + width + 14, bottom, height)
    _name_slices(page, view, cuts, zoom)
    return figure


class _Page:
    """A figure on which things are placed in pixels from the lower left."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def image(self, pixels: np.ndarray, left: float, bottom: float) -> None:
        self.figure.figimage(pixels, round(left), round(bottom), origin="lower")

    def words(self, text: str, left: float, bottom: float, **look: Any) -> None:
        self.figure.text(
            left / self.width, bottom / self.height, literal(text), **{"color": "#222222", **look}
        )


def _strip(view: SliceView, cuts: list[Cut], layer: Layer) -> np.ndarray:
    values = np.nan_to_num(layer.values)
    shown = values != 0 if layer.shown is None else layer.shown
    panels = [_panel(view, cut, layer, values, shown) for cut in cuts]
    height = max(panel.shape[0] for panel in panels)
    padded = []
    for panel in panels:
        below = (height - panel.shape[0]) // 2
        above = height - panel.shape[0] - below
        padded.append(np.pad(panel, ((below, above), (_GAP // 2, _GAP // 2), (0, 0))))
    return np.concatenate(padded, axis=1)


def _panel(view: SliceView, cut: Cut, layer: Layer, volume: np.ndarray, shown: np.ndarray) -> np.ndarray:
    panel = np.repeat(view.grey(cut)[..., None], 3, axis=2)
    painted = view.cut(shown, cut)
    values = view.cut(volume, cut)[painted]
    opacity = np.ones((len(values), 1))
    if layer.fade:
        # Strong effects are highlighted, weak ones not hidden (Taylor et al. 2023).
        opacity[:, 0] = np.clip(np.abs(values) / max(abs(limit) for limit in layer.limits), 0, 1) ** 0.7
    colours = layer.colormap(layer.norm(values))[:, :3]
    panel[painted] = panel[painted] * (1 - opacity) + colours * opacity
    if layer.framed is not None:
        panel[outline(view.cut(layer.framed, cut))] = 1.0
    return np.asarray(np.rint(255 * panel), dtype=np.uint8)


def _name_slices(page: _Page, view: SliceView, cuts: list[Cut], zoom: int) -> None:
    left = float(_LEFT)
    for number, cut in enumerate(cuts):
        width = zoom * (view.grey(cut).shape[1] + _GAP)
        page.words(cut.label, left + width / 2, _FOOT - 6, ha="center", va="top", fontsize=9.5)
        if number == 0 and cut.axis != 0:
            page.words("L", left + 6, _FOOT + 6, color="white", fontsize=8)
            page.words("R", left + width - 6, _FOOT + 6, color="white", fontsize=8, ha="right")
        left += width


def _colour_bar(page: _Page, layer: Layer, left: float, bottom: float, height: float) -> None:
    # Two ends need room for two words, also beside a strip of one flat slice.
    length = round(max(0.84 * height, 40))
    start = bottom + (height - length) / 2
    low, high = (0.5, layer.n_steps + 0.5) if layer.n_steps else layer.limits
    ramp = layer.colormap(layer.norm(np.linspace(low, high, length)))[:, None, :3]
    page.image(np.rint(255 * ramp).astype(np.uint8).repeat(16, axis=1), left, start)
    if layer.n_steps:
        step = max(1, -(-layer.n_steps * 14 // length))
        ticks = {float(count): str(count) for count in range(1, layer.n_steps + 1, step)}
    else:
        middle = 0.0 if low < 0 else (low + high) / 2
        values = (low, middle, high) if length >= 60 else (low, high)
        ticks = {value: f"{value:.2g}".replace("-", "−") for value in values}
    for value, text in ticks.items():
        place = start + length * (value - low) / (high - low)
        page.words(text, left + 21, place, va="center", fontsize=8.5)
    beside = left + 36 + 10 * max(map(len, ticks.values()))
    page.words(layer.label, beside, bottom + height / 2, rotation=90, ha="center", va="center", fontsize=8.5)
