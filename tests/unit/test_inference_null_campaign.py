"""Data sets of pure noise, analysed as the group level does: what is found, of every kind, is chance.

Rates of single voxels, family-wise, by false discovery rate (of fitted tails), accuracies of every class, and
what chance makes reproducible.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bids_xai.attribution import IMPORTANCES, SHARE
from bids_xai.attribution.runs import Repetition, run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer
from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.inference.null import NullAccumulator
from bids_xai.inference.reproducibility import ExceedanceCounter
from bids_xai.inference.summary import Null, Runs, Summary, summarize
from bids_xai.inference.thresholds import voxel_thresholds
from tests.planted import CLASSES, Planted, permutations, planted

METHODS, ALPHA = tuple(IMPORTANCES), 0.05
N_VOXELS, N_PERMUTATIONS, N_RUNS = 100, 99, 10
# With so many assertions on one set of draws, each must be all but certain where the claim is true.
CONFIDENCE = 0.9999


def trained(data: Planted, labels: npt.NDArray[np.int64], seed: list[int]) -> list[Repetition]:
    return list(
        run_repetitions(
            data.X,
            training_basis(data.X),
            labels,
            data.design.subjects,
            data.design.folds,
            len(CLASSES),
            seeds=np.random.SeedSequence(seed).spawn(len(labels)),
            parameters=SgdParameters(n_updates=400),
            methods=METHODS,
            map_values=SHARE,
            trainer=CpuTrainer(),
        )
    )


def counted(found: list[Repetition], thresholds: npt.NDArray[np.float32]) -> Runs:
    counter = ExceedanceCounter(thresholds)
    for one in found:
        counter.update(one.maps)
    arrays = counter.arrays()
    return Runs(arrays["counts"], arrays["total"], np.stack([one.confusions for one in found]))


def analyse(number: int) -> Summary:
    data = planted(number, amplitude=0.0, shared=0.5, n_voxels=N_VOXELS, n_informative=0, n_subjects=4)
    permuted = permutations(data, N_PERMUTATIONS + N_RUNS, [number, 1])
    null = trained(data, permuted[:N_PERMUTATIONS], [number, 3])
    shape = (len(METHODS), len(CLASSES), N_VOXELS)
    accumulator = NullAccumulator(N_PERMUTATIONS, (ALPHA,), shape)
    for one in null:
        accumulator.update(one.maps)
    kept = accumulator.arrays()
    thresholds = voxel_thresholds(kept["top"], N_PERMUTATIONS, (ALPHA,))
    confusions = np.stack([one.confusions for one in null])
    return summarize(
        counted(trained(data, np.stack([data.design.labels] * N_RUNS), [number, 2]), thresholds),
        Null(kept["top"], thresholds, kept["maxima"], confusions),
        counted(trained(data, permuted[N_PERMUTATIONS:], [number, 4]), thresholds),
        {"t": np.zeros((3, N_VOXELS), np.float32), "F": np.zeros(N_VOXELS, np.float32)},
        classes=CLASSES,
        people=data.design.people,
        methods=METHODS,
        alphas=(ALPHA,),
    )


@cache
def campaign(n: int) -> list[Summary]:
    return [analyse(number) for number in range(n)]


def assert_is_chance(n: int) -> None:
    """Fail if anything is found more often than chance allows.

    Classes of a data set share their labels: one class of each, in turn, makes numbers binomial.
    """
    found = campaign(n)
    most = stats.binom.ppf(CONFIDENCE, n, ALPHA)
    assert {one.q_from for one in found} == {"gpd"}
    own = np.arange(n) % len(CLASSES)
    for stat in ("pfwer", "q"):
        any_voxel = [(one.maps[stat][:, c] <= ALPHA).any(axis=1) for one, c in zip(found, own, strict=True)]
        assert (np.sum(any_voxel, axis=0) <= most).all(), (stat, np.sum(any_voxel, axis=0))
    rates = np.array([(one.maps["thresholded-0"] != 0).mean(axis=(1, 2)) for one in found])
    reach = stats.t.ppf(CONFIDENCE, n - 1) * rates.std(axis=0, ddof=1) / np.sqrt(n)
    assert (rates.mean(axis=0) < ALPHA + reach).all(), rates.mean(axis=0)
    tests = [one.tables["accuracy_tests"].set_index("scope") for one in found]
    for scope in (ALL_CLASSES, *CLASSES):
        assert sum(table.loc[scope, "p"] <= ALPHA for table in tests) <= most
        mean = np.array([table.loc[scope, "mean"] for table in tests])
        assert abs(mean.mean() - 1 / 3) < stats.t.ppf(CONFIDENCE, n - 1) * mean.std(ddof=1) / np.sqrt(n)
    # What the report gives as expected by chance is what the second set has, alpha of the voxels; the voxels
    # that reproduce in more than half of the trainings are of that number, not of one in twenty data sets.
    expected = np.mean([one.tables["thresholds"]["n_voxels_chance"].mean() for one in found])
    assert expected == pytest.approx(ALPHA * N_VOXELS, rel=0.25)
    halves = np.mean([(one.maps["reproducibility-0"] > 0.5).sum(axis=-1).mean(axis=1) for one in found], 0)
    of_weights = METHODS.index("W")
    assert 0.5 * expected < halves[of_weights] < 1.5 * expected
    assert (halves < 1.5 * expected).all(), halves
    tables = [one.tables["thresholds"].query("method == 'W'") for one in found]
    assert np.mean([(table["n_voxels_reproducible"] > 0).mean() for table in tables]) > 0.3


@pytest.mark.slow
def test_noise_is_noise() -> None:
    assert_is_chance(8)


@pytest.mark.long
def test_sixty_data_sets_of_noise_are_noise() -> None:
    assert_is_chance(60)
