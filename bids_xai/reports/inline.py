"""SVG files inside a page: nothing in one reaches another, and nothing in them runs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from markupsafe import Markup

from bids_xai.errors import InputError

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_DROPPED = {f"{{{_SVG}}}{name}" for name in ("script", "foreignObject", "metadata", "title")}
_PIXELS_PER_POINT = 92 / 72  # as wide as the page's other figures
_NAME = r"[\w-]+"


def inline_svg(path: Path, key: str, alt: str) -> Markup:
    """Return an SVG file as an element of an HTML page.

    Identifiers, classes and animations are named after ``key``; styles of all elements are confined to this
    figure; scripts, event handlers and references to other files are left out.

    Parameters
    ----------
    path
        The file.
    key
        Name of the figure, unique on the page.
    alt
        What is seen, for who does not see it.

    Raises
    ------
    InputError
        The file does not exist or is no SVG.
    """
    root = _read(path)
    wide = root.get("width", "")
    scale = _PIXELS_PER_POINT if wide.endswith("pt") else 1.0
    box = [float(value) for value in root.get("viewBox", "0 0 1000 1000").replace(",", " ").split()]
    _clean(root)
    _rename(root, key)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("style", f"width:{round(box[2] * scale)}px")
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("id", key)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))


def _read(path: Path) -> ET.Element:
    try:
        root = ET.fromstring(path.read_bytes())
    except (FileNotFoundError, ET.ParseError) as error:
        raise InputError(
            f"{path} cannot be read ({error}).", "an SVG file", "run the participant level again"
        ) from error
    if root.tag != f"{{{_SVG}}}svg":
        raise InputError(f"{path} is no SVG file: its root is {root.tag}.", "an SVG file")
    return root


def _clean(root: ET.Element) -> None:
    for element in root.iter():
        for child in [child for child in element if child.tag in _DROPPED]:
            element.remove(child)
        for name, value in list(element.attrib.items()):
            link = name in ("href", f"{{{_XLINK}}}href")
            if name.startswith("on") or (link and not value.startswith(("#", "data:image/"))):
                del element.attrib[name]


def _rename(root: ET.Element, key: str) -> None:
    styles = list(root.iter(f"{{{_SVG}}}style"))
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, f"{key}-{value}")
            elif name == "class":
                element.set(name, " ".join(f"{key}-{part}" for part in value.split()))
            elif name in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
                element.set(name, f"#{key}-{value[1:]}")
            elif "url(" in value:
                element.set(name, re.sub(rf"url\(\s*['\"]?#({_NAME})['\"]?\s*\)", rf"url(#{key}-\1)", value))
    for style in styles:
        style.text = _confined(style.text or "", key)


def _confined(css: str, key: str) -> str:
    animations = set(re.findall(rf"@keyframes\s+({_NAME})", css))
    css = re.sub(rf"\.(?=[A-Za-z_])({_NAME})(?=[^{{}}]*{{)", rf".{key}-\1", css)
    css = re.sub(rf"(?<![\w-])#({_NAME})(?=[^{{}}]*{{)", rf"#{key}-\1", css)
    for name in animations:
        css = re.sub(
            rf"(@keyframes\s+|animation(?:-name)?:\s*){re.escape(name)}\b", rf"\g<1>{key}-{name}", css
        )
    return re.sub(r"(^|[}\s,])\*(?=\s*[{,])", rf"\1#{key} *", css)
