"""Tails of null distributions: estimates, goodness of fit, and p-values against known distributions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import integrate, stats

from bids_xai.inference import tail
from bids_xai.inference.tail import (
    anderson_darling,
    exceedances,
    fit_pareto,
    fits,
    tail_family_p_map,
    tail_p,
    tail_p_map,
)
from bids_xai.inference.thresholds import family_p_map, p_map

KNOWN = {
    "normal": stats.norm, "t": stats.t(5), "exponential": stats.expon, "gumbel": stats.gumbel_r,
    "absolute normal": stats.halfnorm,
}  # fmt: skip


def drawn(shape, n, n_series, rng):
    return np.sort(stats.genpareto(shape, scale=2.0).rvs(size=(n, n_series), random_state=rng), axis=0)


def largest_of(distribution, m, n_series, rng):
    return -np.sort(-distribution.rvs(size=(m, n_series), random_state=rng), axis=0)


def textbook_fit(y):
    """Zhang and Stephens (2009), one number after the other: grid, weights, shapes, shape and scale."""
    y = sorted(y)
    n = len(y)
    m = 30 + int(np.sqrt(n))
    quartile, largest = y[int(n / 4 + 0.5) - 1], y[-1]
    grid, shapes, likelihoods = [], [], []
    for j in range(1, m + 1):
        theta = 1 / largest + (1 - np.sqrt(m / (j - 0.5))) / (3 * quartile)
        k = -np.mean([np.log(1 - theta * value) for value in y])
        grid.append(theta)
        shapes.append(-k)
        likelihoods.append(n * (np.log(theta / k) + k - 1))
    weights = [1 / sum(np.exp(other - own) for other in likelihoods) for own in likelihoods]
    theta = sum(w * t for w, t in zip(weights, grid, strict=True))
    k = -np.mean([np.log(1 - theta * value) for value in y])
    return grid, weights, shapes, -k, k / theta


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4])
def test_the_fit_is_the_textbooks(shape, rng):
    y = drawn(shape, 60, 3, rng)
    pareto = fit_pareto(y)
    for number in range(3):
        grid, weights, shapes, estimate, scale = textbook_fit(y[:, number])
        np.testing.assert_allclose(pareto.theta[number], grid, rtol=1e-9)
        np.testing.assert_allclose(pareto.weights[number], weights, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(pareto.shapes[number], shapes, rtol=1e-9)
        np.testing.assert_allclose([pareto.shape[number], pareto.scale[number]], [estimate, scale], rtol=1e-9)


@pytest.mark.parametrize("shape", [-0.3, 0.01, 0.4])
def test_estimates_agree_with_scipys_maximum_likelihood(shape, rng):
    y = drawn(shape, 2000, 4, rng)
    pareto = fit_pareto(y)
    np.testing.assert_allclose(pareto.shape, shape, atol=0.1)
    for number in range(4):
        estimate, _, scale = stats.genpareto.fit(y[:, number], floc=0)
        np.testing.assert_allclose([pareto.shape[number], pareto.scale[number]], [estimate, scale], atol=0.02)
    expected = stats.genpareto(pareto.shape, scale=pareto.scale).logsf(1.5)
    np.testing.assert_allclose(pareto.log_survival(np.full((1, 4), 1.5))[0], expected, rtol=1e-9)


def test_survival_is_the_posterior_mean(rng):
    y = drawn(-0.2, 30, 1, rng)
    pareto = fit_pareto(y)
    at, total = 1.2 * y[-1, 0], 0.0
    for theta, weight in zip(pareto.theta[0], pareto.weights[0], strict=True):
        # Given theta, -log(1 - theta Y) is exponential; its rate has a gamma posterior of shape n.
        sum_of_logs = abs(np.log1p(-theta * y).sum())
        if theta * at < 1:
            hazard = abs(np.log1p(-theta * at))
            rate = stats.gamma(30, scale=1 / sum_of_logs)
            total += weight * integrate.quad(
                lambda u, hazard=hazard, rate=rate: np.exp(-u * hazard) * rate.pdf(u),
                0, rate.ppf(1 - 1e-13), epsabs=1e-15,
            )[0]  # fmt: skip
    np.testing.assert_allclose(pareto.survival(np.array([[at]])), total, rtol=1e-6)
    falls = pareto.survival(np.linspace(0, 100, 50)[:, None])[:, 0]
    assert falls[0] == pytest.approx(1)
    assert (np.diff(falls) < 0).all()
    assert falls[-1] > 0


def test_distance_from_the_fit_is_the_textbooks(rng):
    y = drawn(0.2, 40, 2, rng)
    pareto = fit_pareto(y)
    for number in range(2):
        z = stats.genpareto(pareto.shape[number], scale=pareto.scale[number]).cdf(y[:, number])
        total = sum((2 * i - 1) * (np.log(z[i - 1]) + np.log(1 - z[40 - i])) for i in range(1, 41))
        assert anderson_darling(y, pareto)[number] == pytest.approx(-40 - total / 40)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_goodness_of_fit_keeps_its_level(shape, rng):
    y = drawn(shape, 100, 2000, rng)
    refused = ~fits(y, fit_pareto(y))
    # The points are for large n: at n = 100 the level is .03 to .05.
    assert stats.binom.ppf(0.001, 2000, 0.02) <= refused.sum() <= stats.binom.ppf(0.999, 2000, 0.05)


def test_goodness_of_fit_refuses_what_is_no_pareto_tail(rng):
    bounded = np.sort(np.where(rng.random((100, 200)) < 0.5, rng.uniform(0, 1, (100, 200)),
                               rng.uniform(3, 3.2, (100, 200))), axis=0)  # fmt: skip
    assert (~fits(bounded, fit_pareto(bounded))).mean() > 0.95


def test_a_discrete_null_is_counted(rng):
    null = -np.sort(-rng.binomial(10, 0.5, (500, 20)) / 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p, fitted = tail_p(np.full((1, 20), 1.1), null, 500)
    assert not fitted.any()
    assert np.isnan(p).all()


def test_p_is_the_share_beyond_the_threshold_times_the_survival(rng):
    null = largest_of(stats.expon, 1000, 1, rng)
    threshold = (null[99, 0] + null[100, 0]) / 2
    y = np.sort(null[:100], axis=0) - threshold
    assert fits(y, fit_pareto(y)).all()
    expected = 0.1 * fit_pareto(y).survival(np.array([[9.0 - threshold]]))
    np.testing.assert_allclose(tail_p(np.array([[9.0]]), null, 1000)[0], expected, rtol=1e-12)


def test_accuracies_of_many_samples_are_nearly_continuous(rng):
    n = 2100
    null = -np.sort(-rng.binomial(n, 0.2, (1000, 200)) / n, axis=0)
    chance = stats.binom(n, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p, fitted = tail_p(np.full((1, 200), chance.isf(1e-4) / n), null, 1000)
    assert fitted.mean() > 0.7
    assert 0.7 < np.exp(np.mean(np.log(p[:, fitted] / chance.sf(chance.isf(1e-4) - 1)))) < 3


def test_a_grid_point_at_zero_has_the_fit_of_its_neighbours():
    # A quartile of 1 and a maximum of 3: the ninth of 34 thetas is 0.
    y = np.concatenate([np.linspace(0.2, 1, 5), np.linspace(1.1, 3, 15)])[:, None]
    pareto, near = fit_pareto(y), fit_pareto(y * (1 + 1e-7 * np.arange(20)[:, None]))
    np.testing.assert_allclose(pareto.shape, near.shape, rtol=1e-4)
    np.testing.assert_allclose(pareto.weights, near.weights, atol=1e-5)
    np.testing.assert_allclose(pareto.survival(4 * y), near.survival(4 * y), rtol=1e-4)


@pytest.mark.parametrize("m", [200, 500, 1000])
@pytest.mark.parametrize("name", KNOWN)
def test_p_is_near_the_true_one_down_to_a_hundred_thousandth(m, name, rng):
    true = np.array([1e-3, 1e-4, 1e-5])
    observed = np.repeat(KNOWN[name].isf(true)[:, None], 300, axis=1)
    p, fitted = tail_p(observed, largest_of(KNOWN[name], m, 300, rng), m)
    assert fitted.mean() > 0.98
    errors = np.log(p / true[:, None])[:, fitted]
    # In a minority of series 10 of m null values reach even the first: those are counted.
    mean = np.exp(np.nanmean(errors, axis=1))
    assert (mean > [0.7, 0.7, 0.7]).all()
    assert (mean < [2, 7, 40]).all()
    if m == 1000:
        assert (mean < [1.5, 3, 10]).all()
    assert (np.nanquantile(p, 0.05, axis=1) > true / 40).all()


@pytest.mark.parametrize("name", KNOWN)
def test_type_one_error_is_alpha(name, rng):
    m, n = 500, 20000
    draws = -KNOWN[name].rvs(size=(m + 1, n), random_state=rng)
    observed, null = -draws[:1], -np.sort(draws[1:], axis=0)
    p, _ = tail_p(observed, null, m)
    counted = ((null >= observed).sum(axis=0) + 1) / (m + 1)
    p = np.where(np.isnan(p[0]), counted, p[0])
    for alpha in (0.05, 0.01, 0.005):
        # A threshold that is estimated from 50 exceedances costs up to a quarter of alpha at .005.
        low, high = stats.binom.ppf([0.0005, 0.9995], n, [0.8 * alpha, 1.25 * alpha])
        assert low <= (p <= alpha).sum() <= high
    assert p.min() > 0


def test_p_falls_with_what_was_observed_and_stops_at_what_the_design_allows(rng):
    null = largest_of(stats.norm, 1000, 1, rng)
    observed = np.linspace(null[9, 0], 1e6, 2000)[:, None]
    p, fitted = tail_p(observed, null, 1000, smallest=1 / 70)
    assert fitted[0]
    assert np.isnan(p[0, 0])  # ten null values reach it: counted
    assert np.nanmin(p) == 1 / 70
    p = tail_p(observed, null, 1000)[0][1:, 0]
    assert (np.diff(p) <= 0).all()
    assert (p > 0).all()
    assert p[0] < 0.02


def test_kept_values_and_tiles_give_what_all_values_give(rng, monkeypatch):
    null, observed = largest_of(stats.norm, 1000, 9, rng), rng.normal(3, 1, (4, 9))
    p, fitted = tail_p(observed, null, 1000)
    for kept in (exceedances(1000) + 1, 500):
        np.testing.assert_array_equal(tail_p(observed, null[:kept], 1000)[0], p)
    monkeypatch.setattr(tail, "_TILE_VALUES", 250)
    again, fitted_again = tail_p(observed, null, 1000)
    np.testing.assert_array_equal(again, p)
    np.testing.assert_array_equal(fitted_again, fitted)


@pytest.mark.parametrize(
    ("m", "kept", "expected"),
    [(79, None, 0), (80, None, 20), (200, None, 50), (1000, None, 100), (9999, None, 250), (1000, 50, 49),
     (1000, 21, 20), (1000, 20, 0)],
)  # fmt: skip
def test_number_of_exceedances(m, kept, expected):
    assert exceedances(m, kept) == expected


def test_too_few_values_are_counted(rng):
    p, fitted = tail_p(np.full((1, 3), 9.0), largest_of(stats.norm, 79, 3, rng), 79)
    assert np.isnan(p).all()
    assert not fitted.any()


def test_fewer_exceedances_are_taken_until_they_fit(rng):
    # A tail that begins late: below its upper 40 values the null is in two heaps.
    upper = 10 + stats.expon.rvs(size=(40, 200), random_state=rng)
    null = -np.sort(-np.concatenate([upper, rng.uniform(9, 9.01, (60, 200)), rng.normal(size=(900, 200))]), 0)
    y = null[:100][::-1] - null[100]
    assert not fits(y, fit_pareto(y)).any()
    p, fitted = tail_p(np.full((1, 200), 10 + stats.expon.isf(0.025)), null, 1000)
    assert fitted.mean() > 0.9
    # 40 of 1000 lie beyond 10, and .025 of these beyond the observed value.
    assert 0.5 < np.exp(np.nanmean(np.log(p / 0.001))) < 2


def test_maps_are_counted_where_ten_null_values_reach(rng):
    null = rng.normal(size=(500, 2, 30)).astype(np.float32)
    observed = rng.normal(2, 1.5, (2, 30)).astype(np.float32)
    top = -np.sort(-null, axis=0)[:60]
    counted = p_map(observed, top, 500)
    p = tail_p_map(counted, observed, top, 500, smallest=1e-4)
    reached = (null >= observed).sum(axis=0)
    np.testing.assert_array_equal(p[reached >= 10], counted[reached >= 10])
    assert (p[reached < 10] != counted[reached < 10]).mean() > 0.9
    assert p.min() == np.float32(1e-4)
    flat = top.reshape(60, -1).astype(np.float64)
    expected, _ = tail_p(observed.reshape(1, -1), flat, 500, 1e-4)
    few = (reached < 10).ravel() & ~np.isnan(expected[0])
    np.testing.assert_array_equal(p.ravel()[few], expected[0].astype(np.float32)[few])
    # 20 kept values are 19 exceedances: too few to fit.
    np.testing.assert_array_equal(tail_p_map(counted, observed, top[:20], 500), counted)


def test_family_wise_maps_have_the_tail_of_the_maxima(rng):
    maxima = rng.gumbel(size=(500, 2, 3)).astype(np.float32)
    observed = rng.gumbel(3, 2, (2, 3, 40)).astype(np.float32)
    counted = family_p_map(observed, maxima)
    p = tail_family_p_map(counted, observed, maxima)
    reached = (maxima[..., None] >= observed).sum(axis=0)
    np.testing.assert_array_equal(p[reached >= 10], counted[reached >= 10])
    far = (reached == 0) & (observed > 12)
    assert far.any()
    assert (p[far] < 1 / 501).all()
    assert (p[far] > 0).all()
    largest = -np.sort(-maxima, axis=0)
    expected, _ = tail_p(observed[1, 2][:, None], largest[:, 1, 2][:, None], 500)
    few = reached[1, 2] < 10
    np.testing.assert_array_equal(p[1, 2][few], expected[few, 0].astype(np.float32))


def test_a_family_without_a_fit_is_counted(rng):
    maxima = rng.integers(0, 3, (500, 1)).astype(np.float32)
    observed = np.array([[5.0, 1.0]], np.float32)
    counted = family_p_map(observed, maxima)
    np.testing.assert_array_equal(tail_family_p_map(counted, observed, maxima), counted)
    assert counted[0, 0] == np.float32(1 / 501)


@pytest.mark.parametrize("name", ["normal", "exponential", "t"])
def test_tails_without_an_end_err_on_the_safe_side(name, rng):
    # Of 20 000 values against nulls of their own distribution: share of p at most x, in units of x.
    distribution = KNOWN[name]
    null = largest_of(distribution, 199, 20_000, rng)[:21].astype(np.float32)
    observed = distribution.rvs(size=20_000, random_state=rng).astype(np.float32)
    p = tail_p_map(p_map(observed, null, 199), observed, null, 199, endless=True)
    assert (p < 1 / 200).any()
    for x in (0.005, 0.002, 0.001):
        assert (p <= x).sum() <= stats.binom.ppf(0.999, 20_000, x)


def test_an_endless_fit_is_the_exponential_where_the_best_one_ends(rng):
    y = np.sort(rng.uniform(0, 1, (100, 3)), axis=0)
    free, endless = fit_pareto(y), fit_pareto(y, endless=True)
    assert (free.shape < -0.5).all()
    np.testing.assert_allclose(endless.scale, y.mean(axis=0), rtol=1e-2)
    expected = (1 + 5 / y.mean(axis=0) / 100) ** -100
    np.testing.assert_allclose(endless.survival(np.full((1, 3), 5.0))[0], expected, rtol=0.1)
    heavy = np.sort(stats.genpareto(0.5).rvs(size=(200, 2), random_state=rng), axis=0)
    np.testing.assert_allclose(fit_pareto(heavy, endless=True).shape, fit_pareto(heavy).shape, rtol=0.05)
