"""The section of a subject's page that explains the decisions about their own images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np

from bids_xai.errors import InputError
from bids_xai.reports.html import Gallery, Part, Table, Text, count, number, percent, slug
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.networks_explanations import shown_words, title_of
from bids_xai.reports.networks_maps import filled_cuts, in_units, peak_position, peak_text
from bids_xai.reports.results import Results, load_image, load_results
from bids_xai.reports.slices import SliceView
from bids_xai.reports.verdict import folded_at_chance, verdict_blocks

MOST_IMAGES = 8
_SAME_PLACE = 1e-3
_INTRODUCTION = (
    "Heatmaps of networks that were not trained on these images, over the subject's own image. Each strip "
    "has its own colour scale, from minus to plus the 99.5th percentile of the absolute values (from 0 where "
    "no value is negative); colours fade towards 0. Right is right. What the group level says of scores and "
    "trust holds for every one of them."
)


def subject_explanations(out_dir: Path, subject: str, gallery: Gallery) -> list[Any]:
    """Return heatmaps over the subject's own images, one part per image.

    Parameters
    ----------
    out_dir
        Folder of the derivatives.
    subject
        Label without ``sub-``.
    gallery
        Takes the figures.

    Returns
    -------
    list
        Blocks; none where the group level has not explained networks on images of the subject.

    Raises
    ------
    InputError
        A heatmap or its image is missing, or they do not lie on one grid.
    """
    results = _results(out_dir)
    if results is None:
        return []
    images: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in results.manifest.get("heatmaps") or []:
        if str(entry["subject"]).removeprefix("sub-") == subject:
            named = [str(entry.get(name) or "") for name in ("session", "task", "image")]
            images[(*named, str(entry.get("volume") or 0))].append(entry)
    if not images:
        return []
    blocks: list[Any] = [Text(_INTRODUCTION)]
    if len(images) > MOST_IMAGES:
        blocks.append(Text(f"The first {MOST_IMAGES} of {count(len(images), 'explained image')} are shown."))
    for place, (key, entries) in enumerate(list(images.items())[:MOST_IMAGES], 1):
        title = _title(key, entries[0], place if len(images) > 1 else 0)
        part = _image_blocks(results, entries, gallery, place)
        blocks.append(Part(f"explanations-{place}", title, part))
    return [*verdict_blocks(results), *folded_at_chance(results, blocks, "Heatmaps")]


def _results(out_dir: Path) -> Results | None:
    try:
        results = load_results(out_dir)
    except InputError:
        # Pages of the participant level do not need the group level.
        return None
    return results if results.of_networks else None


def _title(key: tuple[str, ...], entry: Mapping[str, Any], place: int) -> str:
    session, task, _, volume = key
    words = [
        f"ses-{session}" if session else "",
        f"task-{task}" if task else "",
        f"volume {int(volume) + 1}" if place and task else "",
    ]
    named = ", ".join(word for word in words if word) or (f"Image {place}" if place else "Image")
    return f"{named}: {entry['true']}, classified as {entry['predicted']}"


def _image_blocks(
    results: Results, entries: list[Mapping[str, Any]], gallery: Gallery, place: int
) -> list[Any]:
    first = entries[0]
    own = _volume(load_image(results.out_dir / first["image"]), int(first.get("volume") or 0))
    maps = [_volume(load_image(results.out_dir / entry["path"]), int(entry.get("volume") or 0))
            for entry in entries]  # fmt: skip
    for entry, image in zip(entries, maps, strict=True):
        _check_grid(own, image, entry)
    mask = results.named_image("mask")
    if mask is None or not _same_grid(mask, own):
        mask = nb.Nifti1Image((np.asarray(own.dataobj) != 0).astype(np.uint8), own.affine)
    view = SliceView(mask, own)
    values = [np.nan_to_num(view.values(image)) for image in maps]
    # Every method has the same say in which slices are shown.
    weight = np.sum([np.abs(one) / max(float(np.abs(one).max()), 1e-30) for one in values], axis=0)
    layers, rows = [], []
    for entry, one in zip(entries, values, strict=True):
        title = title_of(results, str(entry["method"]))
        label, scaled, ends = in_units(shown_words(results, str(entry["method"])), one, robust_limits(one))
        layers.append(Layer(f"{title}, explained: {entry['class']}", scaled, label, ends, fade=True))
        peak = one.flat[np.abs(one).argmax()]
        where = peak_text(peak_position(one, view.affine))
        rows.append([title, str(entry["class"]), number(float(peak)), where])
    verdict = "correct" if first["true"] == first["predicted"] else "wrong"
    caption = (
        f"True class {first['true']}, predicted {first['predicted']} ({verdict}) with probability "
        f"{percent(first['probability'])}."
    )
    alt = f"Heatmaps over the subject's own image, one strip per method; true class {first['true']}"
    name = slug(f"explanations{place}")
    header = ["Method", "Explained class", "Peak value", "Peak (x, y, z)"]
    table = Table(header, rows, "The voxel with the largest absolute value of each heatmap.")
    return [gallery.photograph(mosaic(view, filled_cuts(view, weight), layers), name, alt, caption), table]


def _volume(image: nb.Nifti1Image, index: int) -> nb.Nifti1Image:
    """Return a 3-D image, or one volume of a 4-D image."""
    if len(image.shape) == 3:
        return image
    data = np.asarray(image.dataobj[..., index if image.shape[3] > 1 else 0], dtype=np.float32)
    return nb.Nifti1Image(data, image.affine)


def _same_grid(one: nb.Nifti1Image, other: nb.Nifti1Image) -> bool:
    return one.shape[:3] == other.shape[:3] and np.allclose(one.affine, other.affine, atol=_SAME_PLACE)


def _check_grid(own: nb.Nifti1Image, image: nb.Nifti1Image, entry: Mapping[str, Any]) -> None:
    if not _same_grid(own, image):
        raise InputError(
            f"{entry['path']} (shape {image.shape}) does not lie on the grid of {entry['image']} "
            f"(shape {own.shape}).",
            "a heatmap on the grid of the image that it explains",
            "run the group level again",
        )
