"""The truth of a phantom as a BIDS derivative: masks per class, transforms, movements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_xai import __version__
from bids_xai.phantom.anatomy import (
    MOTION_COLUMNS,
    Anatomy,
    framewise_displacement,
    itk_affine_text,
    itk_displacement,
)
from bids_xai.phantom.files import SCANNER, TEMPLATE, write_json, write_nifti, write_text, write_tsv
from bids_xai.phantom.parameters import TASK, PhantomParameters
from bids_xai.phantom.places import Places
from bids_xai.phantom.template import SPACE, Matrix, Template, grid, grid_points, sample, smoothed

Masks = Mapping[str, NDArray[np.bool_]]

_NOT_OF_BIDS = "*_places.*\n*_xfm.*\n*_desc-motion_timeseries.*\n"
_MEANINGS = {
    "brain": "Voxels of which at least half is brain.",
    "shared": "Voxels that respond to two or more classes.",
    "common": "Voxels that respond to every event alike, whatever its class: they tell nothing about it.",
    "target": "Where the lesions of patients, and of nobody else, may lie; empty in a null dataset.",
    "incidental": "Where lesions of anybody may lie: they tell nothing about the group.",
    "lesion": "Lesions of this person, those that tell nothing about the group included.",
    "evidence": "Lesions of this person at the sites that are the patients' alone.",
}
_COLUMN_MEANINGS = {
    **{
        f"trans_{a}": {"Description": f"Translation along {a}, of the RAS world", "Units": "mm"}
        for a in "xyz"
    },
    **{f"rot_{a}": {"Description": f"Rotation about {a}, of the RAS world", "Units": "rad"} for a in "xyz"},
    "framewise_displacement": {
        "Description": "Power et al. 2012, radius 50 mm; first volume 0",
        "Units": "mm",
    },
}


def make_masks(
    template: Template,
    classes: NDArray[np.float32],
    common: NDArray[np.float32],
    parameters: PhantomParameters,
) -> dict[str, NDArray[np.bool_]]:
    """Masks on the BOLD grid by label: every class, then ``shared``, ``common``, ``brain``.

    A class's mask holds all voxels that respond to it, the shared ones included. In a null dataset
    (``effect`` 0) no voxel does, and these masks are empty.
    """
    shape, affine = grid(template, parameters.resolution)
    active = (classes > 0) & (parameters.effect > 0)
    masks = dict(zip(parameters.class_names, active, strict=True))
    masks["shared"] = active.sum(axis=0) > 1
    masks["common"] = common > 0
    tissue = smoothed(template.gm + template.wm + template.csf, parameters.resolution)
    points = grid_points(shape, affine)
    masks["brain"] = sample(tissue, template.affine, points).reshape(shape) >= 0.5
    return masks


def write_description(
    folder: Path, parameters: Any, *, readme: str | None = None, ignored: str = _NOT_OF_BIDS
) -> None:
    """Write what the derivative is and the parameters (a dataclass) it was made with.

    ``readme`` says what its files hold (those of BOLD if None), ``ignored`` which BIDS has no name for.
    """
    write_json(
        folder / "dataset_description.json",
        {
            "Name": "Truth of the phantom",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "License": "CC0",
            "GeneratedBy": [{"Name": "bids-xai-phantom", "Version": __version__}],
            "SourceDatasets": [{"URL": "../.."}],
        },
    )
    write_json(folder / "code" / "parameters.json", dataclasses.asdict(parameters))
    write_text(folder / ".bidsignore", ignored)
    write_text(folder / "README", readme or _README)


def write_masks(folder: Path, masks: Masks, affine: Matrix, resolution: float, label: str) -> None:
    """Write the masks in template space: ``tpl-<space>_res-<label>_label-<class>_mask.nii.gz``."""
    for name, mask in masks.items():
        part = "desc-brain" if name == "brain" else f"label-{name}"
        stem = folder / f"tpl-{SPACE}" / f"tpl-{SPACE}_res-{label}_{part}_mask"
        write_nifti(stem.with_name(stem.name + ".nii.gz"), mask.astype(np.uint8), affine, TEMPLATE)
        write_json(stem.with_name(stem.name + ".json"), mask_sidecar(name, f"{resolution:g} mm"))


def write_places(folder: Path, places: Places, class_names: Sequence[str]) -> None:
    """Write centre, gain and classes of every place."""
    rows: list[list[Any]] = []
    for k, (centre, gain) in enumerate(zip(places.centres, places.gains, strict=True)):
        owned = [name for name, own in zip(class_names, places.owners[:, k], strict=True) if own]
        rows.append([k + 1, *centre, gain, "+".join(owned) if owned else "common"])
    stem = folder / f"tpl-{SPACE}" / f"tpl-{SPACE}_places"
    write_tsv(stem.with_suffix(".tsv"), ["place", "x", "y", "z", "gain", "classes"], rows)
    write_json(
        stem.with_suffix(".json"),
        {
            "x": {"Description": "Centre, template world", "Units": "mm"},
            "y": {"Description": "Centre, template world", "Units": "mm"},
            "z": {"Description": "Centre, template world", "Units": "mm"},
            "gain": {"Description": "Response relative to the effect of the dataset"},
            "classes": {"Description": "Classes that the place responds to; common: every event alike"},
        },
    )


def write_anatomy(folder: Path, subject: str, anatomy: Anatomy, masks: Masks, affine: Matrix) -> None:
    """Write the transforms of a subject's head and the masks on the subject's own BOLD grid."""
    write_transforms(folder, subject, anatomy)
    shape = next(iter(masks.values())).shape
    points = anatomy.to_template(grid_points((shape[0], shape[1], shape[2]), affine))
    for name, mask in masks.items():
        own = sample(mask.astype(np.float32), affine, points, order=0).reshape(shape)
        part = "desc-brain" if name == "brain" else f"label-{name}"
        mask_stem = folder / subject / "func" / f"{subject}_task-{TASK}_{part}_mask"
        write_nifti(mask_stem.with_name(mask_stem.name + ".nii.gz"), own.astype(np.uint8), affine, SCANNER)
        write_json(mask_stem.with_name(mask_stem.name + ".json"), mask_sidecar(name))


def write_transforms(folder: Path, subject: str, anatomy: Anatomy) -> None:
    """Write the transforms of a subject's head.

    ``antsApplyTransforms -i <template image> -r <subject's image> -t <warp> -t <affine>`` makes the subject
    from the template: points go from the scanner through the affine, then through the warp.
    """
    stem = f"{subject}_from-{SPACE}_to-T1w_mode-image"
    anat = folder / subject / "anat"
    write_text(anat / f"{stem}_desc-affine_xfm.txt", itk_affine_text(np.linalg.inv(anatomy.head)))
    if anatomy.displacement is not None and anatomy.knots is not None:
        warp = itk_displacement(anatomy.displacement)
        write_nifti(anat / f"{stem}_desc-warp_xfm.nii.gz", warp, anatomy.knots, TEMPLATE)


def write_motion(folder: Path, subject: str, run: int, motion: NDArray[np.float64]) -> None:
    """Write the head movements of a run, one row a volume."""
    rows = np.column_stack([motion, framewise_displacement(motion)])
    stem = folder / subject / "func" / f"{subject}_task-{TASK}_run-{run}_desc-motion_timeseries"
    write_tsv(stem.with_suffix(".tsv"), [*MOTION_COLUMNS, "framewise_displacement"], rows.tolist())
    convention = "The head's point p is at Rz Ry Rx p + t in this volume (RAS world, about its origin)."
    write_json(stem.with_suffix(".json"), {"Description": convention, **_COLUMN_MEANINGS})


def mask_sidecar(name: str, resolution: str | None = None) -> dict[str, Any]:
    """Say what a mask holds, by the name of its label."""
    meaning = _MEANINGS.get(name, f"Voxels that respond to {name}, the shared ones included.")
    sidecar: dict[str, Any] = {"Description": meaning, "Type": "Brain" if name == "brain" else "ROI"}
    return sidecar | ({"Resolution": resolution} if resolution else {})


_README = f"""Truth of the phantom
====================

tpl-{SPACE}/   masks on the BOLD grid in template space: label-<class> (all voxels that respond to the class),
               label-shared (two or more classes), label-common (every event alike), desc-brain; places.tsv
sub-*/anat/    with --anatomy: ITK transforms that make the subject's head from the template
               (points: scanner -> affine -> warp -> template)
sub-*/func/    with --anatomy: the masks on the subject's own grid; with --motion: movements per volume
code/parameters.json  what the dataset was made with
"""
