"""Data with known truth as arrays: scenarios 1 to 3 of Gotsopoulos et al. (2018), sections 2.4 and 2.5.

Every sample is noise; a sample of a class has N(mu, 1) added, drawn anew for every voxel of the class's
pattern. As in the paper, nothing is standardised after that: the base has zero mean and unit variance, and
what is added moves the mean of a voxel by less than mu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.errors import InputError
from bids_xai.phantom import SCENARIOS

N_CLASSES = 5
CLASSES = tuple(f"class{number}" for number in range(1, N_CLASSES + 1))
_FEWEST_VOXELS = 100
# On the left of scenario 3, class c has the pattern that class c + 1 has on the right. Of the cyclic shifts
# this alone makes classes 3 and 4 of one size and class 2 the strongest (section 4.2.3).
_SHIFT = 1
_RIGHT_TO_LEFT = 0.07 / 0.05


@dataclass(frozen=True)
class ScenarioParameters:
    """Scale and signal of a scenario; the defaults are the published ones.

    Parameters
    ----------
    scenario
        Name in :data:`bids_xai.phantom.SCENARIOS`.
    subjects
        Number of people, at least 2.
    samples
        Samples of each, a multiple of the five classes.
    voxels
        Number of voxels, at least 100.
    mu
        Mean of what is added, in standard deviations of the base. The paper prints .05 for scenarios 2 and 3,
        and none for scenario 1.
    mu_right
        The same on the right side of scenario 3; None: 1.4 mu, as in the paper (.07).
    seed
        Same seed and parameters, same arrays. Scenarios of one seed share their base, as in the paper.

    Raises
    ------
    InputError
        If a number is too small, or the samples cannot be shared by the classes.
    """

    scenario: str = "1"
    subjects: int = 21
    samples: int = 100
    voxels: int = 28_586
    mu: float = 0.05
    mu_right: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fewest in (("subjects", 2), ("voxels", _FEWEST_VOXELS), ("samples", 1), ("seed", 0)):
            if getattr(self, name) < fewest:
                raise InputError(f"{name} = {getattr(self, name)}.", f"at least {fewest}")
        if self.samples % N_CLASSES:
            raise InputError(
                f"samples = {self.samples} of each subject.",
                f"a multiple of {N_CLASSES}: every class has as many",
                f"use {-(-self.samples // N_CLASSES) * N_CLASSES}",
            )
        SCENARIOS[self.scenario]

    @property
    def parts(self) -> npt.NDArray[np.int8]:
        """Where which mean is added, shape (n_classes, n_voxels): 0 nowhere, 1 mu, 2 mu_right."""
        parts: npt.NDArray[np.int8] = SCENARIOS[self.scenario].load()(self.voxels)
        return parts

    @property
    def truth(self) -> npt.NDArray[np.bool_]:
        """Whether a voxel is of a class's pattern, shape (n_classes, n_voxels)."""
        return np.asarray(self.parts > 0)

    @property
    def means(self) -> tuple[float, float]:
        """What is added on average in parts 1 and 2."""
        return self.mu, _RIGHT_TO_LEFT * self.mu if self.mu_right is None else self.mu_right


def partly_overlapping(n_voxels: int) -> npt.NDArray[np.int8]:
    """Scenario 1: five patterns of V / 10, half of each shared with the next class, half with the previous.

    Five blocks of V / 20 in a ring: class c has blocks c - 1 and c, and no voxel is of one class only.
    """
    parts = np.zeros((N_CLASSES, n_voxels), dtype=np.int8)
    for block in range(N_CLASSES):
        voxels = _between(n_voxels, block / 20, (block + 1) / 20)
        parts[block, voxels] = parts[(block + 1) % N_CLASSES, voxels] = 1
    return parts


def of_several_sizes(n_voxels: int) -> npt.NDArray[np.int8]:
    """Scenario 2: patterns of V / 100, V / 5 and three of V / 10.

    Class 3 lies half inside class 2, classes 4 and 5 are identical, and class 1 is a part of them.
    """
    parts = np.zeros((N_CLASSES, n_voxels), dtype=np.int8)
    bounds = ((0.25, 0.26), (0.0, 0.2), (0.15, 0.25), (0.25, 0.35), (0.25, 0.35))
    for number, (start, stop) in enumerate(bounds):
        parts[number, _between(n_voxels, start, stop)] = 1
    return parts


def of_two_magnitudes(n_voxels: int) -> npt.NDArray[np.int8]:
    """Scenario 3: scenario 2 on the right and, with a smaller mean and shifted by one class, on the left.

    The left side is the first half of the voxels. Altogether the patterns have .21, .3, .2, .2 and .11 V
    voxels: class 2 has most, classes 3 and 4 have as many, and only class 3 of the two has voxels of its own.
    """
    own = of_several_sizes(n_voxels)
    left = np.roll(own, -_SHIFT, axis=0)
    right = np.roll(own, n_voxels - n_voxels // 2, axis=1)
    return np.asarray(left + 2 * right, dtype=np.int8)


def make_samples(
    parameters: ScenarioParameters,
    base: npt.NDArray | None = None,
    out: npt.NDArray[np.float32] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return samples, their classes and their people.

    Parameters
    ----------
    parameters
        Of the scenario.
    base
        Samples to add the patterns to, shape (at least subjects x samples, voxels), standardised; may be
        memory-mapped. Their voxels are permuted within each sample and their order is shuffled over people
        and classes. None: Gaussian noise of zero mean and unit variance, of which neither would change
        anything.
    out
        Array to fill, shape (subjects x samples, voxels), for example memory-mapped.

    Returns
    -------
    X : array, float32, shape (n_samples, n_voxels)
    labels : array, int64, shape (n_samples,)
        Classes from 0, in turn.
    subjects : array, int64, shape (n_samples,)
        People from 0.

    Raises
    ------
    InputError
        The base has too few samples, or another number of voxels.
    """
    n, n_voxels = parameters.subjects * parameters.samples, parameters.voxels
    if base is not None:
        check_base(base, parameters)
    X = np.empty((n, n_voxels), dtype=np.float32) if out is None else out
    subjects = np.repeat(np.arange(parameters.subjects), parameters.samples)
    labels = np.arange(n) % N_CLASSES
    of_parts = np.array(parameters.means, dtype=np.float32)
    places = [np.flatnonzero(parts) for parts in parameters.parts]
    means = [of_parts[parts[parts > 0] - 1] for parts in parameters.parts]
    seeds = np.random.SeedSequence(parameters.seed).spawn(n + 1)
    order = None if base is None else np.random.default_rng(seeds[n]).permutation(len(base))
    for i, seed in enumerate(seeds[:n]):
        rng = np.random.default_rng(seed)
        if base is None or order is None:
            row = rng.standard_normal(n_voxels, dtype=np.float32)
        else:
            row = rng.permutation(np.asarray(base[order[i]], dtype=np.float32))
        voxels = places[labels[i]]
        row[voxels] += means[labels[i]] + rng.standard_normal(len(voxels), dtype=np.float32)
        X[i] = row
    return X, labels.astype(np.int64), subjects.astype(np.int64)


def rows_of(labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return one row per sample, as the participant level writes them: one run a person, events in turn."""
    return pd.DataFrame(
        {
            "subject": [f"{subject + 1:02d}" for subject in subjects],
            "session": "",
            "task": "scenario",
            "run": "1",
            "event": np.arange(len(labels)),
            "class": [CLASSES[label] for label in labels],
        }
    )


def check_base(base: npt.NDArray, parameters: ScenarioParameters) -> None:
    """Refuse samples that cannot be the base of a scenario (:func:`make_samples`)."""
    n = parameters.subjects * parameters.samples
    if base.ndim != 2 or len(base) < n or base.shape[1] != parameters.voxels:
        raise InputError(
            f"A base of shape {base.shape}.",
            f"({n} or more samples, {parameters.voxels} voxels)",
            "choose --subjects, --samples and --voxels to suit it",
        )


def _between(n_voxels: int, start: float, stop: float) -> slice:
    return slice(round(start * n_voxels), round(stop * n_voxels))
