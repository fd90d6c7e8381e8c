"""What of the mean heatmaps exceeds those of networks that were trained on permuted labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_xai.reports.brains import slice_view
from bids_xai.reports.html import Alert, Gallery, Table, Text, count, number, slug
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.networks_explanations import tested_words, title_of
from bids_xai.reports.networks_maps import (
    explained_classes,
    explained_words,
    filled_cuts,
    group_name,
    has_heatmaps,
    in_units,
)
from bids_xai.reports.results import Results
from bids_xai.reports.slices import SliceView


@dataclass(frozen=True)
class _Survivors:
    """Mean of what is tested where it passes, else 0; which of it passes family-wise; None: not known."""

    values: np.ndarray
    corrected: np.ndarray | None
    n_voxels: int

    @property
    def n_corrected(self) -> int | None:
        return None if self.corrected is None else int(self.corrected.sum())


def survival_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return which mean heatmaps exceed those of networks that were trained on permuted labels."""
    if not has_heatmaps(results):
        return []
    n = results.manifest.get("n_permutations") or 0
    if not n:
        return [
            Text(
                "No permutations were run: which parts of the mean heatmaps exceed those of networks that "
                "learnt permuted labels is not known."
            )
        ]
    smallest = results.manifest.get("smallest_p")
    if smallest is not None and smallest > results.alpha:
        return [
            Alert(
                f"p ≤ {results.alpha:g} cannot be reached with {count(n, 'permutation')} (smallest p "
                f"{number(smallest)}): no voxel can pass, whatever the heatmaps hold. Which parts of them "
                "exceed those of networks that learnt permuted labels is not known.",
                "warning",
            )
        ]
    view = slice_view(results)
    blocks: list[Any] = []
    rows, pictures = [], []
    for method in results.methods:
        for class_ in explained_classes(results, method, "p"):
            found = _survivors(results, view, method, class_)
            rows += [
                [title_of(results, method), group, number(one.n_voxels), number(one.n_corrected)]
                for group, one in found.items()
            ]
            kept = {group: one for group, one in found.items() if one.values.any()}
            if kept:
                pictures.append(_survivor_picture(results, view, gallery, method, class_, kept))
    if not rows:
        return []
    header = ["Method", "Samples of", "Voxels p", "Voxels family-wise"]
    caption = (
        f"Voxels of {number(int(view.mask.sum()))} in the mask whose mean heatmap passes "
        f"p ≤ {results.alpha:g} against {number(n)} trainings on permuted labels: each voxel by itself, and "
        "family-wise (distribution of the maximum)."
    )
    blocks.append(Table(header, rows, caption))
    return [*blocks, *(pictures or [Text("No voxel passes.")])]


def _survivors(results: Results, view: SliceView, method: str, class_: str) -> dict[str, _Survivors]:
    found = {}
    for group in results.classes:
        p = results.image("p", class_, method, group=group)
        if p is None:
            continue
        passing = _passing(view, p, results.alpha)
        image = results.image("pfwer", class_, method, group=group)
        corrected = None if image is None else _passing(view, image, results.alpha)
        mean = results.image("share", class_, method, group=group)
        mean = results.image("mean", class_, method, group=group) if mean is None else mean
        values = np.zeros(view.mask.shape) if mean is None else np.where(passing, view.values(mean), 0)
        found[group] = _Survivors(values, corrected, int(passing.sum()))
    return found


def _passing(view: SliceView, image: Any, alpha: float) -> np.ndarray:
    values = view.values(image)
    # Rounding to float32 must not lift a p of exactly alpha over it.
    return np.asarray(view.mask & np.isfinite(values) & (values <= alpha * (1 + 1e-6)))


def _survivor_picture(
    results: Results,
    view: SliceView,
    gallery: Gallery,
    method: str,
    class_: str,
    kept: dict[str, _Survivors],
) -> Any:
    title = title_of(results, method)
    limits = robust_limits(np.stack([one.values for one in kept.values()]))
    cuts = filled_cuts(view, np.sum([one.values != 0 for one in kept.values()], axis=0))
    layers = []
    for group, one in kept.items():
        label, values, ends = in_units(f"mean {tested_words(results, method)}", one.values, limits)
        words = f"{title}: {group_name(results, group)}, p ≤ {results.alpha:g}"
        layers.append(Layer(words, values, label, ends, framed=one.corrected))
    caption = (
        f"{title}, {explained_words(class_)}: mean {tested_words(results, method)} of the voxels that "
        f"pass p ≤ {results.alpha:g}; outlined in white are those that pass family-wise."
    )
    alt = f"Slices of the voxels of {title} that pass the permutation test"
    name = f"survivors_class-{slug(class_)}_method-{slug(method)}"
    return gallery.photograph(mosaic(view, cuts, layers), name, alt, caption)
