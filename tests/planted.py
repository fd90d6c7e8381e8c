"""Samples with a planted distributed pattern, and what a test of maps finds of it: rates and power.

Error rates are those of voxels without information, while others carry it (strong control); sensitivity and
power are those of voxels whose mean is largest in the class that the map is of (``tail="greater"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.attribution import IMPORTANCES
from bids_xai.attribution.runs import run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.scores import accuracy
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.inference.null import NullAccumulator
from bids_xai.inference.permutation import permute_labels
from bids_xai.inference.thresholds import family_thresholds, voxel_thresholds

CLASSES = ("a", "b", "c")
N_RUNS, N_EVENTS = 2, 12
N_FACTORS = 10


@dataclass(frozen=True)
class Planted:
    """Samples, standardised in every run as the participant level does, and the truth.

    Parameters
    ----------
    X
        Shape (n_samples, n_voxels).
    design
        Classes, labels, blocks; a fold leaves one participant out.
    informative
        Voxels whose mean differs between classes, shape (n_voxels,).
    favoured
        Those whose mean in a class is above the mean over the classes, shape (n_classes, n_voxels).
    """

    X: npt.NDArray[np.float32]
    design: Design
    informative: npt.NDArray[np.bool_]
    favoured: npt.NDArray[np.bool_]


def planted(
    seed: int,
    *,
    amplitude: float = 0.27,
    shared: float = 0.5,
    n_voxels: int = 600,
    n_informative: int = 120,
    n_subjects: int = 8,
) -> Planted:
    """Return samples of participants with two runs of twelve events and three classes.

    ``x_sv = amplitude p_cv + e_sv + shared sum_k f_sk l_kv / sqrt(10)``: p, e, f and l standard normal, p
    centred over the classes and zero but in the informative voxels, which are anywhere.

    Parameters
    ----------
    seed
        Number of the data set.
    amplitude
        Size of the pattern; 0: noise.
    shared
        Size of the noise that voxels share, of ten factors; 0: voxels are independent.
    n_voxels, n_informative
        Numbers of voxels.
    n_subjects
        Number of participants.
    """
    rng = np.random.default_rng([seed, 13])
    event = np.arange(n_subjects * N_RUNS * N_EVENTS)
    rows = pd.DataFrame(
        {
            "subject": (event // (N_RUNS * N_EVENTS)).astype(str),
            "session": "",
            "task": "x",
            "run": (event // N_EVENTS % N_RUNS).astype(str),
            "event": event % N_EVENTS,
            "class": np.array(CLASSES)[event % 3],
        }
    )
    design, _ = make_design(rows, cv="subject")
    informative = np.zeros(n_voxels, bool)
    informative[rng.choice(n_voxels, n_informative, replace=False)] = True
    pattern = rng.standard_normal((3, n_voxels)) * informative
    pattern -= pattern.mean(axis=0)
    noise = rng.standard_normal((len(event), n_voxels))
    factors = rng.standard_normal((len(event), N_FACTORS)) @ rng.standard_normal((N_FACTORS, n_voxels))
    X = amplitude * pattern[design.labels] + noise + shared * factors / np.sqrt(N_FACTORS)
    for run in np.unique(design.runs):
        own = design.runs == run
        X[own] = (X[own] - X[own].mean(axis=0)) / X[own].std(axis=0)
    return Planted(X.astype(np.float32), design, informative, (pattern > 0) & informative)


def permutations(data: Planted, n: int, seed: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return permuted labels, shape (n, n_samples).

    Exchanged within runs: standardised runs are exchangeable within, not with each other. Exchange over the
    runs of a participant gives labels that are not balanced in a run, and a null that is too narrow.
    """
    design, rng = data.design, np.random.default_rng(seed)
    codes = (design.subjects, design.runs, design.events)
    return np.stack([permute_labels(design.labels, "run", *codes, rng, design.left_out) for _ in range(n)])


def trained_maps(
    data: Planted,
    labels: npt.NDArray[np.int64],
    seed: Sequence[int],
    parameters: SgdParameters,
    map_values: str,
    methods: Sequence[str] = tuple(IMPORTANCES),
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Train once per row of labels; return maps (n, n_methods, n_classes, n_voxels) and accuracies (n,)."""
    found = list(
        run_repetitions(
            data.X,
            training_basis(data.X),
            labels,
            data.design.subjects,
            data.design.folds,
            len(CLASSES),
            seeds=np.random.SeedSequence(seed).spawn(len(labels)),
            parameters=parameters,
            methods=methods,
            map_values=map_values,
            trainer=CpuTrainer(),
        )
    )
    scores = accuracy(np.stack([one.confusions.sum(axis=0) for one in found]))
    return np.stack([one.maps for one in found]), scores


def rates(
    mean: npt.NDArray, null: npt.NDArray, data: Planted, alpha: float = 0.05
) -> dict[str, npt.NDArray[np.float64]]:
    """Return what the test of maps finds, by name, one value per method.

    ``rate``: share of the voxels without information that pass; ``fwer``: share of the classes in which any
    of them passes family-wise; ``sensitivity`` and ``power``: share of the favoured voxels that pass by
    themselves, and family-wise over all voxels.

    Parameters
    ----------
    mean
        Map of the true labels, shape (n_methods, n_classes, n_voxels).
    null
        Maps of permuted labels, shape (m, n_methods, n_classes, n_voxels).
    data
        The truth.
    alpha
        Level.
    """
    keeper = NullAccumulator(len(null), (alpha,), mean.shape)
    for maps in null.astype(np.float32):
        keeper.update(maps)
    kept = keeper.arrays()
    passes = mean > voxel_thresholds(kept["top"], len(null), (alpha,))[0]
    family = mean > family_thresholds(kept["maxima"], (alpha,))[0][..., None]
    blank = ~data.informative
    favoured = data.favoured / data.favoured.sum(axis=1, keepdims=True) / len(data.favoured)
    return {
        "rate": passes[..., blank].mean(axis=(1, 2)),
        "fwer": family[..., blank].any(axis=2).mean(axis=1),
        "sensitivity": (passes * favoured).sum(axis=(1, 2)),
        "power": (family * favoured).sum(axis=(1, 2)),
    }


def t_maps(X: npt.NDArray, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return Student's t of every class against the others, shape (n, 1, n_classes, n_voxels).

    Parameters
    ----------
    X
        Samples.
    labels
        Shape (n, n_samples).
    """
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    total = (centred**2).sum(axis=0)
    design = (labels[:, None] == np.arange(len(CLASSES))[:, None]).astype(np.float64)
    design -= design.mean(axis=2, keepdims=True)
    square = (design**2).sum(axis=2)[..., None]
    slope = design @ centred / square
    residual = (total - slope**2 * square) / (X.shape[0] - 2)
    return np.asarray(slope / np.sqrt(residual / square))[:, None]
