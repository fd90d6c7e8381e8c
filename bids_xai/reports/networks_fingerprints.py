"""Individual fingerprints: the two people whose regional relevance differs most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bids_xai.reports.brains import slice_view
from bids_xai.reports.html import Gallery, Table, Text, number, percent, slug
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.networks_explanations import shown_words, title_of
from bids_xai.reports.networks_maps import filled_cuts, in_units
from bids_xai.reports.results import Results, load_image
from bids_xai.reports.slices import SliceView
from bids_xai.tables import read_frame


def fingerprint_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return the pair of every method and atlas, and both people's heatmaps (Böhle et al. 2019, figure 6)."""
    table = _pairs(results)
    if not len(table):
        return []
    class_ = results.classes[-1]
    rows = [
        [
            title_of(results, str(row["method"])),
            str(row["atlas"]),
            f"sub-{row['subject']}",
            f"sub-{row['other']}",
            number(float(row["distance"])),
        ]
        for _, row in table.iterrows()
    ]
    text = (
        f"Of the people of class {class_} who are classified with a probability above 0.9, these two differ "
        "most: by the cosine distance (0: proportional, 1: nothing in common, above 1: opposite) between the "
        "densities of their leading regions. People who get the same diagnosis can get it for different "
        "reasons, which a mean heatmap does not show."
    )
    header = ["Method", "Atlas", "Person", "Other person", "Cosine distance"]
    blocks: list[Any] = [Text(text), Table(header, rows, "The two people who differ most.")]
    view = slice_view(results)
    # Atlases often name the same two people.
    for method, one, other in table[["method", "subject", "other"]].drop_duplicates().itertuples(index=False):
        found = [_heatmap(results, class_, method, person) for person in (one, other)]
        entries = [entry for entry in found if entry is not None]
        if len(entries) == 2:
            blocks.append(_picture(results, view, gallery, entries))
    return blocks


def _pairs(results: Results) -> pd.DataFrame:
    path = results.table_path("fingerprints")
    return pd.DataFrame() if path is None else read_frame(path)


def _heatmap(results: Results, class_: str, method: str, subject: str) -> Mapping[str, Any] | None:
    for entry in results.manifest.get("heatmaps") or []:
        named = (str(entry["subject"]).removeprefix("sub-"), str(entry["method"]), str(entry["true"]))
        if named == (subject, method, class_):
            return dict(entry)
    return None


def _picture(results: Results, view: SliceView, gallery: Gallery, entries: list[Mapping[str, Any]]) -> Any:
    method = str(entries[0]["method"])
    title = title_of(results, method)
    values = [
        np.where(view.mask, np.nan_to_num(view.values(load_image(results.out_dir / entry["path"]))), 0)
        for entry in entries
    ]
    # People with more relevance must not decide alone which slices are shown.
    weight = np.sum([np.abs(one) / max(float(np.abs(one).max()), 1e-30) for one in values], axis=0)
    layers = []
    for entry, one in zip(entries, values, strict=True):
        label, scaled, ends = in_units(shown_words(results, method), one, robust_limits(one))
        words = f"{title}: sub-{entry['subject']}, probability {percent(entry['probability'])}"
        layers.append(Layer(words, scaled, label, ends, fade=True))
    people = " and ".join(f"sub-{entry['subject']}" for entry in entries)
    caption = f"{title}: heatmaps of {people}, each with its own colour scale, over the group's background."
    name = slug(f"fingerprints_method-{entries[0]['method']}_{people.replace(' and ', '_')}")
    alt = f"Slices of the heatmaps of {people}"
    return gallery.photograph(mosaic(view, filled_cuts(view, weight), layers), name, alt, caption)
