"""Brain masks for an analysis: checks against the images, and masks of templates on the images' grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.processing import resample_from_to

from bids_xai.atomic import whole_file
from bids_xai.bids.checks import open_image
from bids_xai.bids.names import bids_name
from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, image_like, same_grid
from bids_xai.images.masking import binary_mask
from bids_xai.images.templates import template_mask


def check_mask(path: Path, img: nb.Nifti1Image, image: Path) -> None:
    """Raise InputError unless a mask is a whole 3-D image, not empty, on the grid of ``img``."""
    mask = open_image(path, n_dimensions=3)
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
    path = work_dir.absolute() / "masks" / bids_name({"space": space, "desc": "brain"}, "mask", ".nii.gz")
    with whole_file(path) as temporary:
        nb.save(mask, temporary)
    return path
