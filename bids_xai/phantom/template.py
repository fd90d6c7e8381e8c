"""The head the phantom is made from: the ICBM152 2009a symmetric template that comes with nilearn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_xai.errors import InputError

SPACE = "MNI152NLin2009aSym"

_FILE = "datasets/data/mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
_FWHM_PER_SIGMA = 2.3548200450309493
# Layers around the brain: outer distance from the brain in mm, brightness relative to white matter.
_HEAD_LAYERS = ((2.0, 0.25), (8.0, 0.06), (13.0, 0.95), (14.0, 0.5))

Volume = NDArray[np.float32]
Points = NDArray[np.floating[Any]]
Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Template:
    """Maps of one head on the template's 1 mm grid.

    Attributes
    ----------
    affine
        Voxel to world (RAS, mm), 4 x 4.
    gm, wm, csf
        Fractions of the tissues, 0 to 1; they sum to 1 in the brain and to 0 outside.
    t1w
        T1-weighted brightness of the whole head, white matter near 1.
    """

    affine: Matrix
    gm: Volume
    wm: Volume
    csf: Volume
    t1w: Volume


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the packaged T1, grey- and white-matter maps and build the head around the brain.

    The packaged T1 is skull-stripped, so layers of fluid, bone, fat and skin are put around the brain at
    fixed distances from it: enough for skull stripping and registration to have something to do.

    Returns
    -------
    Template

    Raises
    ------
    InputError
        If the installed nilearn does not carry the template.

    Source: Fonov et al. 2011, NeuroImage 54(1), 313-327.
    """
    t1, affine = _packaged("t1")
    gm, wm = _packaged("gm")[0], _packaged("wm")[0]
    brain = t1 > 0
    gm, wm = np.where(brain, gm, 0) / 255, np.where(brain, wm, 0) / 255
    excess = np.maximum(gm + wm, 1)
    gm, wm = gm / excess, wm / excess
    csf = np.where(brain, 1 - gm - wm, 0)
    return Template(affine, *(x.astype(np.float32) for x in (gm, wm, csf, _whole_head(t1, brain))))


def _packaged(tissue: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    spec = find_spec("nilearn")
    path = Path(spec.origin).parent / _FILE.format(tissue=tissue) if spec and spec.origin else Path(_FILE)
    if not path.is_file():
        raise InputError(
            f"The template {path.name} is not in the installed nilearn ({path}).",
            "nilearn's packaged ICBM152 2009a maps",
            "reinstall nilearn >= 0.11",
        )
    image = nib.load(path)
    return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)


def _whole_head(t1: NDArray[Any], brain: NDArray[np.bool_]) -> Volume:
    head = t1.astype(np.float32) / 220  # 220 is the brightness of the template's white matter
    # The distance is smooth: every other voxel is enough, and eight times faster.
    coarse = ndimage.distance_transform_edt(~brain[::2, ::2, ::2], sampling=2.0).astype(np.float32)
    indices = np.indices(brain.shape, dtype=np.float32)[:, ~brain] / 2
    distance = ndimage.map_coordinates(coarse, indices, order=1, mode="nearest")
    inner, layers = 0.0, np.zeros_like(distance)
    for outer, brightness in _HEAD_LAYERS:
        layers[(distance > inner) & (distance <= outer)] = brightness
        inner = outer
    head[~brain] = layers
    return np.asarray(head, dtype=np.float32)


def grid(template: Template, resolution: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a grid with the template's first voxel and field of view.

    ``n_out = floor((n_in - 1) / resolution) + 1``: the grid that downsampling the template gives.

    Parameters
    ----------
    template
        Its 1 mm grid is the starting point.
    resolution
        Voxel size in mm.
    """
    shape = tuple(int((n - 1) / resolution) + 1 for n in template.gm.shape)
    affine = template.affine @ np.diag([resolution, resolution, resolution, 1.0])
    return (shape[0], shape[1], shape[2]), np.asarray(affine, dtype=np.float64)


def grid_points(shape: tuple[int, int, int], affine: Matrix) -> NDArray[np.float32]:
    """World coordinates (n, 3), in mm, of all voxels of a grid in C order."""
    indices = np.indices(shape, dtype=np.float32).reshape(3, -1)
    world = affine[:3, :3].astype(np.float32) @ indices + affine[:3, 3:].astype(np.float32)
    return np.ascontiguousarray(world.T)


def smoothed(volume: Volume, resolution: float) -> Volume:
    """Blur a 1 mm volume to the resolution it will be sampled at (mm).

    A Gaussian of FWHM ``sqrt(resolution^2 - 1)``: the volume's own voxels blur by about 1 mm.
    """
    if resolution <= 1:
        return volume
    sigma = np.sqrt(resolution**2 - 1) / _FWHM_PER_SIGMA
    return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=3.0))


def sample(volume: Volume, affine: Matrix, points: Points, order: int = 1) -> Volume:
    """Values of a volume at world points, 0 outside its grid.

    Parameters
    ----------
    volume
        Three-dimensional.
    affine
        Its voxel-to-world matrix.
    points
        (n, 3), world mm.
    order
        0 takes the nearest voxel, 1 interpolates linearly.

    Returns
    -------
    ndarray, (n,)
    """
    inverse = np.linalg.inv(affine)
    coordinates = inverse[:3, :3] @ points.T + inverse[:3, 3:]
    return np.asarray(
        ndimage.map_coordinates(volume, coordinates, order=order, mode="constant", output=np.float32)
    )
