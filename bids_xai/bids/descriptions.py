"""Descriptions, sidecars and tables of the output dataset, each written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_xai.atomic import steady_file, whole_file
from bids_xai.bids.names import sanitize_all
from bids_xai.errors import InputError
from bids_xai.tables import write_frame
from bids_xai.text_files import read_json_object

if TYPE_CHECKING:
    import pandas as pd

BIDS_VERSION = "1.10.0"
PROGRAM = "bids_xai"

# Kinds of file that BIDS has no name for yet. Folders without a slash at the end: the validator reports
# the folder itself otherwise.
BIDSIGNORE = (
    "*.html",
    "logs",
    "figures",
    "sub-*/figures",
    "group",
    "**/*_samples.nii.gz",
    "**/*_samples.json",
    "**/*_samples.tsv",
    "**/*_heatmap.nii.gz",
    "**/*_heatmap.json",
    "**/*_xfm.*",
    "**/*_boldref.*",
    "**/*_timeseries.*",
)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole (UTF-8)."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any] | Sequence[Any]) -> Path:
    """Write JSON whole, indented, without NaN (which JSON does not have)."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tsv(
    path: str | os.PathLike[str], table: pd.DataFrame, columns: Mapping[str, Any] | None = None
) -> Path:
    """Write a table as BIDS TSV (``n/a`` for missing), and its sidecar if ``columns`` explains them.

    Parameters
    ----------
    path
        Ends in ``.tsv``.
    table
        Index is not written.
    columns
        Column -> description, or a mapping with ``Description``, ``Units``, ``Levels``.

    Raises
    ------
    ValueError
        If ``columns`` does not explain exactly the table's columns.
    """
    path = Path(path)
    if columns is not None:
        wrong = set(columns) ^ set(map(str, table.columns))
        if wrong:
            raise ValueError(f"columns of {path.name} and their explanations differ: {sorted(wrong)}")
        explained = {
            name: {"Description": text} if isinstance(text, str) else dict(text)
            for name, text in columns.items()
        }
        write_json(path.with_suffix(".json"), explained)
    with steady_file(path) as temporary:
        write_frame(table, temporary)
    return path


def write_description(
    out_dir: str | os.PathLike[str],
    *,
    name: str,
    version: str,
    sources: Mapping[str, str | os.PathLike[str]],
    container: Mapping[str, str] | None = None,
    code_url: str | None = None,
    software: Mapping[str, str] | None = None,
) -> Path:
    """Write ``dataset_description.json`` and ``.bidsignore`` of a derivative dataset.

    Parameters
    ----------
    out_dir
        The output folder.
    name
        Name of the output dataset.
    version
        Version of bids_xai.
    sources
        Name -> folder or URL of the datasets that were read: they become ``SourceDatasets`` (with DOI and
        version where their own description has them) and ``DatasetLinks``.
    container
        ``Type`` and ``Tag`` (and ``URI``) when run in a container.
    code_url
        Where the program comes from.
    software
        Versions by name of other programs that had a part in the results: further entries of ``GeneratedBy``.

    Returns
    -------
    Path of the description.
    """
    out_dir = Path(out_dir)
    generated: dict[str, Any] = {"Name": PROGRAM, "Version": version}
    if code_url:
        generated["CodeURL"] = code_url
    if container:
        generated["Container"] = dict(container)
    labels = sanitize_all(sources)
    urls = {key: _url(source) for key, source in sources.items()}
    description = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            generated,
            *({"Name": program, "Version": found} for program, found in (software or {}).items()),
        ],
        "SourceDatasets": [_source(sources[key], url) for key, url in urls.items()],
        "DatasetLinks": {labels[key]: url for key, url in urls.items()},
    }
    write_text(out_dir / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    return write_json(out_dir / "dataset_description.json", description)


def _url(source: str | os.PathLike[str]) -> str:
    text = os.fspath(source)
    return text if "://" in text else Path(text).absolute().as_uri()


def _source(source: str | os.PathLike[str], url: str) -> dict[str, str]:
    entry = {"URL": url}
    if "://" in os.fspath(source):
        return entry
    with suppress(InputError):
        described = read_description(source)
        doi = described.get("DatasetDOI")
        entry |= {"DOI": doi} if isinstance(doi, str) and doi else {}
    return entry


def maker_of(folder: str | os.PathLike[str]) -> str | None:
    """Return the name of the program that made the dataset in a folder; None where nothing says so."""
    path = Path(folder) / "dataset_description.json"
    if not path.is_file():
        return None
    makers = read_json_object(path).get("GeneratedBy")
    first = makers[0] if isinstance(makers, list) and makers else None
    name = first.get("Name") if isinstance(first, dict) else None
    return None if name is None else str(name)


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check the ``dataset_description.json`` of a BIDS dataset.

    Raises
    ------
    InputError
        If folder or file is missing, it is not JSON, or lacks ``Name`` or ``BIDSVersion``.
    """
    folder = Path(folder)
    path = folder / "dataset_description.json"
    expected = "a BIDS dataset: a folder with a dataset_description.json that has Name and BIDSVersion"
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", expected, "check the path")
    if not path.is_file():
        holds_participants = any(folder.glob("sub-*"))
        raise InputError(
            f"{folder} is not a BIDS dataset: it has no dataset_description.json.",
            expected,
            "write the file; of derivatives it may say no more than "
            f'{{"Name": "{folder.name}", "BIDSVersion": "{BIDS_VERSION}", "DatasetType": "derivative"}}'
            if holds_participants
            else "give the dataset's root folder, the one that holds the sub-* folders",
        )
    content = read_json_object(path)
    missing = [key for key in ("Name", "BIDSVersion") if key not in content]
    if missing:
        raise InputError(f"{path} lacks {' and '.join(missing)}.", expected, "add it to the file")
    return content
