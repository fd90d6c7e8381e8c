"""The pages: blocks of text, tables and figures, rendered into one file that loads nothing else."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image, features

import bids_xai
from bids_xai.reports.style import raster, vector

_CSS_PIXELS_PER_INCH = 92


@dataclass(frozen=True)
class Text:
    """A paragraph; plain strings are escaped, Markup is not."""

    html: str | Markup
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Alert:
    """A note that stands out; level: info, warning or failure."""

    text: str | Markup
    level: str = "info"
    kind: ClassVar[str] = "alert"


@dataclass(frozen=True)
class Lines:
    """A bulleted list."""

    lines: Sequence[str | Markup]
    kind: ClassVar[str] = "list"


@dataclass(frozen=True)
class Facts:
    """Names and values at a glance."""

    rows: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """An embedded figure with its alternative text and caption; width in CSS pixels."""

    source: str
    alt: str
    caption: str | Markup
    width: int
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Drawing:
    """A figure that is part of the page itself, so that it can answer the pointer, with its caption."""

    svg: Markup
    caption: str | Markup
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Part:
    """A titled part of a section, with an anchor."""

    anchor: str
    title: str
    blocks: Sequence[Any]
    kind: ClassVar[str] = "part"


@dataclass(frozen=True)
class Fold:
    """Blocks that a click unfolds."""

    title: str
    blocks: Sequence[Any]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Index:
    """Links to parts of the same page: anchors and names."""

    entries: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "index"


@dataclass(frozen=True)
class Section:
    """A section with its entry in the navigation bar."""

    anchor: str
    title: str
    blocks: Sequence[Any]


class Gallery:
    """Draws the figures of one page once, for embedding and for the folder of figures."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def drawing(self, figure: Figure, name: str, alt: str, caption: str | Markup) -> Picture:
        """Embed a figure of lines and text as SVG, and keep the file ``name.svg``."""
        data = self.files[self._free(name, ".svg")] = vector(figure)
        return _picture(figure, data, "image/svg+xml", alt, caption)

    def photograph(self, figure: Figure, name: str, alt: str, caption: str | Markup) -> Picture:
        """Embed a figure of images, and keep the lossless file ``name.png``.

        What is embedded is WebP where Pillow can write it: a fifth of the size, and the page holds dozens.
        """
        image = raster(figure)
        lossless = self.files[self._free(name, ".png")] = _encode(image, "PNG", compress_level=1)
        if features.check("webp"):
            small = _encode(image, "WEBP", quality=90, method=0)
            return _picture(figure, small, "image/webp", alt, caption)
        return _picture(figure, lossless, "image/png", alt, caption)

    def _free(self, name: str, ending: str) -> str:
        """Return a file name that no other figure has: classes such as "a b" and "a/b" are spelt alike."""
        names = (f"{slug(name)}{f'-{number_}' if number_ > 1 else ''}{ending}" for number_ in count_from(1))
        return next(name for name in names if name not in self.files)


def _encode(image: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def _picture(figure: Figure, data: bytes, media: str, alt: str, caption: str | Markup) -> Picture:
    source = f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(source, alt, caption, round(figure.get_figwidth() * _CSS_PIXELS_PER_INCH))


def render(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """Return a self-contained HTML page; sections without blocks are left out."""
    environment = Environment(
        loader=PackageLoader("bids_xai.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("report.html.jinja")
    return template.render(
        title=title,
        subtitle=subtitle,
        sections=[section for section in sections if section.blocks],
        version=bids_xai.__version__,
    )


def slug(name: str) -> str:
    """Return a name as an anchor or file name: letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "x"


def number(value: Any, digits: int = 3) -> str:
    """Return a value for a table: significant digits, thin groups, words for what is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "not reachable"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f").replace("-", "−")
    text = f"{float(value):.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}×10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return text.replace("-", "−")


def count(value: int | None, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """Return words as a list in a sentence: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def percent(value: Any) -> str:
    """Return a fraction in per cent with one decimal."""
    return "n/a" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def plain(value: Any) -> str:
    """Return a setting as a reader writes it."""
    if value is None or value in ("", [], ()):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {plain(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
