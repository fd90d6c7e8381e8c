"""The paragraph of the methods section about preprocessing, as the graphs that ran described it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bids_xai.reports.html import count
from bids_xai.reports.results import Results

IMAGE_NAMES = {"bold": "Functional", "T1w": "T1-weighted", "FLAIR": "FLAIR", "T2w": "T2-weighted"}


def modality_of(settings: Mapping[str, Any]) -> str:
    """Return the suffix of the images that samples are made from; functional unless settings say so."""
    return str(settings.get("modality") or "bold")


def preprocessing_text(results: Results) -> str:
    """Return what was done to the images before samples were cut from them.

    The participant level wrote it beside the samples, from the nodes of its graphs
    (:func:`bids_xai.workflows.literate.describe`). Where it differs between samples, each text says of how
    many files it is.
    """
    found = results.manifest.get("preprocessing") or []
    if len(found) < 2:
        return " ".join(str(entry["text"]) for entry in found)
    return " ".join(f"Of {count(entry['n_files'], 'file')} of samples: {entry['text']}" for entry in found)
