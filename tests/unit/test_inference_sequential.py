"""Sequential stopping: the textbook's p-values, their validity, and how many permutations are spent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bids_xai.errors import InputError
from bids_xai.inference.permutation import p_value
from bids_xai.inference.sequential import sequential_p, stopped_at

H, M = 5, 100


def textbook(observed, null, h, m):
    """Draw one value after the other: p = h / l at the h-th that reaches, (b + 1) / (m + 1) at the end."""
    reached = 0
    for drawn, value in enumerate(null[:m], start=1):
        reached += value >= observed
        if reached == h:
            return h / drawn, drawn
    return (reached + 1) / (m + 1), m


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.integers(-5, 5), st.integers(1, 6))
def test_p_and_stop_are_the_textbooks(null, observed, h):
    p, spent = textbook(observed, null, h, len(null))
    values = np.array(null, dtype=np.float64)
    assert sequential_p(observed, values, h, len(null)) == p
    assert (stopped_at(observed, values, h) or len(null)) == spent
    assert 0 < p <= 1


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.integers(-5, 5), st.integers(1, 40))
def test_what_comes_after_the_stop_plays_no_part(null, observed, n_more):
    values = np.array(null, dtype=np.float64)
    longer = np.concatenate([values, np.full(n_more, 9.0)])
    stop = stopped_at(observed, values, 3)
    if stop is not None:
        assert stopped_at(observed, longer, 3) == stop
        assert stopped_at(observed, values[: stop - 1], 3) is None
        assert sequential_p(observed, values, 3, 100) == sequential_p(observed, longer, 3, 100) == 3 / stop


def test_a_tie_counts_as_in_p_value():
    null = np.array([0.1 + 0.2, 0.0, 0.3])
    assert stopped_at(0.3, null, 2) == 3
    assert sequential_p(0.3, null, 9, 3) == p_value(0.3, null) == 3 / 4


def test_permutations_beyond_the_largest_number_do_not_count():
    null = np.array([0.0, 5.0, 0.0, 0.0, 5.0])
    assert sequential_p(1.0, null, 2, 3) == p_value(1.0, null[:3]) == 2 / 4
    assert sequential_p(1.0, null, 2, 5) == 2 / 5


def test_h_that_is_never_reached_is_the_plain_permutation_test(rng):
    null = rng.normal(size=199)
    assert sequential_p(1.5, null, 200, 199) == p_value(1.5, null)


def test_p_is_uniform_on_what_it_can_be_under_the_null(rng):
    n = 4000
    draws = rng.normal(size=(n, M + 1))
    p = np.array([sequential_p(row[0], row[1:], H, M) for row in draws])
    levels = [*(k / (M + 1) for k in range(1, H + 1)), *(H / length for length in range(H, M + 1))]
    for level in levels:
        low, high = stats.binom.interval(0.9999, n, level)
        assert low <= (p <= level * (1 + 1e-12)).sum() <= high


def test_few_permutations_are_spent_where_nothing_is_to_be_found(rng):
    # Mean over uniform p of the sum over l < m of P(fewer than h of l reach) = min(1, h / (l + 1)).
    expected = np.minimum(1, H / np.arange(1, M + 1)).sum()
    draws = rng.normal(size=(4000, M + 1))
    spent = np.array([stopped_at(row[0], row[1:], H) or M for row in draws])
    assert abs(spent.mean() - expected) < 4 * spent.std() / np.sqrt(len(spent))
    assert expected < 0.25 * M


def test_an_undecided_prefix_and_no_exceedances_are_refused():
    with pytest.raises(InputError, match="2 of at most 9 permutations"):
        sequential_p(5.0, np.zeros(2), 1, 9)
    with pytest.raises(InputError, match="after 0 exceedances"):
        stopped_at(0.0, np.zeros(3), 0)
