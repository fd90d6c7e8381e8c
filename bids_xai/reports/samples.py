"""The samples of one subject: what they are, how many, when they were taken, how they look."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.reports.html import Facts, Gallery, Part, Table, count, number, plain
from bids_xai.reports.html import slug as slug_
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.results import load_image
from bids_xai.reports.slices import SliceView
from bids_xai.reports.timeline import natural, run_name, sample_timeline
from bids_xai.tables import read_frame
from bids_xai.text_files import read_json_object

_SAME_GRID = 1e-3


@dataclass(frozen=True)
class SampleFile:
    """The samples of one run, or of anatomical images: files and sidecar."""

    stem: str
    image: Path
    rows: pd.DataFrame
    mask: Path | None
    metadata: dict[str, Any]

    @property
    def modality(self) -> str:
        """Suffix of the images that the samples were made from."""
        return str(self.metadata.get("Modality") or "bold")

    @property
    def anatomical(self) -> bool:
        """Whether a sample is an anatomical image."""
        return self.modality != "bold"


def read_samples(out_dir: Path, folder: Path) -> list[SampleFile]:
    """Return the samples in a subject's folder, none if there are none.

    Parameters
    ----------
    out_dir
        Folder of the derivatives, which masks are named relative to.
    folder
        Folder of the subject, which may have sessions.

    Raises
    ------
    InputError
        A sidecar's table does not exist.
    """
    return [_read(out_dir, sidecar) for sidecar in sorted(folder.glob("**/*_samples.json"))]


def _read(out_dir: Path, sidecar: Path) -> SampleFile:
    metadata = read_json_object(sidecar, "the sidecar", "run the participant level again")
    stem = sidecar.name.removesuffix(".json")
    rows = read_frame(sidecar.with_name(f"{stem}.tsv"))
    for column in ("session", "task", "run"):
        rows[column] = rows[column].fillna("") if column in rows else ""
    if "onset" not in rows:
        rows["onset"] = np.nan
    named = metadata.get("Mask")
    if named:
        mask: Path | None = out_dir / str(named).removeprefix("bids::")
    else:
        mask = next(iter(sorted(sidecar.parent.glob("*_mask.nii.gz"))), None)
    return SampleFile(stem, sidecar.with_name(f"{stem}.nii.gz"), rows, mask, metadata)


def class_names(files: list[SampleFile], rows: pd.DataFrame) -> list[str]:
    """Return the classes that occur, in the order of the sidecar."""
    named = files[0].metadata.get("Classes")
    present = sorted({str(name) for name in rows["class"].dropna()})
    # Merged classes are recorded as they are asked for, NAME=LEVEL+LEVEL.
    ordered = [str(name).partition("=")[0] for name in named] if isinstance(named, list | dict) else []
    return [name for name in ordered if name in present] + [name for name in present if name not in ordered]


def sample_facts(files: list[SampleFile], rows: pd.DataFrame) -> Facts:
    """Return how many samples there are, what they are, and on which grid."""
    common = common_metadata(files)
    image = load_image(files[0].image)
    size = " × ".join(number(float(zoom)) for zoom in image.header.get_zooms()[:3])
    masks = {file.mask for file in files if file.mask is not None}
    voxels = sorted({int(np.count_nonzero(np.asarray(load_image(mask).dataobj))) for mask in masks})
    anatomical = all(file.anatomical for file in files)
    facts = [
        ("Images" if anatomical else "Runs", number(len(files))),
        ("Samples", number(len(rows))),
        ("A sample is", _what_a_sample_is(files[0])),
        ("Grid", " × ".join(map(str, image.shape[:3]))),
        ("Voxel size", f"{size} mm"),
        ("Voxels in the mask", ", ".join(map(number, voxels)) or "n/a"),
        ("Space", plain(common.get("Space") or "native")),
        ("Repetition time", f"{number(tr)} s" if (tr := common.get("RepetitionTime")) else "see settings"),
    ]  # fmt: skip
    known = {"Repetition time": not anatomical, "A sample is": anatomical or "Sample" in common}
    return Facts([fact for fact in facts if known.get(fact[0], True)])


def _what_a_sample_is(file: SampleFile) -> str:
    if file.anatomical:
        return f"one {file.modality} image"
    return "an event's mean volume" if file.metadata.get("Sample") == "events" else "one volume"


def sample_counts(files: list[SampleFile], rows: pd.DataFrame, gallery: Gallery) -> list[Any]:
    """Return a table of samples by run and class, and their timeline where they have onsets."""
    classes = class_names(files, rows)
    counts = rows.groupby(["session", "task", "run", "class"]).size().unstack(fill_value=0)
    order = sorted(counts.index, key=natural)
    counts = counts.reindex(index=order, columns=classes, fill_value=0)
    anatomical = all(file.anatomical for file in files)
    names = [
        files[0].modality if anatomical and not any(key) else run_name(*key) for key in counts.index.to_list()
    ]
    body = [
        [name, *(number(value) for value in row), number(row.sum())]
        for name, row in zip(names, counts.to_numpy(), strict=True)
    ]
    total = counts.sum()
    if len(body) > 1 or not anatomical:
        body.append(["all", *(number(value) for value in total), number(total.sum())])
    what = "image" if anatomical else "run"
    blocks: list[Any] = [Table([what.capitalize(), *classes, "all"], body, f"Samples by {what} and class.")]
    if rows["onset"].notna().any():
        caption = "Onset of each sample's event, by run and class."
        alt = "Timeline of samples, one line per run, coloured by class"
        blocks.append(gallery.drawing(sample_timeline(rows, classes), "timeline", alt, caption))
    return blocks


def sample_images(files: list[SampleFile], gallery: Gallery) -> list[Any]:
    """Return figures of the mean and the standard deviation of the samples, one per grid and mask."""
    groups: dict[tuple[Any, ...], list[SampleFile]] = defaultdict(list)
    for file in files:
        image = load_image(file.image)
        affine = tuple(np.round(np.ravel(image.affine) / _SAME_GRID).astype(int))
        groups[(file.mask, image.shape[:3], affine)].append(file)
    blocks = []
    for number_, group in enumerate(groups.values(), 1):
        what = "image" if group[0].anatomical else "run"
        title = f"{count(len(group), what)}: {group[0].stem}" + (" and others" if len(group) > 1 else "")
        blocks.append(Part(f"grid-{number_}", title, [_moments(group, gallery, number_)]))
    return blocks


def _moments(files: list[SampleFile], gallery: Gallery, number_: int) -> Any:
    mean, deviation, n, affine = _mean_and_deviation(files)
    mask_path = files[0].mask
    mask = (
        load_image(mask_path)
        if mask_path is not None
        else nb.Nifti1Image(((mean != 0) | (deviation > 0)).astype(np.uint8), affine)
    )
    view = SliceView(mask)
    volumes = [view.values(nb.Nifti1Image(values, affine)) for values in (mean, deviation)]
    units = "SD of the run" if files[0].metadata.get("Standardize") else "image units"
    titles = ["Mean over samples", "Standard deviation over samples"] if n > 1 else ["The sample"]
    layers = [
        Layer(title, values, units, robust_limits(values[view.mask]), framed=None if place else view.mask)
        for place, (title, values) in enumerate(zip(titles, volumes, strict=False))
    ]
    what = f"Mean and standard deviation over {number(n)} samples" if n > 1 else "The sample"
    caption = f"{what}, on the analysis grid; the mask is outlined. Right is right."
    alt = f"Slices: {what[0].lower()}{what[1:]}, mask outlined"
    name = slug_(f"samples{number_}")
    return gallery.photograph(mosaic(view, view.choose(), layers), name, alt, caption)


def _mean_and_deviation(files: list[SampleFile]) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
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
    return mean.astype(np.float32), deviation.astype(np.float32), n, first.affine


def common_metadata(files: list[SampleFile]) -> dict[str, Any]:
    """Return what the sidecars of all files agree on."""
    first = files[0].metadata if files else {}
    return {
        key: value
        for key, value in first.items()
        if all(file.metadata.get(key, ...) == value for file in files)
    }
