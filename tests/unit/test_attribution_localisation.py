"""Scores of heatmaps against truth, against loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bids_xai.attribution.localisation import chance_mass, mass_inside, pointing_game, ranking_auc
from bids_xai.errors import InputError

SCORES = (mass_inside, chance_mass, ranking_auc, pointing_game)
SHAPE = (4, 6, 5, 7)


@pytest.fixture
def heatmaps(rng: np.random.Generator) -> npt.NDArray:
    return rng.standard_normal(SHAPE)


@pytest.fixture
def brain(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return rng.random(SHAPE[1:]) < 0.7


@pytest.fixture
def truth(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return rng.random(SHAPE) < 0.2


def test_mass_and_chance_are_those_of_loops(
    heatmaps: npt.NDArray, truth: npt.NDArray, brain: npt.NDArray
) -> None:
    expected, chance = [], []
    for R, own in zip(heatmaps, truth, strict=True):
        inside = total = 0.0
        n_inside = n_brain = 0
        for voxel in np.ndindex(R.shape):
            if brain[voxel]:
                n_brain += 1
                total += max(R[voxel], 0)
                if own[voxel]:
                    inside += max(R[voxel], 0)
                    n_inside += 1
        expected.append(inside / total)
        chance.append(n_inside / n_brain)
    np.testing.assert_allclose(mass_inside(heatmaps, truth, brain), expected, rtol=1e-12)
    np.testing.assert_allclose(chance_mass(heatmaps, truth, brain), chance, rtol=1e-12)
    np.testing.assert_allclose(mass_inside(np.ones(SHAPE), truth, brain), chance, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.integers(2, 30))
def test_ranking_auc_is_that_of_scikit_learn_with_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    R = rng.integers(0, levels, (3, 60)).astype(float)
    truth = rng.random((3, 60)) < 0.3
    brain = rng.random((3, 60)) < 0.8
    truth[:, :2], brain[:, :2] = [True, False], True
    expected = [roc_auc_score(truth[i][brain[i]], R[i][brain[i]]) for i in range(3)]
    np.testing.assert_allclose(ranking_auc(R, truth, brain), expected, rtol=1e-12)


def test_pointing_game_looks_at_the_maximum_of_the_brain() -> None:
    R = np.array([[0.0, 5.0, 1.0, 9.0], [3.0, 3.0, 0.0, 9.0], [1.0, 0.0, 0.5, 9.0], [-2.0, -1.0, -3.0, 9.0]])
    truth = np.array([False, True, True, True])
    brain = np.array([True, True, True, False])
    np.testing.assert_array_equal(pointing_game(R, truth, brain), [1.0, 0.5, 0.0, 1.0])


@pytest.mark.parametrize("score", SCORES)
def test_volumes_and_rows_agree(
    score: object, heatmaps: npt.NDArray, truth: npt.NDArray, brain: npt.NDArray
) -> None:
    assert callable(score)
    rows = score(heatmaps.reshape(4, -1), truth.reshape(4, -1), brain.reshape(-1))
    np.testing.assert_array_equal(score(heatmaps, truth, brain), rows)
    whole = score(heatmaps, truth, np.ones(SHAPE[1:], bool))
    np.testing.assert_array_equal(score(heatmaps, truth), whole)
    # One truth for all, and voxels outside of the brain do not matter.
    beside = np.where(brain, heatmaps, 1e3)
    np.testing.assert_array_equal(
        score(heatmaps, truth[0], brain), score(beside, truth[0] | ~brain, np.stack([brain] * 4))
    )
    if score is not pointing_game:
        assert not np.array_equal(rows, whole)


def test_nothing_to_score_is_nan() -> None:
    R = np.array([[-1.0, -2.0, -3.0]])
    truth = np.array([True, False, False])
    nothing = np.zeros(3, bool)
    assert np.isnan(mass_inside(R, truth))
    assert np.isnan(ranking_auc(R, nothing))
    assert np.isnan(ranking_auc(R, ~nothing))
    assert np.isnan(chance_mass(R, truth, nothing))
    assert np.isnan(pointing_game(R, truth, nothing))


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        mass_inside(np.array([[np.nan, 1.0]]), np.array([True, False]))
    with pytest.raises(InputError, match="A mask of shape"):
        ranking_auc(np.ones((2, 3)), np.ones(4, bool))
