"""What the memory of nodes depends on; each interface counts its own bytes beside itself (``*_bytes``)."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes of interpreter, nipype and the libraries that a node of runs loads.
LIBRARIES = 0.2 * 2**30
# Of the voxels of a grid; brain masks with their margin are smaller.
_INSIDE = 0.3
# Copies of a tile of 8192 voxels while it is cleaned (images.cleaning, images.dvars).
_TILE_BYTES = 8 * 8192 * 8


@dataclass(frozen=True)
class RunSize:
    """Size of a run.

    Parameters
    ----------
    native
        Voxels of a volume as it comes.
    grid
        Voxels of a volume on the analysis grid.
    n_volumes
        Number of volumes.
    low_mem
        Whether the resampled run is held in a file.
    """

    native: float
    grid: float
    n_volumes: int
    low_mem: bool = False

    @property
    def whole(self) -> float:
        """Bytes of the run on the analysis grid, in single precision."""
        return 4 * self.n_volumes * self.grid

    @property
    def inside(self) -> float:
        """Bytes of its part in the brain."""
        return self.whole * _INSIDE

    @property
    def tile(self) -> float:
        """Bytes of a tile of voxels, in double precision and with its copies, while it is cleaned."""
        return _TILE_BYTES * self.n_volumes
