"""Heatmaps of networks: their means over groups of people, and what survives permutation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bids_xai.reports.brains import slice_view
from bids_xai.reports.html import Fold, Gallery, Index, Part, Text, listed, number, slug
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.networks_explanations import formula_of, shown_words, source_of, title_of
from bids_xai.reports.networks_scores import group_sizes
from bids_xai.reports.results import Results
from bids_xai.reports.slices import Cut, SliceView

Limits = tuple[float, float]
# A slice is shown where a hundredth of it is brighter than this grey.
_DARK, _LEAST_FILLED = 0.1, 0.01
_OUTCOMES = {
    "TP": "true positives",
    "FP": "false positives",
    "TN": "true negatives",
    "FN": "false negatives",
    "correct": "correctly classified",
    "incorrect": "wrongly classified",
}


def explained_classes(results: Results, method: str, stat: str = "mean") -> list[str]:
    """Return the explained classes of a method's maps, in the order of the manifest."""
    found = [
        str(entry.get("class"))
        for entry in results.manifest["maps"]
        if entry["stat"] == stat and str(entry.get("method")) == method
    ]
    return list(dict.fromkeys(found))


def group_name(results: Results, group: str) -> str:
    """Return a group in words: samples of a class, or what the classifier made of them."""
    if group in results.classes:
        return f"samples of {group}"
    words = _OUTCOMES.get(group, group)
    return f"{group}, {words}" if len(group) == 2 else words


def explanation_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return one part per method: mean heatmaps of the classes, then of right and wrong decisions."""
    methods = [name for name in results.methods if explained_classes(results, name)]
    if not methods:
        return []
    view = slice_view(results)
    blocks: list[Any] = [
        Index([(f"explanations-{slug(name)}", title_of(results, name)) for name in methods]),
        Text(
            "Mean heatmaps of held-out samples. Colours fade with the size of the value, so that weak values "
            "stay visible. The strips of one figure share one scale, from minus to plus the 99.5th "
            "percentile of the absolute values of all its strips (from 0 where no value is negative). Right "
            "is right."
        ),
    ]
    for method in methods:
        blocks.append(
            Part(
                f"explanations-{slug(method)}",
                title_of(results, method),
                [*_formula(results, method), *_method_blocks(results, view, gallery, method)],
            )
        )
    return blocks


def _formula(results: Results, method: str) -> list[Text]:
    formula, source = formula_of(results, method), source_of(results, method)
    cited = f" ({source})" if source else ""
    return [Text(f"{formula}{cited}.")] if formula else []


def _method_blocks(results: Results, view: SliceView, gallery: Gallery, method: str) -> list[Any]:
    blocks: list[Any] = []
    for class_ in explained_classes(results, method):
        found = _volumes(results, view, method, class_)
        of_classes = {group: values for group, values in found.items() if group in results.classes}
        outcomes = {group: values for group, values in found.items() if group not in results.classes}
        for kind, volumes in (("classes", of_classes), ("outcomes", outcomes)):
            if not volumes:
                continue
            picture = _picture(results, view, gallery, method, class_, volumes, kind)
            what = f"True and false decisions, {explained_words(class_)}"
            blocks.append(Fold(what, [picture]) if kind == "outcomes" else picture)
    return blocks


def in_units(label: str, values: np.ndarray, limits: Limits) -> tuple[str, np.ndarray, Limits]:
    """Return label, values and limits in units of a power of ten, so that a colour bar needs few digits.

    Parameters
    ----------
    label
        What the values are; the power is added where it is not 1: ``relevance (10⁻⁵)``.
    values, limits
        Volume of any shape, and the ends of its colour bar. Limits whose larger one lies in 0.01 .. 100 stay.
    """
    largest = max(abs(limit) for limit in limits)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    if -2 <= power <= 1:
        return label, values, limits
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    unit = 10.0**power
    return f"{label} (10{raised})", values / unit, (limits[0] / unit, limits[1] / unit)


def filled_cuts(view: SliceView, weight: np.ndarray) -> list[Cut]:
    """Return the slices that are chosen by a weight, without those that lie beside the head.

    A mask that holds the whole grid has slices in which there is nothing to see.
    """
    cuts = view.choose(weight)
    filled = [cut for cut in cuts if (view.grey(cut) > _DARK).mean() > _LEAST_FILLED]
    return filled or cuts


def _volumes(results: Results, view: SliceView, method: str, class_: str) -> dict[str, np.ndarray]:
    groups = [
        str(entry.get("group"))
        for entry in results.manifest["maps"]
        if entry["stat"] == "mean"
        and str(entry.get("method")) == method
        and str(entry.get("class")) == class_
    ]
    images = {group: results.image("mean", class_, method, group=group) for group in dict.fromkeys(groups)}
    return {group: view.values(image) for group, image in images.items() if image is not None}


def explained_words(class_: str) -> str:
    """Return in words what is explained: a class, or the true or predicted one of each sample."""
    words = {"true": "the true class", "predicted": "the predicted class", "None": "the class"}
    return f"explained: {words.get(class_, class_)}"


def _picture(
    results: Results,
    view: SliceView,
    gallery: Gallery,
    method: str,
    class_: str,
    volumes: dict[str, np.ndarray],
    kind: str,
) -> Any:
    inside = np.stack([values[view.mask] for values in volumes.values()])
    limits = robust_limits(inside)
    title = title_of(results, method)
    cuts = filled_cuts(view, np.sum([np.abs(np.nan_to_num(values)) for values in volumes.values()], axis=0))
    layers = []
    for group, values in volumes.items():
        label, scaled, ends = in_units(
            f"mean {shown_words(results, method)}", np.where(view.mask, values, 0), limits
        )
        layers.append(Layer(f"{title}: {group_name(results, group)}", scaled, label, ends, fade=True))
    scale = f"{'±' if limits[0] < 0 else '0 to '}{number(limits[1])}"
    peaks = "; ".join(f"{group} {_peak(view, values)}" for group, values in volumes.items())
    sizes = group_sizes(results)
    known = [f"{group} {number(sizes[group])}" for group in volumes if group in sizes]
    held_out = f" Held-out decisions, over all runs: {', '.join(known)}." if known else ""
    what = explained_words(class_)
    caption = f"{title}, {what}. Colour scale {scale}. Peak of the absolute mean: {peaks}.{held_out}"
    alt = f"Slices of mean heatmaps of {title}, one strip per group: {listed(list(volumes))}"
    name = f"explanations_class-{slug(class_)}_method-{slug(method)}_{kind}"
    return gallery.photograph(mosaic(view, cuts, layers), name, alt, caption)


def _peak(view: SliceView, values: np.ndarray) -> str:
    return peak_text(peak_position(np.where(view.mask, values, 0), view.affine))


def peak_position(values: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    """Return the centre (mm) of the voxel with the largest absolute value; None where all are 0.

    Parameters
    ----------
    values
        Volume (x, y, z); values that are not finite do not count.
    affine
        From voxels to millimetres of world space.
    """
    size = np.abs(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0))
    if not size.any():
        return None
    place = np.unravel_index(int(size.argmax()), size.shape)
    return np.asarray(affine[:3, :3] @ np.asarray(place) + affine[:3, 3])


def peak_text(place: Sequence[float] | np.ndarray | None) -> str:
    """Return a position as a reader writes it: ``(x, y, z) mm``."""
    if place is None:
        return "none (all 0)"
    numbers = ", ".join(str(round(float(value))) for value in place)
    return f"({numbers}) mm".replace("-", "−")


def has_heatmaps(results: Results) -> bool:
    """Return whether there is a mean heatmap of any method."""
    return any(explained_classes(results, method) for method in results.methods)
