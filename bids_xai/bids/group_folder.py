"""What every kind of group result has in its folder: images, tables, and the head of the manifest."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai import __version__
from bids_xai.atlases.spaces import described_atlas, space_note
from bids_xai.bids.descriptions import write_json, write_tsv
from bids_xai.bids.names import group_map_path, group_table_path
from bids_xai.decoding.design import Design
from bids_xai.images.grids import image_like
from bids_xai.images.masking import unmask

PACKAGES = (
    "antspyx", "deepbet", "nibabel", "nilearn", "nipype", "nitransforms", "numba", "numpy", "pandas",
    "pybids", "scikit-learn", "scipy", "torch",
)  # fmt: skip


class Results(Protocol):
    """What the folder is written from, whatever was trained."""

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Tables by name."""

    @property
    def regions(self) -> Iterable[pd.DataFrame]:
        """Region tables, one per atlas."""

    @property
    def rows(self) -> pd.DataFrame:
        """One row per sample."""

    @property
    def design(self) -> Design:
        """Classes, labels and folds."""

    @property
    def mask(self) -> nb.Nifti1Image:
        """Voxels of the maps, on the analysis grid."""

    @property
    def background(self) -> nb.Nifti1Image | None:
        """Image that figures show maps on, of any grid in the same space."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the manifest says besides."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Settings; if known, dataset, space, resolution, failed subjects and warnings."""


def shared_entities(results: Results) -> dict[str, Any]:
    """Return the entities that all samples share: task, if there is one, and space."""
    tasks = _tasks(results)
    return {"task": tasks[0] if len(tasks) == 1 else None, "space": results.provenance.get("space")}


def write_map(
    results: Results, stat: str, voxels: npt.NDArray, path: Path, description: str, **more: Any
) -> None:
    """Write values of the mask's voxels as an image, with its sidecar; outside the mask p and q are 1."""
    image = unmask(np.asarray(voxels, dtype=np.float32), results.mask)
    if stat in ("p", "pfwer", "q"):
        # Outside the mask nothing was tested: 0 would read as significant.
        data = np.asarray(image.dataobj).copy()
        data[np.asarray(results.mask.dataobj) == 0] = 1
        image = image_like(data, image)
    sidecar = {"Description": description, "Space": results.provenance.get("space"), **more}
    write_image(image, path, sidecar)


def write_image(image: nb.Nifti1Image, path: Path, sidecar: Mapping[str, Any]) -> None:
    """Write an image and the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.save(image, path)
    write_json(Path(str(path).removesuffix(".nii.gz") + ".json"), sidecar)


def write_images(results: Results, staging: Path) -> dict[str, str | None]:
    """Write mask and background; return their paths in the folder by name, None where there is none."""
    written: dict[str, str | None] = {}
    for name, image in (("mask", results.mask), ("background", results.background)):
        path = group_map_path(name, entities=shared_entities(results))
        written[name] = None if image is None else str(path.relative_to("group"))
        if image is not None:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            nb.save(image, staging / path)
    return written


def write_tables(
    results: Results,
    samples: pd.DataFrame,
    staging: Path,
    columns: Callable[[str, pd.DataFrame], Mapping[str, Any]],
) -> dict[str, Any]:
    """Write samples, folds, tables and regions; return their paths in the folder by name.

    Parameters
    ----------
    results
        Tables, regions and folds.
    samples
        Table of the samples.
    staging
        Folder that holds the group's.
    columns
        Gives what is said of a table's columns, from its name and the table.
    """
    entities = shared_entities(results)
    folds = pd.DataFrame([
        {"fold": fold.name, "n_train": len(fold.train), "n_test": len(fold.test)}
        for fold in results.design.folds
    ])  # fmt: skip
    written: dict[str, Any] = {}
    for name, table in {"samples": samples, "folds": folds, **results.tables}.items():
        path = group_table_path(name.replace("_", ""), entities=entities)
        write_tsv(staging / path, table, columns(name, table))
        written[name] = str(path.relative_to("group"))
    written["regions"] = []
    for number, table in enumerate(results.regions, start=1):
        # Files of one name in two folders are two atlases: the number tells them apart.
        atlas = str(table["atlas"].iloc[0]) if len(table) else ""
        path = group_table_path(f"regions {number} {atlas}", entities=entities)
        write_tsv(staging / path, table, columns("regions", table))
        written["regions"].append(str(path.relative_to("group")))
    return written


def manifest(results: Results, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``results.json`` says of data, design, settings and versions.

    Parameters
    ----------
    results
        Results.
    more
        What goes between the classes and the numbers of samples, after the summary.
    """
    rows, design, provenance = results.rows, results.design, results.provenance
    settings = dict(provenance.get("settings", {}))
    atlases = _atlases(settings.get("atlas") or (), provenance.get("space"))
    notes = [entry["note"] for entry in atlases if entry["note"]]
    return {
        "version": __version__,
        "dataset": provenance.get("dataset", "samples"),
        "space": provenance.get("space"),
        "resolution": provenance.get("resolution"),
        "tasks": sorted(_tasks(results)),
        "subjects": sorted(str(subject) for subject in rows["subject"].unique()),
        "classes": list(design.classes),
        # Of balanced accuracies; where there are permutations the summary says what these give.
        "chance": 1 / len(design.classes),
        "chance_of": "one over the number of classes",
        **results.summary,
        **more,
        "n_samples": len(rows),
        "samples_per_class": {name: int((rows["class"] == name).sum()) for name in design.classes},
        "n_voxels": int(np.asarray(results.mask.dataobj).sum()),
        "cv": design.cv,
        "n_folds": len(design.folds),
        "n_repeats": design.n_repeats,
        "settings": settings,
        "preprocessing": list(provenance.get("preprocessing", [])),
        "preset_departures": list(provenance.get("preset_departures", [])),
        "atlases": atlases,
        "versions": versions(),
        "failed_subjects": list(provenance.get("failed_subjects", [])),
        "warnings": [*provenance.get("warnings", []), *results.summary.get("warnings", []), *notes],
    }


def _atlases(names: Iterable[str], space: str | None) -> list[dict[str, str]]:
    """Return name and space of every atlas, and what is wrong with it on maps in a space."""
    found = []
    for given in names:
        name, own = described_atlas(given)
        found.append({"name": name, "space": own, "note": space_note(given, space)})
    return found


def versions() -> dict[str, str]:
    """Return the versions of what the results were computed with, by package."""
    return {
        "bids-xai": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _tasks(results: Results) -> list[str]:
    # Anatomical images have none.
    return [str(task) for task in results.rows["task"].dropna().unique() if task]
