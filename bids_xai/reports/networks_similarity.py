"""What is alike: classes in the brain and in the network, and the places that matter to them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from bids_xai.reports.brains import slice_view
from bids_xai.reports.html import Gallery, Part, Text, count, number
from bids_xai.reports.networks_charts import dissimilarities, positions_figure
from bids_xai.reports.results import Results

_LEVEL = 0.05
_KINDS = {
    "brain": "Brain (class means)",
    "network": "Network (features)",
    "cnn": "Network (features)",
    "features": "Network (features)",
}


def similarity_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return dissimilarities with the Mantel test, and the strongest positions of occlusion."""
    parts = (
        Part("similarity-classes", "Representational dissimilarity", _classes(results, gallery)),
        Part("similarity-positions", "Strongest positions", _positions(results, gallery)),
    )
    return [part for part in parts if part.blocks]


def _classes(results: Results, gallery: Gallery) -> list[Any]:
    rdm, mantel = results.table("rdm"), results.table("mantel")
    blocks: list[Any] = [Text(mantel_sentence(row)) for _, row in mantel.head(1).iterrows()]
    if len(rdm):
        caption = (
            "1 − correlation of every pair of classes: of mean volumes (brain), and of mean activations of "
            "the layer before the last (network)."
        )
        figure = dissimilarities(rdm, results.classes, _KINDS)
        alt = "Matrices of dissimilarity between classes, brain and network"
        blocks.append(gallery.drawing(figure, "rdm", alt, caption))
    return blocks


def mantel_sentence(row: pd.Series) -> str:
    """Return the result of a Mantel test (columns r, p, n_permutations) in words."""
    p = float(row["p"])
    if math.isnan(p) or math.isnan(float(row["r"])):
        return "No Mantel test: it needs three classes or more, and differences between their distances."
    verdict = (
        "classes that are alike in the brain are alike in the network"
        if p <= _LEVEL and float(row["r"]) > 0
        else "not significant"
        if p > _LEVEL
        else "classes that are alike in the brain are unlike in the network"
    )
    return (
        f"Mantel test of brain against network: r = {number(float(row['r']))}, p = {number(p)} "
        f"({count(int(row['n_permutations']), 'permutation')} of the classes): {verdict}."
    )


def _positions(results: Results, gallery: Gallery) -> list[Any]:
    positions = results.table("positions")
    if not len(positions):
        return []
    view = slice_view(results)
    most = int(positions.groupby("class").size().max())
    embedded = "umap_1" in positions or "functional_1" in positions
    caption = (
        f"Up to {number(most)} positions per class whose covering costs the class most, projected through "
        "the brain (outline: mask)"
        + (
            "; UMAP of the places, and of the drops of all classes at each. Distances between clusters of a "
            "UMAP, and their sizes, have no meaning."
            if embedded
            else "."
        )
    )
    present = [name for name in results.classes if (positions["class"] == name).any()]
    figure = positions_figure(positions, present, view.mask, view.affine)
    alt = "Positions of the strongest drops per class, three views and embeddings"
    return [gallery.photograph(figure, "positions", alt, caption)]
