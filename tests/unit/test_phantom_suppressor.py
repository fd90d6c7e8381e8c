"""Suppressor voxels are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bids_xai.errors import InputError
from bids_xai.phantom.suppressor import suppressor_samples

SIZES = {"n_subjects": 5, "n_per_class": 200, "n_informative": 3, "n_suppressors": 4, "n_blank": 6}


@pytest.fixture(scope="module")
def data():
    return suppressor_samples(np.random.default_rng(7), **SIZES)


def test_every_voxel_is_of_one_kind(data):
    kinds = np.concatenate([data.informative, data.suppressors, data.blank[None]])
    np.testing.assert_array_equal(kinds.sum(axis=0), 1)
    np.testing.assert_array_equal(kinds.sum(axis=1), [3, 3, 3, 4, 4, 4, 6])
    assert data.X.shape == (3000, 27)
    assert data.X.dtype == np.float32


def test_voxels_are_standardised_within_a_person(data):
    for subject in range(5):
        own = data.X[data.subjects == subject]
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(own.std(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(np.bincount(data.labels[data.subjects == subject]), 200)


def test_only_informative_voxels_differ_between_classes(data):
    p = stats.f_oneway(*(data.X[data.labels == c] for c in range(3))).pvalue
    informative = data.informative.any(axis=0)
    assert p[informative].max() < 1e-6
    assert p[~informative].min() > 1e-3
    means = np.stack([data.X[data.labels == c].mean(axis=0) for c in range(3)])
    np.testing.assert_array_equal(
        means.argmax(axis=0)[informative], data.informative.argmax(axis=0)[informative]
    )


def test_suppressors_share_the_noise_of_their_class_only(data):
    residuals = data.X - np.stack([data.X[data.labels == c].mean(axis=0) for c in range(3)])[data.labels]
    correlation = np.corrcoef(residuals, rowvar=False)
    # Shared noise of variance 4 on noise of variance 1.
    for c in range(3):
        own, others = data.suppressors[c], np.delete(data.informative, c, axis=0).any(axis=0)
        np.testing.assert_allclose(correlation[np.ix_(own, data.informative[c])], 4 / 5, atol=0.03)
        np.testing.assert_allclose(correlation[np.ix_(own, others)], 0, atol=0.08)
    np.testing.assert_allclose(correlation[data.blank][:, ~data.blank], 0, atol=0.08)


def test_the_best_linear_classifier_subtracts_the_suppressors(data):
    weights = LinearDiscriminantAnalysis(solver="lsqr").fit(data.X, data.labels).coef_
    scale = np.abs(weights).max()
    assert weights[data.informative].min() > 0.4 * scale
    assert weights[data.suppressors].max() < -0.2 * scale
    assert np.abs(weights[:, data.blank]).max() < 0.2 * scale


@pytest.mark.parametrize("sizes", [{"n_classes": 1}, {"n_per_class": 0}])
def test_samples_of_one_class_are_refused(sizes):
    with pytest.raises(InputError, match="two classes or more"):
        suppressor_samples(np.random.default_rng(0), **sizes)
