"""Streaming nulls, against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bids_xai.errors import InputError
from bids_xai.inference.null import NullAccumulator, TopK, kept_values, merge_top

SHAPE = (2, 3, 5)
# Few distinct values: ties happen.
_VALUES = st.integers(-4, 4).map(lambda value: np.float32(value / 2))


def _maps(n: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, (n, 4), elements=_VALUES)


@settings(max_examples=40)
@given(_maps(23), st.integers(1, 30), st.lists(st.integers(1, 22), max_size=4))
def test_chunks_merge_into_what_sorting_everything_gives(maps: np.ndarray, k: int, cuts: list[int]) -> None:
    chunks = []
    for part in np.split(maps, sorted(cuts)):
        top = TopK(k, maps.shape[1:])
        for one in part:
            top.update(one)
        chunks.append(top.values())
    expected = -np.sort(-maps, axis=0)[:k]
    out = np.empty((min(k, len(maps)), 4), dtype=np.float32)
    merge_top(chunks, out)
    np.testing.assert_array_equal(out, expected)


def test_top_values_cross_tiles(rng: np.random.Generator) -> None:
    maps = rng.standard_normal((9, 2, 5000)).astype(np.float32)
    top = TopK(2, maps.shape[1:])
    for one in maps:
        top.update(one)
    expected = -np.sort(-maps, axis=0)[:2]
    np.testing.assert_array_equal(top.values(), expected)
    out = np.empty_like(expected)
    merge_top(list(maps[:, None]), out)
    np.testing.assert_array_equal(out, expected)


def test_top_values_copy_their_maps(rng: np.random.Generator) -> None:
    one = rng.standard_normal(5).astype(np.float32)
    top, before = TopK(1, one.shape), one.copy()
    top.update(one)
    one[:] = 99
    np.testing.assert_array_equal(top.values()[0], before)


def test_too_few_values_to_merge_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than the 3"):
        merge_top([np.zeros((2, 4), np.float32)], np.empty((3, 4), np.float32))


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_accumulator_keeps_top_values_and_maxima(tail: str, rng: np.random.Generator) -> None:
    runs = rng.standard_normal((40, *SHAPE)).astype(np.float32)
    null = NullAccumulator(40, [0.01, 0.05], SHAPE, tail)
    for maps in runs:
        null.update(maps)
    compared = np.abs(runs) if tail == "two-sided" else runs
    np.testing.assert_array_equal(
        null.arrays()["top"], -np.sort(-compared, axis=0)[: kept_values(40, [0.05])]
    )
    np.testing.assert_array_equal(null.arrays()["maxima"], compared.max(axis=3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_refused(value: float) -> None:
    maps = np.zeros(SHAPE, dtype=np.float32)
    maps[0, 1, 2] = value
    with pytest.raises(InputError, match="diverged"):
        NullAccumulator(10, [0.1], SHAPE).update(maps)
