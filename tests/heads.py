"""A smooth head for tests of alignment: a formula of the position, so that movements of it are exact."""

from __future__ import annotations

import nibabel as nb
import numpy as np
from nibabel.affines import apply_affine

CENTRE = np.array([3.0, -5.0, 8.0])


class SmoothHead:
    """Sum of Gaussians around ``CENTRE`` (RAS, mm): a body of 45 mm and blobs of 9 to 14 mm in it."""

    def __init__(self, seed: int = 0, n_blobs: int = 30) -> None:
        rng = np.random.default_rng(seed)
        directions = rng.standard_normal((n_blobs, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._centres = CENTRE + directions * rng.uniform(5, 45, (n_blobs, 1))
        self._heights = rng.uniform(150, 450, n_blobs) * rng.choice([-1, 1], n_blobs)
        self._widths = rng.uniform(9, 14, n_blobs)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the values at points (..., 3) in mm."""
        squares = np.square(points - CENTRE)
        values = 1000 * np.exp(-np.square(squares / 45**2).sum(axis=-1))
        for centre, height, width in zip(self._centres, self._heights, self._widths, strict=True):
            values += height * np.exp(-np.square(points - centre).sum(axis=-1) / (2 * width**2))
        return values

    def image(
        self, shape: tuple[int, int, int], affine: np.ndarray, movements: np.ndarray | None = None
    ) -> nb.Nifti1Image:
        """Return the head on a grid, after rigid movements (n, 4, 4) of it one volume each."""
        points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        if movements is None:
            return nb.Nifti1Image(self(points).astype(np.float32), affine)
        data = [self(apply_affine(np.linalg.inv(movement), points)) for movement in movements]
        return nb.Nifti1Image(np.stack(data, axis=-1).astype(np.float32), affine)


def centred_affine(axes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the affine of a grid with these voxel axes (3 x 3, mm) whose middle lies at ``CENTRE``."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = CENTRE - axes @ ((np.asarray(shape) - 1) / 2)
    return affine
