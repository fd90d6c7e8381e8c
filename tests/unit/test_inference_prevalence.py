"""Prevalence inference and groups of chance: all groups enumerated, and error rates under the null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from bids_xai.inference import group_bootstrap
from bids_xai.inference.group_bootstrap import drawn_groups, group_mean_p
from bids_xai.inference.prevalence import infer_prevalence, largest_prevalence, prevalence_p

N_PEOPLE, M = 6, 39


def all_groups(observed, null):
    """Enumerate every group of one value per person, the observed value among them: (n, people, scopes)."""
    values = np.concatenate([observed[None], null])
    people = range(observed.shape[0])
    choices = itertools.product(range(len(values)), repeat=len(people))
    return np.array([[values[i, k] for i, k in zip(chosen, people, strict=True)] for chosen in choices])


def textbook(observed, null, alpha=0.05):
    """Allefeld et al. (2016), equations 24, 26, 19, 21, 20 and 23, from all second-level permutations."""
    groups, n = all_groups(observed, null), observed.shape[0]
    m = observed.min(axis=0)
    minima = groups.min(axis=1)
    p_global = (minima >= m).mean(axis=0)
    corrected = (minima.max(axis=1)[:, None] >= m).mean(axis=0)
    p_majority = ((1 - 0.5) * p_global ** (1 / n) + 0.5) ** n
    level = (alpha - corrected) / (1 - corrected)

    def share(alpha, p):
        return (alpha ** (1 / n) - p ** (1 / n)) / (1 - p ** (1 / n)) if p <= alpha else np.nan

    return {
        "minimum": m, "p_global": p_global, "p_global_corrected": corrected, "p_majority": p_majority,
        "p_majority_corrected": corrected + (1 - corrected) * p_majority,
        "prevalence": [share(alpha, p) for p in p_global],
        "prevalence_corrected": [share(a, p) for a, p in zip(level, p_global, strict=True)],
    }  # fmt: skip


def accuracies(rng, effects, n=20):
    """Return accuracies of people with an effect each, and of their permutations: shares of n samples."""
    observed = rng.binomial(n, 0.5 + effects, (1, len(effects)))[0] / n
    return observed[:, None], rng.binomial(n, 0.5, (M, len(effects)))[..., None] / n


@pytest.mark.parametrize("effect", [0.0, 0.2, 0.45])
def test_inference_equals_the_textbook_over_all_groups(effect, rng):
    null = rng.binomial(10, 0.5, (5, 4, 3)) / 10
    observed = rng.binomial(10, 0.5 + effect, (4, 3)) / 10
    found, expected = infer_prevalence(observed, null, rng), textbook(observed, null)
    for name in ("minimum", "p_global", "p_majority", "prevalence"):
        np.testing.assert_allclose(getattr(found, name), expected[name], rtol=1e-12)
    # Drawn, not enumerated: 1e5 groups.
    for name in ("p_global_corrected", "p_majority_corrected"):
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=0.006)
    certain = np.abs(expected["p_global_corrected"] - 0.05) > 0.01
    np.testing.assert_allclose(
        found.prevalence_corrected[certain], np.array(expected["prevalence_corrected"])[certain], atol=0.05
    )


def test_one_scope_is_not_corrected(rng):
    found = infer_prevalence(*accuracies(rng, np.full(N_PEOPLE, 0.3)), rng, n_draws=10)
    np.testing.assert_array_equal(found.p_global_corrected, found.p_global)
    np.testing.assert_array_equal(found.p_majority_corrected, found.p_majority)
    np.testing.assert_array_equal(found.prevalence_corrected, found.prevalence)


def test_the_largest_prevalence_is_where_its_p_is_alpha():
    p = np.array([1e-9, 1e-4, 0.02, 0.05])
    shares = largest_prevalence(p, 8, 0.05)
    np.testing.assert_allclose(
        [prevalence_p(p[i : i + 1], 8, share)[0] for i, share in enumerate(shares)], 0.05
    )
    assert shares[-1] == pytest.approx(0)
    assert np.isnan(largest_prevalence(np.array([0.0501, 1.0]), 8, 0.05)).all()
    np.testing.assert_allclose(prevalence_p(p, 8, 0), p)


def test_smallest_values_have_no_effect_and_nothing_breaks(rng):
    found = infer_prevalence(np.zeros((3, 2)), rng.random((9, 3, 2)), rng, n_draws=50)
    np.testing.assert_array_equal(found.p_global, 1)
    np.testing.assert_array_equal(found.p_majority_corrected, 1)
    assert np.isnan(found.prevalence_corrected).all()


def rejections(effects_of, n_datasets, seed, n_averaged=1):
    """Return how often the global and the majority null and that of the mean are rejected at .05."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(3, dtype=int)
    for _ in range(n_datasets):
        effects = effects_of(rng)
        null = accuracies(rng, effects)[1]
        observed = np.mean([accuracies(rng, effects)[0] for _ in range(n_averaged)], axis=0)
        found = infer_prevalence(observed, null, rng, n_draws=1)
        p_mean, _ = group_mean_p(observed, null, rng, n_draws=500)
        counts += [found.p_global[0] <= 0.05, found.p_majority[0] <= 0.05, p_mean[0] <= 0.05]
    return counts


def test_no_effect_in_anyone_is_found_in_at_most_alpha():
    n = 600
    highest = stats.binom.ppf(0.999, n, 0.05)
    everyone, majority, mean = rejections(lambda rng: np.zeros(N_PEOPLE), n, 1)  # noqa: ARG005
    assert everyone <= highest
    assert mean <= highest
    assert majority == 0
    # Discrete accuracies: some are lost to ties, not most.
    assert everyone >= stats.binom.ppf(0.001, n, 0.02)
    assert mean >= stats.binom.ppf(0.001, n, 0.02)


def test_an_effect_in_half_of_the_population_is_no_majority():
    def half(rng):
        return 0.48 * (rng.random(N_PEOPLE) < 0.5)

    everyone, majority, _ = rejections(half, 400, 2)
    assert majority <= stats.binom.ppf(0.999, 400, 0.05)
    assert everyone > majority


def test_an_effect_in_everyone_is_a_majority():
    assert rejections(lambda rng: np.full(N_PEOPLE, 0.45), 30, 3).min() == 30  # noqa: ARG005


def test_averages_over_repetitions_would_find_too_much():
    # The minimum of averages is large without an effect: hence one repetition, not their mean.
    everyone, _, _ = rejections(lambda rng: np.zeros(N_PEOPLE), 100, 4, n_averaged=20)  # noqa: ARG005
    assert everyone > 2 * stats.binom.ppf(0.999, 100, 0.05)


def test_the_group_mean_is_compared_with_all_groups(rng):
    observed, null = rng.random((4, 2)) + 0.2, rng.random((5, 4, 2))
    means = all_groups(observed, null).mean(axis=1)
    p, highest = group_mean_p(observed, null, rng)
    expected = (means >= observed.mean(axis=0) - 1e-12).mean(axis=0)
    np.testing.assert_allclose(p, expected, atol=4 * np.sqrt(0.25 / 1e5))
    np.testing.assert_allclose(highest, np.quantile(means, 0.95, axis=0), atol=0.01)
    # Far above its null, p is that of the one group that is observed, 1 / 6^4.
    p, _ = group_mean_p(observed + 5, null, rng)
    np.testing.assert_allclose(p, 1 / 6**4, rtol=0.5)
    # No group drawn reaches the mean of many people, and p is not 0.
    p, _ = group_mean_p(np.full((12, 1), 9.0), rng.random((5, 12, 1)), rng, n_draws=20)
    np.testing.assert_allclose(p, 1 / 21)


def test_groups_are_drawn_person_by_person_whatever_the_block(rng, monkeypatch):
    values = np.arange(5 * 3 * 2).reshape(5, 3, 2).astype(float)
    monkeypatch.setattr(group_bootstrap, "_BLOCK_VALUES", 60)
    blocks = list(drawn_groups(values, 25, rng))
    assert [len(block) for block in blocks] == [10, 10, 5]
    groups = np.concatenate(blocks)
    number = groups[..., 0] // 6
    for person in range(3):
        np.testing.assert_array_equal(groups[:, person], values[number[:, person].astype(int), person])
    assert len(np.unique(number, axis=0)) > 15
