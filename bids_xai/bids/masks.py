"""Brain masks: which are taken, checks against the images, masks of templates on the images' grid."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.processing import resample_from_to

from bids_xai.atomic import steady_file
from bids_xai.bids.checks import Problems, check_undamaged, open_image
from bids_xai.bids.filters import combined
from bids_xai.bids.names import bids_name
from bids_xai.bids.records import BidsFile
from bids_xai.bids.selection import Search
from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, image_like, same_grid
from bids_xai.images.masking import binary_mask
from bids_xai.images.templates import template_mask

LOGGER = logging.getLogger("bids_xai.bids")


@dataclass(frozen=True)
class MaskChoice:
    """Which brain masks are taken.

    Parameters
    ----------
    kind
        A NIfTI file, ``derivatives``, ``compute``, ``template``, or ``auto`` (from the derivatives where
        every image has one, else computed).
    work_dir
        Where the mask of a template is written.
    allow_downloads
        Let TemplateFlow fetch the template.
    """

    kind: str = "auto"
    work_dir: Path = Path("work")
    allow_downloads: bool = False


def mask_files(search: Search) -> list[BidsFile]:
    """Return all masks of the derivatives."""
    asked = combined("mask", search.filters)
    return [file for dataset in search.derived for file in dataset.files(asked)]


def masks_of(masks: list[BidsFile], datatype: str) -> list[BidsFile]:
    """Return the masks of a datatype (``func`` or ``anat``), or all if there are none."""
    return [mask for mask in masks if mask.entities.get("datatype") in (datatype, None)] or masks


def choose_masks(
    images: Sequence[tuple[Path, nb.Nifti1Image]],
    mask: MaskChoice,
    search: Search,
    find: Callable[[int, bool], Path | None],
    *,
    on_grid: bool,
) -> list[Path | None]:
    """Return the mask of every image; None for all of them where masks are made later.

    Parameters
    ----------
    images
        Paths and headers.
    mask
        What was asked for.
    search
        The engine and the space.
    find
        Returns the mask of an image in the derivatives by the image's number; its second argument says
        that one is required.
    on_grid
        Whether the images lie on the grid of the analysis. Masks of others are made with that grid; a
        file is only checked for what it holds.

    Raises
    ------
    InputError
        If a mask is absent, empty, or on another grid.
    """
    nothing: list[Path | None] = [None] * len(images)
    if mask.kind == "derivatives" and not on_grid:
        raise InputError(
            f"--mask derivatives with --preproc {search.engine}: the images are brought to another grid than "
            "that of the masks.",
            "a mask on the grid of the analysis",
            "leave out --mask, give a NIfTI file in the template's space, or use --preproc derivatives",
        )
    if mask.kind == "compute" or (not on_grid and mask.kind in ("auto", "template")):
        return nothing
    if mask.kind in ("auto", "derivatives"):
        masks = [find(number, mask.kind == "derivatives") for number in range(len(images))]
        absent = [path for (path, _), found in zip(images, masks, strict=True) if found is None]
        if absent:
            if len(absent) < len(masks):
                LOGGER.warning("No mask for %s: masks are computed for all images.", absent[0].name)
            return nothing
    elif mask.kind == "template":
        path = template_mask_file(
            search.space, images[0][1], work_dir=mask.work_dir, allow_downloads=mask.allow_downloads
        )
        masks = [path] * len(images)
    else:
        masks = [Path(mask.kind).absolute()] * len(images)
    _check_masks(masks, images, on_grid=on_grid)
    return masks


def _check_masks(
    masks: Sequence[Path | None], images: Sequence[tuple[Path, nb.Nifti1Image]], *, on_grid: bool
) -> None:
    problems = Problems()
    for path, (image, header) in dict(zip(masks, images, strict=True)).items():
        try:
            if path is not None and on_grid:
                check_mask(path, header, image)
            elif path is not None:
                mask = open_image(path, n_dimensions=3)
                check_undamaged(path, mask)
                binary_mask(mask, path)
        except InputError as error:
            problems.add(error)
    problems.raise_any()


def check_mask(path: Path, img: nb.Nifti1Image, image: Path) -> None:
    """Raise InputError unless a mask is a whole 3-D image, not empty, on the grid of ``img``."""
    mask = open_image(path, n_dimensions=3)
    check_undamaged(path, mask)
    check_same_grid(img, mask, image, path)
    binary_mask(mask, path)


def template_mask_file(
    space: str | None, img: nb.Nifti1Image, *, work_dir: Path, allow_downloads: bool = False
) -> Path:
    """Write the brain mask of a template on the grid of an image (nearest neighbour).

    Parameters
    ----------
    space
        Name of the template; it must be the space of the image.
    img
        The image whose grid is wanted.
    work_dir
        Folder for the file.
    allow_downloads
        Let TemplateFlow fetch the template.

    Raises
    ------
    InputError
        If ``space`` is not given, the template is not on this machine, or none of it is on the grid.
    """
    if space is None:
        raise InputError(
            "The mask of the template is asked for, but no space is given.",
            "the name of the template that the images are in",
            "add --space, or choose another --mask",
        )
    mask = template_mask(space, allow_downloads=allow_downloads)
    if not same_grid(mask, img):
        moved = resample_from_to(mask, (img.shape[:3], img.affine), order=0)
        mask = image_like(
            np.asarray(moved.dataobj).astype(np.uint8), nb.Nifti1Image(moved.dataobj, img.affine)
        )
    mask = binary_mask(mask, f"the mask of {space} on the images' grid")
    # A folder per grid: jobs of other participants, whose grid may be another, may share the work folder.
    grid = hashlib.sha256(repr(mask.shape).encode() + np.asarray(mask.affine).tobytes()).hexdigest()[:12]
    name = bids_name({"space": space, "desc": "brain"}, "mask", ".nii.gz")
    path = work_dir.absolute() / "masks" / grid / name
    with steady_file(path) as temporary:
        nb.save(mask, temporary)
    return path
