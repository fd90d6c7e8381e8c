"""The folder of the group's results: maps, tables, and the manifest that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.atomic import whole_folder
from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.bids.descriptions import write_json
from bids_xai.bids.exchange import DESCRIPTION
from bids_xai.bids.group_folder import manifest, shared_entities, write_images, write_map, write_tables
from bids_xai.bids.names import group_map_path, sanitize_all
from bids_xai.decoding.design import Design

PER_METHOD = ("mean", "p", "pfwer", "q", "reproducibility", "thresholded", "fwer")
SCALED = ("mean", "thresholded", "fwer")
DESCRIPTIONS = {
    "mean": "Importance, mean over the trainings on the true labels",
    "p": "Permutation p-value of the mean importance; 1 where it is larger than the largest level",
    "pfwer": "Family-wise permutation p-value of the mean importance (max-statistic over the voxels)",
    "q": "False discovery rate at which the voxel is found (Benjamini and Hochberg's adjusted p-value)",
    "reproducibility": "Share of the trainings in which the importance exceeds the voxel's threshold",
    "thresholded": "Mean importance where it exceeds the voxel's permutation threshold, else 0",
    "fwer": "Mean importance where it exceeds the family-wise (max-statistic) threshold, else 0",
    "t": "Student's t of the class against all others",
    "F": "F of the one-way analysis of variance over the classes",
    "overlap": "Number of methods whose reproducibility is above one half; not corrected for chance",
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
        ``settings`` (``importance_samples`` at least); if known, ``dataset``, ``space``,
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
        tables = write_tables(results, results.rows, staging, _columns)
        images = write_images(results, staging)
        settings = results.provenance["settings"]
        more = {"importance_samples": settings["importance_samples"]}
        described = {**manifest(results, more), **images, "tables": tables, "maps": maps}
        write_json(folder / "results.json", described)
    return target


def _write_maps(results: GroupResults, staging: Path) -> list[dict[str, Any]]:
    classes, alphas = results.design.classes, results.summary["alphas"]
    labels, entities = sanitize_all(classes), shared_entities(results)
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
                entities=entities,
            )
            scale = results.map_scale if stat in SCALED else 1.0
            scaled = np.asarray(voxels).astype(np.float32) * np.float32(scale)
            more = {} if scale == 1 else {"ScaleFactor": scale}
            write_map(results, stat, scaled, staging / path, DESCRIPTIONS[stat], **more)
            entry = {"class": label, "method": method or stat, "stat": stat, "alpha": alpha}
            entries.append({**entry, "path": str(path.relative_to("group"))})
    return entries


def _columns(name: str, table: pd.DataFrame) -> Mapping[str, Any]:
    """Return what is said of the columns; samples have one for every kind of blocks that was asked for."""
    columns = TABLE_COLUMNS[name]
    if name != "samples":
        return columns
    return {**columns, **dict.fromkeys(table.columns.difference(list(columns)), DESCRIPTION)}
