"""The folder of the group's results: maps, tables, and the manifest that lists them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai import __version__
from bids_xai.atomic import whole_folder
from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.bids.descriptions import write_json, write_tsv
from bids_xai.bids.exchange import DESCRIPTION
from bids_xai.bids.names import group_map_path, group_table_path, sanitize_all
from bids_xai.decoding.design import Design
from bids_xai.images.grids import image_like
from bids_xai.images.masking import unmask

PACKAGES = (
    "antspyx", "deepbet", "nibabel", "nilearn", "nipype", "nitransforms", "numba", "numpy", "pandas",
    "pybids", "scikit-learn", "scipy", "torch",
)  # fmt: skip
PER_METHOD = ("mean", "p", "pfwer", "reproducibility", "thresholded", "fwer")
SCALED = ("mean", "thresholded", "fwer")
DESCRIPTIONS = {
    "mean": "Importance, mean over the trainings on the true labels",
    "p": "Permutation p-value of the mean importance; 1 where it is larger than the largest level",
    "pfwer": "Family-wise permutation p-value of the mean importance (max-statistic over the voxels)",
    "reproducibility": "Share of the trainings in which the importance exceeds the voxel's threshold",
    "thresholded": "Mean importance where it exceeds the voxel's permutation threshold, else 0",
    "fwer": "Mean importance where it exceeds the family-wise (max-statistic) threshold, else 0",
    "t": "Student's t of the class against all others",
    "F": "F of the one-way analysis of variance over the classes",
    "overlap": "Number of methods whose reproducibility is above one half",
    "lowunivariate": "Number of methods whose reproducibility is above one half, where |t| < 1, else 0",
}


@dataclass(frozen=True)
class GroupResults:
    """Everything that the group's folder is written from.

    Parameters
    ----------
    maps
        Arrays by name (:class:`bids_xai.inference.summary.Summary`).
    tables
        Tables by name.
    regions
        Region tables, one per atlas.
    rows
        One row per sample.
    design
        Classes, labels and folds.
    mask, background
        Images on the analysis grid, and of any grid in the same space (or None).
    summary
        Methods, levels and numbers of runs.
    provenance
        ``settings`` (``cv`` and ``importance_samples`` at least); if known, ``dataset``, ``space``,
        ``resolution``, ``failed_subjects``, ``warnings``.
    map_scale
        Factor that importance maps are written with.
    """

    maps: Mapping[str, npt.NDArray]
    tables: Mapping[str, pd.DataFrame]
    regions: list[pd.DataFrame]
    rows: pd.DataFrame
    design: Design
    mask: nb.Nifti1Image
    background: nb.Nifti1Image | None
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]
    map_scale: float = 1.0

    @property
    def entities(self) -> dict[str, Any]:
        """Entities that all samples share: task, if there is one, and space."""
        tasks = self.rows["task"].dropna().unique()
        return {"task": tasks[0] if len(tasks) == 1 else None, "space": self.provenance.get("space")}


def write_group(results: GroupResults, out_dir: Path) -> Path:
    """Write ``out_dir/group`` whole: it is made beside and put in the place of an older one.

    Returns
    -------
    Path
        The folder.
    """
    target = out_dir / "group"
    with whole_folder(target) as folder:
        # Paths in the manifest are relative to the output folder.
        staging = folder.parent
        maps = _write_maps(results, staging)
        tables = _write_tables(results, staging)
        manifest = _manifest(results, _write_images(results, staging), maps, tables)
        write_json(folder / "results.json", manifest)
    return target


def _write_maps(results: GroupResults, staging: Path) -> list[dict[str, Any]]:
    classes, alphas = results.design.classes, results.summary["alphas"]
    labels = sanitize_all(classes)
    entries = []
    for name, values in results.maps.items():
        stat, _, level = name.partition("-")
        alpha = alphas[int(level)] if level else None
        items: list[tuple[str | None, str | None, npt.NDArray]]
        if stat in PER_METHOD:
            items = [
                (label, method, values[m, c])
                for m, method in enumerate(results.summary["methods"])
                for c, label in enumerate(classes)
            ]
        elif stat == "F":
            items = [(None, None, values)]
        else:
            items = [(label, None, values[c]) for c, label in enumerate(classes)]
            alpha = results.summary["report_alpha"] if stat != "t" else None
        for label, method, voxels in items:
            path = group_map_path(
                stat,
                label=labels[label] if label else None,
                method=method,
                alpha=alpha,
                entities=results.entities,
            )
            _write_map(results, stat, np.asarray(voxels), staging / path)
            entry = {"class": label, "method": method or stat, "stat": stat, "alpha": alpha}
            entries.append({**entry, "path": str(path.relative_to("group"))})
    return entries


def _write_images(results: GroupResults, staging: Path) -> dict[str, str | None]:
    written: dict[str, str | None] = {}
    for name, image in (("mask", results.mask), ("background", results.background)):
        path = group_map_path(name, entities=results.entities)
        written[name] = None if image is None else str(path.relative_to("group"))
        if image is not None:
            nb.save(image, staging / path)
    return written


def _write_map(results: GroupResults, stat: str, voxels: npt.NDArray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = results.map_scale if stat in SCALED else 1.0
    image = unmask(voxels.astype(np.float32) * np.float32(scale), results.mask)
    if stat in ("p", "pfwer"):
        # Outside the mask nothing was tested: 0 would read as significant.
        data = np.asarray(image.dataobj).copy()
        data[np.asarray(results.mask.dataobj) == 0] = 1
        image = image_like(data, image)
    nb.save(image, path)
    sidecar = {"Description": DESCRIPTIONS[stat], "Space": results.provenance.get("space")}
    if scale != 1:
        sidecar["ScaleFactor"] = scale
    write_json(Path(str(path).removesuffix(".nii.gz") + ".json"), sidecar)


def _write_tables(results: GroupResults, staging: Path) -> dict[str, Any]:
    folds = pd.DataFrame(
        [
            {"fold": fold.name, "n_train": len(fold.train), "n_test": len(fold.test)}
            for fold in results.design.folds
        ]
    )
    written: dict[str, Any] = {}
    for name, table in {"samples": results.rows, "folds": folds, **results.tables}.items():
        path = group_table_path(name.replace("_", ""), entities=results.entities)
        columns = TABLE_COLUMNS[name]
        if name == "samples":
            columns = {**columns, **dict.fromkeys(table.columns.difference(list(columns)), DESCRIPTION)}
        write_tsv(staging / path, table, columns)
        written[name] = str(path.relative_to("group"))
    written["regions"] = []
    for number, table in enumerate(results.regions, start=1):
        # Files of one name in two folders are two atlases: the number tells them apart.
        atlas = str(table["atlas"].iloc[0]) if len(table) else ""
        path = group_table_path(f"regions {number} {atlas}", entities=results.entities)
        write_tsv(staging / path, table, TABLE_COLUMNS["regions"])
        written["regions"].append(str(path.relative_to("group")))
    return written


def versions() -> dict[str, str]:
    """Return the versions of what the results were computed with, by package."""
    return {
        "bids-xai": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _manifest(
    results: GroupResults, images: dict[str, str | None], maps: list[dict[str, Any]], tables: dict[str, Any]
) -> dict[str, Any]:
    rows, design, provenance = results.rows, results.design, results.provenance
    settings = dict(provenance.get("settings", {}))
    return {
        "version": __version__,
        "dataset": provenance.get("dataset", "samples"),
        "space": provenance.get("space"),
        "resolution": provenance.get("resolution"),
        "tasks": sorted(str(task) for task in rows["task"].dropna().unique()),
        "subjects": sorted(str(subject) for subject in rows["subject"].unique()),
        "classes": list(design.classes),
        "chance": 1 / len(design.classes),
        **results.summary,
        "cv": settings["cv"],
        "importance_samples": settings["importance_samples"],
        "n_samples": len(rows),
        "samples_per_class": {name: int((rows["class"] == name).sum()) for name in design.classes},
        "n_voxels": int(np.asarray(results.mask.dataobj).sum()),
        "n_folds": len(design.folds),
        "settings": settings,
        "versions": versions(),
        **images,
        "failed_subjects": list(provenance.get("failed_subjects", [])),
        "warnings": list(provenance.get("warnings", [])),
        "tables": tables,
        "maps": maps,
    }
