"""Reproducibility, against keeping every map."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bids_xai.errors import InputError
from bids_xai.inference.ledger import Ledger
from bids_xai.inference.reproducibility import (
    ExceedanceCounter,
    load_counts,
    reproducibility_curve,
    reproducibility_threshold,
)

SHAPE = (2, 3, 7)


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_counts_and_sums_equal_those_of_kept_maps(
    tail: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    runs = rng.standard_normal((11, *SHAPE)).astype(np.float32)
    thresholds = rng.uniform(0, 1, (2, *SHAPE)).astype(np.float32)
    thresholds[1, 0, 0, :3] = np.inf
    ledger = Ledger.create(tmp_path, SHAPE, n_runs=11, chunk_size=4, value_bytes=24)
    together = ExceedanceCounter(thresholds, tail)
    for start in (8, 0, 4):
        counter = ExceedanceCounter(thresholds, tail)
        for maps in runs[start : start + 4]:
            counter.update(maps)
            together.update(maps)
        ledger.add(start, counter.merged)
    counts, total = load_counts(ledger, 11)
    np.testing.assert_array_equal(together.arrays()["counts"], counts)
    np.testing.assert_array_equal(together.arrays()["total"], total)
    compared = np.abs(runs) if tail == "two-sided" else runs
    np.testing.assert_array_equal(counts, (compared[:, None] > thresholds).sum(axis=0))
    assert total.tolist() == [
        [[math.fsum(voxel) for voxel in rows.T] for rows in method.transpose(1, 0, 2)]
        for method in runs.astype(np.float64).transpose(1, 0, 2, 3)
    ]


# What float32 values the fixed point holds exactly: multiples of 2^-60, up to 2^23.
_EXACT = st.integers(-(2**24), 2**24).flatmap(
    lambda digits: st.integers(-60, -1).map(lambda exponent: np.float32(digits * 2.0**exponent))
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_EXACT, min_size=1, max_size=12), st.randoms())
def test_sums_are_exact_in_any_order(values: list[np.float32], random: object) -> None:
    sums = []
    for _ in range(2):
        counter = ExceedanceCounter(np.zeros((1, 1, 1, 1), np.float32))
        for value in values:
            counter.update(np.full((1, 1, 1), value))
        sums.append(counter.merged(slice(0, 1), None)["sums"].copy())
        random.shuffle(values)  # type: ignore[attr-defined]
    assert sums[0].tobytes() == sums[1].tobytes()
    exact = sum(Fraction(float(value)) for value in values)
    assert Fraction(int(sums[0][0, 0]), 2**20) + Fraction(int(sums[0][1, 0]), 2**60) == exact


def test_values_below_the_fixed_point_are_rounded() -> None:
    counter = ExceedanceCounter(np.zeros((1, 1, 1, 1), np.float32))
    for _ in range(3):
        counter.update(np.full((1, 1, 1), np.float32(2.0**-59 + 2.0**-62)))
    assert counter.sums.tolist() == [[0], [6]]


def test_values_too_large_to_be_summed_are_refused() -> None:
    counter = ExceedanceCounter(np.zeros((1, 1, 1, 1), np.float32))
    counter.update(np.full((1, 1, 1), -np.float32(2**23)))
    with pytest.raises(InputError, match=r"importance of 1.68e\+07"):
        counter.update(np.full((1, 1, 1), -np.float32(2**24)))


def test_a_value_equal_to_its_threshold_does_not_pass() -> None:
    counter = ExceedanceCounter(np.ones((1, 1, 1, 2), np.float32))
    counter.update(np.array([[[1.0, np.nextafter(np.float32(1), np.float32(2))]]], np.float32))
    np.testing.assert_array_equal(counter.counts, [[0, 1]])


def test_maps_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="diverged"):
        ExceedanceCounter(np.zeros((1, 1, 1, 2), np.float32)).update(np.array([[[0, np.nan]]], np.float32))


@settings(max_examples=40)
@given(hnp.arrays(np.int32, (2, 3, 9), elements=st.integers(0, 6)))
def test_curve_counts_the_voxels_at_least_as_reproducible(counts: np.ndarray) -> None:
    curve = reproducibility_curve(counts, 6)
    for x in range(7):
        np.testing.assert_array_equal(curve[..., x], (counts >= x).sum(axis=-1))


def test_threshold_is_the_highest_share_by_chance() -> None:
    counts = np.array([[[3, 0, 1], [0, 0, 0]]], dtype=np.int32)
    np.testing.assert_array_equal(reproducibility_threshold(counts, 6), [[0.5, 0.0]])
