"""The summary of runs and their null: maps of p-values by counting and by tails, one- and two-sided."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_xai.inference.null import sided
from bids_xai.inference.summary import Null, Runs, summarize
from bids_xai.inference.tail import tail_p_map
from bids_xai.inference.thresholds import (
    adjusted_p,
    false_discovery,
    family_thresholds,
    p_map,
    voxel_thresholds,
)

CLASSES, METHODS, PEOPLE, ALPHAS = ("a", "b"), ("W", "WX"), ("01", "02"), (0.01, 0.05)
N_VOXELS, M, R = 40, 499, 3


def counts(rng, n_runs):
    right = rng.integers(5, 16, (n_runs, len(PEOPLE), 2))
    return np.stack(
        [np.stack([right, 20 - right], -1)[..., 0, :], np.stack([20 - right, right], -1)[..., 1, :]], -2
    )


@pytest.fixture(params=["greater", "two-sided"])
def given(request, rng):
    tail = request.param
    maps = rng.normal(size=(M, 2, 2, N_VOXELS)).astype(np.float32)
    mean = rng.normal(size=(2, 2, N_VOXELS)).astype(np.float32)
    mean[..., :6] += 5
    mean[..., 6:12] -= 5
    compared = sided(maps, tail)
    top = -np.sort(-compared, axis=0)[:30]
    maxima = compared.max(axis=3)
    null = Null(top, voxel_thresholds(top, M, ALPHAS), maxima, counts(rng, M))
    real = Runs(np.zeros((2, 2, 2, N_VOXELS), np.int32), R * mean.astype(np.float64), counts(rng, R))
    univariate = {"t": np.zeros((2, N_VOXELS), np.float32), "F": np.zeros(N_VOXELS, np.float32)}
    return tail, compared, mean, maxima, (real, null, None, univariate)


def summary_of(given, **options):
    names = {"classes": CLASSES, "people": PEOPLE, "methods": METHODS, "alphas": ALPHAS, "tail": given[0]}
    return summarize(*given[-1], **names, **options)


def test_p_maps_count_the_null_and_its_maxima(given):
    tail, null, mean, maxima, _ = given
    maps = summary_of(given).maps
    observed = sided(mean, tail)
    counted = ((null >= observed).sum(axis=0) + 1) / (M + 1)
    known = counted <= 30 / (M + 1)
    np.testing.assert_array_equal(maps["p"][known], counted[known].astype(np.float32))
    np.testing.assert_array_equal(maps["p"][~known], 1)
    family = ((maxima[..., None] >= observed).sum(axis=0) + 1) / (M + 1)
    np.testing.assert_array_equal(maps["pfwer"], family.astype(np.float32))
    # Large negative values are important where absolute values are compared only.
    assert (maps["p"][..., 6:12] < 0.05).all() == (tail == "two-sided")
    assert (maps["p"][..., :6] < 0.05).all()
    # What passes a threshold has a p within its level, per voxel and family-wise.
    for number, alpha in enumerate(ALPHAS):
        np.testing.assert_array_equal(maps[f"thresholded-{number}"] != 0, maps["p"] <= np.float32(alpha))
        np.testing.assert_array_equal(maps[f"fwer-{number}"] != 0, maps["pfwer"] <= np.float32(alpha))
    np.testing.assert_array_equal(
        maps["fwer-0"] != 0, observed > family_thresholds(maxima, ALPHAS)[0][..., None]
    )


def test_tails_make_small_p_smaller_and_change_no_other(given):
    counted = summary_of(given, smallest=1e-6).maps
    fitted = summary_of(given, tail_fit="gpd", smallest=1e-6).maps
    for name in ("p", "pfwer"):
        few = counted[name] <= np.float32(10 / (M + 1))
        np.testing.assert_array_equal(fitted[name][~few], counted[name][~few])
        strong = counted[name][..., :6]
        assert (strong == np.float32(1 / (M + 1))).mean() > 0.7
        assert np.median(fitted[name][..., :6] / strong) < 0.5
        assert fitted[name].min() >= np.float32(1e-6)
    table = summary_of(given, tail_fit="gpd", smallest=1e-6).tables["tails"]
    for stat in ("p", "pfwer"):
        few = counted[stat] <= np.float32(10 / (M + 1))
        assert table[f"n_voxels_{stat}_few"].tolist() == few.sum(axis=2).ravel().tolist()
        different = counted[stat] != fitted[stat]
        assert table[f"n_voxels_{stat}_fitted"].tolist() == different.sum(axis=2).ravel().tolist()
        assert 0.8 < table[f"n_voxels_{stat}_fitted"].sum() / few.sum() <= 1
    for name in counted:
        if name not in ("p", "pfwer"):  # q is of fitted tails in both
            np.testing.assert_array_equal(fitted[name], counted[name])


def test_false_discovery_rates_are_scipys_of_fitted_tails(given):
    counted, fitted = summary_of(given), summary_of(given, tail_fit="gpd")
    assert counted.q_from == fitted.q_from == "gpd"
    observed, top = sided(given[2], given[0]), given[-1][1].top
    p = tail_p_map(counted.maps["p"], observed, top, M, endless=True)
    few = counted.maps["p"] <= np.float32(10 / (M + 1))
    assert (p[few] < counted.maps["p"][few]).mean() > 0.7
    q = stats.false_discovery_control(p.astype(np.float64), axis=-1)
    for summary in (counted, fitted):
        np.testing.assert_allclose(summary.maps["q"], q, rtol=1e-6)
        for row in summary.tables["thresholds"].itertuples():
            own = q[METHODS.index(row.method), CLASSES.index(row[2])]
            assert row.n_voxels_fdr == (own <= row.alpha).sum()


def test_false_discovery_finds_few_strong_voxels_that_counting_cannot(rng):
    # Three voxels of 2000 at 499 permutations: counted p-values are at least .002, and q at least 4 / 3.
    null = rng.normal(size=(M, 1, 1, 2000)).astype(np.float32)
    mean = rng.normal(size=(1, 1, 2000)).astype(np.float32)
    mean[..., :3] += 9
    top, maxima = -np.sort(-null, axis=0)[:30], null.max(axis=3)
    counted = p_map(mean, top, M)
    assert not false_discovery(counted, 0.05).any()
    q = adjusted_p(tail_p_map(counted, mean, top, M, endless=True))
    assert (q[..., :3] < 0.05).all()
    assert (q < 0.05).sum() <= 5
    confusions = counts(rng, M)
    real = Runs(np.zeros((2, 1, 1, 2000), np.int32), R * mean.astype(np.float64), counts(rng, R))
    given = (real, Null(top, voxel_thresholds(top, M, ALPHAS), maxima, confusions), None)
    univariate = {"t": np.zeros((2, 2000), np.float32), "F": np.zeros(2000, np.float32)}
    maps = summarize(
        *given, univariate, classes=CLASSES[:1], people=PEOPLE, methods=METHODS[:1], alphas=ALPHAS
    ).maps  # fmt: skip
    np.testing.assert_allclose(maps["q"], q, rtol=1e-6)


def test_too_few_permutations_leave_counted_p_values(given):
    real, null, second, univariate = given[-1]
    few = Null(null.top[:4], null.thresholds, null.maxima[:79], null.confusions[:79])
    names = {"classes": CLASSES, "people": PEOPLE, "methods": METHODS, "alphas": ALPHAS, "tail": given[0]}
    summary = summarize(real, few, second, univariate, **names)
    assert summary.q_from == "counted"
    q = stats.false_discovery_control(summary.maps["p"].astype(np.float64), axis=-1)
    np.testing.assert_allclose(summary.maps["q"], q, rtol=1e-6)


def test_voxels_expected_by_chance_are_those_of_the_second_set(given, rng):
    real, null, _, univariate = given[-1]
    passed = rng.integers(0, 11, (2, 2, 2, N_VOXELS), dtype=np.int32)
    second = Runs(passed, np.zeros((2, 2, N_VOXELS)), counts(rng, 10))
    names = {"classes": CLASSES, "people": PEOPLE, "methods": METHODS, "alphas": ALPHAS, "tail": given[0]}
    table = summarize(real, null, second, univariate, **names).tables["thresholds"]
    assert table["n_voxels_chance"].tolist() == (passed.sum(axis=-1) / 10).ravel().tolist()
    # Without a second set, what counting promises: floor(alpha (m + 1)) / (m + 1) of the voxels.
    table = summarize(real, null, None, univariate, **names).tables["thresholds"]
    assert table["n_voxels_chance"].tolist() == pytest.approx([0.01 * N_VOXELS] * 4 + [0.05 * N_VOXELS] * 4)


def test_the_population_is_inferred_on_request(given):
    tables = summary_of(given).tables
    assert not {"prevalence", "tails"} & set(tables)
    assert tables["subject_tests"]["subject"].tolist() == list(PEOPLE)
    assert "misclassified" not in tables
    again = [summary_of(given, population=np.random.default_rng(5)).tables["prevalence"] for _ in range(2)]
    assert again[0].equals(again[1])
    assert again[0]["scope"].tolist() == ["all", *CLASSES]
