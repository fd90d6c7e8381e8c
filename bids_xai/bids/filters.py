"""Filters on entities, in the format of fMRIPrep's ``--bids-filter-file``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bids.layout import Query

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.text_files import read_json

BOLD: dict[str, Any] = {"suffix": "bold", "extension": [".nii", ".nii.gz"], "datatype": "func"}
EVENTS: dict[str, Any] = {"suffix": "events", "extension": [".tsv"]}
MASK: dict[str, Any] = {"suffix": "mask", "extension": [".nii", ".nii.gz"], "desc": "brain"}
CONFOUNDS: dict[str, Any] = {
    "suffix": ["timeseries", "regressors"],
    "extension": [".tsv"],
    "desc": "confounds",
}
T1W: dict[str, Any] = {"suffix": "T1w", "extension": [".nii", ".nii.gz"], "datatype": "anat"}
FLAIR: dict[str, Any] = {**T1W, "suffix": "FLAIR"}
T2W: dict[str, Any] = {**T1W, "suffix": "T2w"}
DEFAULTS = {
    "bold": BOLD, "events": EVENTS, "mask": MASK, "confounds": CONFOUNDS, "t1w": T1W, "flair": FLAIR,
    "t2w": T2W,
}  # fmt: skip

# Queries of fMRIPrep that this program has no use for: a file written for fMRIPrep is accepted.
_OF_FMRIPREP = ("fmap", "sbref", "roi", "asl", "dwi")
_ALIASES = {"resolution": "res", "density": "den", "description": "desc"}
_QUERIES = {
    "*": Query.ANY,
    "Query.ANY": Query.ANY,
    "Query.REQUIRED": Query.ANY,
    "Query.NONE": Query.NONE,
    "Query.OPTIONAL": Query.OPTIONAL,
}


def read_filter_file(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read a filter file: a JSON object of objects, ``{"bold": {"acquisition": "slice"}}``.

    Raises
    ------
    InputError
        If it cannot be read or has another form (see :func:`check_filters`).
    """
    return check_filters(read_json(path, "the filter file", "correct --bids-filter-file"), str(path))


def check_filters(content: Any, name: str = "the BIDS filters") -> dict[str, dict[str, Any]]:
    """Return filters if they are an object of objects with known names of queries; else InputError."""
    example = '{"bold": {"acquisition": "slice"}}'
    if not isinstance(content, Mapping) or not all(isinstance(v, Mapping) for v in content.values()):
        raise InputError(f"{name} holds {content!r}.", f"an object of objects, such as {example}")
    for query in content:
        if query not in DEFAULTS and query not in _OF_FMRIPREP:
            raise InputError(
                f"Unknown query {query!r} in {name}.",
                f"one of {', '.join(DEFAULTS)}",
                nearest_name(query, DEFAULTS),
            )
    return {query: dict(entities) for query, entities in content.items()}


def combined(query: str, filters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entities that a query asks for: the defaults, overridden by the user's.

    ``null`` asks that an entity is absent, ``"*"`` that it has any value. A mask that is described by
    ``label`` or ``desc`` need not be ``desc-brain``.
    """
    asked = {_ALIASES.get(name, name): _translated(value) for name, value in filters.get(query, {}).items()}
    defaults = dict(DEFAULTS[query])
    if query == "mask" and "label" in asked:
        defaults.pop("desc")
    return {**defaults, **asked}


def _translated(value: Any) -> Any:
    if isinstance(value, list):
        return [_translated(item) for item in value]
    if value is None:
        return Query.NONE
    return _QUERIES.get(value, value) if isinstance(value, str) else value
