"""Which slices of a brain are shown, and what is seen in them."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nb
import numpy as np
from scipy.ndimage import map_coordinates

_PLANES = ((1, 2), (0, 2), (0, 1))  # horizontal and vertical axis of sagittal, coronal and axial slices
_AXES = "xyz"


@dataclass(frozen=True)
class Cut:
    """One slice: the axis that it is perpendicular to, its index on the grid, its name."""

    axis: int
    index: int
    label: str


class SliceView:
    """Slices of images on one grid, above an anatomical background where there is one.

    The slices follow the axes of the grid (turned to the nearest right-anterior-superior order), so that
    oblique, anisotropic and single-slice images are shown as they were acquired.

    Parameters
    ----------
    mask
        3-D image of the analysis mask.
    background
        3-D image in the same world space, of any grid; None shows the mask itself in grey.
    margin
        Millimetres shown around the mask; None: 5 where there is a background, else none.
    longest
        Pixels of the longest side of a slice.
    """

    def __init__(
        self,
        mask: nb.Nifti1Image,
        background: nb.Nifti1Image | None = None,
        margin: float | None = None,
        longest: int = 180,
    ) -> None:
        mask = nb.as_closest_canonical(mask)
        self.mask = np.asarray(mask.dataobj) > 0
        self.affine = np.asarray(mask.affine)
        self.zooms = np.linalg.norm(self.affine[:3, :3], axis=0)
        inside = np.argwhere(self.mask) if self.mask.any() else np.argwhere(np.ones(self.mask.shape))
        if margin is None:
            margin = 0.0 if background is None else 5.0
        padding = margin / self.zooms
        self.low = inside.min(axis=0) - 0.5 - padding
        self.high = inside.max(axis=0) + 0.5 + padding
        self._pixel = float(((self.high - self.low) * self.zooms).max() / longest)
        self._background = background
        self._stretched: np.ndarray | None = None
        if background is not None:
            self._stretched = _stretch(np.asarray(background.dataobj, dtype=np.float32))
        # Many maps are cut at the same few places.
        self._grids: dict[Cut, np.ndarray] = {}
        self._greys: dict[Cut, np.ndarray] = {}

    def values(self, image: nb.Nifti1Image) -> np.ndarray:
        """Return an image's values, turned as the slices are; shape as the mask."""
        return np.asarray(nb.as_closest_canonical(image).dataobj, dtype=np.float32)

    def choose(self, weight: np.ndarray | None = None, n_axial: int = 7) -> list[Cut]:
        """Choose slices spread over the mask, in each stretch the one with the largest weight.

        Parameters
        ----------
        weight
            How interesting each voxel is, shape as the mask; None takes the middle of each stretch.
        n_axial
            Number of axial slices; one coronal and one sagittal slice join them where the image has depth.
        """
        flat = [axis for axis in range(3) if self.mask.shape[axis] == 1]
        wanted = {flat[0]: 1} if flat else {2: n_axial, 1: 1, 0: 1}
        return [cut for axis, number in wanted.items() for cut in self.spread(axis, number, weight)]

    def spread(self, axis: int, number: int, weight: np.ndarray | None = None) -> list[Cut]:
        """Return at most ``number`` slices across one axis, spread as :meth:`choose` says."""
        others = tuple(other for other in range(3) if other != axis)
        area = self.mask.sum(axis=others)
        candidates = np.flatnonzero(area >= 0.2 * area.max()) if area.max() else np.arange(len(area))
        interest = np.zeros(len(area)) if weight is None else weight.sum(axis=others)
        cuts = []
        for stretch in np.array_split(candidates, min(number, len(candidates))):
            middle = np.abs(stretch - stretch.mean())
            # The ends of a stretch would lie beside the next one's; among equals, the most central slice.
            central = middle <= max(0.35 * len(stretch), 0.5)
            order = np.lexsort((middle, np.where(central, -interest[stretch], np.inf)))
            cuts.append(self._cut(axis, int(stretch[order[0]])))
        return cuts

    def _cut(self, axis: int, index: int) -> Cut:
        direction = self.affine[:3, axis] / self.zooms[axis]
        if abs(direction[axis]) < 0.999:
            return Cut(axis, index, f"slice {index + 1}")
        place = self.affine[axis, axis] * index + self.affine[axis, 3]
        return Cut(axis, index, f"{_AXES[axis]} = {place:.0f} mm".replace("-", "−"))

    def _coordinates(self, cut: Cut) -> np.ndarray:
        horizontal, vertical = _PLANES[cut.axis]
        steps = [
            np.arange(
                self.low[axis] + self._pixel / self.zooms[axis] / 2, self.high[axis],
                self._pixel / self.zooms[axis],
            )
            for axis in (horizontal, vertical)
        ]  # fmt: skip
        grid = np.empty((3, len(steps[1]), len(steps[0])))
        grid[cut.axis] = cut.index
        grid[horizontal], grid[vertical] = np.meshgrid(*steps)
        return grid

    def cut(self, volume: np.ndarray, cut: Cut) -> np.ndarray:
        """Return one slice of a volume of the mask's shape, nearest neighbour, bottom row first."""
        if cut not in self._grids:
            grid = np.rint(self._coordinates(cut)).astype(int)
            inside = np.all((grid >= 0) & (grid < np.reshape(self.mask.shape, (3, 1, 1))), axis=0)
            flat = np.ravel_multi_index(tuple(grid), self.mask.shape, mode="clip")
            self._grids[cut] = np.where(inside, flat, -1)
        place = self._grids[cut]
        return np.where(place >= 0, volume.ravel()[place], volume.dtype.type(0))

    def grey(self, cut: Cut) -> np.ndarray:
        """Return the background of one slice, 0 (black) to 1 (white), bottom row first."""
        if cut not in self._greys:
            self._greys[cut] = self._sample_background(cut)
        return self._greys[cut]

    def _sample_background(self, cut: Cut) -> np.ndarray:
        if self._stretched is None or self._background is None:
            return 0.25 * self.cut(self.mask.astype(np.float32), cut)
        return self.sample(self._stretched, self._background.affine, cut)

    def sample(self, volume: np.ndarray, affine: np.ndarray, cut: Cut) -> np.ndarray:
        """Return what lies in one slice of a volume on any grid of the same world, bottom row first.

        Values are interpolated linearly; they fall to 0 within a voxel beyond the volume's border.
        """
        to_volume = np.linalg.inv(affine) @ self.affine
        place = np.tensordot(to_volume[:3, :3], self._coordinates(cut), axes=1)
        place += to_volume[:3, 3].reshape(3, 1, 1)
        return np.asarray(map_coordinates(volume, place, order=1, mode="grid-constant"))


def _stretch(data: np.ndarray) -> np.ndarray:
    data = np.nan_to_num(data)
    low, high = np.percentile(data[::3, ::3, ::3], [2, 99.5])
    return np.asarray(np.clip((data - low) / max(float(high - low), 1e-12), 0, 1) * 0.85)


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a 2-D mask that touch its outside."""
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~core)
