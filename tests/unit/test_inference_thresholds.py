"""Thresholds and p-values: by counting, by the textbook, and in agreement with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from bids_xai.inference.null import kept_values
from bids_xai.inference.thresholds import (
    adjusted_p,
    false_discovery,
    family_p_map,
    family_thresholds,
    p_map,
    rank,
    voxel_thresholds,
)

ALPHAS = (0.001, 0.01, 0.05, 0.2)
# Few distinct values, so that ties are common.
VALUES = st.integers(-3, 3).map(float)


def counted_p(observed, null):
    """Textbook: (b + 1) / (m + 1), b of m null maps reaching the observed one."""
    return ((null >= observed).sum(axis=0) + 1) / (len(null) + 1)


def top_of(null, alphas=ALPHAS):
    return -np.sort(-null, axis=0)[: kept_values(len(null), alphas)]


@st.composite
def maps(draw):
    m, v = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    null = draw(hnp.arrays(np.float32, (m, v), elements=VALUES))
    return draw(hnp.arrays(np.float32, v, elements=VALUES)), null


@pytest.mark.parametrize("m", [1, 19, 20, 99, 100, 199, 999, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.005, 0.01, 0.05, 0.07, 0.1, 0.29, 0.5])
def test_rank_is_the_largest_k_with_p_within_alpha(m, alpha):
    # In whole numbers: floating-point products such as .29 x 100 fall short of theirs.
    assert rank(alpha, m) == round(alpha * 1000) * (m + 1) // 1000


@settings(deadline=None)
@given(maps())
def test_p_map_equals_counting_where_the_kept_values_decide(observed_and_null):
    observed, null = observed_and_null
    top = top_of(null)
    p, expected = p_map(observed, top, len(null)), counted_p(observed, null)
    decided = expected <= len(top) / (len(null) + 1)
    np.testing.assert_array_equal(p[decided], expected[decided].astype(np.float32))
    np.testing.assert_array_equal(p[~decided], 1)


@settings(deadline=None)
@given(maps())
def test_p_map_of_all_values_is_exact(observed_and_null):
    observed, null = observed_and_null
    top = -np.sort(-null, axis=0)
    np.testing.assert_array_equal(
        p_map(observed, top, len(null)), counted_p(observed, null).astype(np.float32)
    )


@settings(deadline=None)
@given(maps())
def test_exceeding_a_threshold_is_p_within_alpha(observed_and_null):
    observed, null = observed_and_null
    m = len(null)
    thresholds = voxel_thresholds(top_of(null), m, ALPHAS)
    b = (null >= observed).sum(axis=0)
    p = p_map(observed, top_of(null), m)
    for threshold, alpha in zip(thresholds, ALPHAS, strict=True):
        within = (b + 1) * 1000 <= round(alpha * 1000) * (m + 1)
        np.testing.assert_array_equal(observed > threshold, within)
        np.testing.assert_array_equal(p <= np.float32(alpha), within)


def test_a_level_that_cannot_be_reached_is_infinite(rng):
    null = rng.normal(size=(99, 4)).astype(np.float32)
    thresholds = voxel_thresholds(top_of(null), 99, (0.001, 0.01))
    assert np.isinf(thresholds[0]).all()
    np.testing.assert_array_equal(thresholds[1], null.max(axis=0))


def test_family_threshold_is_that_of_the_maxima(rng):
    maxima = rng.normal(size=(199, 2, 3)).astype(np.float32)
    thresholds = family_thresholds(maxima, (0.001, 0.05))
    assert thresholds.shape == (2, 2, 3)
    assert np.isinf(thresholds[0]).all()
    np.testing.assert_array_equal(thresholds[1], np.sort(maxima, axis=0)[-10])
    # .05 x 200 = 10: above the tenth largest, at most nine null values remain.
    assert ((maxima > thresholds[1]).sum(axis=0) == 9).all()


@settings(deadline=None)
@given(maps(), st.integers(1, 5))
def test_family_wise_p_counts_the_maxima_and_agrees_with_the_threshold(observed_and_null, n_voxels):
    observed, null = observed_and_null
    values = np.repeat(observed[:, None], n_voxels, axis=1) + np.arange(n_voxels, dtype=np.float32)
    p = family_p_map(values, null)
    m = len(null)
    for voxel in range(n_voxels):
        np.testing.assert_array_equal(p[:, voxel], counted_p(values[:, voxel], null).astype(np.float32))
    for threshold, alpha in zip(family_thresholds(null, ALPHAS), ALPHAS, strict=True):
        within = ((null[..., None] >= values).sum(axis=0) + 1) * 1000 <= round(alpha * 1000) * (m + 1)
        np.testing.assert_array_equal(values > threshold[:, None], within)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_false_discovery_equals_scipys(rng, alpha, share):
    p = rng.random((6, 200))
    p[rng.random(p.shape) < share] **= 6
    q = stats.false_discovery_control(p, axis=-1)
    np.testing.assert_allclose(adjusted_p(p), q, rtol=1e-12)
    expected = q <= alpha
    np.testing.assert_array_equal(false_discovery(p.astype(np.float32), alpha), expected)
    assert share == 0 or expected.any()


def test_false_discovery_includes_equality():
    # p(i) = alpha i / n for every i, in float32.
    p = (0.05 * np.arange(1, 101) / 100).astype(np.float32)
    assert false_discovery(p, 0.05).all()
    assert not false_discovery(np.full(100, 0.0501, np.float32), 0.05).any()


def test_upper_bounds_do_not_change_what_false_discovery_finds(rng):
    null = rng.normal(size=(199, 300)).astype(np.float32)
    observed = (rng.normal(size=300) + np.where(np.arange(300) < 90, 3, 0)).astype(np.float32)
    p, exact = p_map(observed, top_of(null), 199), counted_p(observed, null)
    assert (p > exact).any()
    for alpha in (0.01, 0.05, 0.2):
        found = false_discovery(p, alpha)
        np.testing.assert_array_equal(found, stats.false_discovery_control(exact) <= alpha + 1e-12)
    assert found.any()
