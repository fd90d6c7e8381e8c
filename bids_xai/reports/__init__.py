"""Figures, HTML pages, methods text and citations, made from what lies in the output folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bids_xai.reports.group import write_group_report
    from bids_xai.reports.methods_text import write_citations
    from bids_xai.reports.subject import write_subject_report

__all__ = ["write_citations", "write_group_report", "write_subject_report"]

_HOMES = {"write_citations": "methods_text", "write_group_report": "group", "write_subject_report": "subject"}


def __getattr__(name: str) -> Any:
    # matplotlib and pandas are imported when a report is written, not when the package is.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
