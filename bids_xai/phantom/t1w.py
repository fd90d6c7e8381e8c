"""T1-weighted images of the phantom's heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bids_xai.phantom.anatomy import Anatomy
from bids_xai.phantom.template import Template, Volume, grid, grid_points, sample

_WHITE_MATTER = 200.0
_NOISE = 2.0
_BIAS = 0.1


def t1w_image(
    head: Volume, template: Template, anatomy: Anatomy, resolution: float, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Image a head: ``|bias x brightness + complex noise|``, a magnitude image with Rician noise.

    The bias is a linear trend of about 10 % across the field of view, in a direction drawn at random.

    Parameters
    ----------
    head
        Brightness on the template's 1 mm grid (``Template.t1w``), blurred to ``resolution``.
    template, anatomy
        Whose head it is.
    resolution
        Voxel size in mm.
    rng
        Source of randomness.

    Returns
    -------
    data : ndarray of int16, (nx, ny, nz)
    affine : ndarray, (4, 4)
    """
    shape, affine = grid(template, resolution)
    points = grid_points(shape, affine)
    brightness = sample(head, template.affine, anatomy.to_template(points))
    direction = rng.standard_normal(3)
    trend = points @ (direction / np.linalg.norm(direction)).astype(np.float32)
    signal = _WHITE_MATTER * brightness * (1 + _BIAS * trend / np.abs(trend).max())
    noise = _NOISE * rng.standard_normal((2, signal.size), dtype=np.float32)
    magnitude = np.hypot(signal + noise[0], noise[1])
    return np.rint(magnitude).astype(np.int16).reshape(shape), affine
