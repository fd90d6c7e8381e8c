"""Heatmaps against masks of what is known to differ: localisation, and the load of lesions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bids_xai.reports.html import Gallery, Table, Text, count, number, percent
from bids_xai.reports.networks_charts import dots, load_scatter
from bids_xai.reports.networks_explanations import title_of
from bids_xai.reports.results import Results

_FIGURE = "Small dots are samples; large dot and bar are mean and standard deviation; dashed: chance."


def localisation_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return how much relevance lies in lesions, and how it goes with their number of voxels."""
    table = results.table("localisation")
    if not len(table):
        return []
    kept = with_lesions(table)
    n_left = len(_samples_of(table)) - len(_samples_of(kept))
    blocks: list[Any] = []
    if n_left:
        blocks.append(Text(f"{count(n_left, 'sample')} without a lesion voxel: not part of the averages."))
    if not len(kept):
        return blocks
    rows, ratios = [], {}
    for name, class_, found in _groups(results, kept):
        ratio = _ratio(found)
        ratios[f"{name}, {class_}" if class_ else name] = ratio
        finite = ratio[np.isfinite(ratio)]
        rows.append(
            [
                name,
                class_ or "all",
                number(len(found)),
                percent(found["mass"].mean()),
                percent(found["chance"].mean()),
                number(float(finite.mean())) if finite.size else "n/a",
                number(float(found["auc"].mean())),
                percent(found["pointing"].mean()) if "pointing" in found else "n/a",
            ]
        )
    header = ["Method", "Class", "Samples", "Mass inside", "Chance", "Ratio", "AUC", "Peak inside"]
    caption = (
        "Against the masks that are known (lesions), over samples that have any: share of positive "
        "relevance inside them, the share of the brain that they fill, the mean ratio of both, area under "
        "the ROC curve of ranking voxels by relevance, and how often the peak lies inside."
    )
    figure = dots(ratios, "Relevance inside the masks / chance", 1.0)
    alt = "Relevance inside the known masks over chance, one row per method and class"
    drawing = gallery.drawing(figure, "localisation", alt, _FIGURE)
    return [*blocks, Table(header, rows, caption), drawing, *_load(results, table, gallery)]


def with_lesions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``localisation`` whose sample has a voxel inside a lesion."""
    if "lesion_voxels" in table:
        return table[table["lesion_voxels"] > 0]
    return table[table["chance"] > 0]


def _samples_of(table: pd.DataFrame) -> pd.DataFrame:
    columns = [name for name in ("subject", "session", "true") if name in table]
    return table[columns].drop_duplicates()


def _groups(results: Results, table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield title, class and rows of every method, class by class of those with lesions."""
    for method in results.methods:
        own = table[table["method"] == method]
        if "true" not in own:
            classes = [("", own)]
        else:
            classes = [(name, own[own["true"] == name]) for name in results.classes]
        for class_, found in classes:
            if len(found):
                yield title_of(results, method), class_, found


def _ratio(found: pd.DataFrame) -> np.ndarray:
    return np.asarray((found["mass"] / found["chance"]).to_numpy(float))


def _load(results: Results, table: pd.DataFrame, gallery: Gallery) -> list[Any]:
    load = results.table("lesion_load")
    if not len(load):
        return []
    rows = [
        [
            title_of(results, str(row["method"])),
            number(float(row["r"])),
            number(float(row["p"])),
            number(int(row["n"])),
            number(int(row["n_permutations"])),
        ]
        for _, row in load.iterrows()
    ]
    caption = (
        "Correlation of the number of lesion voxels with the sum of a person's relevance (Eitel et al., "
        "2019), over all people with a mask, those without lesions too; p by permutation, two-sided, "
        "uncorrected over methods."
    )
    blocks: list[Any] = [Table(["Method", "r", "p", "People", "Permutations"], rows, caption)]
    if {"lesion_voxels", "relevance", "true"} <= set(table.columns):
        titles = {name: title_of(results, name) for name in results.methods if (load["method"] == name).any()}
        figure = load_scatter(table, titles, results.classes)
        alt = "Sum of relevance over the number of lesion voxels, one panel per method"
        note = "A dot per sample; relevance in units of the explained output."
        blocks.append(gallery.drawing(figure, "lesion-load", alt, note))
    return blocks
