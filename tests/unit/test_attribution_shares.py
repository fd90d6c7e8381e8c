"""Maps as shares: against a slow textbook version, and where there is nothing to divide by."""

from __future__ import annotations

import numpy as np
import pytest

from bids_xai.attribution import EXPLANATIONS, IMPORTANCES, MAP_VALUES, RAW, SHARE
from bids_xai.attribution.shares import as_shares, is_shared, silent
from bids_xai.registry import Attribution


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_absolute_shares_sum_to_one(dtype: type) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 50)).astype(dtype)
    shares = as_shares(maps)
    slow = np.array([[[v / sum(abs(u) for u in row) for v in row] for row in rows] for rows in maps])
    assert shares.dtype == dtype
    np.testing.assert_allclose(shares, slow, rtol=1e-6)
    np.testing.assert_allclose(np.abs(shares).sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1.0, 1e30, 1e37])
def test_shares_do_not_depend_on_the_size_of_the_map(scale: float) -> None:
    pattern = np.array([[8.0, -4.0, 2.0, 1.0, 1.0]])
    scaled = (pattern * scale).astype(np.float32)
    np.testing.assert_allclose(as_shares(scaled), pattern / 16, rtol=2e-3 if scale < 1e-38 else 1e-6)


def test_a_map_of_zeros_stays_one_and_is_told() -> None:
    maps = np.array([[0.0, 0.0], [1.0, -3.0]], dtype=np.float32)
    np.testing.assert_array_equal(as_shares(maps), [[0, 0], [0.25, -0.75]])
    np.testing.assert_array_equal(silent(maps), [True, False])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(value: float) -> None:
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(as_shares(np.array([[1.0, value, 2.0]]))).all()


def test_no_voxel() -> None:
    assert as_shares(np.zeros((2, 0), np.float32)).shape == (2, 0)


@pytest.mark.parametrize("entry", [*IMPORTANCES.values(), *EXPLANATIONS.values()], ids=lambda own: own.name)
def test_a_method_without_a_scale_says_what_its_size_follows(entry: Attribution) -> None:
    assert entry.scale or entry.scale_has_meaning
    assert is_shared(entry, SHARE) is not entry.scale_has_meaning
    assert not is_shared(entry, RAW)
    # What sums to the output is as large as it.
    assert not (entry.sums_to_output and entry.scale_has_meaning)


def test_map_values_of_the_setting() -> None:
    assert MAP_VALUES == ("share", "raw")
