"""Figures about the preprocessing of one image: files in, one SVG file out.

Each figure is a standalone SVG: it loads nothing, names nothing that another figure names, and equal inputs
give equal bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_xai.images.grids import check_same_grid
from bids_xai.reports.results import load_image, write_whole
from bids_xai.reports.sheets import Sheet, volume_of

_REGISTRATION_MARGIN, _MASK_MARGIN = 12.0, 20.0  # mm shown around the mask
_FOREGROUND = 0.1  # of the 98th percentile
# While the pointer or the keyboard is on the figure, the moving image fades out and in above the fixed one.
_FLICKER = (
    "@keyframes {name} {{ 0%, 35% {{ opacity: 1; }} 65%, 100% {{ opacity: 0; }} }}"
    ".{name}:hover .{name}-moving, .{name}:focus .{name}-moving "
    "{{ animation: {name} 1s ease-in-out 0s infinite alternate; }}"
    "@media (prefers-reduced-motion: reduce) {{ .{name}:hover .{name}-moving, .{name}:focus .{name}-moving "
    "{{ animation: none; opacity: 0; }} }}"
)


def registration_flicker(
    fixed: Path | str,
    moving: Path | str,
    out_file: Path | str,
    *,
    mask: Path | str | None = None,
    fixed_label: str = "fixed",
    moving_label: str = "moving",
) -> Path:
    """Draw two aligned images that flicker in one place while the pointer is on the figure.

    Parameters
    ----------
    fixed
        The image that was registered to; of a 4-D image the first volume is shown.
    moving
        The image after registration, of any grid in the same world space. Without animation it is on top.
    out_file
        The SVG file.
    mask
        Brain mask of any grid in the same world space, outlined on both images. The slices spread over it;
        without it, over what is bright in the fixed image.
    fixed_label, moving_label
        Names of the images.

    Returns
    -------
    Path
        ``out_file``.

    Raises
    ------
    InputError
        A file does not exist or is no image.
    """
    images = load_image(Path(fixed)), load_image(Path(moving))
    outlined = None if mask is None else _three_d(load_image(Path(mask)))
    sheet = Sheet(outlined or _foreground(images[0]), _REGISTRATION_MARGIN)
    below, above = (
        sheet.photograph(image) + sheet.title(label)
        for image, label in zip(images, (fixed_label, moving_label), strict=True)
    )
    lines = "" if outlined is None else sheet.outline(outlined)
    name = f"flicker-{_digest(below, above, lines)}"
    content = f'<g class="{name}-fixed">{below}</g><g class="{name}-moving">{above}</g>{lines}{sheet.words()}'
    described = f"Slices of {moving_label} above {fixed_label}, which alternate in one place"
    svg = sheet.svg(content, described, look=_FLICKER.format(name=name), name=name, focusable=True)
    return write_whole(Path(out_file), svg)


def mask_overlay(image: Path | str, mask: Path | str, out_file: Path | str, *, label: str = "") -> Path:
    """Draw the outline of a brain mask on an image.

    Parameters
    ----------
    image
        T1w image or BOLD reference; of a 4-D image the first volume is shown.
    mask
        Mask of any grid in the same world space.
    out_file
        The SVG file.
    label
        Name of the image.

    Returns
    -------
    Path
        ``out_file``.

    Raises
    ------
    InputError
        A file does not exist or is no image.
    """
    shown, outlined = load_image(Path(image)), _three_d(load_image(Path(mask)))
    sheet = Sheet(outlined, _MASK_MARGIN)
    content = sheet.photograph(shown) + sheet.title(label) + sheet.outline(outlined) + sheet.words()
    described = f"Slices of {label or 'the image'} with the brain mask outlined"
    return write_whole(Path(out_file), sheet.svg(content, described))


def bold_summary(
    bold: Path | str,
    mask: Path | str,
    confounds_tsv: Path | str,
    out_file: Path | str,
    *,
    tr: float | None,
) -> Path:
    """Draw head motion, other confounds and the carpet plot of one run above one time axis.

    Parameters
    ----------
    bold
        4-D image.
    mask
        Brain mask on the grid of ``bold``.
    confounds_tsv
        Confounds with fMRIPrep's names of columns; those that are absent are not drawn.
    out_file
        The SVG file.
    tr
        Seconds between volumes; None: the axis counts volumes.

    Returns
    -------
    Path
        ``out_file``.

    Raises
    ------
    InputError
        A file does not exist, the mask lies on another grid, or the table has another number of volumes.
    """
    from bids_xai.reports.carpet import carpet, draw_summary, read_confounds, standalone

    run, inside = load_image(Path(bold)), load_image(Path(mask))
    check_same_grid(inside, run, mask, bold)
    rows = carpet(run, volume_of(inside) > 0)
    confounds = read_confounds(Path(confounds_tsv), n_volumes=rows.shape[1])
    return write_whole(Path(out_file), standalone(draw_summary(rows, confounds, tr)))


def _three_d(image: nb.Nifti1Image) -> nb.Nifti1Image:
    return image if len(image.shape) == 3 else nb.Nifti1Image(volume_of(image), image.affine)


def _foreground(image: nb.Nifti1Image) -> nb.Nifti1Image:
    volume = volume_of(image)
    bright = volume > _FOREGROUND * np.percentile(volume, 98)
    return nb.Nifti1Image(bright.astype(np.uint8), image.affine)


def _digest(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:10]
