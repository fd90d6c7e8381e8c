"""The section that says which regions hold the relevance of networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from bids_xai.reports.html import Fold, Gallery, Part, Table, Text, number, percent, slug
from bids_xai.reports.networks_charts import METRICS, region_bars
from bids_xai.reports.networks_explanations import title_of
from bids_xai.reports.networks_fingerprints import fingerprint_blocks
from bids_xai.reports.networks_maps import group_name
from bids_xai.reports.regions import space_alert
from bids_xai.reports.results import Results

MOST_REGIONS = 25
_MOST_CORRELATIONS = 25


def region_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return one part per atlas, the overlap of leading regions between trainings, and the biomarker."""
    blocks: list[Any] = []
    for path, table in results.region_tables():
        for atlas, rows in table.groupby("atlas", sort=False) if len(table) else ():
            found = _atlas_blocks(results, gallery, path, str(atlas), rows)
            shown = [*space_alert(results, str(atlas)), *found]
            blocks.append(Part(f"regions-{slug(str(atlas))}", str(atlas), shown))
    parts = (
        Part("regions-overlap", "Overlap between trainings", _overlap(results)),
        Part("regions-method-overlap", "Overlap between explanations", _method_overlap(results)),
        Part("regions-biomarker", "Biomarker", _biomarker(results)),
        Part("regions-fingerprints", "Individual fingerprints", fingerprint_blocks(results, gallery)),
    )
    return blocks + [part for part in parts if part.blocks]


def leading(table: pd.DataFrame, metric: str, most: int = MOST_REGIONS) -> pd.DataFrame:
    """Return the regions with the largest values of a metric.

    Parameters
    ----------
    table
        Rows of one method and group: columns region, index, and the metric.
    metric
        sum, density or gain.
    most
        Number of regions at most.

    Returns
    -------
    pandas.DataFrame
        Columns region and value, the largest first; equal values in the order of their index. Values that
        are not finite (gain over a region without relevance) are left out.
    """
    values = table[metric].to_numpy(float)
    finite = np.isfinite(values)
    table = table[finite].assign(value=values[finite])
    ordered = table.sort_values(["value", "index"], ascending=[False, True], kind="stable")
    return ordered[["region", "value"]].head(most).reset_index(drop=True)


def _atlas_blocks(
    results: Results, gallery: Gallery, path: Path, atlas: str, table: pd.DataFrame
) -> list[Any]:
    table = _with_unique_names(table)
    shown = _first_group(results, table)
    blocks: list[Any] = []
    for method in [name for name in results.methods if (table["method"] == name).any()]:
        title = title_of(results, method)
        rows = table[(table["method"] == method) & (table["group"] == shown)]
        ranked = _ranked(rows)
        if ranked:
            caption = (
                f"{title}, {group_name(results, shown)}: the {max(map(len, ranked.values()))} leading of "
                f"{table['region'].nunique()} regions of {atlas}, by {', '.join(ranked)}. "
                f"{_gain_note(results) if 'gain' in ranked else ''}"
            )
            name = f"regions_atlas-{slug(atlas)}_method-{slug(method)}"
            alt = f"Bars of the leading regions of {atlas} for {title}, one panel per metric"
            blocks.append(gallery.drawing(region_bars(ranked), name, alt, caption.strip()))
        blocks += _folds(results, table[table["method"] == method], title)
    target = os.path.relpath(path, results.out_dir)
    link = Markup('All regions, groups and methods: <a href="{0}">{0}</a>.').format(escape(target))
    return [*blocks, Text(link)]


def _ranked(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    ranked = {metric: leading(rows, metric) for metric in METRICS if metric in rows}
    return {metric: found for metric, found in ranked.items() if len(found)}


def _gain_note(results: Results) -> str:
    if len(results.classes) == 2:
        return "Gain: mean relevance over that in the samples of the other class; 1 (dashed): as much."
    return "Gain: mean relevance over that in the samples of the other classes; 1 (dashed): as much."


def _first_group(results: Results, table: pd.DataFrame) -> str:
    positive = results.manifest.get("positive")
    groups = list(dict.fromkeys(str(group) for group in table["group"]))
    if positive is not None and str(positive) in groups:
        return str(positive)
    return next((name for name in results.classes if name in groups), groups[0])


def _folds(results: Results, table: pd.DataFrame, title: str) -> list[Fold]:
    tables = []
    for group, rows in table.groupby("group", sort=False):
        ranked = _ranked(rows)
        if not ranked:
            continue
        length = max(len(found) for found in ranked.values())
        body = [
            [str(place + 1), *(cell for found in ranked.values() for cell in _cells(found, place))]
            for place in range(length)
        ]
        header = ["Rank", *(cell for metric in ranked for cell in (f"By {metric}", metric.capitalize()))]
        name = group_name(results, str(group))
        tables.append(Table(header, body, f"{title}, {name}: the {length} leading regions."))
    return [Fold(f"{title}: leading regions of every group", tables)] if tables else []


def _cells(found: pd.DataFrame, place: int) -> tuple[str, str]:
    if place >= len(found):
        return "–", "–"
    row = found.iloc[place]
    return str(row["region"]), number(float(row["value"]))


def _with_unique_names(table: pd.DataFrame) -> pd.DataFrame:
    # Some atlases give parts of a region, or both hemispheres, one name.
    indices = table.groupby("region")["index"].transform("nunique")
    numbered = table["region"] + " (" + table["index"].astype(str) + ")"
    return table.assign(region=table["region"].where(indices == 1, numbered))


def _overlap(results: Results) -> list[Any]:
    table = results.table("overlap")
    if not len(table):
        return []
    metrics = [name for name in METRICS if (table["metric"] == name).any()]
    rows = []
    for (atlas, method, group), found in table.groupby(["atlas", "method", "group"], sort=False):
        shares = found.set_index("metric")["mean_overlap"]
        name = group_name(results, str(group))
        cells = [percent(shares.get(metric)) for metric in metrics]
        rows.append(
            [title_of(results, str(method)), name, str(atlas), *cells, number(int(found["n_pairs"].max()))]
        )
    most = number(int(table["k"].iloc[0]))
    caption = (
        f"Share of the top {most} regions that two trainings from other seeds have in common, mean over "
        "pairs, by the metric that ranks them. Eitel & Ritter (2019) found 96.8 / 88.4 / 78.0 % (sum / "
        "density / gain) for LRP, 96.6 / 80.6 / 68.6 % for guided backpropagation, 72.6 / 69.0 / 46.4 % for "
        "gradient × input and 84.6 / 74.2 / 67.8 % for occlusion."
    )
    header = ["Method", "Samples", "Atlas", *(metric.capitalize() for metric in metrics), "Pairs"]
    return [Table(header, rows, caption)]


def _method_overlap(results: Results) -> list[Any]:
    table = results.table("method_overlap")
    if not len(table):
        return []
    metrics = [name for name in METRICS if (table["metric"] == name).any()]
    rows = []
    for (atlas, first, second), found in table.groupby(["atlas", "first", "second"], sort=False):
        shares = found.set_index("metric")["overlap"]
        cells = [percent(shares.get(metric)) for metric in metrics]
        rows.append([title_of(results, str(first)), title_of(results, str(second)), str(atlas), *cells])
    most = number(int(table["k"].iloc[0]))
    caption = (
        f"Share of the top {most} regions of {results.classes[-1]} that two explanations, or one with other "
        "options, have in common, by the metric that ranks them (Böhle et al. 2019)."
    )
    header = ["Method", "Other", "Atlas", *(metric.capitalize() for metric in metrics)]
    return [Fold("All pairs of explanations", [Table(header, rows, caption)])]


def _biomarker(results: Results) -> list[Any]:
    table = results.table("biomarker")
    if not len(table):
        return []
    ordered = table.sort_values(["p", "method", "region"], kind="stable").head(_MOST_CORRELATIONS)
    corrected = "p_family" in table
    rows = [
        [
            str(row["region"]),
            str(row["atlas"]),
            title_of(results, str(row["method"])),
            number(float(row["r"])),
            number(float(row["p"])),
            *([number(float(row["p_family"]))] if corrected else []),
            number(int(row["n"])),
        ]
        for _, row in ordered.iterrows()
    ]
    name = results.settings.get("biomarker")
    tests = len(table)
    caption = (
        f"Correlation of a region's relevance with the biomarker{f' {name}' if name else ''} over people, "
        f"permutation p (two-sided), the {len(rows)} smallest of {number(tests)}. p is uncorrected: by "
        f"chance {number(round(0.05 * tests, 1))} of {number(tests)} have p ≤ 0.05."
    )
    header = ["Region", "Atlas", "Method", "r", "p", "n"]
    if corrected:
        passing = int((table["p_family"] <= 0.05).sum())
        caption += (
            " p (family-wise): the same corrected over the regions of an atlas and method; "
            f"{number(passing)} {'region passes' if passing == 1 else 'regions pass'} p ≤ 0.05."
        )
        header.insert(5, "p (family-wise)")
    return [Table(header, rows, caption)]
