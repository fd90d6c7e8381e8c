"""Closed forms of importance against one forward pass per voxel and one sample at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.attribution import IMPORTANCES
from bids_xai.attribution.linear import Linear
from bids_xai.attribution.patterns import pattern_coefficients
from tests.references import haufe_pattern, output_difference, relevance, softmax


def forward(weights: npt.NDArray, bias: npt.NDArray, X: npt.NDArray) -> npt.NDArray:
    return softmax(X @ weights.T + bias)


def textbook(
    method: str, weights: npt.NDArray, bias: npt.NDArray, X: npt.NDArray, members: npt.NDArray[np.bool_]
) -> npt.NDArray:
    if method == "W":
        return weights
    if method == "WX":
        return np.stack(
            [np.mean([x * w for x in X[own]], axis=0) for w, own in zip(weights, members, strict=True)]
        )
    if method == "OD":
        return output_difference(X, weights, bias, members)
    if method == "Haufe":
        return haufe_pattern(X, weights)
    return relevance(X, weights, bias, members, {"LRP-W2": "w2", "LRP-z": "z"}[method])


def layer(
    *,
    n: int = 14,
    n_voxels: int = 40,
    n_classes: int = 4,
    scale: float = 0.1,
    dtype: npt.DTypeLike = np.float64,
    everyone: bool = False,
    seed: int = 5,
) -> Linear:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_voxels)).astype(dtype)
    W = (scale * rng.standard_normal((n_classes, n_voxels))).astype(dtype)
    bias = (0.1 * rng.standard_normal(n_classes)).astype(dtype)
    labels = np.arange(n) % n_classes
    members = np.ones((n_classes, n), bool) if everyone else labels == np.arange(n_classes)[:, None]
    # As if it had been trained on the held-out samples: what the pattern is of does not matter here.
    logits = X @ W.T + bias
    return Linear(W, bias, X, logits, members, pattern_coefficients(logits) @ X)


@pytest.mark.parametrize("method", list(IMPORTANCES))
@pytest.mark.parametrize("everyone", [False, True])
# Small products take the series of expm1, large ones the function: both, and a mixture.
@pytest.mark.parametrize("scale", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("n_voxels", [40, 513])
def test_closed_forms_equal_the_textbook(method: str, everyone: bool, scale: float, n_voxels: int) -> None:
    net = layer(scale=scale, everyone=everyone, n_voxels=n_voxels)
    ours = IMPORTANCES[method].load()(net)
    expected = textbook(method, net.weights, net.bias, net.X, net.members)
    assert ours.shape == (4, n_voxels)
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("method", list(IMPORTANCES))
def test_single_precision_is_close_to_the_textbook(method: str) -> None:
    net = layer(n=40, n_voxels=600, n_classes=5, scale=0.02, dtype=np.float32)
    wide = [np.asarray(values, np.float64) for values in (net.weights, net.bias, net.X)]
    expected = textbook(method, *wide, net.members)
    ours = IMPORTANCES[method].load()(net)
    assert ours.dtype == np.float32
    # LRP-z divides by logits, whose rounding errors it magnifies where they are small.
    tolerance = 1e-4 if method == "LRP-z" else 1e-5
    assert np.abs(ours - expected).max() / np.abs(expected).max() < tolerance


@pytest.mark.parametrize("scale", [1.0, 5.0, 200.0])
def test_output_difference_of_very_large_products(scale: float) -> None:
    net = layer(scale=scale, dtype=np.float32)
    wide = [np.asarray(values, np.float64) for values in (net.X, net.weights, net.bias)]
    # A logit of size z is known to 1e-7 z in single precision, and so is what depends on it.
    tolerance = 1e-6 * max(1, np.abs(net.logits).max())
    ours = IMPORTANCES["OD"].load()(net)
    np.testing.assert_allclose(ours, output_difference(*wide, net.members), rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", list(IMPORTANCES))
def test_a_class_without_samples_has_no_importance_of_its_own(method: str) -> None:
    net = layer()
    members = net.members.copy()
    members[2] = False
    ours = IMPORTANCES[method].load()(replace(net, members=members))
    assert np.isfinite(ours).all()
    if method not in ("W", "Haufe"):
        assert not ours[2].any()


@settings(max_examples=30, deadline=None)
@given(
    n_classes=st.integers(2, 7),
    n_voxels=st.integers(1, 30),
    scale=st.floats(1e-3, 3.0),
    seed=st.integers(0, 999),
)
def test_relevances_sum_to_the_mean_output(n_classes: int, n_voxels: int, scale: float, seed: int) -> None:
    net = layer(n=9, n_classes=n_classes, n_voxels=n_voxels, scale=scale, seed=seed)
    outputs = forward(net.weights, net.bias, net.X)
    counts = np.maximum(net.members.sum(axis=1), 1)
    mean_output = (net.members * outputs.T).sum(axis=1) / counts
    for method in ("LRP-W2", "LRP-z"):
        sums = IMPORTANCES[method].load()(net).sum(axis=1)
        # Cancelling products lose digits: about 1e-16 over the smallest guarded sum, 1e-6.
        np.testing.assert_allclose(sums, mean_output, rtol=1e-7, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 30.0), seed=st.integers(0, 999))
def test_output_difference_stays_between_minus_one_and_one(scale: float, seed: int) -> None:
    difference = IMPORTANCES["OD"].load()(layer(scale=scale, seed=seed, dtype=np.float32))
    assert np.isfinite(difference).all()
    assert np.abs(difference).max() <= 1 + 1e-6


def test_the_stabilizer_bounds_a_sum_that_cancels() -> None:
    X, W = np.array([[1.0, 1.0], [1.0, 0.5]]), np.array([[1.0, -1.0], [1.0, 1.0]])
    members = np.array([[True, False], [False, True]])
    net = Linear(W, np.zeros(2), X, X @ W.T, members)
    ours = IMPORTANCES["LRP-z"].load()(net)
    # The products of class 0 are 1 and -1: p / (1e-6 |x| |w|) = p / 2e-6, and opposite signs.
    p = forward(W, np.zeros(2), X)[0, 0]
    np.testing.assert_allclose(ours[0], [p / 2e-6, -p / 2e-6], rtol=1e-6)
    np.testing.assert_allclose(ours[1].sum(), forward(W, np.zeros(2), X)[1, 1])


@pytest.mark.parametrize("sign", [1, -1])
def test_the_stabilizer_keeps_the_sign_of_the_sum(sign: int) -> None:
    X, W = np.array([[1.0, 1.0]]), np.array([[1.0, -1.0 + sign * 1e-9], [1.0, 1.0]])
    net = Linear(W, np.zeros(2), X, X @ W.T, np.ones((2, 1), bool))
    ours = IMPORTANCES["LRP-z"].load()(net)
    # Moved away from zero by 2e-6, to the side it was on.
    np.testing.assert_allclose(ours[0, 0], sign * forward(W, np.zeros(2), X)[0, 0] / 2e-6, rtol=1e-2)


def test_every_measure_names_its_source() -> None:
    assert list(IMPORTANCES) == ["W", "Haufe", "WX", "OD", "LRP-W2", "LRP-z"]
    assert all(entry.summary and entry.source for entry in IMPORTANCES.values())
