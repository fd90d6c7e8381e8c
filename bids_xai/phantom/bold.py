"""BOLD runs of the phantom: responses, drift, physiology and noise on a moving head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from bids_xai.phantom.anatomy import Anatomy, rigid
from bids_xai.phantom.parameters import PhantomParameters
from bids_xai.phantom.template import (
    Matrix,
    Points,
    Template,
    Volume,
    grid,
    grid_points,
    sample,
    smoothed,
)

# Brightness of the tissues in a T2*-weighted image. Fat is suppressed and air is set to 0, as scanners do.
_GREY, _WHITE, _FLUID = 140.0, 118.0, 166.0
_DARKEST = 35.0

_DRIFT_PERCENT, _PHYSIOLOGY_PERCENT, _COMMON_PERCENT = 1.0, 0.4, 0.6
_N_COSINES = 2
_AUTOCORRELATION_S = 2.2  # AR(1) coefficient exp(-tr / 2.2 s): .40 at 2 s
_SMOOTH_SHARE = 0.25
_NOISE_SIGMA_MM = 3.4  # FWHM 8 mm
_MARGIN = 2  # voxels
_FIELD_SIGMA_MM = 15.0


@dataclass(frozen=True)
class Brain:
    """What the scanner can see, in template space, at the resolution of BOLD.

    Attributes
    ----------
    baseline
        Mean signal on the template's 1 mm grid, blurred to the resolution of BOLD.
    baseline_affine
        Its voxel-to-world matrix.
    amplitudes
        (n_maps, nx, ny, nz): responses of the classes, then the one common to all, in percent.
    support
        1 in all voxels of places and next to them: elsewhere interpolated amplitudes are 0.
    affine, shape
        Grid of BOLD.
    """

    baseline: Volume
    baseline_affine: Matrix
    amplitudes: NDArray[np.float32]
    support: Volume
    affine: Matrix
    shape: tuple[int, int, int]

    def seen(self, points: Points) -> tuple[Volume, NDArray[np.float32]]:
        """Baseline (n,) and amplitudes (n_maps, n) at template points (n, 3)."""
        amplitudes = np.zeros((len(self.amplitudes), len(points)), dtype=np.float32)
        near = sample(self.support, self.affine, points, order=0) > 0
        for amplitude, seen in zip(self.amplitudes, amplitudes, strict=True):
            seen[near] = sample(amplitude, self.affine, points[near])
        return sample(self.baseline, self.baseline_affine, points), amplitudes


def make_brain(
    template: Template,
    classes: NDArray[np.float32],
    common: NDArray[np.float32],
    parameters: PhantomParameters,
) -> Brain:
    """Put tissues and places together.

    Parameters
    ----------
    template
        The head.
    classes, common
        Relative responses on the grid of BOLD, from ``places.amplitude_maps``.
    parameters
        ``effect`` and ``resolution`` are used.
    """
    contrast = _GREY * template.gm + _WHITE * template.wm + _FLUID * template.csf
    shape, affine = grid(template, parameters.resolution)
    amplitudes = np.concatenate([parameters.effect * classes, _COMMON_PERCENT * common[None]])
    baseline = smoothed(contrast, parameters.resolution)
    support = ndimage.binary_dilation((amplitudes > 0).any(axis=0), np.ones((3, 3, 3))).astype(np.float32)
    return Brain(baseline, template.affine, amplitudes.astype(np.float32), support, affine, shape)


def bold_run(
    brain: Brain,
    anatomy: Anatomy,
    regressors: NDArray[np.float32],
    parameters: PhantomParameters,
    rng: np.random.Generator,
    *,
    motion: NDArray[np.float64] | None = None,
) -> NDArray[np.int16]:
    """Image one run.

    ``bold(p, k) = baseline(p_k) (1 + (sum_c a_c(p_k) r_c(k) + drift + physiology + noise) / 100)``, where
    ``p_k`` is the tissue that volume k sees at voxel p.

    Parameters
    ----------
    brain
        Baseline and amplitudes in template space.
    anatomy
        Whose head it is.
    regressors
        (n_classes, n_volumes) expected responses.
    parameters
        ``tr``, ``resolution``, ``noise`` are used.
    rng
        Source of randomness.
    motion
        (n_volumes, 6) head movements, or None.

    Returns
    -------
    ndarray of int16, (nx, ny, nz, n_volumes)
    """
    n_volumes = regressors.shape[1]
    points = grid_points(brain.shape, brain.affine)
    head = sample(brain.baseline, brain.baseline_affine, anatomy.to_template(points)).reshape(brain.shape)
    inside = head > _DARKEST
    if motion is not None:  # the head may reach voxels that it does not fill at rest
        inside = ndimage.binary_dilation(inside, iterations=2)
    percent = fluctuations(inside, n_volumes, parameters, rng)
    weights = np.concatenate([regressors, regressors.sum(axis=0, keepdims=True)])
    data = np.zeros((n_volumes, *brain.shape), dtype=np.int16)
    tissue = _tissue(brain, anatomy, points[inside.ravel()], n_volumes, motion)
    for k, (baseline, amplitudes) in enumerate(tissue):
        change = percent[k] + weights[:, k] @ amplitudes
        data[k, inside] = np.rint(np.where(baseline > _DARKEST, baseline, 0) * (1 + change / 100))
    return np.moveaxis(data, 0, -1)


def _tissue(
    brain: Brain, anatomy: Anatomy, points: Points, n_volumes: int, motion: NDArray[np.float64] | None
) -> Iterator[tuple[Volume, NDArray[np.float32]]]:
    if motion is None:
        yield from repeat(brain.seen(anatomy.to_template(points)), n_volumes)
        return
    for movement in motion:
        yield brain.seen(anatomy.to_template(points, rigid(movement)))


def fluctuations(
    inside: NDArray[np.bool_], n_volumes: int, parameters: PhantomParameters, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Everything that is not a response, in percent of the mean signal.

    Drift (a line and slow cosines, SD 1 %) and physiology (two oscillations of the whole brain, SD .4 %),
    each with strengths that vary smoothly over the brain, and noise (SD ``parameters.noise``): AR(1) in
    time, a quarter of its variance smooth in space.

    Parameters
    ----------
    inside
        (nx, ny, nz), the voxels wanted.
    n_volumes
        Length of the run.
    parameters
        ``tr``, ``resolution``, ``noise`` are used.
    rng
        Source of randomness.

    Returns
    -------
    ndarray, (n_volumes, n_inside)
    """
    drift = _drift_courses(n_volumes)
    # Fields are drawn on the head's own box, half the field of view; the margin keeps wrapped sides apart.
    inside = np.pad(inside[ndimage.find_objects(inside.astype(np.int8))[0]], _MARGIN)
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    sigma = _FIELD_SIGMA_MM / parameters.resolution
    fields = np.stack([_smooth_field(shape, sigma, rng)[inside] for _ in range(len(drift))])
    percent = _DRIFT_PERCENT / np.sqrt(len(drift)) * (drift.T @ fields)
    physiology = _physiology_course(n_volumes, parameters.tr, rng)
    gain = 1 + 0.3 * _smooth_field(shape, sigma, rng)[inside]
    percent += _PHYSIOLOGY_PERCENT * physiology[:, None] * gain
    percent += parameters.noise * _noise(inside, n_volumes, parameters, rng)
    return np.asarray(percent, dtype=np.float32)


def _drift_courses(n_volumes: int) -> NDArray[np.float32]:
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    courses = [time - 0.5] + [np.cos(np.pi * k * time) for k in range(1, _N_COSINES + 1)]
    return np.stack([course / max(course.std(), 1e-6) for course in courses]).astype(np.float32)


def _physiology_course(n_volumes: int, tr: float, rng: np.random.Generator) -> NDArray[np.float32]:
    time = np.arange(n_volumes) * tr
    breathing, vasomotion = (
        rng.uniform(0.2, 0.35),
        rng.uniform(0.05, 0.12),
    )  # Hz; breathing aliases at long TR
    phases = rng.uniform(0, 2 * np.pi, 2)
    waves = [np.sin(2 * np.pi * f * time + p) for f, p in zip((breathing, vasomotion), phases, strict=True)]
    return np.asarray(np.sum(waves, axis=0), dtype=np.float32)


def _smooth_field(shape: tuple[int, int, int], sigma: float, rng: np.random.Generator) -> Volume:
    """White noise of unit variance, smoothed by a Gaussian of ``sigma`` voxels, of unit variance again."""
    impulse = np.zeros(6 * int(np.ceil(sigma)) + 3)
    impulse[impulse.size // 2] = 1
    kernel = ndimage.gaussian_filter1d(impulse, sigma, truncate=3.0)
    # Wrapping keeps the variance the same everywhere: (sum k^2)^3 for a separable kernel.
    field = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3.0
    )
    return np.asarray(field / (kernel @ kernel) ** 1.5)


def _noise(
    inside: NDArray[np.bool_], n_volumes: int, parameters: PhantomParameters, rng: np.random.Generator
) -> NDArray[np.float32]:
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    noise = np.sqrt(1 - _SMOOTH_SHARE) * rng.standard_normal((n_volumes, int(inside.sum())), dtype=np.float32)
    for k in range(n_volumes):
        smooth = _smooth_field(shape, _NOISE_SIGMA_MM / parameters.resolution, rng)
        noise[k] += np.sqrt(_SMOOTH_SHARE) * smooth[inside]
    rho = np.exp(-parameters.tr / _AUTOCORRELATION_S)
    noise[1:] *= np.sqrt(1 - rho**2)  # the first volume has the stationary variance already
    return np.asarray(signal.lfilter([1.0], [1.0, -rho], noise, axis=0), dtype=np.float32)
