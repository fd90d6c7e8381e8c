"""Univariate tests against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_xai.inference import univariate
from bids_xai.inference.univariate import anova_f, one_versus_rest_t


@pytest.fixture
def samples(rng):
    y = np.repeat([0, 1, 2], [7, 12, 9])
    # A mean far from 0 shows whether variances are computed in two passes.
    X = (rng.normal(size=(28, 50)) * rng.uniform(0.5, 3, 50) + 1000 + y[:, None]).astype(np.float32)
    return X, y


@pytest.mark.parametrize("tile_values", [28 * 7, 1 << 23])
def test_against_scipy(samples, monkeypatch, tile_values):
    monkeypatch.setattr(univariate, "_TILE_VALUES", tile_values)
    X, y = samples
    t, f = one_versus_rest_t(X, y, 3), anova_f(X, y, 3)
    assert (t.dtype, t.shape, f.dtype, f.shape) == (np.float32, (3, 50), np.float32, (50,))
    exact = X.astype(np.float64)
    for c in range(3):
        expected = stats.ttest_ind(exact[y == c], exact[y != c], equal_var=True).statistic
        np.testing.assert_allclose(t[c], expected, rtol=1e-5)
    np.testing.assert_allclose(f, stats.f_oneway(*(exact[y == c] for c in range(3))).statistic, rtol=1e-5)


def test_two_classes_mirror_each_other_and_f_is_t_squared(samples):
    X, y = samples
    t, f = one_versus_rest_t(X, y // 2, 2), anova_f(X, y // 2, 2)
    np.testing.assert_allclose(t[0], -t[1], rtol=1e-6)
    np.testing.assert_allclose(f, t[0] ** 2, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 3e-20])
def test_constant_voxels_are_zero(samples, value):
    X, y = samples
    X[:, 4] = value
    t, f = one_versus_rest_t(X, y, 3), anova_f(X, y, 3)
    assert not t[:, 4].any()
    assert f[4] == 0
    assert np.isfinite(t).all()
    assert np.isfinite(f).all()


def test_memory_mapped_samples(samples, tmp_path):
    X, y = samples
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(one_versus_rest_t(mapped, y, 3), one_versus_rest_t(X, y, 3))
