"""Where each class has its response: the truth that maps are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bids_xai.errors import InputError
from bids_xai.phantom.template import Template, grid, grid_points, sample, smoothed

RADIUS_MM = 9.0
PLACES_PER_CLASS = 12
COMMON_PLACES = 4

_CENTRE_GRID_MM = 4.0
_GREY = 0.4
_GAINS = (0.75, 1.25)


@dataclass(frozen=True)
class Places:
    """Spheres in grey matter, in template space.

    Attributes
    ----------
    centres
        (n_places, 3), world mm. No two spheres overlap.
    gains
        (n_places,), relative strength of the response.
    owners
        (n_classes, n_places) bool: the classes that have the place. Each class has half of its places alone,
        a quarter with the next class and a quarter with the previous one (cyclically).
    common
        (n_places,) bool: places that respond to every event alike and tell nothing about its class.
    """

    centres: NDArray[np.float64]
    gains: NDArray[np.float64]
    owners: NDArray[np.bool_]
    common: NDArray[np.bool_]


def choose_places(template: Template, n_classes: int, rng: np.random.Generator) -> Places:
    """Draw the places of all classes, distributed over the grey matter.

    The overlap between neighbouring classes follows scenario 1 of Gotsopoulos et al. 2018 (section 2.4), with
    half of each class left to it alone. Centres are drawn on a fixed grid, so that the truth is the same
    whatever the resolution of the images.

    Parameters
    ----------
    template
        Its grey matter is where places may be.
    n_classes
        Number of classes.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If the grey matter cannot hold so many places apart from each other.
    """
    owners = _owners(n_classes)
    n_places = owners.shape[1] + COMMON_PLACES
    shape, affine = grid(template, _CENTRE_GRID_MM)
    points = grid_points(shape, affine).astype(np.float64)
    grey = sample(smoothed(template.gm, _CENTRE_GRID_MM), template.affine, points)
    # Places need neighbours on all sides: the field of view cuts the brain stem at the lowest slices.
    candidates = points[(grey > _GREY) & (points[:, 2] > points[:, 2].min() + 2 * RADIUS_MM)]
    chosen: list[NDArray[np.float64]] = []
    for point in rng.permutation(candidates):
        if len(chosen) == n_places:
            break
        if all(np.linalg.norm(point - other) > 2 * RADIUS_MM for other in chosen):
            chosen.append(point)
    if len(chosen) < n_places:
        raise InputError(
            f"Only {len(chosen)} of {n_places} places fit into the grey matter.", "", "use fewer --classes"
        )
    common = np.arange(n_places) >= owners.shape[1]
    padded = np.pad(owners, ((0, 0), (0, COMMON_PLACES)))
    return Places(np.array(chosen), rng.uniform(*_GAINS, n_places), padded, common)


def _owners(n_classes: int) -> NDArray[np.bool_]:
    alone, shared = PLACES_PER_CLASS // 2, PLACES_PER_CLASS // 4
    columns = [[c] for c in range(n_classes) for _ in range(alone)]
    columns += [[c, (c + 1) % n_classes] for c in range(n_classes) for _ in range(shared)]
    owners = np.zeros((n_classes, len(columns)), dtype=bool)
    for place, classes in enumerate(columns):
        owners[classes, place] = True
    return owners


def amplitude_maps(
    template: Template, places: Places, resolution: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Relative response of every voxel of the template grid at ``resolution``.

    A voxel belongs to a place when its centre lies in the sphere and at least 40 % of it is grey matter;
    its amplitude is the gain of the place, and 0 elsewhere.

    Returns
    -------
    classes : ndarray, (n_classes, nx, ny, nz)
        Class responses; the truth masks are where they are above 0.
    common : ndarray, (nx, ny, nz)
        The response to every event alike.
    """
    shape, affine = grid(template, resolution)
    points = grid_points(shape, affine).astype(np.float64)
    grey = sample(smoothed(template.gm, resolution), template.affine, points) > _GREY
    distance, nearest = cKDTree(places.centres).query(points)
    inside = grey & (distance <= RADIUS_MM)
    gains = np.where(inside, places.gains[nearest], 0).astype(np.float32)
    classes = gains * places.owners[:, nearest]
    return classes.reshape(-1, *shape), (gains * places.common[nearest]).reshape(shape)
