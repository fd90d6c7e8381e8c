"""Error rates under a pure null: what permutation promises, measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_xai.inference.null import NullAccumulator
from bids_xai.inference.permutation import p_value, permute_labels
from bids_xai.inference.thresholds import false_discovery, family_thresholds, p_map, voxel_thresholds

ALPHA, N_PERMUTATIONS, N_DATASETS, N_VOXELS = 0.05, 59, 80, 40
CONFIDENCE = 0.999


def design():
    """Return labels and codes of two people with two runs of six events of two samples."""
    events = np.arange(24).repeat(2)
    runs = events // 6
    return events % 2, runs // 2, runs, events


def null_samples(rng, events):
    """Return noise that the samples of an event share in part, as volumes of one block do."""
    shared = rng.normal(size=(events.max() + 1, N_VOXELS))[events]
    return shared + rng.normal(size=(len(events), N_VOXELS))


def difference(X, y):
    """Return the difference of the class means per voxel, as maps of one method and class."""
    return ((y * 2 - 1) @ X)[None, None].astype(np.float32) / len(y)


def simulate(scheme, seed, n_datasets=N_DATASETS):
    """Return which voxels of every dataset pass: per voxel, family-wise, by discovery rate, two-sided."""
    rng = np.random.default_rng(seed)
    y, *codes = design()
    passes = np.zeros((4, n_datasets, N_VOXELS), dtype=bool)
    for number in range(n_datasets):
        X = null_samples(rng, codes[-1])
        accumulator = NullAccumulator(N_PERMUTATIONS, (ALPHA,), (1, 1, N_VOXELS))
        both_sides = NullAccumulator(N_PERMUTATIONS, (ALPHA,), (1, 1, N_VOXELS), "two-sided")
        for _ in range(N_PERMUTATIONS):
            maps = difference(X, permute_labels(y, scheme, *codes, rng))
            accumulator.update(maps)
            both_sides.update(maps)
        null, observed = accumulator.arrays(), difference(X, y)
        passes[0, number] = observed > voxel_thresholds(null["top"], N_PERMUTATIONS, (ALPHA,))[0]
        passes[1, number] = observed > family_thresholds(null["maxima"], (ALPHA,))[0][..., None]
        passes[2, number] = false_discovery(p_map(observed, null["top"], N_PERMUTATIONS), ALPHA)
        limits = voxel_thresholds(both_sides.arrays()["top"], N_PERMUTATIONS, (ALPHA,))
        passes[3, number] = np.abs(observed) > limits[0]
    return passes


@pytest.fixture(scope="module")
def within_subject():
    return simulate("subject", 1)


@pytest.mark.parametrize("kind", [0, 3])
def test_per_voxel_rate_is_alpha(within_subject, kind):
    n = N_DATASETS * N_VOXELS
    low, high = stats.binom.interval(CONFIDENCE, n, ALPHA)
    assert low <= within_subject[kind].sum() <= high


@pytest.mark.parametrize("kind", [1, 2])
def test_family_wise_and_false_discovery_rates_are_at_most_alpha(within_subject, kind):
    # Under a pure null, any discovery is a false one: both rates are that of datasets with one.
    assert within_subject[kind].any(axis=1).sum() <= stats.binom.ppf(CONFIDENCE, N_DATASETS, ALPHA)


def test_uncorrected_voxels_would_not_pass_as_family_wise(within_subject):
    # Shows that the bound above can fail.
    assert within_subject[0].any(axis=1).sum() > stats.binom.ppf(CONFIDENCE, N_DATASETS, ALPHA)


def test_exchanging_single_samples_of_an_event_finds_too_much():
    rate = simulate("all", 2, n_datasets=15)[0].mean()
    assert rate > 1.5 * ALPHA


def passing_people(blocks, n_datasets=400, seed=3):
    """Return how often p <= alpha for groups of people whose sites differ, and have unlike shares of them."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, 0, 1], [8, 2, 2, 8])
    site = np.repeat([0, 1], 10)
    people = np.arange(20)
    found = 0
    for _ in range(n_datasets):
        x = rng.normal(size=20) + 1.5 * site

        def statistic(labels, x=x):
            return x[labels == 1].mean() - x[labels == 0].mean()

        null = [
            statistic(
                permute_labels(y, "between", people, people, people, rng, None, site if blocks else None)
            )
            for _ in range(N_PERMUTATIONS)
        ]
        found += p_value(statistic(y), np.array(null)) <= ALPHA
    return found


@pytest.mark.slow
def test_sites_that_differ_are_no_finding_within_sites_and_one_over_them():
    low, high = stats.binom.interval(CONFIDENCE, 400, ALPHA)
    assert low <= passing_people(blocks=True) <= high
    assert passing_people(blocks=False) > 2 * high
