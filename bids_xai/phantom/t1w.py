"""T1-weighted images of the phantom's heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bids_xai.phantom.anatomy import Anatomy
from bids_xai.phantom.template import Points, Template, Volume, grid, grid_points, sample

_WHITE_MATTER = 200.0
_NOISE_PERCENT = 1.0
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
    return magnitude(brightness, points, rng).reshape(shape), affine


def magnitude(
    brightness: Volume, points: Points, rng: np.random.Generator, noise_percent: float = _NOISE_PERCENT
) -> NDArray[np.int16]:
    """Image a brightness (white matter near 1) at points of the scanner, (n,) and (n, 3) in mm.

    ``|200 b (1 + bias) + complex noise|``, noise of SD ``noise_percent`` of white matter in either part.
    """
    direction = rng.standard_normal(3)
    trend = points @ (direction / np.linalg.norm(direction)).astype(np.float32)
    signal = _WHITE_MATTER * brightness * (1 + _BIAS * trend / np.abs(trend).max())
    noise = noise_percent / 100 * _WHITE_MATTER * rng.standard_normal((2, signal.size), dtype=np.float32)
    return np.asarray(np.rint(np.hypot(signal + noise[0], noise[1])), dtype=np.int16)
