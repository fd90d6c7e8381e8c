"""The sections that show brains: importance maps and univariate maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bids_xai.attribution import IMPORTANCES, RAW, SUM
from bids_xai.attribution.shares import is_shared
from bids_xai.errors import InputError
from bids_xai.inference.summary import FOUND_IN, LOW_T
from bids_xai.reports.curves import univariate_scatter
from bids_xai.reports.html import Alert, Fold, Gallery, Index, Part, Picture, Table, Text, number, slug
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.results import MANIFEST, Results
from bids_xai.reports.slices import Cut, SliceView

_UNITS = {
    "W": "weight",
    "Haufe": "pattern",
    "WX": "weight × input",
    "OD": "change of output",
    "LRP-W2": "relevance",
    "LRP-z": "relevance",
}
_ORIENTATION = "Right is right."


def slice_view(results: Results) -> SliceView:
    """Return the slices of a result's analysis grid, on its background where it has one."""
    mask = results.named_image("mask")
    if mask is None:
        raise InputError(
            f"{results.group_dir / MANIFEST} names no mask.",
            "the mask of the analysis",
            "run the group level again",
        )
    return SliceView(mask, results.named_image("background"))


def map_section(results: Results, gallery: Gallery) -> list[Any]:
    """Return one part per class: what survives correction for all voxels, then one mosaic per measure."""
    if not results.manifest["maps"]:
        return []
    view = slice_view(results)
    tail = "absolute " if results.manifest.get("tail") == "two-sided" else ""
    blocks: list[Any] = [
        Index([(f"maps-{slug(name)}", name) for name in results.classes]),
        Text(
            "The first figure of each class shows what survives correction for the number of voxels. In "
            f"those of the measures, colours fade with the {tail}importance in the first strip, so that weak "
            f"effects stay visible; white outlines mark voxels that pass p ≤ {results.alpha:g} in the "
            "permutation test of that voxel, uncorrected. Slices are the same for all measures of a class. "
            f"{_ORIENTATION}"
        ),
    ]
    for class_ in results.classes:
        passing = {method: _passing(results, view, class_, method) for method in results.methods}
        corrected = {method: _corrected(results, view, class_, method) for method in results.methods}
        weights = [own.weight for own in corrected.values() if own is not None]
        found = np.sum(weights, axis=0) if weights else np.zeros(view.mask.shape)
        cuts = view.choose(found if found.any() else np.sum(list(passing.values()), axis=0))
        parts = _corrected_blocks(results, view, cuts, gallery, class_, corrected)
        for method in results.methods:
            parts += _method_picture(results, view, cuts, gallery, class_, method, passing[method])
        blocks.append(Part(f"maps-{slug(class_)}", class_, parts or [Text("No maps.")]))
    return [*blocks, *_threshold_tables(results)]


@dataclass(frozen=True)
class _Corrected:
    """Which voxels of a map survive family-wise, and by their false discovery rate."""

    family: np.ndarray
    discovered: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """Number of corrections that a voxel survives."""
        return np.asarray(self.family.astype(int) + self.discovered)


def _corrected(results: Results, view: SliceView, class_: str, method: str) -> _Corrected | None:
    """Return what survives correction; None where the results hold no corrected maps."""
    found = []
    for stat in ("pfwer", "q"):
        values = _volume(results, view, stat, class_, method)
        if values is None:
            return None
        # Rounding to float32 must not lift a p of exactly alpha over it.
        found.append(np.asarray(view.mask & np.isfinite(values) & (values <= results.alpha * (1 + 1e-6))))
    return _Corrected(*found)


def _corrected_blocks(
    results: Results,
    view: SliceView,
    cuts: list[Cut],
    gallery: Gallery,
    class_: str,
    corrected: dict[str, _Corrected | None],
) -> list[Any]:
    """Return the figure of what survives correction in any measure, or that nothing does."""
    known = {method: own for method, own in corrected.items() if own is not None}
    if not known:
        return []
    # The measure that finds most comes first.
    order = sorted(known, key=lambda method: (-known[method].family.sum(), -known[method].discovered.sum()))
    words = "; ".join(
        f"{method} {number(int(own.family.sum()))} and {number(int(own.discovered.sum()))}"
        for method, own in ((method, known[method]) for method in order)
    )
    caption = (
        f"{class_}: voxels that survive correction for the number of voxels at α = {results.alpha:g}, "
        "coloured by their mean importance: false discovery rate, and outlined in white those that survive "
        f"family-wise. Voxels per measure, family-wise and by false discovery rate: {words}."
    )
    layers = []
    for method in order:
        own, mean = known[method], _volume(results, view, "mean", class_, method)
        shown = own.family | own.discovered
        if mean is None or not shown.any():
            continue
        limits = robust_limits(mean[view.mask])
        limits = limits if (mean[shown] < 0).any() else (0.0, limits[1])
        layers.append(
            Layer(
                f"{method}: survives correction", mean, unit_of(results, method), limits, shown=shown,
                framed=own.family,
            )
        )  # fmt: skip
    if not layers:
        return [
            Text(
                f"{class_}: no voxel survives correction for the number of voxels at α = {results.alpha:g} "
                f"in any measure ({', '.join(order)}), family-wise or by its false discovery rate. What the "
                "other figures of this class mark is to be expected by chance in part, or in whole."
            )
        ]
    alt = f"Slices of the voxels of class {class_} that survive correction, one strip per measure"
    return [gallery.photograph(mosaic(view, cuts, layers), f"corrected_class-{slug(class_)}", alt, caption)]


def unit_of(results: Results, method: str) -> str:
    """Return in what the values of a measure's maps are."""
    unit = _UNITS.get(method, "importance")
    if method in IMPORTANCES and is_shared(IMPORTANCES[method], results.manifest.get("map_values", RAW)):
        unit = f"share of {unit}" if IMPORTANCES[method].divisor == SUM else f"{unit}, standardised"
    else:
        unit = f"{unit} (a.u.)"
    scale = results.settings.get("map_scale", 1) or 1
    return unit + (f" × {scale:g}" if scale != 1 else "")


def _volume(
    results: Results, view: SliceView, stat: str, class_: str, method: str | None, alpha: float | None = None
) -> np.ndarray | None:
    image = results.image(stat, class_, method, alpha)
    return None if image is None else view.values(image)


def _passing(results: Results, view: SliceView, class_: str, method: str) -> np.ndarray:
    values = _volume(results, view, "thresholded", class_, method, results.alpha)
    if values is None:
        return np.zeros(view.mask.shape, bool)
    return np.asarray(np.isfinite(values) & (values != 0))


def _method_picture(
    results: Results,
    view: SliceView,
    cuts: list[Cut],
    gallery: Gallery,
    class_: str,
    method: str,
    passing: np.ndarray,
) -> list[Any]:
    mean = _volume(results, view, "mean", class_, method)
    kept = _volume(results, view, "thresholded", class_, method, results.alpha)
    reproducible = _volume(results, view, "reproducibility", class_, method, results.alpha)
    layers = []
    unit = unit_of(results, method)
    if mean is not None:
        limits = robust_limits(mean[view.mask])
        layers.append(
            Layer(f"{method}: mean importance", mean, unit, limits, fade=True, framed=passing & view.mask)
        )
    else:
        limits = robust_limits(kept if kept is not None else np.zeros(1))
    if kept is not None:
        title = f"{method}: voxels that pass p ≤ {results.alpha:g}"
        shown = limits if (kept < 0).any() else (0.0, limits[1])
        layers.append(Layer(title, kept, unit, shown, shown=passing))
    if reproducible is not None:
        title = f"{method}: reproducibility of p ≤ {results.alpha:g}"
        layers.append(Layer(title, reproducible, "fraction of runs", (0.0, 1.0), fade=True))
    if not layers:
        return []
    alt = f"Slices of the {method} importance map of class {class_}: mean, thresholded, reproducibility"
    figure = mosaic(view, cuts, layers)
    name = f"maps_class-{slug(class_)}_method-{slug(method)}"
    return [gallery.photograph(figure, name, alt, _map_caption(results, class_, method, passing))]


def _map_caption(results: Results, class_: str, method: str, passing: np.ndarray) -> str:
    text = f"{class_}, {method}."
    table = results.table("thresholds")
    if len(table):
        at_level = (table["alpha"] - results.alpha).abs() < 1e-12
        table = table[(table["method"] == method) & (table["class"] == class_) & at_level]
    if not len(table):
        return f"{text} {number(int(passing.sum()))} voxels pass."
    row = table.iloc[0]
    if not np.isfinite(row["threshold_median"]):
        permutations = number(results.manifest.get("n_permutations"))
        return (
            f"{text} p ≤ {results.alpha:g} cannot be reached with {permutations} permutations: no voxel can "
            "pass."
        )
    reach = row["reproducibility_threshold"]
    chance = (
        f" {number(row['n_voxels_reproducible'])} are more reproducible than any voxel with permuted labels "
        f"({number(float(reach))} of the runs), which is no correction{_by_chance(row)}."
        if np.isfinite(reach)
        else ""
    )
    return (
        f"{text} {number(row['n_voxels_p'])} voxels pass p ≤ {results.alpha:g} (threshold of each voxel from "
        f"{number(results.manifest.get('n_permutations'))} permutations, median "
        f"{number(float(row['threshold_median']))}); {number(row['n_voxels_fwer'])} pass family-wise at the "
        f"same α (threshold {number(float(row['fwer_threshold']))}), {number(row['n_voxels_fdr'])} at that "
        f"false discovery rate.{chance}{_scale_note(results)}"
    )


def _by_chance(row: pd.Series) -> str:
    """Say how many voxels pass without information; nothing where the table does not."""
    expected = row.get("n_voxels_chance", float("nan"))
    if not np.isfinite(expected):
        return ""
    return f": about {number(float(expected))} are expected to pass by chance, in most runs the same ones"


def _scale_note(results: Results) -> str:
    scale = results.settings.get("map_scale", 1) or 1
    return "" if scale == 1 else f" Thresholds are before maps are multiplied by {scale:g}."


def overlap_pictures(results: Results, gallery: Gallery) -> list[Any]:
    """Return in how many measures a voxel is reproducible, one figure per class."""
    if not results.manifest["maps"] or len(results.methods) < 2:
        return []
    view = slice_view(results)
    pictures = []
    for class_ in results.classes:
        overlap = _volume(results, view, "overlap", class_, None, results.alpha)
        if overlap is not None:
            pictures.append(_overlap_picture(results, view, gallery, class_, overlap))
    return pictures


def _overlap_picture(
    results: Results, view: SliceView, gallery: Gallery, class_: str, overlap: np.ndarray
) -> Picture:
    n = len(results.methods)
    layer = Layer(
        f"{class_}: number of measures that agree", overlap, f"measures of {n}", (0.0, float(n)), n_steps=n
    )
    caption = (
        f"{class_}: in how many of the {n} measures ({', '.join(results.methods)}) a voxel passes "
        f"p ≤ {results.alpha:g} in more than {FOUND_IN:.0%} of the runs; "
        f"{number(int((overlap >= n).sum()))} voxels are in all, {number(int((overlap > 0).sum()))} in one "
        f"or more. This is not corrected for the number of voxels{_chance_of_all(results, class_)}"
    )
    alt = f"Slices with the number of importance measures that mark each voxel for class {class_}"
    cuts = view.choose(np.nan_to_num(overlap))
    return gallery.photograph(mosaic(view, cuts, [layer]), f"overlap_class-{slug(class_)}", alt, caption)


def _chance_of_all(results: Results, class_: str) -> str:
    """Say how many voxels are expected by chance in every measure, for the end of a sentence."""
    table = results.table("thresholds")
    if "n_voxels_chance" not in table:
        return "."
    own = table[(table["class"] == class_) & ((table["alpha"] - results.alpha).abs() < 1e-12)]
    words = ", ".join(f"{row['method']} {number(float(row['n_voxels_chance']))}" for _, row in own.iterrows())
    return f": without any information, about so many are expected to be marked by each measure: {words}."


def _threshold_tables(results: Results) -> list[Any]:
    table = results.table("thresholds")
    if not len(table):
        return []
    columns = {
        "threshold_median": "Threshold (median)",
        "fwer_threshold": "Family-wise threshold",
        "reproducibility_threshold": "Reproducibility by chance",
        "n_voxels_chance": "Voxels by chance",
        "n_voxels_p": "Voxels p",
        "n_voxels_fwer": "Voxels family-wise",
        "n_voxels_fdr": "Voxels FDR",
        "n_voxels_reproducible": "Voxels reproducible",
    }
    columns = {name: title for name, title in columns.items() if name in table}
    header = ["Class", "Measure", *columns.values()]
    folds = []
    for alpha, rows in table.groupby("alpha"):
        body = [
            [str(row["class"]), str(row["method"]), *(number(_scalar(row[name])) for name in columns)]
            for _, row in rows.iterrows()
        ]
        folds.append(
            Fold(
                f"Thresholds and voxel counts at α = {alpha:g}",
                [Table(header, body, f"Thresholds at α = {alpha:g}.")],
            )
        )
    return [Part("thresholds", "Thresholds", folds)]


def _scalar(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)


def univariate_section(results: Results, gallery: Gallery) -> list[Any]:
    """Return F and t maps, and per class the reproducibility against the size of t."""
    blocks: list[Any] = []
    view = slice_view(results) if results.manifest["maps"] else None
    if view is None:
        return blocks
    image = results.image("F")
    if image is not None:
        values = view.values(image)
        layer = Layer(
            "Differences between any classes", values, "F", robust_limits(values[view.mask]), fade=True
        )
        figure = mosaic(view, view.choose(np.nan_to_num(values)), [layer])
        caption = f"One-way analysis of variance over all samples. {_ORIENTATION}"
        blocks.append(gallery.photograph(figure, "univariate_F", "Slices of the F map", caption))
    for class_ in results.classes:
        t_image = results.image("t", class_)
        if t_image is not None:
            parts = _class_univariate(results, view, gallery, class_, view.values(t_image))
            blocks.append(Part(f"univariate-{slug(class_)}", f"{class_} versus the rest", parts))
    if blocks:
        note = "t and F treat samples as independent; they are shown for comparison and not thresholded."
        blocks.insert(0, Alert(note))
    return blocks


def _class_univariate(
    results: Results, view: SliceView, gallery: Gallery, class_: str, t_values: np.ndarray
) -> list[Any]:
    layers = [
        Layer(
            f"{class_} versus the rest",
            t_values,
            "t",
            robust_limits(t_values[view.mask], signed=True),
            fade=True,
        )
    ]
    hidden = _volume(results, view, "lowunivariate", class_, None, results.alpha)
    if hidden is not None:
        n = len(results.methods)
        layers.append(
            Layer(
                f"Reproducibility > {FOUND_IN:g} although |t| < {LOW_T:g}", hidden, f"measures "
                f"of {n}",
                (0.0, float(n)), n_steps=n,
            )
        )  # fmt: skip
    figure = mosaic(view, view.choose(np.abs(np.nan_to_num(t_values))), layers)
    caption = f"{class_}: two-sample t over all samples. {_ORIENTATION}"
    alt = f"Slices of the t map of class {class_} against the rest"
    blocks: list[Any] = [gallery.photograph(figure, f"univariate_class-{slug(class_)}", alt, caption)]
    maps = {
        method: values[view.mask]
        for method in results.methods
        if (values := _volume(results, view, "reproducibility", class_, method, results.alpha)) is not None
    }
    if maps:
        scatter = univariate_scatter(
            t_values[view.mask], maps, int(results.manifest.get("n_runs") or 1), _reached(results, class_)
        )
        caption = (
            f"{class_}: voxels by |t| and by reproducibility at p ≤ {results.alpha:g}. Framed: "
            f"reproducibility above {FOUND_IN:g} with |t| < {LOW_T:g}: perhaps information that a univariate "
            "analysis does not see, not corrected for the number of voxels. Dashed: highest reproducibility "
            "of any voxel with permuted labels."
        )
        alt = f"Density of voxels by absolute t and reproducibility for class {class_}, one panel per measure"
        blocks.append(gallery.photograph(scatter, f"scatter_class-{slug(class_)}", alt, caption))
    return blocks


def _reached(results: Results, class_: str) -> dict[str, float]:
    table = results.table("thresholds")
    if not len(table):
        return {}
    rows = table[(table["class"] == class_) & ((table["alpha"] - results.alpha).abs() < 1e-12)]
    return {
        str(method): _scalar(value)
        for method, value in zip(rows["method"], rows["reproducibility_threshold"], strict=True)
    }
