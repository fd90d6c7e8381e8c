"""Heads that differ and heads that move: deformation, position in the scanner, motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.phantom.template import Matrix, Template, grid, sample

MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

_KNOT_MM = 8.0
_SMOOTH_KNOTS = 2.2  # sigma of the deformation's smoothness, about 18 mm
_DEFORMATION_SD_MM = 2.5
_HEAD_RADIUS_MM = 50.0  # Power et al. 2012


@dataclass(frozen=True)
class Anatomy:
    """How the template's head becomes a subject's.

    A point ``q`` of the scanner (RAS, mm) shows the template's tissue at ``t = r + u(r)``,
    ``r = head^-1 q``.

    Attributes
    ----------
    head
        4 x 4: undeformed head to scanner (position, size and shear).
    displacement
        ``u`` in mm, (nx, ny, nz, 3), linear between knots, 0 outside; None means no deformation.
    knots
        Voxel-to-world matrix of the grid of knots.
    """

    head: Matrix
    displacement: NDArray[np.float32] | None = None
    knots: Matrix | None = None

    def to_template(self, points: NDArray[Any], movement: Matrix | None = None) -> NDArray[np.float64]:
        """Template points (n, 3) seen at scanner points (n, 3) after the head made a rigid ``movement``."""
        scanner_to_head = np.linalg.inv(self.head if movement is None else movement @ self.head)
        moved = points @ scanner_to_head[:3, :3].T + scanner_to_head[:3, 3]
        if self.displacement is None or self.knots is None:
            return np.asarray(moved)
        shift = [sample(self.displacement[..., axis], self.knots, moved) for axis in range(3)]
        return np.asarray(moved + np.stack(shift, axis=1))


def template_position() -> Anatomy:
    """Return the template's own head in the template's own position."""
    return Anatomy(np.eye(4))


def draw_anatomy(template: Template, rng: np.random.Generator) -> Anatomy:
    """Draw a head: smooth deformation (SD 2.5 mm an axis), size +-4 %, tilt +-4 degrees, shift +-5 mm (SD).

    The deformation is white noise smoothed with a Gaussian of about 18 mm, and fades to 0 at the borders of
    the field of view. Its slope stays near .15 (SD), so that the mapping does not fold.
    """
    shape, knots = grid(template, _KNOT_MM)
    field = rng.standard_normal((*shape, 3)).astype(np.float32)
    field = ndimage.gaussian_filter(field, (_SMOOTH_KNOTS,) * 3 + (0,), mode="wrap")
    field *= _DEFORMATION_SD_MM / field.std()
    for axis, n in enumerate(shape):
        fade = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / 2, 0, 1).astype(np.float32)
        field *= np.expand_dims(fade, tuple(a for a in range(4) if a != axis))
    angles, shift = rng.normal(0, np.deg2rad(4), 3), rng.normal(0, 5, 3)
    stretch = np.eye(4)
    stretch[:3, :3] += np.diag(rng.normal(0, 0.04, 3)) + np.triu(rng.normal(0, 0.01, (3, 3)), k=1)
    return Anatomy(rigid(np.concatenate([shift, angles])) @ stretch, field, knots)


def rigid(parameters: NDArray[Any]) -> Matrix:
    """Rigid 4 x 4 matrix of (trans_x, trans_y, trans_z in mm, rot_x, rot_y, rot_z in rad).

    ``p -> Rz Ry Rx p + t``, about the origin of the scanner, in RAS world coordinates.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", parameters[3:]).as_matrix()
    matrix[:3, 3] = parameters[:3]
    return matrix


def draw_motion(n_volumes: int, n_runs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw head movements: a random walk, two sudden shifts a run, and a new position for every later run.

    Returns
    -------
    ndarray, (n_runs, n_volumes, 6)
        Columns as ``MOTION_COLUMNS``; the first volume of the first run is where the anatomy puts the head.
    """
    scale = np.array([1, 1, 1, *[1 / _HEAD_RADIUS_MM] * 3])  # a radian moves the cortex by about 50 mm
    walk = np.cumsum(rng.normal(0, 0.04, (n_runs, n_volumes, 6)), axis=1)
    for run in range(n_runs):
        for start in rng.integers(1, max(n_volumes, 2), size=2):
            walk[run, start:] += rng.normal(0, 0.3, 6)
        walk[run] -= walk[run, 0]
        if run:
            walk[run] += rng.normal(0, 0.8, 6)
    return np.asarray(walk * scale)


def framewise_displacement(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of absolute backward differences in mm, rotations as arcs of 50 mm radius (Power et al. 2012).

    Parameters
    ----------
    motion
        (n_volumes, 6), mm and rad.

    Returns
    -------
    ndarray, (n_volumes,)
        The first is 0.
    """
    steps = np.abs(np.diff(motion, axis=0, prepend=motion[:1]))
    return np.asarray(steps[:, :3].sum(axis=1) + _HEAD_RADIUS_MM * steps[:, 3:].sum(axis=1))


def itk_affine_text(matrix: Matrix) -> str:
    """Write a RAS point mapping as an ITK text transform (ITK works in LPS)."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps = flip @ matrix @ flip
    numbers = " ".join(f"{value:.12g}" for value in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def itk_displacement(displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    """RAS displacements (nx, ny, nz, 3) as ITK stores them in NIfTI: (nx, ny, nz, 1, 3), LPS."""
    return (displacement * np.array([-1, -1, 1], dtype=np.float32))[:, :, :, None, :]
