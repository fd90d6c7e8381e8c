"""Haufe patterns against the dense formula, a regression by scikit-learn, and data whose mixing is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression

from bids_xai.attribution.linear import Linear
from bids_xai.attribution.patterns import haufe_pattern, pattern_coefficients
from tests.references import haufe_pattern as textbook


def samples(
    n: int = 60, n_voxels: int = 25, n_classes: int = 4, seed: int = 3
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return samples with signal and correlated noise around a mean of their own, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    mixing = rng.standard_normal((n_voxels, n_voxels)) / np.sqrt(n_voxels)
    noise = rng.standard_normal((n, n_voxels)) @ mixing
    return 3 + rng.standard_normal((n_classes, n_voxels))[labels] + noise, labels


def of(X: npt.NDArray, weights: npt.NDArray) -> npt.NDArray:
    """Return the pattern by way of the logits alone."""
    return pattern_coefficients(X @ weights.T) @ X


@pytest.mark.parametrize("n_classes", [2, 3, 8])
@pytest.mark.parametrize("n_voxels", [1, 5, 90])
def test_the_pattern_equals_the_dense_formula(n_classes: int, n_voxels: int) -> None:
    X, _ = samples(n_voxels=n_voxels, n_classes=n_classes)
    weights = np.random.default_rng(1).standard_normal((n_classes, n_voxels))
    expected = textbook(X, weights)
    np.testing.assert_allclose(of(X, weights), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_single_precision_is_close_to_the_dense_formula() -> None:
    X, _ = samples(n=300, n_voxels=400, n_classes=5)
    weights = 0.02 * np.random.default_rng(1).standard_normal((5, 400))
    ours, expected = of(X.astype(np.float32), weights.astype(np.float32)), textbook(X, weights)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_pattern_is_the_regression_of_the_voxels_on_the_logits() -> None:
    X, labels = samples()
    logits = LogisticRegression().fit(X, labels).decision_function(X)
    centred = logits - logits.mean(axis=1, keepdims=True)
    # Least squares of smallest norm, as the pseudo-inverse's.
    unit = centred / np.sqrt(centred.var(axis=0, ddof=1).sum() / 3)
    expected = LinearRegression().fit(unit, X).coef_.T
    np.testing.assert_allclose(pattern_coefficients(logits) @ X, expected, rtol=0, atol=1e-8)


def test_the_pattern_of_two_classes_is_the_covariance_with_the_standardised_score() -> None:
    X, labels = samples(n_classes=2)
    score = LogisticRegression().fit(X, labels).decision_function(X)
    expected = np.array([np.cov(x, score)[0, 1] for x in X.T]) / score.std(ddof=1) / np.sqrt(2)
    # The score is the second class's logit minus the first's, whatever is added to both.
    logits = np.stack([7 * X[:, 0], 7 * X[:, 0] + score], axis=1)
    np.testing.assert_allclose(pattern_coefficients(logits) @ X, [-expected, expected], rtol=1e-8)


@settings(max_examples=40, deadline=None)
@given(n_classes=st.integers(2, 6), scale=st.floats(1e-2, 1e2), seed=st.integers(0, 999))
def test_the_pattern_depends_on_differences_of_the_weights_only(
    n_classes: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X, _ = samples(n_classes=n_classes, seed=seed)
    weights = rng.standard_normal((n_classes, X.shape[1]))
    pattern = of(X, weights)
    tolerance = 1e-8 * np.abs(pattern).max()
    np.testing.assert_allclose(of(X, weights + rng.standard_normal(X.shape[1])), pattern, atol=tolerance)
    np.testing.assert_allclose(of(X + 5, weights), pattern, atol=tolerance)
    np.testing.assert_allclose(pattern.sum(axis=0), 0, atol=tolerance)
    # A net that is sure of its permuted labels and one that is not are compared by their shape.
    np.testing.assert_allclose(of(X, scale * weights), pattern, atol=tolerance)


def test_a_voxel_that_only_cancels_noise_has_weight_but_no_pattern() -> None:
    # The example of Haufe et al. (2014): x1 = s + d and x2 = d are read out by w = (1, -1), a = (1, 0).
    signal, noise = np.array([-1.0, -1.0, 1.0, 1.0]), np.array([2.0, -2.0, 2.0, -2.0])
    X, weights = np.stack([signal + noise, noise], axis=1), np.array([[-0.5, 0.5], [0.5, -0.5]])
    unit = signal.std(ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(of(X, weights), [[-unit, 0], [unit, 0]], atol=1e-12)


def test_the_patterns_of_the_best_filters_are_the_class_means() -> None:
    X, labels = samples(n=6000, n_voxels=6, n_classes=3)
    lda = LinearDiscriminantAnalysis(solver="lsqr").fit(X, labels)
    means = lda.means_ - lda.means_.mean(axis=0)
    pattern = pattern_coefficients(X @ lda.coef_.T) @ X
    # Same space: every class mean is a combination of the patterns, which the weights cannot give.
    residual = means - means @ np.linalg.pinv(pattern, rcond=1e-8) @ pattern
    of_weights = means - means @ np.linalg.pinv(lda.coef_, rcond=1e-8) @ lda.coef_
    assert np.abs(residual).max() < 1e-6 * np.abs(means).max()
    assert np.abs(of_weights).max() > 0.1 * np.abs(means).max()


def test_constant_logits_have_no_pattern() -> None:
    X, _ = samples()
    np.testing.assert_array_equal(of(X, np.zeros((3, X.shape[1]))), 0)


def test_no_matrix_of_voxels_by_voxels_is_formed() -> None:
    X, _ = samples(n=30, n_voxels=40)
    wide = np.tile(X, (1, 250))
    weights = np.random.default_rng(0).standard_normal((4, wide.shape[1]))
    tracemalloc.start()
    of(wide, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * weights.nbytes < wide.shape[1] ** 2 * 8 / 800


def test_a_layer_without_its_training_samples_is_refused() -> None:
    X, labels = samples()
    net = Linear(np.ones((4, 25)), np.zeros(4), X, X @ np.ones((25, 4)), labels == np.arange(4)[:, None])
    with pytest.raises(ValueError, match="training samples"):
        haufe_pattern(net)
