"""Streaming nulls, against sorting everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bids_xai.errors import InputError
from bids_xai.inference.ledger import Ledger
from bids_xai.inference.null import (
    NullAccumulator,
    TopK,
    kept_values,
    ledger_thresholds,
    load_top,
    merge_rows,
)
from bids_xai.inference.thresholds import voxel_thresholds

SHAPE = (2, 3, 5)
# Few distinct values, among them 0 and -0: ties happen.
_VALUES = st.sampled_from([np.float32(value) for value in (-2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2)])


def _maps(n: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, (n, 4), elements=_VALUES)


def _sorted(maps: np.ndarray) -> np.ndarray:
    return np.sort(maps, axis=0)[::-1]


@settings(max_examples=60, deadline=None)
@given(_maps(23), st.integers(1, 30), st.booleans())
def test_streaming_equals_sorting_all_maps(maps: np.ndarray, k: int, absolute: bool) -> None:
    top = TopK(k, maps.shape[1:], absolute=absolute)
    for one in maps:
        top.update(one)
    np.testing.assert_array_equal(top.values(), _sorted(np.abs(maps) if absolute else maps)[:k])


@settings(max_examples=60, deadline=None)
@given(_maps(23), st.integers(1, 30), st.lists(st.integers(1, 22), max_size=4), st.randoms())
def test_chunks_merge_to_the_same_bits_in_any_order(
    maps: np.ndarray, k: int, cuts: list[int], random: object
) -> None:
    chunks = []
    for part in np.split(maps, sorted(set(cuts))):
        top = TopK(min(k, len(part)), maps.shape[1:])
        for one in part:
            top.update(one)
        chunks.append(top.rows())
    random.shuffle(chunks)  # type: ignore[attr-defined]
    merged = chunks[0]
    for rows in chunks[1:]:
        merged = merge_rows(merged, rows, k)
    expected = np.ascontiguousarray(_sorted(maps)[:k].T) + np.float32(0)
    assert merged.tobytes() == expected.tobytes()


def test_top_values_copy_their_maps(rng: np.random.Generator) -> None:
    one = rng.standard_normal(5).astype(np.float32)
    top, before = TopK(1, one.shape), one.copy()
    top.update(one)
    one[:] = 99
    np.testing.assert_array_equal(top.values()[0], before)


def test_maps_need_not_be_contiguous(rng: np.random.Generator) -> None:
    maps = rng.standard_normal((6, 4, 5)).astype(np.float32)
    top = TopK(2, (5, 4))
    for one in maps:
        top.update(one.T)
    np.testing.assert_array_equal(top.values(), _sorted(maps.transpose(0, 2, 1))[:2])


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_chunks_of_null_runs_fill_a_ledger(tail: str, rng: np.random.Generator, tmp_path: Path) -> None:
    runs, alphas = rng.standard_normal((40, *SHAPE)).astype(np.float32), [0.01, 0.05, 0.2]
    compared = np.abs(runs) if tail == "two-sided" else runs
    k = kept_values(40, alphas)
    ledger = Ledger.create(tmp_path, SHAPE, n_runs=40, chunk_size=7, value_bytes=4 * k)
    maxima = {}
    for start in (35, 0, 14, 7, 28, 21):
        part = runs[start : start + 7]
        null = NullAccumulator(40, alphas, SHAPE, tail, n_runs=len(part))
        for maps in part:
            null.update(maps)
        ledger.add(start, null.merged)
        maxima[start] = null.run_arrays()["maxima"]
    expected = _sorted(compared)[:k]
    np.testing.assert_array_equal(load_top(ledger, 40), expected)
    np.testing.assert_array_equal(
        ledger_thresholds(ledger, 40, alphas), voxel_thresholds(expected, 40, alphas)
    )
    np.testing.assert_array_equal(
        np.concatenate([maxima[start] for start in sorted(maxima)]), compared.max(axis=3)
    )


def test_accumulator_gives_top_values_and_maxima(rng: np.random.Generator) -> None:
    runs = rng.standard_normal((40, *SHAPE)).astype(np.float32)
    null = NullAccumulator(40, [0.01, 0.05], SHAPE)
    for maps in runs:
        null.update(maps)
    np.testing.assert_array_equal(null.arrays()["top"], _sorted(runs)[:2])
    np.testing.assert_array_equal(null.arrays()["maxima"], runs.max(axis=3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_maps_that_are_not_finite_are_refused(value: float, tail: str) -> None:
    maps = np.zeros(SHAPE, dtype=np.float32)
    maps[0, 1, 2] = value
    with pytest.raises(InputError, match="diverged"):
        NullAccumulator(10, [0.1], SHAPE, tail).update(maps)
