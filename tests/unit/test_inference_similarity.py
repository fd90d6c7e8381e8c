"""Dissimilarity matrices, the Mantel test and embeddings against loops, SciPy and umap."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from bids_xai.errors import InputError
from bids_xai.inference import similarity
from bids_xai.inference.similarity import Mantel, class_means, dissimilarity, embed, mantel


def random_rdm(rng, n, features=12):
    return squareform(pdist(rng.normal(size=(n, features)), "correlation"))


def textbook_mantel(first, second, tail):
    """All relabelings, pair by pair."""
    n = len(first)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    a = [first[i, j] for i, j in pairs]

    def correlation(order):
        return stats.pearsonr(a, [second[order[i], order[j]] for i, j in pairs]).statistic

    observed = correlation(range(n))
    null = np.array([correlation(order) for order in permutations(range(n))])
    if tail == "two-sided":
        return observed, np.mean(np.abs(null) >= abs(observed) - 1e-9)
    return observed, np.mean(null >= observed - 1e-9)


def test_class_means_and_dissimilarity_against_loops(rng):
    X, y = rng.normal(5, 2, size=(23, 40)), rng.permutation(np.arange(23) % 4)
    means = class_means(X.astype(np.float32), y, 4)
    expected = [np.mean([X[i] for i in range(23) if y[i] == c], axis=0) for c in range(4)]
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    rdm = dissimilarity(means)
    np.testing.assert_allclose(rdm, squareform(pdist(means, "correlation")), atol=1e-12)
    np.testing.assert_array_equal(rdm, rdm.T)
    assert not rdm.diagonal().any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_dissimilarity_does_not_depend_on_scale_and_offset_of_a_pattern(seed, scale, offset):
    means = np.random.default_rng(seed).normal(size=(4, 9))
    changed = means.copy()
    changed[2] = scale * changed[2] + offset
    np.testing.assert_allclose(dissimilarity(changed), dissimilarity(means), atol=1e-9)


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
@pytest.mark.parametrize("n", [3, 4, 5])
def test_mantel_counts_all_relabelings_of_few_items(rng, n, tail):
    for _ in range(3):
        first, second = random_rdm(rng, n), random_rdm(rng, n)
        result = mantel(first, second, np.random.default_rng(0), tail=tail)
        r, p = textbook_mantel(first, second, tail)
        assert result.r == pytest.approx(r)
        assert result.p == pytest.approx(p)
        n_all = len(list(permutations(range(n))))
        assert (result.n_permutations, result.exact, result.smallest_p) == (n_all, True, 1 / n_all)


def test_mantel_of_batches_is_that_of_one_batch(rng, monkeypatch):
    first, second = random_rdm(rng, 6), random_rdm(rng, 6)
    whole = mantel(first, second, rng)
    monkeypatch.setattr(similarity, "_BATCH", 7)
    assert mantel(first, second, rng) == whole


def test_random_relabelings_estimate_the_exact_p(rng, monkeypatch):
    first = random_rdm(rng, 6)
    second = first + 0.5 * random_rdm(rng, 6)
    exact = mantel(first, second, rng)
    monkeypatch.setattr(similarity, "EXACT_UP_TO", 0)
    drawn = mantel(first, second, np.random.default_rng(3), n_permutations=600)
    assert (drawn.exact, drawn.n_permutations, drawn.smallest_p) == (False, 600, 1 / 601)
    assert drawn.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p / 600) + 1 / 600)
    assert drawn == mantel(first, second, np.random.default_rng(3), n_permutations=600)
    assert (drawn.p * 601) == pytest.approx(round(drawn.p * 601))


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
@pytest.mark.parametrize("exact", [True, False])
def test_p_is_uniform_under_the_null(rng, monkeypatch, tail, exact):
    if not exact:
        monkeypatch.setattr(similarity, "EXACT_UP_TO", 0)
    p = [
        mantel(random_rdm(rng, 6), random_rdm(rng, 6), rng, n_permutations=199, tail=tail).p
        for _ in range(400)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_a_matrix_is_related_to_itself_and_the_smallest_p_of_three_items_is_a_sixth(rng):
    rdm = random_rdm(rng, 7)
    assert mantel(rdm, rdm, rng) == Mantel(pytest.approx(1.0), 1 / 5040, 5040, True, 1 / 5040)
    opposite = mantel(rdm, -rdm, rng)
    assert (opposite.r, opposite.p) == (pytest.approx(-1.0), 1.0)
    assert mantel(rdm, -rdm, rng, tail="two-sided").p == 1 / 5040
    assert mantel(rdm[:3, :3], rdm[:3, :3], rng).smallest_p == pytest.approx(1 / 6)


def test_the_diagonals_play_no_part(rng):
    first, second = random_rdm(rng, 5), random_rdm(rng, 5)
    assert mantel(first + np.diag(rng.normal(size=5)), second, rng) == mantel(first, second, rng)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2))),
        (np.eye(4), np.eye(5)),
        (np.arange(16.0).reshape(4, 4), np.eye(4)),
        (np.ones((4, 4)), np.ones((4, 4))),
        (np.full((4, 4), np.nan), np.eye(4)),
    ],
)
def test_what_has_no_correlation_is_refused(first, second, rng):
    with pytest.raises(InputError):
        mantel(first, second, rng)


def test_bad_classes_patterns_and_tails_are_refused(rng):
    with pytest.raises(InputError, match="Class 1 has no sample"):
        class_means(np.ones((3, 2)), np.array([0, 0, 2]), 3)
    with pytest.raises(InputError, match="class 1 is constant"):
        dissimilarity(np.array([[1.0, 2, 3], [0.1, 0.1, 0.1]]))
    rdm = random_rdm(rng, 4)
    with pytest.raises(InputError, match="tail"):
        mantel(rdm, rdm, rng, tail="less")


@pytest.mark.slow
def test_embedding_keeps_groups_apart_and_is_the_same_again(rng):
    groups = np.repeat([0, 1, 2], 25)
    points = rng.normal(size=(75, 3)) + 40 * np.eye(3)[groups]
    layout = embed(points, 5, n_neighbors=10)
    assert layout.shape == (75, 2)
    np.testing.assert_array_equal(layout, embed(points, 5, n_neighbors=10))
    assert not np.array_equal(layout, embed(points, 6, n_neighbors=10))
    distance = squareform(pdist(layout))
    np.fill_diagonal(distance, np.inf)
    assert (groups[distance.argmin(axis=1)] == groups).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 6, 12])
def test_few_points_are_embedded(rng, n):
    assert np.isfinite(embed(rng.normal(size=(n, 3)), 0)).all()


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.zeros(9), np.full((9, 3), np.inf)])
def test_points_that_cannot_be_embedded_are_refused(points):
    with pytest.raises(InputError, match="4 or more rows"):
        embed(points, 0)
