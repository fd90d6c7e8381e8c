"""Whether explanations can be trusted: conserved, dependent on what was learnt, faithful, stable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bids_xai.reports.html import Gallery, Part, Table, Text, count, number, percent
from bids_xai.reports.networks_charts import dots
from bids_xai.reports.networks_curves import RANDOM, deletion_curves, randomisation_curves
from bids_xai.reports.networks_explanations import title_of
from bids_xai.reports.networks_lesions import localisation_blocks
from bids_xai.reports.networks_maps import group_name
from bids_xai.reports.results import Results

_OF_FEW = "of the held-out samples that the first training classifies best"


def trust_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return conservation, randomisation test, deletion curves and localisation, each where it was done."""
    parts = (
        Part("trust-randomisation", "Randomised parameters", _randomisation(results, gallery)),
        Part("trust-deletion", "Deletion", _deletion(results, gallery)),
        Part("trust-localisation", "Localisation", localisation_blocks(results, gallery)),
        Part("trust-conservation", "Conservation of relevance", _conservation(results)),
    )
    return [part for part in parts if part.blocks]


def _methods_in(results: Results, table: pd.DataFrame) -> list[str]:
    return [name for name in results.methods if (table["method"] == name).any()]


def _titled(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(method=[title_of(results, str(name)) for name in table["method"]])


def _titles(results: Results, table: pd.DataFrame) -> list[str]:
    return [title_of(results, name) for name in _methods_in(results, table)]


def _conservation(results: Results) -> list[Any]:
    table = results.table("conservation")
    if not len(table):
        return []
    rows = []
    for method in _methods_in(results, table):
        found = table[table["method"] == method]
        rows.append(
            [
                title_of(results, method),
                _residual(found["residual_mean"].mean()),
                _residual(found["residual_max"].max()),
                percent(_share(found["outside_mask"].mean())) if "outside_mask" in found else "n/a",
            ]
        )
    caption = (
        "|sum of relevance − explained output| / |explained output|, mean over trainings and largest of any "
        "sample, and the share of absolute relevance outside the mask. Rules that conserve relevance leave "
        "a residual near 0; biases, ε and β > 0 with one-sided neurons absorb some. “–”: the method does not "
        "decompose the output."
    )
    return [Table(["Method", "Residual, mean", "Residual, largest", "Outside the mask"], rows, caption)]


def _residual(value: float) -> str:
    return "–" if pd.isna(value) else number(float(value))


def _share(value: float) -> float:
    # Rounding can leave a sum of shares a little below 0.
    return max(float(value), 0.0) if pd.notna(value) else value


def _randomisation(results: Results, gallery: Gallery) -> list[Any]:
    table = results.table("randomization")
    if not len(table):
        return []
    aid = (
        "How to read: the parameters of layers are replaced by random ones, and the heatmap is compared with "
        "that of the trained network. An explanation that depends on what was learnt loses similarity as "
        "randomising proceeds (lines fall towards 0). A line that stays near 1 belongs to a method whose "
        "heatmap would look the same for an untrained network: it shows the image, not the decision."
    )
    figure = randomisation_curves(_titled(results, table), _titles(results, table))
    caption = f"Similarity of heatmaps before and after randomising layers, mean over some {_OF_FEW}."
    alt = "Curves of similarity over randomised layers, one line per method"
    return [Text(aid), gallery.drawing(figure, "randomisation", alt, caption), _insensitive(results, table)]


def _insensitive(results: Results, table: pd.DataFrame) -> Table:
    last = table.sort_values("depth").groupby(["method", "mode"], sort=False).tail(1)
    cascading = last[last["mode"] == "cascading"] if (last["mode"] == "cascading").any() else last
    rows = []
    for method in _methods_in(results, table):
        found = cascading[cascading["method"] == method]
        cells = [
            number(float(found[name].mean()), 2) if name in found and len(found) else "n/a"
            for name in ("spearman_abs", "spearman", "ssim")
        ]
        rows.append([title_of(results, method), *cells])
    header = ["Method", "Rank correlation of |values|", "Rank correlation", "Structural similarity"]
    return Table(header, rows, "Similarity left when all layers that were randomised are random.")


def _deletion(results: Results, gallery: Gallery) -> list[Any]:
    table, area = results.table("deletion"), results.table("area")
    blocks: list[Any] = []
    if len(table):
        caption = (
            "Mean probability of the explained class, with standard error, as voxels are removed from the "
            "most to the least relevant. The faster a line falls below that of voxels at random, the better "
            "the method names what the network uses. Images with holes are unlike those of training: compare "
            f"with the random line, not with 0. Mean over some {_OF_FEW}."
        )
        figure = deletion_curves(_titled_but_random(results, table), _titles(results, table))
        alt = "Probability of the explained class over the share of voxels removed, one line per method"
        blocks.append(gallery.drawing(figure, "deletion", alt, caption))
    if len(area):
        rows = [
            ["voxels at random" if name == RANDOM else title_of(results, name), number(float(value))]
            for name, value in zip(area["method"], area["area_over_curve"], strict=True)
        ]
        caption = "Area between the starting probability and the curve: larger is better."
        blocks.append(Table(["Method", "Area over the curve"], rows, caption))
    return blocks


def _titled_but_random(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    names = [name if name == RANDOM else title_of(results, str(name)) for name in table["method"]]
    return table.assign(method=names)


def robustness_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return how far apart the mean heatmaps of repeated trainings are."""
    table = results.table("distances")
    if not len(table):
        return []
    blocks: list[Any] = [
        Text(
            "The same network was trained again from other seeds. Mean heatmaps of two trainings, each "
            "divided by its largest absolute value, are compared by their L2 distance: the smaller, the "
            "less the heatmap depends on the training that it happens to come from."
        )
    ]
    rows, values = [], {}
    for method in _methods_in(results, table):
        for group in dict.fromkeys(table["group"]):
            chosen = (table["method"] == method) & (table["group"] == group)
            found = table.loc[chosen, "distance"].to_numpy(float)
            if not found.size:
                continue
            title = title_of(results, method)
            values[f"{title}, {group}"] = found
            spread = float(found.std(ddof=1)) if found.size > 1 else np.nan
            summary = (float(found.mean()), spread, float(found.max()))
            name = group_name(results, str(group))
            rows.append([title, name, number(found.size), *map(number, summary)])
    caption = "Small dots are pairs of trainings; large dot and bar are mean and standard deviation."
    alt = "Distances between heatmaps of pairs of trainings, one row per method and group"
    figure = dots(values, "L2 distance between mean heatmaps")
    blocks.append(gallery.drawing(figure, "distances", alt, caption))
    caption = f"Distances between {count(_runs(table), 'training')}, all pairs."
    return [*blocks, Table(["Method", "Of", "Pairs", "Mean", "SD", "Largest"], rows, caption)]


def _runs(table: pd.DataFrame) -> int:
    return len(set(table["run_a"]) | set(table["run_b"]))
