"""The section that says which regions are important."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from bids_xai.reports.curves import region_heatmap
from bids_xai.reports.html import Alert, Fold, Gallery, Part, Table, Text, number, slug
from bids_xai.reports.results import Results

_MOST_REGIONS, _MOST_ROWS = 25, 10


def region_section(results: Results, gallery: Gallery) -> list[Any]:
    """Return one part per atlas: a heat map of the leading regions, and a short table per class."""
    blocks: list[Any] = []
    for path, rows in results.region_tables():
        if len(rows):
            table = _with_unique_names(rows)
            atlas = str(table["atlas"].iloc[0])
            found = _atlas_blocks(results, gallery, path, table, atlas)
            blocks.append(Part(f"regions-{slug(atlas)}", atlas, [*space_alert(results, atlas), *found]))
    if not blocks:
        return [Text("No atlas was asked for (--atlas).")]
    return blocks


def space_alert(results: Results, atlas: str) -> list[Alert]:
    """Return what is wrong with an atlas on maps in another space; nothing where both are in one."""
    entries = results.manifest.get("atlases") or []
    notes = dict.fromkeys(entry["note"] for entry in entries if entry["name"] == atlas and entry["note"])
    return [Alert(note, "warning") for note in notes]


def leading_regions(table: pd.DataFrame, most: int) -> list[str]:
    """Return the regions with the largest share of voxels above threshold in any class and method.

    Parameters
    ----------
    table
        Columns region, n_voxels, n_above, density.
    most
        Number of regions at most. Equal shares are ordered by the largest absolute density.
    """
    ranked = table.assign(
        share=table["n_above"] / table["n_voxels"].clip(lower=1), size=table["density"].abs().fillna(0)
    )
    best = ranked.groupby("region", sort=True)[["share", "size"]].max()
    return [str(name) for name in best.sort_values(["share", "size"], ascending=False).head(most).index]


def _atlas_blocks(
    results: Results, gallery: Gallery, path: Path, table: pd.DataFrame, atlas: str
) -> list[Any]:
    blocks: list[Any] = []
    survives = bool((table["n_above"] > 0).any())
    if survives:
        above = table.groupby("region")["n_above"].max()
        names = [name for name in leading_regions(table, _MOST_REGIONS) if above[name] > 0]
        caption = (
            f"Share of each region's voxels that pass p ≤ {results.alpha:g}, by measure and class; the "
            f"{len(names)} leading of {table['region'].nunique()} regions of {atlas}."
        )
        alt = f"Heat map of regions of {atlas} by class, one panel per importance measure"
        figure = region_heatmap(table, results.classes, results.methods, names)
        blocks.append(gallery.drawing(figure, f"regions_atlas-{slug(atlas)}", alt, caption))
    else:
        blocks.append(Text("No voxel passes in any region; regions are ordered by their density."))
    for class_ in results.classes:
        rows = table[table["class"] == class_]
        if len(rows):
            short = _class_table(rows, results.methods, class_)
            blocks.append(Fold(f"{class_}: leading regions", [short]))
    target = os.path.relpath(path, results.out_dir)
    link = Markup('All regions, classes and measures: <a href="{0}">{0}</a>.').format(escape(target))
    return [*blocks, Text(link)]


def _with_unique_names(table: pd.DataFrame) -> pd.DataFrame:
    # Some atlases give parts of a region, or both hemispheres, one name.
    indices = table.groupby("region")["index"].transform("nunique")
    numbered = table["region"] + " (" + table["index"].astype(str) + ")"
    return table.assign(region=table["region"].where(indices == 1, numbered))


def _class_table(rows: pd.DataFrame, methods: list[str], class_: str) -> Table:
    body = []
    for name in leading_regions(rows, _MOST_ROWS):
        region = rows[rows["region"] == name].set_index("method")
        cells = [_cell(region, method) for method in methods]
        first = region.iloc[0]
        best = str(region["n_above"].idxmax())
        peak = dict(region.loc[best].items())
        place = ", ".join(f"{_whole(peak[key])}" for key in ("peak_x", "peak_y", "peak_z"))
        shown = f"{place} ({best})" if peak["n_above"] > 0 else "–"
        body.append([name, number(first["n_voxels"]), *cells, shown])
    caption = (
        f"{class_}: voxels above threshold, and in brackets the density (mean importance per voxel); last "
        "column: peak (x, y, z in mm) above threshold of the measure with most voxels above threshold; “–” "
        "where no voxel of the region is."
    )
    return Table(["Region", "Voxels", *methods, "Peak"], body, caption)


def _cell(region: pd.DataFrame, method: str) -> str:
    if method not in region.index:
        return "n/a"
    row = dict(region.loc[method].items())
    return f"{number(row['n_above'])} ({number(float(row['density']), 2)})"


def _whole(value: float) -> str:
    return f"{value:.0f}".replace("-", "−") if np.isfinite(value) else "n/a"
