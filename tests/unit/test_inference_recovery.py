"""What maps find of a truth is counted as scikit-learn and SciPy count it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics

from bids_xai.inference.recovery import (
    MEASURES,
    recovery,
    recovery_curves,
    recovery_tables,
    t_test_discoveries,
)
from bids_xai.inference.univariate import one_versus_rest_t

masks = hnp.arrays(bool, st.just((2, 12)))


@given(masks, masks)
def test_measures_are_those_of_sklearn(discovered: np.ndarray, truth: np.ndarray) -> None:
    measures = recovery(discovered, truth)
    assert set(measures) == set(MEASURES)
    for c in range(2):
        found, true = discovered[c], truth[c]
        assert measures["n_voxels"][c] == found.sum()
        assert measures["accuracy"][c] == pytest.approx(metrics.accuracy_score(true, found))
        precision = metrics.precision_score(true, found, zero_division=1)
        assert measures["FDR"][c] == pytest.approx(1 - precision)
        negative = metrics.precision_score(~true, ~found, zero_division=1)
        assert measures["FOR"][c] == pytest.approx(1 - negative)
        assert measures["sensitivity"][c] == pytest.approx(metrics.recall_score(true, found, zero_division=0))


def test_one_truth_serves_many_maps() -> None:
    rng = np.random.default_rng(0)
    discovered, truth = rng.random((3, 2, 50)) < 0.3, rng.random((2, 50)) < 0.2
    together = recovery(discovered, truth)
    for m in range(3):
        for name, values in recovery(discovered[m], truth).items():
            np.testing.assert_array_equal(together[name][m], values)


def test_curves_take_voxels_of_at_least_the_reproducibility() -> None:
    reproducibility = np.array([[0.0, 0.3, 0.7, 1.0]], dtype=np.float32)
    truth = np.array([[False, False, True, True]])
    curves = recovery_curves(reproducibility, truth)
    assert {name: values.shape for name, values in curves.items()} == dict.fromkeys(MEASURES, (101, 1))
    assert curves["n_voxels"][[0, 1, 30, 31, 70, 71, 100], 0].tolist() == [4, 3, 3, 2, 2, 1, 1]
    assert curves["FDR"][[0, 30, 70], 0] == pytest.approx([0.5, 1 / 3, 0])
    assert curves["FOR"][[0, 70, 71], 0] == pytest.approx([0, 0, 1 / 3])


def test_the_t_test_is_scipys_and_corrected_as_usual() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 20)
    X = rng.standard_normal((60, 300)).astype(np.float32)
    X[labels == 1, :80] += 0.9
    t = one_versus_rest_t(X, labels, 3)
    for alpha in (0.01, 0.05):
        found = t_test_discoveries(t, 60, alpha)
        for c in range(3):
            p = stats.ttest_ind(X[labels == c], X[labels != c]).pvalue
            np.testing.assert_array_equal(found["p"][c], p <= alpha)
            np.testing.assert_array_equal(found["FDR"][c], stats.false_discovery_control(p) <= alpha)
            np.testing.assert_array_equal(found["FWER"][c], p * 300 <= alpha)
    assert 0 < found["FWER"][1].sum() < found["FDR"][1].sum() < found["p"][1].sum()


def _tables(second: bool) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(2)
    truth = rng.random((2, 40)) < 0.3
    maps: dict[str, np.ndarray] = {"t": (3 * truth + rng.standard_normal((2, 40))).astype(np.float32)}
    for a in range(2):
        maps[f"reproducibility-{a}"] = (rng.integers(0, 11, (3, 2, 40)) / 10).astype(np.float32)
        maps[f"thresholded-{a}"] = rng.choice([-1.0, 0.0, 1.0], (3, 2, 40))
        maps[f"fwer-{a}"] = rng.choice([0.0, 0.0, 1.0], (3, 2, 40))
    thresholds = pd.DataFrame(
        {
            "method": m,
            "class": c,
            "alpha": alpha,
            "reproducibility_threshold": 0.1 * (number + 1) if second else np.nan,
        }
        for number, (m, c, alpha) in enumerate(
            (m, c, a) for a in (0.01, 0.05) for m in "XWO" for c in ("b", "a")
        )
    )
    tables = recovery_tables(
        maps, thresholds, truth, n_samples=50, classes=["b", "a"], methods=list("XWO"), alphas=[0.01, 0.05]
    )
    return tables, maps, truth


def test_tables_say_what_each_map_finds() -> None:
    tables, maps, truth = _tables(second=True)
    found = tables["discoveries"].set_index(["method", "alpha", "criterion", "class"])
    row = found.loc[("W", 0.05, "p", "a")]
    expected = recovery(maps["thresholded-1"][1, 1] != 0, truth[1])
    assert {name: row[name] for name in MEASURES} == pytest.approx({k: float(v) for k, v in expected.items()})
    # The tenth threshold of the table, 1.0, is that of level .05, method W and class a: nothing exceeds it.
    assert found.loc[("W", 0.05, "reproducibility", "a"), "n_voxels"] == 0
    # The first, .1, is of level .01, method X and class b: 1 of 10 runs is not more than that.
    more = (maps["reproducibility-0"][0, 0] > 0.15).sum()
    assert found.loc[("X", 0.01, "reproducibility", "b"), "n_voxels"] == more
    by_t = t_test_discoveries(maps["t"], 50, 0.05)["FDR"]
    assert found.loc[("t", 0.05, "FDR", "b"), "n_voxels"] == by_t[0].sum()
    curve = tables["recovery"]
    chosen = curve[(curve["method"] == "O") & (curve["alpha"] == 0.05) & (curve["class"] == "a")]
    at = chosen[np.isclose(chosen["reproducibility"], 0.5)].iloc[0]
    assert at["n_voxels"] == (maps["reproducibility-1"][2, 1] > 0.45).sum()


def test_the_mean_over_the_classes_is_a_row_of_its_own() -> None:
    for table in _tables(second=True)[0].values():
        keys = [name for name in table.columns if name not in (*MEASURES, "class")]
        own = table[table["class"] != "mean"].groupby(keys)[list(MEASURES)].mean()
        mean = table[table["class"] == "mean"].set_index(keys)[list(MEASURES)]
        pd.testing.assert_frame_equal(own, mean.sort_index())


def test_without_a_second_set_nothing_is_compared_with_chance() -> None:
    found = _tables(second=False)[0]["discoveries"]
    assert set(found["criterion"]) == {"p", "FDR", "FWER"}
    assert set(found.loc[found["method"] == "t", "criterion"]) == {"p", "FDR", "FWER"}
