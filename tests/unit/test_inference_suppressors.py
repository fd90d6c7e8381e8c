"""What the report says of weights and Haufe patterns, on voxels that only cancel noise.

Whole analyses of data sets with planted suppressors (:mod:`bids_xai.phantom.suppressor`): training,
importance, permutation and thresholds, as the group level does them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from bids_xai.attribution import IMPORTANCES, RAW
from bids_xai.attribution.runs import Repetition, run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.decoding.splits import Fold
from bids_xai.inference.null import NullAccumulator, sided
from bids_xai.inference.permutation import permute_labels
from bids_xai.inference.thresholds import voxel_thresholds
from bids_xai.phantom.suppressor import SuppressorSamples, suppressor_samples

pytestmark = pytest.mark.slow

METHODS = tuple(IMPORTANCES)
ALPHA, N_PERMUTATIONS, N_RUNS, N_DATASETS = 0.05, 99, 5, 8
PARAMETERS = SgdParameters(learning_rate=0.02, n_updates=400, l2=0.0)
TAILS = ("greater", "two-sided")


def repetitions(
    data: SuppressorSamples, labels: npt.NDArray[np.int64], seed: Sequence[int]
) -> list[Repetition]:
    folds = [
        Fold(f"sub-{s}", np.flatnonzero(data.subjects != s), np.flatnonzero(data.subjects == s))
        for s in range(data.subjects.max() + 1)
    ]
    return list(
        run_repetitions(
            data.X,
            training_basis(data.X),
            labels,
            data.subjects,
            folds,
            len(data.informative),
            seeds=np.random.SeedSequence(seed).spawn(len(labels)),
            parameters=PARAMETERS,
            methods=METHODS,
            map_values=RAW,
            trainer=CpuTrainer(),
        )
    )


def analyse(number: int) -> tuple[dict[str, npt.NDArray], float]:
    """Return, per tail, the share of significant voxels, shape (n_methods, 4), and the accuracy.

    The four are: informative voxels in the map of their class; suppressors in that of the class whose noise
    they share; suppressors in those of other classes; blank voxels.
    """
    rng = np.random.default_rng([5, number])
    data = suppressor_samples(rng)
    real = repetitions(data, np.stack([data.labels] * N_RUNS), [number, 0])
    samples = np.arange(len(data.X))
    permuted = np.stack([
        permute_labels(data.labels, "subject", data.subjects, data.subjects, samples, rng)
        for _ in range(N_PERMUTATIONS)
    ])  # fmt: skip
    null = repetitions(data, permuted, [number, 1])
    mean = np.mean([run.maps for run in real], axis=0)
    others = data.suppressors.any(axis=0) & ~data.suppressors
    blank = np.broadcast_to(data.blank, others.shape)
    shares = {}
    for tail in TAILS:
        accumulator = NullAccumulator(N_PERMUTATIONS, (ALPHA,), mean.shape, tail)
        for run in null:
            accumulator.update(run.maps)
        thresholds = voxel_thresholds(accumulator.arrays()["top"], N_PERMUTATIONS, (ALPHA,))
        passes = sided(mean, tail) > thresholds[0]
        kinds = (data.informative, data.suppressors, others, blank)
        shares[tail] = np.stack([passes[:, kind].mean(axis=1) for kind in kinds], axis=1)
    return shares, float(np.mean([np.trace(run.confusions.sum(axis=0)) / len(data.X) for run in real]))


@pytest.fixture(scope="module")
def shares() -> dict[tuple[str, str], npt.NDArray]:
    """Mean shares over data sets, by tail and method."""
    analysed = [analyse(number) for number in range(N_DATASETS)]
    assert min(accuracy for _, accuracy in analysed) > 0.5
    means = {tail: np.mean([shares[tail] for shares, _ in analysed], axis=0) for tail in TAILS}
    return {(tail, method): means[tail][m] for tail in TAILS for m, method in enumerate(METHODS)}


@pytest.mark.parametrize("method", ["W", "LRP-W2"])
def test_weights_light_up_at_suppressors(shares: dict, method: str) -> None:
    informative, own, _, blank = shares["two-sided", method]
    assert informative > 0.75
    assert own > 10 * ALPHA
    assert blank < 2 * ALPHA


def test_one_sided_weights_light_up_at_the_suppressors_of_other_classes(shares: dict) -> None:
    # A suppressor is subtracted from the class whose noise it shares, and so speaks for the others.
    _, own, others, _ = shares["greater", "W"]
    assert own < ALPHA
    assert others > 4 * ALPHA


@pytest.mark.parametrize("tail", TAILS)
def test_haufe_patterns_light_up_at_informative_voxels_alone(shares: dict, tail: str) -> None:
    informative, own, others, blank = shares[tail, "Haufe"]
    assert informative > 0.6
    # Voxels that share noise err together: 24 groups of them, and by chance one or two err.
    assert max(own, others) < 4 * ALPHA
    assert blank < 2 * ALPHA


@pytest.mark.parametrize("method", ["WX", "OD"])
def test_measures_that_multiply_with_the_input_inherit_it_in_part(shares: dict, method: str) -> None:
    informative, own, others, blank = shares["two-sided", method]
    assert informative > 0.9
    # More often than by chance, less often than weights.
    assert ALPHA < max(own, others) < 0.5 * shares["two-sided", "W"][1]
    assert blank < 2 * ALPHA


def test_the_z_rule_finds_little_of_anything(shares: dict) -> None:
    # It divides by a sum that may be close to zero: heavy tails in the null take its power.
    assert shares["two-sided", "LRP-z"].max() < 0.5
