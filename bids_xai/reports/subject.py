"""The page of one subject: which samples were taken, from where, and how they look."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.errors import InputError
from bids_xai.reports.html import (
    Alert,
    Facts,
    Fold,
    Gallery,
    Part,
    Section,
    Table,
    Text,
    count,
    number,
    plain,
    render,
)
from bids_xai.reports.html import slug as slug_
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.results import load_image, read_table, write_whole
from bids_xai.reports.slices import SliceView
from bids_xai.reports.timeline import natural, run_name, sample_timeline

_NOT_SETTINGS = ("Mask", "Sources", "Warnings", "GeneratedBy", "Description", "Columns")
_SAME_GRID = 1e-3


@dataclass(frozen=True)
class SampleFile:
    """The samples of one run: files and sidecar."""

    stem: str
    image: Path
    rows: pd.DataFrame
    mask: Path | None
    metadata: dict[str, Any]


def write_subject_report(out_dir: Path | str, subject: str) -> Path:
    """Write ``sub-<subject>.html``, and its figures as files in ``sub-<subject>/figures``.

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
        There are no samples of the subject, or files of theirs are missing.
    """
    out_dir, label = Path(out_dir), subject.removeprefix("sub-")
    folder = out_dir / f"sub-{label}"
    files = [_read(out_dir, sidecar) for sidecar in sorted(folder.glob("**/*_samples.json"))]
    if not files:
        raise InputError(
            f"{folder} holds no samples (*_samples.json).",
            "the results of the participant level",
            "run the participant level first",
        )
    rows = pd.concat([file.rows for file in files], ignore_index=True)
    gallery = Gallery()
    sections = [
        Section("summary", "Summary", _summary(files, rows)),
        Section("samples", "Samples", _samples(rows, _classes(files, rows), gallery)),
        Section("images", "Images", _images(files, gallery)),
        Section("warnings", "Warnings", _warnings(files)),
        Section("settings", "Settings", _settings(files)),
    ]
    tasks = ", ".join(sorted({str(task) for task in rows["task"] if task}))
    page = render(f"Subject report: sub-{label}", f"task {tasks}" if tasks else "", sections)
    figures = folder / "figures"
    shutil.rmtree(figures, ignore_errors=True)
    for name, data in gallery.files.items():
        write_whole(figures / f"sub-{label}_desc-{name}", data)
    return write_whole(out_dir / f"sub-{label}.html", page)


def _read(out_dir: Path, sidecar: Path) -> SampleFile:
    metadata = json.loads(sidecar.read_text(encoding="utf-8"))
    stem = sidecar.name.removesuffix(".json")
    rows = read_table(sidecar.with_name(f"{stem}.tsv"))
    for column in ("session", "task", "run"):
        rows[column] = rows[column].fillna("") if column in rows else ""
    named = metadata.get("Mask")
    if named:
        mask: Path | None = out_dir / str(named).removeprefix("bids::")
    else:
        mask = next(iter(sorted(sidecar.parent.glob("*_mask.nii.gz"))), None)
    return SampleFile(stem, sidecar.with_name(f"{stem}.nii.gz"), rows, mask, metadata)


def _classes(files: list[SampleFile], rows: pd.DataFrame) -> list[str]:
    named = files[0].metadata.get("Classes")
    present = sorted({str(name) for name in rows["class"].dropna()})
    # Merged classes are recorded as they are asked for, NAME=LEVEL+LEVEL.
    ordered = [str(name).partition("=")[0] for name in named] if isinstance(named, list | dict) else []
    return [name for name in ordered if name in present] + [name for name in present if name not in ordered]


def _summary(files: list[SampleFile], rows: pd.DataFrame) -> list[Any]:
    common = _common(files)
    image = load_image(files[0].image)
    size = " × ".join(number(float(zoom)) for zoom in image.header.get_zooms()[:3])
    masks = {file.mask for file in files if file.mask is not None}
    voxels = sorted({int(np.count_nonzero(np.asarray(load_image(mask).dataobj))) for mask in masks})
    facts = [
        ("Runs", number(len(files))),
        ("Samples", number(len(rows))),
        ("A sample is", "an event's mean volume" if common.get("Sample") == "events" else "one volume"),
        ("Grid", " × ".join(map(str, image.shape[:3]))),
        ("Voxel size", f"{size} mm"),
        ("Voxels in the mask", ", ".join(map(number, voxels)) or "n/a"),
        ("Space", plain(common.get("Space") or "native")),
        ("Repetition time", f"{number(tr)} s" if (tr := common.get("RepetitionTime")) else "see settings"),
    ]  # fmt: skip
    facts = [fact for fact in facts if fact[0] != "A sample is" or "Sample" in common]
    blocks: list[Any] = [Facts(facts)]
    n = sum(len(file.metadata.get("Warnings") or []) for file in files)
    return [*blocks, Alert(f"{count(n, 'warning')}, listed below.", "warning")] if n else blocks


def _samples(rows: pd.DataFrame, classes: list[str], gallery: Gallery) -> list[Any]:
    counts = rows.groupby(["session", "task", "run", "class"]).size().unstack(fill_value=0)
    order = sorted(counts.index, key=natural)
    counts = counts.reindex(index=order, columns=classes, fill_value=0)
    names = [run_name(*key) for key in counts.index.to_list()]
    body = [
        [name, *(number(value) for value in row), number(row.sum())]
        for name, row in zip(names, counts.to_numpy(), strict=True)
    ]
    total = counts.sum()
    body.append(["all", *(number(value) for value in total), number(total.sum())])
    blocks: list[Any] = [Table(["Run", *classes, "all"], body, "Samples by run and class.")]
    if rows["onset"].notna().any():
        caption = "Onset of each sample's event, by run and class."
        alt = "Timeline of samples, one line per run, coloured by class"
        blocks.append(gallery.drawing(sample_timeline(rows, classes), "timeline", alt, caption))
    return blocks


def _images(files: list[SampleFile], gallery: Gallery) -> list[Any]:
    groups: dict[tuple[Any, ...], list[SampleFile]] = defaultdict(list)
    for file in files:
        image = load_image(file.image)
        affine = tuple(np.round(np.ravel(image.affine) / _SAME_GRID).astype(int))
        groups[(file.mask, image.shape[:3], affine)].append(file)
    blocks = []
    for number_, group in enumerate(groups.values(), 1):
        title = f"{count(len(group), 'run')}: {group[0].stem}" + (" and others" if len(group) > 1 else "")
        blocks.append(Part(f"grid-{number_}", title, [_moments(group, gallery, number_)]))
    return blocks


def _moments(files: list[SampleFile], gallery: Gallery, number_: int) -> Any:
    first = load_image(files[0].image)
    total, squares, n = np.zeros(first.shape[:3]), np.zeros(first.shape[:3]), 0
    for file in files:
        data = np.asarray(load_image(file.image).dataobj, dtype=np.float32)
        data = data.reshape(*first.shape[:3], -1)
        total += data.sum(axis=3, dtype=np.float64)
        squares += np.square(data, dtype=np.float64).sum(axis=3)
        n += data.shape[3]
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0))
    mask_path = files[0].mask
    mask = (
        load_image(mask_path)
        if mask_path is not None
        else nb.Nifti1Image((squares > 0).astype(np.uint8), first.affine)
    )
    view = SliceView(mask)
    volumes = [
        view.values(nb.Nifti1Image(values.astype(np.float32), first.affine)) for values in (mean, deviation)
    ]
    units = "SD of the run" if files[0].metadata.get("Standardize") else "image units"
    layers = [
        Layer("Mean over samples", volumes[0], units, robust_limits(volumes[0][view.mask]), framed=view.mask),
        Layer("Standard deviation over samples", volumes[1], units, robust_limits(volumes[1][view.mask])),
    ]
    caption = (
        f"Mean and standard deviation over {number(n)} samples, on the analysis grid; the mask is outlined. "
        "Right is right."
    )
    alt = "Slices of the mean and the standard deviation over the subject's samples, mask outlined"
    name = slug_(f"samples{number_}")
    return gallery.photograph(mosaic(view, view.choose(), layers), name, alt, caption)


def _warnings(files: list[SampleFile]) -> list[Any]:
    notes = [f"{file.stem}: {note}" for file in files for note in file.metadata.get("Warnings") or []]
    return [Alert(note, "warning") for note in notes] or [Text("None.")]


def _common(files: list[SampleFile]) -> dict[str, Any]:
    first = files[0].metadata
    return {
        key: value
        for key, value in first.items()
        if all(file.metadata.get(key, ...) == value for file in files)
    }


def _settings(files: list[SampleFile]) -> list[Any]:
    common = _common(files)
    rows = [[_spaced(key), plain(value)] for key, value in common.items() if _is_setting(key, value)]
    blocks: list[Any] = [Table(["Setting", "Value"], rows, "Common to all runs, from the sidecars.")]
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
