"""Sheets of slices in three orientations, as what an SVG is made of: photographs, outlines and words."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape

import nibabel as nb
import numpy as np
from PIL import Image

from bids_xai.reports.slices import Cut, SliceView

_COLUMNS = 7
_WIDTH, _FLAT_WIDTH = 1260, 620  # pixels of a row of slices, and of an image that is a single slice
_ROWS = (2, 1, 0)  # axial, coronal, sagittal
_GAP, _NAME, _HEAD = 4, 17, 26  # pixels between slices, for the names below them, above all
_QUALITY = 88
_TENTHS = 10  # outlines are drawn to a tenth of a pixel


@dataclass(frozen=True)
class Panel:
    """One slice and the upper left pixel of its place on the sheet."""

    cut: Cut
    left: int
    top: int


class Sheet:
    """Axial, coronal and sagittal slices of images in one world space, the left hemisphere on the left.

    The slices follow the axes of the mask's grid, turned to the nearest right-anterior-superior order.
    Images of any grid are shown: what lies in a slice is interpolated, nothing is resampled as a whole.

    Parameters
    ----------
    mask
        3-D image of what is spread over the sheet. An empty one spreads its whole field of view.
    margin
        Millimetres shown around the mask.
    """

    def __init__(self, mask: nb.Nifti1Image, margin: float) -> None:
        flat = 1 in mask.shape[:3]
        longest = _FLAT_WIDTH if flat else _WIDTH // _COLUMNS - _GAP
        self.view = SliceView(mask, margin=margin, longest=longest)
        rows = [self.view.choose()] if flat else [self.view.spread(axis, _COLUMNS) for axis in _ROWS]
        shapes = [[self._inside(cut).shape for cut in row] for row in rows]
        cell = max(shape[1] for row in shapes for shape in row) + _GAP
        self.width = cell * max(map(len, rows))
        self.panels: list[Panel] = []
        top = _HEAD
        for row, sizes in zip(rows, shapes, strict=True):
            step = self.width / len(row)
            for place, (cut, (_, width)) in enumerate(zip(row, sizes, strict=True)):
                self.panels.append(Panel(cut, round(step * (place + 0.5) - width / 2), top))
            top += max(height for height, _ in sizes) + _NAME
        self.height = top

    def _inside(self, cut: Cut) -> np.ndarray:
        return self.view.cut(self.view.mask, cut)

    def photograph(self, image: nb.Nifti1Image) -> str:
        """Return an SVG element of an image's slices, bright as its values inside the mask ask for."""
        volume = volume_of(image)
        slices = [self.view.sample(volume, image.affine, panel.cut) for panel in self.panels]
        inside = [pixels[self._inside(panel.cut)] for panel, pixels in zip(self.panels, slices, strict=True)]
        values = np.concatenate(inside)
        low, high = _brightness(values if values.size else np.concatenate([each.ravel() for each in slices]))
        canvas = np.zeros((self.height, self.width), np.uint8)
        for panel, pixels in zip(self.panels, slices, strict=True):
            height, width = pixels.shape
            grey = np.clip((pixels[::-1] - low) / (high - low), 0, 1)
            canvas[panel.top : panel.top + height, panel.left : panel.left + width] = np.rint(240 * grey)
        stream = io.BytesIO()
        Image.fromarray(canvas).save(stream, format="JPEG", quality=_QUALITY)
        source = base64.b64encode(stream.getvalue()).decode("ascii")
        return (
            f'<image width="{self.width}" height="{self.height}" '
            f'xlink:href="data:image/jpeg;base64,{source}"/>'
        )

    def outline(self, mask: nb.Nifti1Image) -> str:
        """Return an SVG path along the border of a mask on any grid.

        It is closed also where the mask's grid ends, if the margin shows a pixel beyond it.
        """
        from contourpy import contour_generator

        volume = (volume_of(mask) > 0).astype(np.float32)
        strokes = []
        for panel in self.panels:
            pixels = self.view.sample(volume, mask.affine, panel.cut)
            height = pixels.shape[0]
            for line in contour_generator(z=pixels).lines(0.5):
                points = np.asarray(line)
                points[:, 0] += panel.left + 0.5
                points[:, 1] = panel.top + height - 0.5 - points[:, 1]
                strokes.append(_stroke(np.rint(points * _TENTHS).astype(int)))
        return (
            f'<path class="outline" transform="scale({1 / _TENTHS:g})" fill="none" stroke="#F5A623" '
            f'stroke-width="{1.2 * _TENTHS:g}" stroke-linejoin="round" d="{"".join(strokes)}"/>'
        )

    def words(self) -> str:
        """Return SVG text: the place of each slice below it, and which side is left."""
        texts: list[str] = []
        first: dict[int, tuple[Panel, int]] = {}
        for panel in self.panels:
            height, width = self._inside(panel.cut).shape
            place = panel.left + width / 2, panel.top + height + 12
            texts.append(_text(panel.cut.label, *place, "middle"))
            first.setdefault(panel.cut.axis, (panel, width))
        for axis, (panel, width) in first.items():
            left, right = ("L", "R") if axis != 0 else ("P", "A")
            texts.append(_text(left, panel.left + 3, panel.top + 12, "start"))
            texts.append(_text(right, panel.left + width - 3, panel.top + 12, "end"))
        return f'<g font-size="11" fill="#e8e8e8">{"".join(texts)}</g>'

    def title(self, words: str) -> str:
        """Return SVG text above all slices."""
        return f'<g font-size="14" font-weight="bold" fill="#ffffff">{_text(words, 8, 18, "start")}</g>'

    def svg(
        self, content: str, described: str, *, look: str = "", name: str = "sheet", focusable: bool = False
    ) -> str:
        """Return a whole SVG file.

        Parameters
        ----------
        content
            Its elements.
        described
            What is seen, in words.
        look
            Style sheet.
        name
            Class of the root element.
        focusable
            Whether the keyboard reaches it, for what happens while the pointer is on it.
        """
        style = f"<style>{look}</style>" if look else ""
        focus = ' tabindex="0"' if focusable else ""
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'class="{name}" viewBox="0 0 {self.width} {self.height}" role="img"{focus} '
            f'aria-label="{escape(described)}" font-family="Helvetica, Arial, sans-serif">{style}'
            f'<rect width="{self.width}" height="{self.height}" fill="#000000"/>{content}</svg>\n'
        )


def volume_of(image: nb.Nifti1Image) -> np.ndarray:
    """Return the values of a 3-D image or of the first volume of a 4-D one, float32, finite."""
    data = image.dataobj if len(image.shape) == 3 else image.dataobj[..., 0]
    return np.nan_to_num(np.asarray(data, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _brightness(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(values, [1, 99.5]))
    if high > low:
        return low, high
    # A constant image is grey before a black background.
    return (0.0, 2 * low) if low > 0 else (low - 1.0, low + 1.0)


def _stroke(points: np.ndarray) -> str:
    points = points[np.append(True, np.any(np.diff(points, axis=0) != 0, axis=1))]
    steps = np.diff(points, axis=0)
    if not len(steps):
        return ""
    # Points in the middle of a straight line say nothing.
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    steps = np.diff(points[np.concatenate([[True], turns, [True]])], axis=0)
    return f"M{points[0, 0]} {points[0, 1]}l" + " ".join(f"{x} {y}" for x, y in steps) + "z"


def _text(words: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
