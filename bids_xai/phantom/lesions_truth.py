"""The truth of a phantom with lesions as a BIDS derivative: masks of sites and of every person's lesions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_xai.phantom import truth
from bids_xai.phantom.anatomy import Anatomy
from bids_xai.phantom.files import SCANNER, TEMPLATE, write_json, write_nifti, write_tsv
from bids_xai.phantom.lesion_parameters import LesionParameters
from bids_xai.phantom.lesions import Lesions, Sites, in_lesions, site_mask
from bids_xai.phantom.template import (
    SPACE,
    Matrix,
    Points,
    Template,
    Volume,
    grid,
    grid_points,
    sample,
    smoothed,
)

_NOT_OF_BIDS = "*_sites.*\n*_lesions.*\n*_xfm.*\n"
_POSITION = {axis: {"Description": "Centre, template world", "Units": "mm"} for axis in "xyz"}


def write_common(folder: Path, template: Template, sites: Sites, parameters: LesionParameters) -> None:
    """Write what all people have in common: description, parameters, sites, and masks in template space."""
    truth.write_description(folder, parameters, readme=_README, ignored=_NOT_OF_BIDS)
    shape, affine = grid(template, parameters.resolution)
    target = site_mask(sites, template, parameters, target=True)
    incidental = site_mask(sites, template, parameters, target=False)
    if parameters.null:  # no site tells anything
        target, incidental = np.zeros_like(target), target | incidental
    brain = smoothed(template.gm + template.wm + template.csf, parameters.resolution)
    inside = sample(brain, template.affine, grid_points(shape, affine)).reshape(shape) >= 0.5
    masks = {"target": target, "incidental": incidental, "brain": inside}
    truth.write_masks(folder, masks, affine, parameters.resolution, parameters.resolution_label)
    stem = folder / f"tpl-{SPACE}" / f"tpl-{SPACE}_sites"
    rows = [
        [k + 1, *centre, "target" if own and not parameters.null else "incidental"]
        for k, (centre, own) in enumerate(zip(sites.centres, sites.target, strict=True))
    ]
    write_tsv(stem.with_suffix(".tsv"), ["site", "x", "y", "z", "kind"], rows)
    kind = {"Description": "target: only patients have lesions there; incidental: anybody has"}
    write_json(stem.with_suffix(".json"), {**_POSITION, "kind": kind})


def write_person(
    folder: Path,
    subject: str,
    anatomy: Anatomy,
    lesions: Lesions,
    template: Template,
    tissue: Volume,
    sites: Sites,
    parameters: LesionParameters,
) -> float:
    """Write the lesions of a person: table, masks in template space, and with ``--anatomy`` on the own grid.

    Without ``--anatomy`` the images lie in template space but for a small deformation, which the masks in
    that space follow: they are where the image shows the lesions. With it, those on the subject's own grid
    are, and those in template space are where a perfect registration takes them.

    Returns
    -------
    float
        Volume of all lesions in template space, ml.
    """
    shape, affine = grid(template, parameters.resolution)
    points = grid_points(shape, affine)
    evidence = sites.target[lesions.sites] & (not parameters.null)

    def masks(at: Points) -> dict[str, NDArray[np.bool_]]:
        inside = in_lesions(lesions, tissue, template, at)
        found = {"lesion": inside.any(axis=0), "evidence": inside[evidence].any(axis=0)}
        return {name: mask.reshape(shape) for name, mask in found.items()}

    undeformed, seen = masks(points), masks(anatomy.to_template(points))
    anat = folder / subject / "anat"
    in_space = f"{subject}_space-{SPACE}_res-{parameters.resolution_label}"
    resolution = f"{parameters.resolution:g} mm"
    if parameters.anatomy:
        truth.write_transforms(folder, subject, anatomy)
        _write_masks(anat, in_space, undeformed, affine, TEMPLATE, resolution)
        _write_masks(anat, subject, seen, affine, SCANNER, None)
    else:
        _write_masks(anat, in_space, seen, affine, TEMPLATE, resolution)
    _write_table(anat / f"{subject}_space-{SPACE}_lesions", lesions, evidence)
    return float(undeformed["lesion"].sum() * parameters.resolution**3 / 1000)


def _write_masks(
    anat: Path,
    start: str,
    masks: dict[str, NDArray[np.bool_]],
    affine: Matrix,
    code: int,
    resolution: str | None,
) -> None:
    for name, mask in masks.items():
        stem = f"{start}_label-{name}_mask"
        write_nifti(anat / f"{stem}.nii.gz", mask.astype(np.uint8), affine, code)
        write_json(anat / f"{stem}.json", truth.mask_sidecar(name, resolution))


def _write_table(stem: Path, lesions: Lesions, evidence: NDArray[np.bool_]) -> None:
    rows: list[list[Any]] = [
        [site + 1, *centre, radius, contrast, "target" if own else "incidental"]
        for site, centre, radius, contrast, own in zip(
            lesions.sites, lesions.centres, lesions.radii, lesions.contrasts, evidence, strict=True
        )
    ]
    columns = ["site", "x", "y", "z", "radius", "contrast", "kind"]
    write_tsv(stem.with_name(stem.name + ".tsv"), columns, rows)
    meanings = {
        "radius": {"Description": "Mean radius", "Units": "mm"},
        "contrast": {"Description": "Change of brightness, as a share of the tissue's"},
        "kind": {"Description": "target: at a site that is the patients' alone; incidental: elsewhere"},
    }
    write_json(stem.with_name(stem.name + ".json"), {**_POSITION, **meanings})


_README = f"""Truth of the phantom with lesions
=================================

tpl-{SPACE}/   masks in template space: label-target (tissue around the sites that are the patients' alone),
               label-incidental (around the sites where anybody may have lesions), desc-brain; sites.tsv
sub-*/anat/    label-lesion: all lesions of the person; label-evidence: those at the patients' sites.
               With space-{SPACE}: in template space; where the image shows them, deformed as it is, or, with
               --anatomy, where a perfect registration takes them. Without a space (--anatomy): on the image's
               own grid.
               lesions.tsv: one row per lesion. With --anatomy: ITK transforms that make the subject's head
               from the template (points: scanner -> affine -> warp -> template)
code/parameters.json  what the dataset was made with
"""
