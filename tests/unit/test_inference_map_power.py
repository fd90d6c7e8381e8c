"""Every measure that is on by default: valid where there is no information, and what it finds of a pattern.

Data sets with a planted distributed pattern (:mod:`tests.planted`), through the engine: the mean of trainings
on the true labels against single trainings on permuted ones. Measured, at alpha .05, six data sets, accuracy
.74 (rate: voxels without information; power: family-wise, of the informative voxels of a class):

======== ===== =========== =====
measure  rate  sensitivity power
======== ===== =========== =====
t        .044  .41         .112
W        .048  .47         .127
WX       .044  .37         .102
OD       .044  .36         .102
Haufe    .041  .36         .065
LRP-z    .030  .26         .041
LRP-W2   .011  .26         .027
======== ===== =========== =====

``tests/benchmarks/bench_map_power.py`` does it at a larger scale, beside nilearn's permuted_ols.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bids_xai.attribution import IMPORTANCES, RAW, SHARE
from bids_xai.decoding.softmax import SgdParameters
from tests.planted import Planted, permutations, planted, rates, t_maps, trained_maps

pytestmark = pytest.mark.slow

METHODS = tuple(IMPORTANCES)
N_PERMUTATIONS, N_RUNS, N_DATASETS = 99, 5, 6
# Learning rate and decay as they are by default; the number of updates suits the number of samples.
DEFAULT = SgdParameters(n_updates=400)
WITHOUT_DECAY = SgdParameters(0.02, n_updates=1000, l2=0.0)
Found = dict[str, npt.NDArray[np.float64]]


def data_set(number: int, amplitude: float) -> Planted:
    return planted(number, amplitude=amplitude, n_voxels=200, n_informative=40, n_subjects=4)


@cache
def found(parameters: SgdParameters, map_values: str, n: int, amplitude: float = 0.4) -> tuple[Found, float]:
    """Return rates by name, mean over data sets, one per measure; and the accuracy."""
    outcomes, scores = [], []
    for number in range(n):
        data = data_set(number, amplitude)
        labels = np.stack([data.design.labels] * N_RUNS)
        real, accuracy = trained_maps(data, labels, [number, 2], parameters, map_values)
        permuted = permutations(data, N_PERMUTATIONS, [number, 1])
        null, _ = trained_maps(data, permuted, [number, 3], parameters, map_values)
        outcomes.append(rates(real.mean(axis=0), null, data))
        scores.append(accuracy.mean())
    return {name: np.mean([own[name] for own in outcomes], axis=0) for name in outcomes[0]}, np.mean(scores)


@cache
def found_by_t(n: int) -> dict[str, float]:
    outcomes = []
    for number in range(n):
        data = data_set(number, 0.4)
        labels = np.concatenate([data.design.labels[None], permutations(data, N_PERMUTATIONS, [number, 1])])
        t = t_maps(data.X, labels)
        outcomes.append(rates(t[0], t[1:], data))
    return {name: float(np.mean([own[name] for own in outcomes])) for name in outcomes[0]}


@pytest.mark.parametrize("method", METHODS)
def test_voxels_without_information_pass_as_often_as_alpha_says(method: str) -> None:
    measured, accuracy = found(DEFAULT, SHARE, N_DATASETS)
    assert 0.7 < accuracy < 0.8
    # 160 voxels of three classes in six data sets.
    most = stats.binom.ppf(0.999, 160 * 3 * N_DATASETS, 0.05) / (160 * 3 * N_DATASETS)
    assert measured["rate"][METHODS.index(method)] <= most
    assert measured["fwer"][METHODS.index(method)] <= stats.binom.ppf(0.99, 3 * N_DATASETS, 0.05) / 18


def test_the_best_measure_finds_as_much_as_t_and_those_of_weights_most_of_it() -> None:
    power = dict(zip(METHODS, found(DEFAULT, SHARE, N_DATASETS)[0]["power"], strict=True))
    of_t = found_by_t(N_DATASETS)["power"]
    assert of_t > 0.1
    assert max(power.values()) >= of_t
    for method in ("W", "WX", "OD"):
        assert power[method] >= 0.8 * of_t, method


def test_relevance_as_it_is_passes_where_there_is_no_information() -> None:
    # As published, without decay: the output is larger on true labels, and every voxel has its part of it.
    measured, _ = found(WITHOUT_DECAY, RAW, 3, 0.6)
    assert measured["rate"][METHODS.index("LRP-W2")] > 0.08
    divided, _ = found(WITHOUT_DECAY, SHARE, 3, 0.6)
    assert divided["rate"][METHODS.index("LRP-W2")] < 0.05


def test_weights_as_they_are_find_little() -> None:
    # Permuted labels are harder to fit, and give larger weights.
    raw, divided = found(DEFAULT, RAW, 3)[0], found(DEFAULT, SHARE, 3)[0]
    weights = METHODS.index("W")
    assert raw["power"][weights] < 0.7 * divided["power"][weights]
