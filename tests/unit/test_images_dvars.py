"""DVARS against the formula (as nipype.algorithms.confounds has it), written out slowly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from bids_xai.images.dvars import dvars


def slow_dvars(series):
    """Voxel by voxel: plain and standardised DVARS of a series (n_volumes, n_voxels)."""
    series = series / np.median(series) * 1000
    n = len(series)
    squares, expected, kept = np.zeros(n - 1), 0.0, 0
    for voxel in series.T:
        ordered = sorted(voxel)
        # FSL's quartiles: the value at or below the place of the quartile.
        deviation = (ordered[int(0.75 * (n - 1))] - ordered[int(0.25 * (n - 1))]) / 1.349
        if deviation == 0:
            continue
        mean = sum(voxel) / n
        covariance = sum((voxel[t] - mean) * (voxel[t - 1] - mean) for t in range(1, n))
        variance = sum((value - mean) ** 2 for value in voxel)
        expected += np.sqrt(2 * (1 - covariance / variance)) * deviation
        squares += [(voxel[t] - voxel[t - 1]) ** 2 for t in range(1, n)]
        kept += 1
    plain = np.sqrt(squares / kept)
    return plain, plain / (expected / kept)


def noisy(rng, n_volumes=40, n_voxels=60):
    series = rng.normal(0, 8, (n_volumes, n_voxels))
    for t in range(1, n_volumes):
        series[t] += 0.4 * series[t - 1]
    return (series + rng.uniform(300, 900, n_voxels)).astype(np.float32)


def test_the_formula(rng):
    series = noisy(rng)
    series[20] += 30  # a spike
    plain, standardised = dvars(series)
    expected_plain, expected_standardised = slow_dvars(series.astype(np.float64))
    assert np.isnan([plain[0], standardised[0]]).all()
    np.testing.assert_allclose(plain[1:], expected_plain, rtol=1e-6)
    np.testing.assert_allclose(standardised[1:], expected_standardised, rtol=1e-6)
    assert set(np.argsort(standardised[1:])[-2:] + 1) == {20, 21}


def test_white_noise_is_near_one(rng):
    _, standardised = dvars(rng.normal(1000, 10, (200, 500)).astype(np.float32))
    assert standardised[1:].mean() == pytest.approx(1, abs=0.02)


def test_the_scale_of_the_scanner_does_not_matter(rng):
    series = noisy(rng)
    for a, b in zip(dvars(series), dvars(series * np.float32(7.5)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_constant_voxels_are_left_out(rng):
    series = noisy(rng)
    padded = np.concatenate([series, np.full((40, 9), np.median(series))], axis=1).astype(np.float32)
    for a, b in zip(dvars(padded), dvars(series), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_runs_without_change_have_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, standardised = dvars(np.full((5, 4), 100, np.float32))
        zeros, _ = dvars(np.zeros((5, 4), np.float32))
    np.testing.assert_array_equal(plain, [np.nan, 0, 0, 0, 0])
    np.testing.assert_array_equal(zeros, plain)
    assert np.isnan(standardised).all()


@pytest.mark.parametrize("n_volumes", [1, 2, 3, 4])
def test_short_runs(n_volumes, rng):
    series = rng.normal(1000, 10, (n_volumes, 50)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, standardised = dvars(series)
    assert plain.shape == standardised.shape == (n_volumes,)
    assert np.isnan(plain[0])
    scaled = series / np.median(series) * 1000
    for t in range(1, n_volumes):
        assert plain[t] == pytest.approx(np.sqrt(np.square(scaled[t] - scaled[t - 1]).mean()), rel=1e-4)
    # Two volumes have no quartiles to tell noise by.
    assert (standardised[1:] > 0).all() == (n_volumes != 2)
