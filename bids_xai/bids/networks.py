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

from bids_xai import __version__
from bids_xai.atomic import whole_file, whole_folder
from bids_xai.bids.descriptions import write_json, write_tsv
from bids_xai.bids.group import versions
from bids_xai.bids.names import group_map_path, group_table_path, heatmap_path, sanitize_all
from bids_xai.bids.network_columns import columns_of
from bids_xai.decoding.design import Design
from bids_xai.images.grids import image_like
from bids_xai.images.masking import unmask

DESCRIPTIONS = {
    "mean": "Mean heatmap of the held-out samples of the group, mean over the trainings",
    "p": "Permutation p-value of the mean heatmap, by training again on permuted labels",
    "pfwer": "Family-wise permutation p-value of the mean heatmap (max-statistic over the voxels)",
    "thresholded": "Mean heatmap where its permutation p-value is at most alpha, else 0",
    "filter": "Image that a filter of an inner layer prefers (activation maximisation), first training",
    "fwer": "Mean heatmap where its family-wise permutation p-value is at most alpha, else 0",
}


@dataclass(frozen=True)
class NetworkResults:
    """Everything that the results of networks are written from.

    Parameters
    ----------
    maps
        ``mean`` (n_methods, n_groups, n_voxels) and, where there were permutations, ``p``, ``pfwer``,
        ``thresholded``, ``fwer`` (n_methods, n_classes, n_voxels).
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

    @property
    def entities(self) -> dict[str, Any]:
        """Entities that all samples share: task, if there is one, and space."""
        tasks = [task for task in self.rows["task"].dropna().unique() if task]
        return {"task": tasks[0] if len(tasks) == 1 else None, "space": self.provenance.get("space")}


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
        tables = _write_tables(results, staging)
        images = _write_images(results, staging)
        networks = _write_networks(results, folder)
        write_json(folder / "results.json", {**_manifest(results), **images, "tables": tables,
                                             "maps": maps, "heatmaps": heatmaps,
                                             "networks": networks})  # fmt: skip
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
    labels = sanitize_all(results.groups)
    alpha = results.summary["report_alpha"]
    explained = results.summary["explain_class"]
    entries = []
    for stat, values in results.maps.items():
        level = alpha if stat in ("thresholded", "fwer") else None
        for m, method in enumerate(results.summary["methods"]):
            for g in range(values.shape[1]):
                group = results.groups[g]
                if not results.summary["n_explained"][group]:
                    continue  # the mean of nothing
                path = group_map_path(
                    stat, method=method, group=labels[group], alpha=level, entities=results.entities
                )
                voxels = np.asarray(values[m, g])
                _write_map(results, stat, voxels, staging / path)
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
        path = group_map_path("filter", group=labels[name], entities=results.entities)
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        nb.save(image_like(np.asarray(data, np.float32), results.mask), staging / path)
        sidecar = {"Description": DESCRIPTIONS["filter"], "Filter": name}
        write_json(Path(str(staging / path).removesuffix(".nii.gz") + ".json"), sidecar)
        entry = {"class": None, "method": "filter", "stat": "filter", "group": name, "alpha": None}
        entries.append({**entry, "path": str(path.relative_to("group"))})
    return entries


def _write_map(results: NetworkResults, stat: str, voxels: npt.NDArray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Outside the mask nothing was tested: 0 would read as significant.
    shift = np.float32(1 if stat in ("p", "pfwer") else 0)
    image = unmask(voxels.astype(np.float32) - shift, results.mask)
    data = np.asarray(image.dataobj) + shift
    nb.save(nb.Nifti1Image(data, image.affine, image.header), path)
    sidecar = {"Description": DESCRIPTIONS[stat], "Space": results.provenance.get("space")}
    write_json(Path(str(path).removesuffix(".nii.gz") + ".json"), sidecar)


def _write_tables(results: NetworkResults, staging: Path) -> dict[str, Any]:
    folds = pd.DataFrame([
        {"fold": fold.name, "n_train": len(fold.train), "n_test": len(fold.test)}
        for fold in results.design.folds
    ])  # fmt: skip
    samples = results.rows.drop(columns=["image", "volume"], errors="ignore")
    written: dict[str, Any] = {}
    for name, table in {"samples": samples, "folds": folds, **results.tables}.items():
        path = group_table_path(name.replace("_", ""), entities=results.entities)
        write_tsv(staging / path, table, columns_of(name, list(table.columns)))
        written[name] = str(path.relative_to("group"))
    written["regions"] = []
    for number, table in enumerate(results.regions, start=1):
        atlas = str(table["atlas"].iloc[0]) if len(table) else ""
        path = group_table_path(f"regions {number} {atlas}", entities=results.entities)
        write_tsv(staging / path, table, columns_of("regions", list(table.columns)))
        written["regions"].append(str(path.relative_to("group")))
    return written


def _write_images(results: NetworkResults, staging: Path) -> dict[str, str | None]:
    written: dict[str, str | None] = {}
    for name, image in (("mask", results.mask), ("background", results.background)):
        path = group_map_path(name, entities=results.entities)
        written[name] = None if image is None else str(path.relative_to("group"))
        if image is not None:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            nb.save(image, staging / path)
    return written


def _manifest(results: NetworkResults) -> dict[str, Any]:
    rows, design, provenance = results.rows, results.design, results.provenance
    settings = dict(provenance.get("settings", {}))
    return {
        "kind": "networks",
        "version": __version__,
        "dataset": provenance.get("dataset", "samples"),
        "space": provenance.get("space"),
        "resolution": provenance.get("resolution"),
        "tasks": sorted({str(task) for task in rows["task"].dropna() if task}),
        "subjects": sorted(str(subject) for subject in rows["subject"].unique()),
        "classes": list(design.classes),
        "positive": design.classes[1] if len(design.classes) == 2 else None,
        "chance": 1 / len(design.classes),
        **results.summary,
        "n_samples": len(rows),
        "samples_per_class": {name: int((rows["class"] == name).sum()) for name in design.classes},
        "n_voxels": int(np.asarray(results.mask.dataobj).sum()),
        "n_folds": len(design.folds),
        "settings": settings,
        "versions": versions(),
        "failed_subjects": list(provenance.get("failed_subjects", [])),
        "warnings": list(provenance.get("warnings", [])),
    }
