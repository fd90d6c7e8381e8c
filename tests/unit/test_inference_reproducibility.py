"""Reproducibility, against keeping every map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bids_xai.errors import InputError
from bids_xai.inference.chunks import add_chunks
from bids_xai.inference.reproducibility import (
    ExceedanceCounter,
    reproducibility_curve,
    reproducibility_threshold,
)


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_counts_and_sums_equal_those_of_kept_maps(tail: str, rng: np.random.Generator) -> None:
    runs = rng.standard_normal((11, 2, 3, 7)).astype(np.float32)
    thresholds = rng.uniform(0, 1, (2, 2, 3, 7)).astype(np.float32)
    thresholds[1, 0, 0, :3] = np.inf
    chunks = []
    for part in np.split(runs, [4, 8]):
        counter = ExceedanceCounter(thresholds, tail)
        for maps in part:
            counter.update(maps)
        chunks.append(counter.arrays())
    merged = add_chunks(chunks, ("counts", "total"))
    compared = np.abs(runs) if tail == "two-sided" else runs
    np.testing.assert_array_equal(merged["counts"], (compared[:, None] > thresholds).sum(axis=0))
    np.testing.assert_allclose(merged["total"], runs.sum(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)


def test_a_value_equal_to_its_threshold_does_not_pass() -> None:
    counter = ExceedanceCounter(np.ones((1, 1, 1, 2), np.float32))
    counter.update(np.array([[[1.0, np.nextafter(np.float32(1), np.float32(2))]]], np.float32))
    np.testing.assert_array_equal(counter.counts, [[[[0, 1]]]])


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
