"""Cleaning: against nilearn, scipy, and the running line fit as a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.signal import clean
from scipy.signal import detrend as scipy_detrend

from bids_xai.errors import InputError
from bids_xai.images.cleaning import clean_run, finite_confounds, line_smoother


@pytest.fixture
def run():
    rng = np.random.default_rng(0)
    time = np.arange(60)[:, None]
    return (1000 + 3 * time * rng.normal(size=(1, 12)) + rng.normal(size=(60, 12)) * 10).astype(np.float32)


def bptf_reference(data, sigma):
    """``fslmaths -bptf sigma -1`` as its loop reads, without the constant it adds back."""
    out = np.empty_like(data, dtype=float)
    reach = int(3 * sigma)
    for t in range(len(data)):
        u = np.arange(max(t - reach, 0), min(t + reach, len(data) - 1) + 1)
        weight = np.exp(-0.5 * ((u - t) / sigma) ** 2)
        slope_and_value = np.polyfit(u - t, data[u], 1, w=np.sqrt(weight))
        out[t] = data[t] - slope_and_value[1]
    return out


def test_detrend_and_scale(run):
    expected = scipy_detrend(run.astype(float), axis=0)
    expected /= expected.std(axis=0, ddof=1)
    np.testing.assert_allclose(clean_run(run, 2.0), expected, atol=1e-5)


def test_cosines_and_confounds_as_nilearn(run):
    confounds = np.random.default_rng(1).normal(size=(60, 3))
    expected = clean(
        run.astype(float), confounds=confounds, high_pass=0.02, t_r=2.0, filter="cosine", detrend=True
    )
    found = clean_run(run, 2.0, high_pass=0.02, confounds=confounds)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("sigma", [2.0, 7.5, 55.0])
def test_running_line_fit(run, sigma):
    found = clean_run(run, 2.0, detrend=False, high_pass_sigma=sigma, standardize=False)
    np.testing.assert_allclose(found, bptf_reference(run, sigma), atol=2e-3)


def test_running_line_fit_keeps_lines_and_sums_to_one():
    smoother = line_smoother(50, 5.0)
    line = 3.0 + 2.0 * np.arange(50)
    np.testing.assert_allclose(smoother @ line, line)
    np.testing.assert_allclose(smoother.sum(axis=1), 1)


def test_line_fit_is_applied_to_the_confounds_too(run):
    confounds = np.random.default_rng(1).normal(size=(60, 2))
    found = clean_run(run, 2.0, detrend=False, high_pass_sigma=8.0, confounds=confounds, standardize=False)
    filtered = confounds - line_smoother(60, 8.0) @ confounds
    filtered -= filtered.mean(axis=0)
    assert np.abs(filtered.T @ found).max() < 1e-2


def test_scale_of_each_voxel(run):
    found = clean_run(run, 2.0, high_pass=1 / 128)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1, atol=1e-6)


def test_nothing_asked_returns_the_input(run):
    np.testing.assert_array_equal(clean_run(run, 2.0, detrend=False, standardize=False), run)


@pytest.mark.parametrize("value", [0.0, 1000.0, 1e6 / 3])
def test_constant_voxels_are_zero(run, value):
    run[:, 3] = value
    for options in ({}, {"high_pass": 0.01}, {"high_pass_sigma": 10.0}, {"detrend": False}):
        assert (clean_run(run, 2.0, **options)[:, 3] == 0).all()


def test_voxel_that_is_a_confound_is_zero(run):
    assert (clean_run(run, 2.0, confounds=run[:, 5])[:, 5] == 0).all()


def test_no_column_of_confounds_removes_nothing(run):
    empty = np.empty((len(run), 0))
    for options in ({"high_pass": 1 / 128}, {"high_pass_sigma": 10.0}, {}):
        np.testing.assert_array_equal(
            clean_run(run, 2.0, confounds=empty, **options), clean_run(run, 2.0, **options)
        )


def test_missing_first_row_of_confounds_is_zero(run):
    confounds = np.random.default_rng(1).normal(size=(60, 2))
    confounds[0, 1] = np.nan
    filled = confounds.copy()
    filled[0, 1] = 0
    np.testing.assert_array_equal(finite_confounds(confounds, 60), filled)
    np.testing.assert_array_equal(
        clean_run(run, 2.0, confounds=confounds), clean_run(run, 2.0, confounds=filled)
    )
    confounds[7, 0] = np.inf
    with pytest.raises(InputError, match=r"column 0 .* volume 7"):
        clean_run(run, 2.0, confounds=confounds)


def test_bad_requests_are_refused(run):
    with pytest.raises(InputError, match="Two high-pass filters"):
        clean_run(run, 2.0, high_pass=0.01, high_pass_sigma=55)
    with pytest.raises(InputError, match="59 rows for a run of 60"):
        clean_run(run, 2.0, confounds=np.ones((59, 2)))
    with pytest.raises(InputError, match="more volumes than regressors"):
        clean_run(run, 2.0, confounds=np.random.default_rng(0).normal(size=(60, 60)))


def test_tiles_do_not_show(run, monkeypatch):
    whole = clean_run(run, 2.0, high_pass=0.01)
    monkeypatch.setattr("bids_xai.images.cleaning._TILE", 5)
    np.testing.assert_allclose(clean_run(run, 2.0, high_pass=0.01), whole, atol=1e-6)
