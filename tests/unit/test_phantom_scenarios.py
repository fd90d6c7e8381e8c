"""The patterns of the scenarios are as the paper describes them, and the samples carry them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_xai.errors import InputError
from bids_xai.phantom.scenarios import CLASSES, ScenarioParameters, make_samples, rows_of

voxels = st.integers(100, 3000) | st.just(28_586)


def _truth(scenario: str, n_voxels: int) -> np.ndarray:
    return ScenarioParameters(scenario, voxels=n_voxels).truth


def _near(value: int, fraction: float, n_voxels: int) -> bool:
    return abs(value - fraction * n_voxels) <= 1


@given(voxels)
def test_in_scenario_1_half_is_shared_with_the_next_class_and_half_with_the_previous(n: int) -> None:
    truth = _truth("1", n)
    for c in range(5):
        after, before = truth[(c + 1) % 5], truth[c - 1]
        assert _near(truth[c].sum(), 0.1, n)
        assert _near((truth[c] & after).sum(), 0.05, n)
        assert _near((truth[c] & before).sum(), 0.05, n)
        assert not (after & before).any()
    assert set(truth.sum(axis=0)) == {0, 2}  # none is of one class only


@given(voxels)
def test_in_scenario_2_sizes_and_overlaps_are_as_printed(n: int) -> None:
    one, two, three, four, five = _truth("2", n)
    for pattern, fraction in ((one, 0.01), (two, 0.2), (three, 0.1), (four, 0.1)):
        assert _near(pattern.sum(), fraction, n)
    assert one.any()
    assert np.array_equal(one & four, one)
    assert np.array_equal(four, five)
    assert _near((two & three).sum(), 0.05, n)
    assert not ((two | three) & four).any()


@given(voxels)
def test_scenario_3_is_scenario_2_twice_shifted_among_the_classes(n: int) -> None:
    parts, two = ScenarioParameters("3", voxels=n).parts, _truth("2", n)
    for c in range(5):
        assert np.array_equal(parts[c] == 1, two[(c + 1) % 5])
        assert np.array_equal(np.flatnonzero(parts[c] == 2), n - n // 2 + np.flatnonzero(two[c]))
    truth = parts > 0
    sizes = truth.sum(axis=1)
    alone = (truth & (truth.sum(axis=0) == 1)).sum(axis=1)
    assert sizes.argmax() == 1
    assert abs(sizes[2] - sizes[3]) <= 2  # of the same size, up to rounding on either side
    assert alone[2] > 0
    assert alone[3] == 0


def test_the_published_scale_and_means_are_the_defaults() -> None:
    parameters = ScenarioParameters("3")
    assert (parameters.subjects, parameters.samples, parameters.voxels) == (21, 100, 28_586)
    assert parameters.means == pytest.approx((0.05, 0.07))
    assert replace(parameters, mu=0.1).means == pytest.approx((0.1, 0.14))
    assert replace(parameters, mu_right=0.3).means == pytest.approx((0.05, 0.3))


def test_what_is_added_has_the_mean_of_its_part_and_unit_variance() -> None:
    parameters = ScenarioParameters("3", subjects=4, samples=500, voxels=400, mu=0.5)
    X, labels, subjects = make_samples(parameters)
    assert X.dtype == np.float32
    assert np.bincount(subjects * 5 + labels).tolist() == [100] * 20
    for c in range(5):
        own, parts = X[labels == c], parameters.parts[c]
        for part, (mean, variance) in enumerate([(0.0, 1.0), (0.5, 2.0), (0.7, 2.0)]):
            values = own[:, parts == part]
            margin = 5 * np.sqrt(variance / values.size)
            assert values.mean() == pytest.approx(mean, abs=margin)
            assert values.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / values.size))


def test_the_seed_decides_and_scenarios_share_their_base() -> None:
    parameters = ScenarioParameters("1", subjects=2, samples=10, voxels=200, seed=3)
    X, labels, _ = make_samples(parameters)
    np.testing.assert_array_equal(make_samples(parameters)[0], X)
    assert not np.isclose(make_samples(replace(parameters, seed=4))[0], X).any(axis=1).all()
    other = replace(parameters, scenario="2")
    outside = ~(parameters.truth | other.truth)[labels]
    np.testing.assert_array_equal(make_samples(other)[0][outside], X[outside])


def test_a_base_is_shuffled_within_and_over_samples() -> None:
    rng = np.random.default_rng(0)
    # A sample and a voxel that stand out: the first must move, the second must be spread over the voxels.
    base = rng.standard_normal((40, 200)) + 100 * np.arange(40)[:, None]
    base[:, 7] += 50
    X, labels, _ = make_samples(ScenarioParameters("2", subjects=3, samples=10, voxels=200), base)
    origin = np.rint(np.median(X, axis=1) / 100).astype(int)
    assert len(set(origin)) == 30  # no sample twice
    assert not np.array_equal(origin, np.arange(30))
    raised = (X - 100 * origin[:, None]) > 30
    assert (raised.sum(axis=1) == 1).all()
    assert len(set(np.nonzero(raised)[1])) > 15
    kept = ~ScenarioParameters("2", voxels=200).truth[labels]
    for row, source, outside in zip(X, origin, kept, strict=True):
        assert np.isin(row[outside], base[source].astype(np.float32)).all()


def test_samples_can_be_written_into_a_given_array() -> None:
    parameters = ScenarioParameters("1", subjects=2, samples=5, voxels=100)
    out = np.empty((10, 100), dtype=np.float32)
    X, labels, subjects = make_samples(parameters, out=out)
    assert X is out
    np.testing.assert_array_equal(out, make_samples(parameters)[0])
    rows = rows_of(labels, subjects)
    assert rows["class"].tolist() == [*CLASSES, *CLASSES]
    assert rows["subject"].tolist() == ["01"] * 5 + ["02"] * 5
    assert rows["event"].is_unique


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scenario": "4"}, "one of 1, 2, 3"),
        ({"subjects": 1}, "at least 2"),
        ({"voxels": 99}, "at least 100"),
        ({"samples": 12}, "use 15"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ScenarioParameters(**wrong)


@pytest.mark.parametrize("shape", [(9, 100), (10, 101), (1000,)])
def test_a_base_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    parameters = ScenarioParameters("1", subjects=2, samples=5, voxels=100)
    with pytest.raises(InputError, match="10 or more samples, 100 voxels"):
        make_samples(parameters, np.zeros(shape))
