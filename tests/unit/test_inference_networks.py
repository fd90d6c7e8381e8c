"""Statistics between trainings against loops and SciPy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_xai.errors import InputError
from bids_xai.inference.networks import (
    BIOMARKER_COLUMNS,
    DISTANCE_COLUMNS,
    SCORE_COLUMNS,
    VARIANT_COLUMNS,
    biomarker_tests,
    holm,
    map_distances,
    map_test,
    score_tests,
    variant_tests,
)


def test_scores_are_compared_metric_by_metric():
    null = {"auc": [0.4, 0.7, 0.9], "balanced_accuracy": np.array([0.5, 0.6, 0.7, 0.8])}
    table = score_tests({"auc": 0.7, "balanced_accuracy": 0.95}, null)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert table["p"].tolist() == [3 / 4, 1 / 5]
    assert table["smallest_p"].tolist() == [1 / 4, 1 / 5]
    assert table["n_permutations"].tolist() == [3, 4]
    assert table["chance"].tolist() == pytest.approx([2 / 3, 0.65])
    assert table["chance_sd"][1] == pytest.approx(np.std([0.5, 0.6, 0.7, 0.8], ddof=1))


def test_p_is_not_below_what_the_design_allows():
    table = score_tests({"auc": 1.0}, {"auc": np.zeros(99)}, smallest=0.1)
    assert table[["p", "smallest_p"]].iloc[0].tolist() == [0.1, 0.1]


@pytest.mark.parametrize("null", [{}, {"auc": []}, {"auc": [0.5, np.nan]}])
def test_scores_without_a_null_are_refused(null):
    with pytest.raises(InputError, match="Metric auc"):
        score_tests({"auc": 0.7}, null)


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_maps_against_a_loop_over_voxels(rng, tail):
    observed = rng.normal(1, 1, size=(2, 30)).astype(np.float32)
    null = rng.normal(size=(7, 2, 30)).astype(np.float32)
    null[3, 1, 4] = observed[1, 4]  # a tie counts
    result = map_test(observed, iter(null), tail=tail)

    def f(value):
        return abs(value) if tail == "two-sided" else value

    for c in range(2):
        maxima = [max(f(value) for value in null[k, c]) for k in range(7)]
        np.testing.assert_array_equal(result.maxima[:, c], np.float32(maxima))
        for v in range(30):
            b = sum(f(null[k, c, v]) >= f(observed[c, v]) for k in range(7))
            family = sum(top >= f(observed[c, v]) for top in maxima)
            assert result.p[c, v] == np.float32((b + 1) / 8)
            assert result.p_family[c, v] == np.float32((family + 1) / 8)
    assert (result.n_permutations, result.smallest_p) == (7, 1 / 8)
    stacked = map_test(observed, null, tail=tail)
    np.testing.assert_array_equal(stacked.p, result.p)
    assert (result.p_family >= result.p).all()


def test_p_of_maps_is_uniform_and_the_family_wise_error_is_kept(rng):
    p, errors = [], 0
    for _ in range(400):
        maps = rng.normal(size=(20, 12)).astype(np.float32)
        result = map_test(maps[0], maps[1:])
        p.append(result.p[0])
        errors += result.p_family.min() <= 0.1
    counts = np.bincount(np.rint(np.array(p) * 20).astype(int), minlength=21)[1:]
    assert stats.chisquare(counts).pvalue > 0.001
    # Of continuous values the level 2/20 is held exactly.
    assert stats.binomtest(errors, 400, 0.1).pvalue > 0.001


def test_bad_maps_are_refused():
    good = np.ones(4, dtype=np.float32)
    with pytest.raises(InputError, match="No heatmap of permuted labels"):
        map_test(good, iter(()))
    with pytest.raises(InputError, match=r"Null heatmap 2 has shape \(5,\)"):
        map_test(good, [good, np.ones(5, dtype=np.float32)])
    with pytest.raises(InputError, match=r"Null heatmap 1 .*not finite"):
        map_test(good, [good * np.nan])
    with pytest.raises(InputError, match="tail"):
        map_test(good, [good], tail="less")


def textbook_wilcoxon(difference):
    """Exact two-sided p: all signs of the ranks of the absolute differences."""
    ranks = stats.rankdata(np.abs(difference))
    n, total = len(ranks), ranks.sum()
    sums = np.array([sum(r for k, r in enumerate(ranks) if code >> k & 1) for code in range(2**n)])
    observed = ranks[difference > 0].sum()
    return np.mean(np.minimum(sums, total - sums) <= min(observed, total - observed))


def test_variants_against_all_signs(rng):
    scores = {name: rng.normal(shift, 1, 9) for name, shift in (("none", 0), ("affine", 1), ("syn", 1.5))}
    table = variant_tests(scores, "auc")
    assert tuple(table.columns) == VARIANT_COLUMNS
    assert list(zip(table["first"], table["second"], strict=True)) == list(combinations(scores, 2))
    for row in table.itertuples():
        difference = scores[row.first] - scores[row.second]
        assert row.p == pytest.approx(textbook_wilcoxon(difference))
        assert row.median_difference == pytest.approx(np.median(difference))
    assert table["smallest_p"].tolist() == [2 / 2**9] * 3
    assert set(table["metric"]) == {"auc"}
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"].to_numpy()).tolist())


def test_variants_that_do_not_differ_have_p_1_and_clear_ones_the_smallest():
    same = variant_tests({"a": [0.5, 0.7, 0.6], "b": [0.5, 0.7, 0.6]}).iloc[0]
    assert (same["p"], same["p_holm"]) == (1, 1)
    clear = variant_tests({"a": np.arange(6) + 10.0, "b": np.arange(6) / 7}).iloc[0]
    assert clear["p"] == pytest.approx(clear["smallest_p"])


@pytest.mark.parametrize(
    "scores", [{}, {"a": [1.0]}, {"a": [1.0, 2.0], "b": [1.0]}, {"a": [1.0], "b": [np.nan]}]
)
def test_variants_without_partners_are_refused(scores):
    with pytest.raises(InputError, match="two or more variants"):
        variant_tests(scores)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=8))
def test_holm_against_its_definition(p):
    p = np.array(p)
    corrected = holm(p)
    for i in range(len(p)):
        smaller = [j for j in range(len(p)) if p[j] <= p[i]]
        steps = [min(1, (len(p) - sum(p[k] < p[j] for k in range(len(p)))) * p[j]) for j in smaller]
        assert corrected[i] == pytest.approx(max(steps))


def test_distances_between_trainings_against_a_loop(rng):
    maps = rng.gamma(1, size=(4, 3, 5, 2)).astype(np.float32)
    table = map_distances(maps, ["a", "b", "c", "d"])
    assert tuple(table.columns) == DISTANCE_COLUMNS
    assert len(table) == 6
    for row in table.itertuples():
        i, j = "abcd".index(row.first), "abcd".index(row.second)
        square = 0.0
        for x, y in zip(maps[i].ravel(), maps[j].ravel(), strict=True):
            square += (float(x) / maps[i].max() - float(y) / maps[j].max()) ** 2
        assert row.distance == pytest.approx(np.sqrt(square))
    scaled = map_distances(maps * np.array([1, 2, 5, 9], np.float32)[:, None, None, None])
    np.testing.assert_allclose(scaled["distance"], table["distance"], rtol=1e-5)
    assert scaled["first"].tolist() == ["1", "1", "1", "2", "2", "3"]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_heatmaps_that_cannot_be_scaled_are_refused(value):
    maps = np.ones((2, 3), dtype=np.float32)
    maps[1] = value
    with pytest.raises(InputError, match="heatmap 2"):
        map_distances(maps)


def test_a_single_training_has_no_distance():
    with pytest.raises(InputError, match="two or more"):
        map_distances(np.ones((1, 3), dtype=np.float32))


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_biomarker_against_a_loop(rng, tail):
    relevance, volume = rng.normal(size=(12, 3)), rng.normal(size=12)
    volume[5] = np.nan
    known = np.isfinite(volume)
    table = biomarker_tests(
        relevance, volume, ["a", "b", "c"], np.random.default_rng(1), n_permutations=200, tail=tail
    )
    assert tuple(table.columns) == BIOMARKER_COLUMNS
    assert set(table["n"]) == {11}
    again = np.random.default_rng(1)
    sided = abs if tail == "two-sided" else float
    orders = [again.permutation(11) for _ in range(200)]
    x, y = relevance[known], volume[known]
    null = np.array([[stats.pearsonr(x[:, k], y[o]).statistic for k in range(3)] for o in orders])
    for k in range(3):
        r = stats.pearsonr(x[:, k], y).statistic
        assert table["r"][k] == pytest.approx(r)
        assert table["p"][k] == (sum(sided(v) >= sided(r) - 1e-12 for v in null[:, k]) + 1) / 201
        largest = [max(sided(v) for v in row) for row in null]
        assert table["p_family"][k] == (sum(v >= sided(r) - 1e-12 for v in largest) + 1) / 201


def test_biomarker_p_is_uniform_under_the_null_and_small_for_a_relation(rng):
    p = [
        biomarker_tests(rng.normal(size=(10, 1)), rng.gamma(1, size=10), ["a"], rng, n_permutations=99).p[0]
        for _ in range(300)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    volume = rng.normal(size=20)
    relevance = -volume[:, None] + 0.1 * rng.normal(size=(20, 1))
    table = biomarker_tests(relevance, volume, ["hippocampus"], rng, n_permutations=99)
    assert table[["p", "smallest_p"]].iloc[0].tolist() == [0.01, 0.01]


def test_a_constant_region_has_no_correlation_and_does_not_hide_the_others(rng):
    volume, others = rng.normal(size=9), rng.normal(size=(9, 2))
    relevance = np.column_stack([np.full(9, 0.1), others])
    table = biomarker_tests(
        relevance, volume, ["flat", "a", "b"], np.random.default_rng(0), n_permutations=50
    )
    assert table.loc[0, ["r", "p", "p_family"]].isna().all()
    alone = biomarker_tests(others, volume, ["a", "b"], np.random.default_rng(0), n_permutations=50)
    assert alone["p_family"].min() > 2 / 51
    np.testing.assert_array_equal(table.loc[1:, "p_family"], alone["p_family"])


@pytest.mark.parametrize(
    ("relevance", "biomarker"),
    [
        (np.ones((5, 2)), np.arange(5.0)),
        (np.ones((4, 1)), np.array([1, 2, np.nan, 3])),
        (np.ones((5, 1)), np.ones(5)),
    ],
)
def test_bad_biomarkers_are_refused(relevance, biomarker, rng):
    with pytest.raises(InputError):
        biomarker_tests(relevance, biomarker, ["a"], rng)
