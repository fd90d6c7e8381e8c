"""Windows: which volumes belong to an event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_xai.errors import InputError
from bids_xai.images.windows import take_samples, window_bounds, window_volumes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(6, 15)),
        ({"shift": 5.0}, range(8, 17)),
        ({"window": (0, 12.5)}, range(6, 11)),
        ({"window": (-5, 5), "anchor": "offset"}, range(13, 17)),
        ({"window": (0, 12.5), "shift": 5.0}, range(8, 13)),
    ],
)
def test_volumes_of_a_block(options, expected):
    if "window" in options:
        options = {key: value for key, value in options.items() if key != "shift"}
        expected = range(6, 11) if options["window"] == (0, 12.5) else expected
    assert window_volumes(15.0, 22.5, 2.5, 121, **options).tolist() == list(expected)


def test_shift_moves_only_the_default_window():
    assert window_bounds(10, 4, shift=5) == (15, 19)
    assert window_bounds(10, 4, window=(1, 3), shift=5) == (11, 13)


@given(
    first=st.integers(0, 400),
    length=st.integers(1, 50),
    tr=st.sampled_from([0.1, 0.72, 1.7, 2.0, 2.5, 1 / 3]),
)
def test_bounds_on_volume_times_are_exact(first, length, tr):
    found = window_volumes(first * tr, length * tr, tr, 500)
    assert found.tolist() == list(range(first, first + length))


@given(onset=st.floats(0, 50), duration=st.floats(1.0, 20), tr=st.floats(0.3, 1.0))
def test_every_volume_lies_in_the_window(onset, duration, tr):
    found = window_volumes(onset, duration, tr, 1000)
    times = np.arange(1000) * tr
    expected = np.flatnonzero((times >= onset - 1e-6) & (times < onset + duration - 1e-6))
    assert found.tolist() == expected.tolist()


def test_window_that_leaves_the_run_is_refused():
    assert window_volumes(10, 10, 2.0, 10).tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(InputError, match=r"face.*onset 10 s.*15 to 25 s.*run-01\.nii.*20 s"):
        window_volumes(10, 10, 2.0, 10, shift=5, event="event 3 (face)", run="run-01.nii")
    with pytest.raises(InputError, match="-2 to 5 s"):
        window_volumes(3, 10, 2.0, 10, window=(-5, 2))


def test_windows_without_volumes_are_refused():
    with pytest.raises(InputError, match="is empty"):
        window_volumes(3, 0, 2.0, 10)
    with pytest.raises(InputError, match="No volume falls"):
        window_volumes(0.5, 1.0, 2.0, 10)
    with pytest.raises(InputError, match="anchor 'middle'"):
        window_volumes(0.5, 1.0, 2.0, 10, anchor="middle")


def test_samples_are_means_or_volumes():
    series = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = [np.array([0, 1]), np.array([4, 5, 6])]
    means, events = take_samples(series, windows, "events")
    np.testing.assert_array_equal(means, [[1, 2], [10, 11]])
    assert events.tolist() == [0, 1]
    single, events = take_samples(series, windows, "volumes")
    np.testing.assert_array_equal(single, series[[0, 1, 4, 5, 6]])
    assert events.tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(InputError, match="kind of sample 'blocks'"):
        take_samples(series, windows, "blocks")
