"""Samples with suppressor voxels: they share noise with informative voxels and tell nothing of the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError


@dataclass(frozen=True)
class SuppressorSamples:
    """Samples and what every voxel is.

    Parameters
    ----------
    X
        Samples, float32, shape (n_samples, n_voxels); each voxel has mean 0 and variance 1 in every person.
    labels, subjects
        Class and person of every sample, int64, shape (n_samples,).
    informative
        Whether a voxel responds to a class, bool, shape (n_classes, n_voxels).
    suppressors
        Whether a voxel shares the noise of those that respond to a class, and responds to none, bool, shape
        (n_classes, n_voxels).
    """

    X: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.int64]
    informative: npt.NDArray[np.bool_]
    suppressors: npt.NDArray[np.bool_]

    @property
    def blank(self) -> npt.NDArray[np.bool_]:
        """Whether a voxel is noise of its own, shape (n_voxels,)."""
        return np.asarray(~(self.informative | self.suppressors).any(axis=0))


def suppressor_samples(
    rng: np.random.Generator,
    *,
    n_subjects: int = 6,
    n_per_class: int = 20,
    n_classes: int = 3,
    n_informative: int = 5,
    n_suppressors: int = 5,
    n_blank: int = 30,
    effect: float = 1.0,
    shared: float = 2.0,
) -> SuppressorSamples:
    """Draw samples of the generative model of Haufe et al. (2014), ``x = A s + noise``, with known A.

    Every class c has noise d_c of its own. An informative voxel of c holds ``effect [label = c] +
    shared d_c + e``, a suppressor of c ``shared d_c + e``, a blank voxel ``e``; d and e are standard
    normal. The best linear classifier subtracts the suppressors from the informative voxels.

    Parameters
    ----------
    rng
        Source of the noise.
    n_subjects, n_per_class
        Number of people, and of each one's samples of a class.
    n_classes
        Number of classes.
    n_informative, n_suppressors
        Voxels of every class.
    n_blank
        Voxels besides.
    effect
        Response to the class, in standard deviations of a voxel's own noise.
    shared
        Standard deviation of the shared noise, in the same units.

    Raises
    ------
    InputError
        There is one class, or a person has one sample.
    """
    if n_classes < 2 or n_classes * n_per_class < 2:
        raise InputError(
            f"{n_classes} classes of {n_per_class} samples each.",
            "two classes or more, with samples of each",
            "raise n_classes or n_per_class",
        )
    labels = np.tile(np.arange(n_classes), n_subjects * n_per_class)
    subjects = np.arange(n_subjects).repeat(n_classes * n_per_class)
    of_group = np.arange(n_classes).repeat(n_informative + n_suppressors)
    n_voxels = len(of_group) + n_blank
    places = np.arange(n_voxels)
    grouped = np.append(of_group, np.full(n_blank, -1)) == np.arange(n_classes)[:, None]
    responds = places % (n_informative + n_suppressors) < n_informative
    informative, suppressors = grouped & responds, grouped & ~responds

    X = rng.standard_normal((len(labels), n_voxels))
    X += shared * rng.standard_normal((len(labels), n_classes)) @ grouped
    X += effect * informative[labels]
    for subject in range(n_subjects):
        own = X[subjects == subject]
        X[subjects == subject] = (own - own.mean(axis=0)) / own.std(axis=0)
    return SuppressorSamples(X.astype(np.float32), labels, subjects, informative, suppressors)
