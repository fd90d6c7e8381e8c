"""The page of one subject: how its images were preprocessed, which samples were taken, and how they look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from bids_xai.errors import InputError
from bids_xai.reports.html import (
    Facts,
    Fold,
    Gallery,
    Section,
    Table,
    Text,
    number,
    plain,
    render,
)
from bids_xai.reports.networks_subject import subject_explanations
from bids_xai.reports.preprocessed import Preprocessing, read_preprocessing
from bids_xai.reports.preprocessing import alerts, anatomy, functional_runs
from bids_xai.reports.references import with_authors
from bids_xai.reports.results import write_whole
from bids_xai.reports.samples import (
    SampleFile,
    common_metadata,
    read_samples,
    sample_counts,
    sample_facts,
    sample_images,
)

_NOT_SETTINGS = (
    "Mask",
    "Sources",
    "Description",
    "PreprocessingDescription",
    "RegistrationQuality",
)
# The figures that this page draws; others in the same folder were drawn by the participant level.
_OWN_FIGURES = (
    "sub-*_desc-timeline.svg",
    "sub-*_desc-samples[0-9]*.png",
    "sub-*_desc-explanations[0-9]*.png",
)


def write_subject_report(out_dir: Path | str, subject: str) -> Path:
    """Write ``sub-<subject>.html``, and its figures as files in ``sub-<subject>/figures``.

    The page is made from the files in the output folder alone: samples, what preprocessing wrote, the
    figures that it drew, and heatmaps where networks were explained. A subject that was preprocessed but
    has no samples gets a page that says so.

    Parameters
    ----------
    out_dir
        Folder of the derivatives.
    subject
        Label, with or without ``sub-``.

    Returns
    -------
    Path
        The page: self-contained, it loads nothing from elsewhere.

    Raises
    ------
    InputError
        There is nothing of the subject, or files of theirs are missing.
    """
    out_dir, label = Path(out_dir), subject.removeprefix("sub-")
    folder = out_dir / f"sub-{label}"
    files = read_samples(out_dir, folder)
    found = read_preprocessing(folder, _OWN_FIGURES)
    if not files and not found:
        raise InputError(
            f"{folder} holds no samples (*_samples.json).",
            "the results of the participant level",
            "run the participant level first",
        )
    gallery = Gallery()
    rows = pd.concat([file.rows for file in files], ignore_index=True) if files else pd.DataFrame()
    sections = [
        Section("summary", "Summary", _summary(files, rows, found)),
        anatomy(found),
        functional_runs(found),
        Section("explanations", "Explanations", subject_explanations(out_dir, label, gallery)),
        *([] if not files else _sample_sections(files, rows, gallery)),
    ]
    tasks = ", ".join(sorted({str(task) for task in rows.get("task", ()) if task}))
    page = render(f"Subject report: sub-{label}", f"task {tasks}" if tasks else "", sections)
    figures = folder / "figures"
    for path in [path for pattern in _OWN_FIGURES for path in figures.glob(pattern)]:
        path.unlink(missing_ok=True)
    for name, data in gallery.files.items():
        write_whole(figures / f"sub-{label}_desc-{name}", data)
    return write_whole(out_dir / f"sub-{label}.html", page)


def _sample_sections(files: list[SampleFile], rows: pd.DataFrame, gallery: Gallery) -> list[Section]:
    return [
        Section("samples", "Samples", sample_counts(files, rows, gallery)),
        Section("images", "Images", sample_images(files, gallery)),
        Section("settings", "Settings", _settings(files)),
    ]


def _summary(files: list[SampleFile], rows: pd.DataFrame, found: Preprocessing) -> list[Any]:
    blocks: list[Any] = alerts(found, used=set(rows["session"]) if files else ())
    if files:
        blocks.append(sample_facts(files, rows))
    else:
        suffixes = [suffix for _, suffix in found.images]
        kinds = [(f"Preprocessed {suffix} images", suffix) for suffix in sorted(set(suffixes))]
        facts = [(name, number(suffixes.count(suffix))) for name, suffix in kinds]
        blocks.append(Facts([("Samples", "0"), *facts]))
    return blocks


def _settings(files: list[SampleFile]) -> list[Any]:
    common = common_metadata(files)
    rows = [[_spaced(key), plain(value)] for key, value in common.items() if _is_setting(key, value)]
    described = [with_authors(str(text)) for text in [common.get("PreprocessingDescription")] if text]
    blocks: list[Any] = [
        *map(Text, described),
        Table(["Setting", "Value"], rows, "Common to all runs, from the sidecars."),
    ]
    named = {key: value for file in files for key, value in file.metadata.items() if key not in common}
    keys = sorted(key for key, value in named.items() if _is_setting(key, value))
    if keys:
        body = [[file.stem, *(plain(file.metadata.get(key)) for key in keys)] for file in files]
        table = Table(["Run", *map(_spaced, keys)], body, "What differs between runs, from the sidecars.")
        blocks.append(Fold("By run", [table]))
    sources = [source for file in files for source in _sources(file)]
    if sources:
        table = Table(
            ["Source"], [[source] for source in dict.fromkeys(sources)], "Images that samples come from."
        )
        blocks.append(Fold("Sources", [table]))
    return blocks


def _sources(file: SampleFile) -> list[str]:
    sources = file.metadata.get("Sources") or []
    return [str(sources)] if isinstance(sources, str) else [str(source) for source in sources]


def _is_setting(key: str, value: Any) -> bool:
    # BIDS metadata start with a capital, names of table columns do not.
    return key[0].isupper() and key not in _NOT_SETTINGS and (not isinstance(value, dict) or key == "Classes")


def _spaced(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
