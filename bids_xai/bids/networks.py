"""The results of networks: heatmaps of people, maps and tables of the group, and the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.atomic import whole_file, whole_folder
from bids_xai.attribution import RAW, SHARE
from bids_xai.bids.descriptions import write_json
from bids_xai.bids.group_folder import (
    manifest,
    shared_entities,
    write_image,
    write_images,
    write_map,
    write_tables,
)
from bids_xai.bids.names import group_map_path, heatmap_path, sanitize_all
from bids_xai.bids.network_columns import columns_of
from bids_xai.decoding.design import Design
from bids_xai.images.grids import image_like
from bids_xai.images.masking import unmask

DESCRIPTIONS = {
    "mean": "Mean heatmap of the held-out samples of the group, mean over the trainings",
    "share": "Part of a heatmap's absolute values that lies in the voxel, mean over the held-out samples of "
    "the class and over the trainings: what is tested",
    "p": "Permutation p-value of what is tested, by training again on permuted labels",
    "pfwer": "Family-wise permutation p-value of what is tested (max-statistic over the voxels)",
    "thresholded": "What is tested where its permutation p-value is at most alpha, else 0",
    "filter": "Image that a filter of an inner layer prefers (activation maximisation), first training",
    "fwer": "What is tested where its family-wise permutation p-value is at most alpha, else 0",
}
# What the values of a map are, by how its method's heatmaps are taken.
_SHOWN = {
    SHARE: "R / sum |R|: shares of every heatmap, by sign",
    RAW: "as the method gives them; their size says nothing of where the network looked",
}
_TESTED = {SHARE: "|R| / sum |R|: shares of every heatmap, in size", RAW: _SHOWN[RAW]}


@dataclass(frozen=True)
class NetworkResults:
    """Everything that the results of networks are written from.

    Parameters
    ----------
    maps
        ``mean`` (n_methods, n_groups, n_voxels) as heatmaps are shown; ``share`` as they are tested, where
        shares are, and, where there were permutations, ``p``, ``pfwer``, ``thresholded``, ``fwer``
        (n_methods, n_classes, n_voxels).
    groups
        Names of the groups; the first are the classes.
    heatmaps
        Heatmaps of people, float32 (n, n_methods, n_voxels).
    index
        One row per heatmap: subject, session, task, class, true, predicted, probability, image, volume.
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
    images
        Files of the samples, which ``index`` counts.
    summary
        What the manifest says besides.
    provenance
        ``settings``; if known, ``dataset``, ``space``, ``resolution``, ``failed_subjects``, ``warnings``.
    filters
        Images that filters of inner layers prefer, by ``LAYER:FILTER``.
    checkpoints
        Weights of the trainings on the true labels, each with its card beside it.
    """

    maps: Mapping[str, npt.NDArray]
    groups: Sequence[str]
    heatmaps: npt.NDArray[np.float32]
    index: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    regions: Sequence[pd.DataFrame]
    rows: pd.DataFrame
    design: Design
    mask: nb.Nifti1Image
    background: nb.Nifti1Image | None
    images: Sequence[Path]
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]
    filters: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    checkpoints: Sequence[Path] = ()


def write_networks(results: NetworkResults, out_dir: Path) -> Path:
    """Write the heatmaps of people, and ``out_dir/group`` whole in the place of an older one.

    Returns
    -------
    Path
        The folder ``group``.
    """
    heatmaps = _write_heatmaps(results, out_dir)
    target = out_dir / "group"
    with whole_folder(target) as folder:
        # Paths in the manifest are relative to the output folder.
        staging = folder.parent
        maps = [*_write_maps(results, staging), *_write_filters(results, staging)]
        samples = results.rows.drop(columns=["image", "volume"], errors="ignore")
        tables = write_tables(results, samples, staging, _columns)
        images = write_images(results, staging)
        networks = _write_networks(results, folder)
        classes = results.design.classes
        positive = classes[1] if len(classes) == 2 else None
        described = {**manifest(results, {"kind": "networks", "positive": positive}), **images}
        described |= {"tables": tables, "maps": maps, "heatmaps": heatmaps, "networks": networks}
        write_json(folder / "results.json", described)
    return target


def _write_heatmaps(results: NetworkResults, out_dir: Path) -> list[dict[str, Any]]:
    labels = sanitize_all(results.design.classes)
    methods = results.summary["methods"]
    entries = []
    for number, row in enumerate(results.index.to_dict("records")):
        entities = {
            "subject": row["subject"],
            "session": row["session"] or None,
            "task": row["task"] or None,
            "space": results.provenance.get("space"),
        }
        image = results.images[int(row["image"])]
        for place, method in enumerate(methods):
            # A person's volumes of several classes are told apart by what they are, not what is explained.
            own = labels[row["true"]] if row["task"] else labels[row["class"]]
            path = heatmap_path(entities, label=own, method=method)
            with whole_file(out_dir / path) as temporary:
                nb.save(unmask(results.heatmaps[number, place], results.mask), temporary)
            write_json(out_dir / str(path).replace(".nii.gz", ".json"), {
                "Description": f"{results.summary['method_info'][method]['title']} of the network's output "
                f"for class {row['class']}, mean over the trainings that left the person out",
                "Method": results.summary["method_info"][method],
                "Values": _SHOWN[results.summary["method_info"][method]["shown"]],
                "Model": results.summary["model"],
                "ExplainedClass": row["class"],
                "TrueClass": row["true"],
                "PredictedClass": row["predicted"],
                "Probability": row["probability"],
                "Start": results.summary["explain_start"],
                "Space": results.provenance.get("space"),
                "Sources": [str(_relative(image, out_dir))],
            })  # fmt: skip
            entries.append({
                "subject": row["subject"], "session": row["session"], "task": row["task"],
                "class": row["class"], "true": row["true"], "predicted": row["predicted"],
                "probability": row["probability"], "method": method, "path": str(path),
                "image": str(_relative(image, out_dir)), "volume": int(row["volume"]),
            })  # fmt: skip
    return entries


def _relative(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _write_maps(results: NetworkResults, staging: Path) -> list[dict[str, Any]]:
    labels, entities = sanitize_all(results.groups), shared_entities(results)
    alpha = results.summary["report_alpha"]
    explained = results.summary["explain_class"]
    entries = []
    for stat, values in results.maps.items():
        level = alpha if stat in ("thresholded", "fwer") else None
        for m, method in enumerate(results.summary["methods"]):
            info = results.summary["method_info"][method]
            if stat == "share" and info["tested"] != SHARE:
                continue  # it is the mean
            of_values = {"Values": _SHOWN[info["shown"]] if stat == "mean" else _TESTED[info["tested"]]}
            for g in range(values.shape[1]):
                group = results.groups[g]
                if not results.summary["n_explained"][group]:
                    continue  # the mean of nothing
                path = group_map_path(
                    stat, method=method, group=labels[group], alpha=level, entities=entities
                )
                write_map(results, stat, values[m, g], staging / path, DESCRIPTIONS[stat], **of_values)
                entries.append({
                    "class": explained if explained in results.design.classes else None,
                    "method": method, "stat": stat, "group": group, "alpha": level,
                    "path": str(path.relative_to("group")),
                })  # fmt: skip
    return entries


def _write_networks(results: NetworkResults, folder: Path) -> list[str]:
    """Copy weights and cards: ``--pretrained`` takes them."""
    if results.checkpoints:
        (folder / "networks").mkdir()
    for weights in results.checkpoints:
        for path in (weights, weights.with_suffix(".json")):
            shutil.copyfile(path, folder / "networks" / path.name)
    return [f"networks/{weights.name}" for weights in results.checkpoints]


def _write_filters(results: NetworkResults, staging: Path) -> list[dict[str, Any]]:
    entries = []
    labels = sanitize_all(results.filters)
    for name, data in results.filters.items():
        path = group_map_path("filter", group=labels[name], entities=shared_entities(results))
        image = image_like(np.asarray(data, np.float32), results.mask)
        write_image(image, staging / path, {"Description": DESCRIPTIONS["filter"], "Filter": name})
        entry = {"class": None, "method": "filter", "stat": "filter", "group": name, "alpha": None}
        entries.append({**entry, "path": str(path.relative_to("group"))})
    return entries


def _columns(name: str, table: pd.DataFrame) -> Mapping[str, Any]:
    return columns_of(name, list(table.columns))
