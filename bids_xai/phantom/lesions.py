"""Lesions at known sites of the white matter: which person has which, and how an image shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_xai.errors import InputError
from bids_xai.phantom.lesion_parameters import LesionParameters
from bids_xai.phantom.template import Points, Template, Volume, grid, grid_points, sample, smoothed

INCIDENTAL_SITES = 20

_CENTRE_GRID_MM = 4.0
_WHITE = 0.75
_SPREAD = 0.3  # of radii and contrasts of single lesions, as a share
_AXES_SD = 0.15  # of the logarithm of an ellipsoid's axes
_EDGE_MM = 0.7
_REACH = 1.5  # radii from its site within which a lesion lies, nearly always
# Brightness relative to white matter in a FLAIR image; the skull is that of T1w.
_GREY_FLAIR, _FLUID_FLAIR = 1.15, 0.25


@dataclass(frozen=True)
class Sites:
    """Where lesions may lie, in template space.

    Attributes
    ----------
    centres
        (n_sites, 3), world mm.
    target
        (n_sites,) bool: the sites that are the patients' alone; at the others anybody may have a lesion.
    """

    centres: NDArray[np.float64]
    target: NDArray[np.bool_]


@dataclass(frozen=True)
class Lesions:
    """The lesions of one person: ellipsoids with soft edges, in template space.

    Attributes
    ----------
    sites
        (n,) number of the site of every lesion.
    centres
        (n, 3), world mm.
    axes
        (n, 3, 3): maps the offset from the centre (mm) to the unit sphere.
    radii
        (n,) mean radius, mm.
    contrasts
        (n,) change of brightness, as a share.
    """

    sites: NDArray[np.int64]
    centres: NDArray[np.float64]
    axes: NDArray[np.float64]
    radii: NDArray[np.float64]
    contrasts: NDArray[np.float64]

    def profiles(self, points: Points) -> NDArray[np.float32]:
        """Share of every lesion at template points (m, 3): ``1 / (1 + exp((|A (t - c)| - 1) r / edge))``.

        Returns
        -------
        ndarray, (n, m)
            1 inside, 1/2 at the surface, 0 outside.
        """
        shares = np.zeros((len(self.sites), len(points)), dtype=np.float32)
        for k, centre in enumerate(self.centres):
            near = np.flatnonzero((np.abs(points - centre) < 2 * self.radii[k] + 8 * _EDGE_MM).all(axis=1))
            distance = np.linalg.norm((points[near] - centre) @ self.axes[k].T, axis=1)
            shares[k, near] = 1 / (1 + np.exp((distance - 1) * self.radii[k] / _EDGE_MM))
        return shares


def choose_sites(template: Template, parameters: LesionParameters, rng: np.random.Generator) -> Sites:
    """Draw the patients' sites and those of anybody, in the white matter and apart from each other.

    Centres are drawn on a fixed grid, so that the sites are the same whatever the resolution of the images,
    and far enough apart for lesions of different sites not to overlap.

    Raises
    ------
    InputError
        If the white matter cannot hold so many sites.
    """
    wanted = parameters.sites + INCIDENTAL_SITES
    shape, affine = grid(template, _CENTRE_GRID_MM)
    points = grid_points(shape, affine).astype(np.float64)
    white = sample(smoothed(template.wm, _CENTRE_GRID_MM), template.affine, points)
    # The field of view cuts the brain stem at the lowest slices.
    candidates = points[(white > _WHITE) & (points[:, 2] > points[:, 2].min() + 4 * parameters.radius)]
    chosen: list[NDArray[np.float64]] = []
    for point in rng.permutation(candidates):
        if len(chosen) == wanted:
            break
        if all(np.linalg.norm(point - other) > 2 * _REACH * parameters.radius for other in chosen):
            chosen.append(point)
    # Lesions of patients come first: fewer other sites are no harm.
    if len(chosen) < 2 * parameters.sites:
        raise InputError(
            f"Only {len(chosen)} sites fit into the white matter, lesions having a radius of "
            f"{parameters.radius:g} mm.",
            f"{parameters.sites} sites of patients and as many others",
            "choose a smaller --radius or fewer --sites",
        )
    return Sites(np.array(chosen), np.arange(len(chosen)) < parameters.sites)


def draw_lesions(
    sites: Sites, parameters: LesionParameters, rng: np.random.Generator, *, ill: bool
) -> Lesions:
    """Draw the lesions of one person.

    A patient has a lesion at each of the patients' sites with probability ``presence``. A control has as many
    as a patient would, but at other sites (none if ``incidental`` is 0), and both have a Poisson number of
    mean ``incidental`` at other sites.

    Parameters
    ----------
    sites, parameters
        Where, and how many of which size and contrast.
    rng
        Source of randomness.
    ill
        Whether the person has lesions as patients do.
    """
    own, others = np.flatnonzero(sites.target), np.flatnonzero(~sites.target)
    present = own[rng.random(len(own)) < parameters.presence]
    elsewhere = rng.permutation(others)
    n_incidental = int(rng.poisson(parameters.incidental))
    if not ill:
        n_incidental += len(present) if parameters.incidental > 0 else 0
        present = present[:0]
    chosen = np.concatenate([present, elsewhere[:n_incidental]])
    n = len(chosen)
    radii = parameters.radius * rng.uniform(1 - _SPREAD, 1 + _SPREAD, n)
    axes = np.zeros((n, 3, 3))
    for k in range(n):
        lengths = radii[k] * np.exp(rng.normal(0, _AXES_SD, 3))
        axes[k] = np.diag(1 / lengths) @ Rotation.random(random_state=rng).as_matrix()
    centres = sites.centres[chosen] + rng.normal(0, parameters.radius / 6, (n, 3))
    contrasts = parameters.contrast * rng.uniform(1 - _SPREAD, 1 + _SPREAD, n)
    return Lesions(chosen, centres, axes, radii, contrasts)


def tissue_of(template: Template) -> Volume:
    """Share of grey and white matter, which lesions change: fluid and the skull stay as they are."""
    return template.gm + template.wm


def in_lesions(lesions: Lesions, tissue: Volume, template: Template, points: Points) -> NDArray[np.bool_]:
    """Tell which template points (m, 3) lie in the tissue of which lesion, (n, m): share at least 1/2."""
    return np.asarray(lesions.profiles(points) * sample(tissue, template.affine, points) >= 0.5)


def site_mask(
    sites: Sites, template: Template, parameters: LesionParameters, *, target: bool
) -> NDArray[np.bool_]:
    """Tissue within 1.5 mean radii of the patients' sites (``target``) or of anybody's, on the template grid.

    Returns
    -------
    ndarray of bool, (nx, ny, nz)
        At ``parameters.resolution``.
    """
    shape, affine = grid(template, parameters.resolution)
    points = grid_points(shape, affine)
    near = np.zeros(len(points), dtype=bool)
    for centre in sites.centres[sites.target == target]:
        near |= np.linalg.norm(points - centre, axis=1) <= _REACH * parameters.radius
    tissue = sample(tissue_of(template), template.affine, points) >= 0.5
    return (near & tissue).reshape(shape)


def head_of(template: Template, modality: str) -> Volume:
    """Brightness of a healthy head on the template's grid, white matter near 1.

    T1w: the template's own. FLAIR: ``1.15 gm + wm + .25 csf`` in the brain, and the skull of T1w.
    """
    if modality == "T1w":
        return template.t1w
    brain = _GREY_FLAIR * template.gm + template.wm + _FLUID_FLAIR * template.csf
    return np.where(brain > 0, brain, template.t1w)


def with_lesions(
    brightness: Volume, lesions: Lesions, tissue: Volume, points: Points, modality: str
) -> NDArray[np.float32]:
    """Return the brightness (m,) of points with lesions: ``b (1 -+ tissue max_k contrast_k share_k)``.

    Darker for T1w, brighter for FLAIR.

    Parameters
    ----------
    brightness, tissue
        (m,), of the healthy head and share of grey and white matter.
    lesions
        Of the person.
    points
        (m, 3), in template space.
    modality
        ``"T1w"`` or ``"FLAIR"``.
    """
    sign = -1.0 if modality == "T1w" else 1.0
    change = (lesions.contrasts[:, None] * lesions.profiles(points)).max(axis=0, initial=0.0)
    return np.asarray(brightness * (1 + sign * tissue * change), dtype=np.float32)
