"""Figures of known truth show the numbers that they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bids_xai.errors import InputError
from bids_xai.reports.recovery import recovery_figure, voxel_strips
from bids_xai.reports.scenarios import write_scenarios_report
from bids_xai.reports.style import raster


def _strips(n_voxels: int):  # type: ignore[no-untyped-def]
    truth = np.zeros((2, n_voxels), dtype=bool)
    truth[0, : n_voxels // 4] = truth[1, n_voxels // 2 :] = True
    rng = np.random.default_rng(0)
    t = rng.standard_normal((2, n_voxels)).astype(np.float32)
    found = {name: rng.random((2, n_voxels)).astype(np.float32) for name in ("W", "WX")}
    return truth, t, found, voxel_strips(truth, t, found, ["a", "b"])


@pytest.mark.parametrize("n_voxels", [100, 437, 28_586])
def test_strips_hold_every_voxel_column_after_column(n_voxels: int) -> None:
    truth, t, found, figure = _strips(n_voxels)
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    expected = [truth[0], truth[1], t[0], t[1], *(found[name][c] for name in ("W", "WX") for c in (0, 1))]
    assert len(pictures) == len(expected)
    for picture, values in zip(pictures, expected, strict=True):
        unfolded = np.ma.filled(picture.astype(float), np.nan).T.ravel()
        np.testing.assert_array_equal(unfolded[:n_voxels], values.astype(np.float64))
        assert np.isnan(unfolded[n_voxels:]).all()
        assert picture.shape[1] > 2 * picture.shape[0]


def test_strips_name_rows_and_classes() -> None:
    figure = _strips(200)[3]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert [axes.get_ylabel() for axes in figure.axes[:8:2]] == ["truth", "t", "W", "WX"]
    methods = [axes.images[0] for axes in figure.axes[4:8]]
    assert len({image.get_clim() for image in methods}) == 1  # methods can be compared
    assert np.asarray(raster(figure)).std() > 5


def _recovery() -> pd.DataFrame:
    levels = np.linspace(0, 1, 11)
    return pd.DataFrame(
        {
            "method": method,
            "class": name,
            "alpha": alpha,
            "reproducibility": level,
            "n_voxels": max(0, 8 - 10 * level) * scale,
            "accuracy": 0.9 * level * scale,
            "FDR": 0.0 if level > 0.75 else 1 - level,
            "FOR": 0.1 * level,
        }
        for alpha in (0.05, 0.01)
        for method, scale in (("W", 1.0), ("WX", 0.5))
        for name in ("a", "mean")
        for level in levels
    )


def test_recovery_has_a_panel_per_measure_and_level_and_a_line_per_method() -> None:
    table = _recovery()
    thresholds = pd.DataFrame(
        {"method": m, "class": c, "alpha": a, "reproducibility_threshold": value}
        for a in (0.05, 0.01)
        for m, values in (("W", (0.2, 0.4)), ("WX", (0.5, 0.5)))
        for c, value in zip("ab", values, strict=True)
    )
    figure = recovery_figure(table, thresholds, ["W", "WX"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["p ≤ 0.01", "p ≤ 0.05"]
    curve, mark = figure.axes[0].lines[:2]
    np.testing.assert_allclose(curve.get_ydata(), 0.9 * np.linspace(0, 1, 11))
    # The mean of the thresholds of the classes, on the curve.
    assert mark.get_xdata()[0] == pytest.approx(0.3)
    assert mark.get_ydata()[0] == pytest.approx(0.27)
    # No rate of false discoveries where nothing is discovered.
    shown = np.isfinite(np.asarray(figure.axes[2].lines[0].get_ydata(), dtype=float))
    assert shown.tolist() == [True] * 8 + [False] * 3


def test_recovery_without_a_second_set_has_no_marks() -> None:
    thresholds = pd.DataFrame(
        {"method": ["W", "WX"], "class": "a", "alpha": 0.05, "reproducibility_threshold": np.nan}
    )
    figure = recovery_figure(_recovery(), thresholds, ["W", "WX"])
    assert {len(axes.lines) for axes in figure.axes} == {2}


def test_a_folder_without_results_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="run bids-xai-scenarios first"):
        write_scenarios_report(tmp_path)
