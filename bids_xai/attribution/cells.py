"""Where the cells of feature maps lie in the volume, and how their values are brought back to its voxels.

A cell lies at the centre of its receptive field: of what a window of kernel k, stride s, padding p and
dilation d sees of cells at c(i), cell o of its output lies at the mean of the first and the last that it
sees, ``(c(o s - p) + c(o s - p + d (k - 1))) / 2``; beyond the ends of an axis cells go on by its jump, and
the jump of the output is s times that of the input. For cells at offset + i jump these are the offset and
jump of Araujo et al. 2019, doi:10.23915/distill.00021, equations of section "Solving the general case".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Cells:
    """Positions of the cells of some channels of a layer.

    Parameters
    ----------
    channels
        Number of channels, of all patches together.
    centres
        Along every axis, the centres of the cells of every patch in voxels (0 is the centre of the first
        voxel), shape (patches, cells). Outside of patches there is one row.
    jump
        Voxels between neighbouring cells, along every axis.
    """

    channels: int
    centres: tuple[Floats, Floats, Floats]
    jump: tuple[float, float, float]

    @property
    def grid(self) -> Triple:
        """Patches along every axis; channels are ordered by patch (C order), then by filter."""
        x, y, z = (len(rows) for rows in self.centres)
        return x, y, z

    @property
    def n_patches(self) -> int:
        """Patches over all axes."""
        x, y, z = self.grid
        return x * y * z

    @property
    def size(self) -> Triple:
        """Cells of a patch along every axis."""
        x, y, z = (rows.shape[1] for rows in self.centres)
        return x, y, z

    def taken(self, axis: int, at: npt.NDArray, jump: float) -> Cells:
        """Return the cells whose indices along an axis are ``at``: fractions lie between two cells.

        Indices outside of 0 .. cells - 1 lie beyond the ends, by the jump of the axis for every one.
        """
        rows, step = self.centres[axis], self.jump[axis]
        known = np.arange(rows.shape[1])
        beyond = np.minimum(at, 0) + np.maximum(at - known[-1], 0)
        found = np.stack([np.interp(at, known, row) for row in rows]) + beyond * step
        centres, jumps = list(self.centres), list(self.jump)
        centres[axis], jumps[axis] = found, jump
        return Cells(self.channels, _three(centres), (jumps[0], jumps[1], jumps[2]))

    def mean_with(self, other: Cells) -> Cells:
        """Return the middle between two sets of cells of one shape."""
        centres = [(own + its) / 2 for own, its in zip(self.centres, other.centres, strict=True)]
        return replace(self, centres=_three(centres))

    def equals(self, other: Cells) -> bool:
        """Tell whether the cells lie at the same positions."""
        pairs = zip(self.centres, other.centres, strict=True)
        return all(own.shape == its.shape and np.allclose(own, its) for own, its in pairs)


def _three(lines: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    x, y, z = lines
    return x, y, z


# One entry for every run of channels whose cells lie together, in the order of the channels.
Layout = tuple[Cells, ...]


def voxels(channels: int, shape: Triple) -> Cells:
    """Return the cells of a volume: its voxels."""
    x, y, z = (np.arange(n, dtype=np.float64)[None] for n in shape)
    return Cells(channels, (x, y, z), (1.0, 1.0, 1.0))


def on_voxels(values: Tensor, cells: Cells, shape: Triple) -> Tensor:
    """Bring one value per cell to the voxels of the volume, shape (n, *shape).

    Linear between the centres of neighbouring cells, along every axis. Beyond the outermost centre values
    fall to 0 over one more step between cells, as if cells of 0 followed: a peak lies at the centre of its
    cell, and every cell has the same weight in the volume. 0 farther out, where no cell lies. Where cells
    tile the volume, that is trilinear resizing but for the outer half of the outermost cells.

    Parameters
    ----------
    values
        Shape (n, patches, *cells.size).
    cells
        Positions of the cells.
    shape
        Voxels per axis.
    """
    n = len(values)
    gx, gy, gz = cells.grid
    parts = values.reshape(n, gx, gy, gz, *cells.size).permute(0, 1, 4, 2, 5, 3, 6)
    result = parts.reshape(n, *(g * s for g, s in zip(cells.grid, cells.size, strict=True)))
    for axis, (rows, jump, n_voxels) in enumerate(zip(cells.centres, cells.jump, shape, strict=True)):
        weights = torch.as_tensor(interpolation(rows.ravel(), jump, n_voxels)).to(result)
        result = torch.tensordot(result, weights, dims=([1 + axis], [1])).movedim(-1, 1 + axis)
    return result


def interpolation(centres: Floats, jump: float, n_voxels: int) -> Floats:
    """Return the weight of every cell in every voxel along an axis, shape (n_voxels, n_cells).

    Parameters
    ----------
    centres
        In voxels, in any order; cells at one position count as their mean.
    jump
        Voxels between cells, where there is one alone.
    n_voxels
        Voxels of the axis.
    """
    places, which, counts = np.unique(np.round(centres, 6), return_inverse=True, return_counts=True)
    steps = np.diff(places) if len(places) > 1 else np.array([jump])
    ends = np.concatenate([[places[0] - steps[0]], places, [places[-1] + steps[-1]]])
    at = np.arange(n_voxels, dtype=np.float64)
    weights = np.stack([np.interp(at, ends, column) for column in np.eye(len(ends))[1:-1]], axis=1)
    return np.asarray(weights[:, which] / counts[which])
