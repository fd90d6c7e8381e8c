"""The summary of runs and their null: maps of p-values by counting and by tails, one- and two-sided."""

from __future__ import annotations

import numpy as np
import pytest

from bids_xai.inference.null import sided
from bids_xai.inference.summary import Null, Runs, summarize
from bids_xai.inference.thresholds import family_thresholds, voxel_thresholds

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
    counted, fitted = summary_of(given).maps, summary_of(given, tail_fit="gpd", smallest=1e-6).maps
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
        if name not in ("p", "pfwer"):
            np.testing.assert_array_equal(fitted[name], counted[name])


def test_the_population_is_inferred_on_request(given):
    tables = summary_of(given).tables
    assert not {"prevalence", "tails"} & set(tables)
    assert tables["subject_tests"]["subject"].tolist() == list(PEOPLE)
    assert "misclassified" not in tables
    again = [summary_of(given, population=np.random.default_rng(5)).tables["prevalence"] for _ in range(2)]
    assert again[0].equals(again[1])
    assert again[0]["scope"].tolist() == ["all", *CLASSES]
