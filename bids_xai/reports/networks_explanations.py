"""What a result calls its explanations, and the formulas that it gives for them."""

from __future__ import annotations

from bids_xai.attribution import SHARE
from bids_xai.reports.results import Results


def title_of(results: Results, method: str) -> str:
    """Return the title of a method's label, the label itself where the manifest has none."""
    info = (results.manifest.get("method_info") or {}).get(method) or {}
    return str(info.get("title") or method)


def formula_of(results: Results, method: str) -> str:
    """Return the formula of a method's label without its title and source; empty where there is none.

    The manifest has it as one text, ``TITLE. Formula: ... Source: ...``
    (:func:`bids_xai.attribution.explain.describe`), or as the formula alone.
    """
    text, _ = _parts(results, method)
    return text.removeprefix("Formula:").strip().removesuffix(".")


def source_of(results: Results, method: str) -> str:
    """Return the work that a method's label is from; empty where the manifest names none."""
    info = (results.manifest.get("method_info") or {}).get(method) or {}
    _, source = _parts(results, method)
    return (source or str(info.get("source") or "")).strip().removesuffix(".")


def shown_words(results: Results, method: str) -> str:
    """Return what the values of a method's heatmaps are: relevance as it is, or its shares."""
    info = (results.manifest.get("method_info") or {}).get(method) or {}
    return "share of relevance" if info.get("shown") == SHARE else "relevance"


def tested_words(results: Results, method: str) -> str:
    """Return what of a method's heatmaps is compared with permuted labels."""
    info = (results.manifest.get("method_info") or {}).get(method) or {}
    return "share of relevance" if info.get("tested") == SHARE else "relevance"


def _parts(results: Results, method: str) -> tuple[str, str]:
    info = (results.manifest.get("method_info") or {}).get(method) or {}
    text = str(info.get("formula") or "").removeprefix(f"{title_of(results, method)}. ")
    formula, _, source = text.partition(" Source: ")
    return formula, source
