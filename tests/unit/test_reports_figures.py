"""Figures show the numbers that they were given."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from test_reports_results import brain, single_slice

from bids_xai.reports.curves import region_heatmap, reproducibility_curves, univariate_scatter
from bids_xai.reports.figures import accuracy_violins, confusion_matrices, subject_accuracies
from bids_xai.reports.mosaics import Layer, mosaic, robust_limits
from bids_xai.reports.regions import leading_regions
from bids_xai.reports.slices import SliceView, outline
from bids_xai.reports.style import line_styles, raster, shorten, vector


def _texts(axes):
    return [text.get_text() for text in axes.texts]


def _accuracy(classes, n):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"kind": kind, "run": run, "scope": scope, "accuracy": rng.uniform(0.3, 0.6)}
        for kind in ("real", "null")
        for scope in ("all", *classes)
        for run in range(n)
    )


def test_violins_say_mean_and_sd():
    table = _accuracy(["a", "b"], 10)
    axes = accuracy_violins(table, ["a", "b"], 0.5).axes[0]
    values = 100 * table[(table["kind"] == "real") & (table["scope"] == "b")]["accuracy"]
    assert _texts(axes)[2] == f"{values.mean():.1f}\n±{values.std():.1f}"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["all classes", "a", "b"]
    assert "%" in axes.get_ylabel()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_violins_of_runs_that_are_all_alike(n):
    table = _accuracy(["a"], n).assign(accuracy=1.0)
    axes = accuracy_violins(table, ["a"], 0.5).axes[0]
    assert max(axes.get_yticks()) <= 100
    assert not axes.collections or len(axes.collections) == 4  # bars only, no densities


def test_people_stand_on_the_range_of_their_permutations():
    table = pd.DataFrame({
        "subject": ["01", "02"], "mean": [0.9, 0.4], "sd": [0.05, np.nan],
        "null_low": [0.4, 0.35], "null_high": [0.6, 0.65],
    })  # fmt: skip
    axes = subject_accuracies(table, 0.5).axes[0]
    bars = [(bar.get_y(), bar.get_height()) for bar in axes.patches]
    np.testing.assert_allclose(bars, [(40, 20), (35, 30)])
    (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_ydata(), [90, 40])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["sub-01", "sub-02"]
    many = pd.concat([table] * 40, ignore_index=True)
    assert subject_accuracies(many, 0.5).axes[0].get_xticklabels()[0].get_rotation() == 90


def test_confusion_rows_are_true_classes():
    rate = {("a", "a"): 0.9, ("a", "b"): 0.1, ("b", "a"): 0.3, ("b", "b"): 0.7}
    table = pd.DataFrame({"kind": "real", "true": t, "predicted": p, "rate": r} for (t, p), r in rate.items())
    axes = confusion_matrices(table, ["b", "a"]).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[70, 30], [10, 90]])
    assert axes.get_ylabel() == "True class"


def test_curves_have_a_line_per_class_and_a_mark_at_chance():
    levels = np.linspace(0, 1, 11)
    curves = pd.DataFrame(
        {"kind": kind, "method": "W", "class": c, "reproducibility": x, "n_voxels": 100 * (1 - x)}
        for kind in ("real", "null") for c in ("a", "b") for x in levels
    )  # fmt: skip
    thresholds = pd.DataFrame(
        {"method": "W", "class": ["a", "b"], "reproducibility_threshold": [0.3, np.nan]}
    )
    axes = reproducibility_curves(curves, thresholds, ["W"], ["a", "b"]).axes[0]
    marks = [line for line in axes.lines if line.get_marker() == "v"]
    assert [line.get_xdata()[0] for line in marks] == [0.3]
    assert len(axes.lines) == 5
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * (1 - levels))


def test_scatter_counts_every_voxel_and_the_corner():
    rng = np.random.default_rng(0)
    t, reproducible = rng.normal(0, 2, 500), rng.integers(0, 21, 500) / 20
    axes = univariate_scatter(t, {"W": reproducible}, 20, {"W": 0.4}).axes[0]
    corner = sum(abs(a) < 1 and b > 0.5 for a, b in zip(t, reproducible, strict=True))
    assert _texts(axes) == [f"{corner} voxels framed"]
    assert axes.collections[0].get_array().sum() == 500


def test_scatter_of_nothing_but_zeros():
    vector(univariate_scatter(np.zeros(9), {"W": np.zeros(9)}, 1, {}))


def test_regions_are_ranked_by_share_then_density():
    table = pd.DataFrame({
        "region": ["big", "small", "none", "dense"], "class": "a", "method": "W",
        "n_voxels": [100, 10, 10, 10], "n_above": [20, 8, 0, 0], "density": [0.1, 0.1, 0.2, -0.9],
    })  # fmt: skip
    assert leading_regions(table, 3) == ["small", "big", "dense"]
    axes = region_heatmap(table, ["a"], ["W"], ["small", "big"]).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[80], [20]])


def test_slices_name_the_world_coordinate_of_what_they_show():
    mask, background = brain()
    view = SliceView(mask, background)
    _, _, z = np.meshgrid(*(np.arange(n) for n in mask.shape), indexing="ij")
    world = z * mask.affine[2, 2] + mask.affine[2, 3]
    for cut in view.choose()[:7]:
        values = np.unique(view.cut(world, cut)[view.cut(view.mask, cut)])
        assert cut.label == f"z = {values.item():.0f} mm".replace("-", "−")


def test_right_is_right_for_images_stored_the_other_way():
    mask = single_slice()
    x = np.broadcast_to((mask.affine[0, 0] * np.arange(40) + mask.affine[0, 3])[:, None, None], mask.shape)
    left = nb.Nifti1Image(np.where(x < 0, np.asarray(mask.dataobj), 0), mask.affine)
    view = SliceView(mask)
    (cut,) = view.choose()
    assert SliceView(left).high[0] < view.mask.shape[0] / 2
    shown = view.cut(view.values(nb.Nifti1Image(x.astype(np.float32), mask.affine)), cut)
    assert np.all(np.diff(shown[shown.shape[0] // 2]) >= 0)


def test_slices_are_where_the_weight_is():
    mask, _ = brain()
    view = SliceView(mask)
    weight = np.zeros(mask.shape)
    weight[9, 11, 10] = 1
    cuts = view.choose(weight)
    assert (2, 10) in {(cut.axis, cut.index) for cut in cuts}
    assert {(0, 9), (1, 11)} <= {(cut.axis, cut.index) for cut in cuts}
    axial = [cut.index for cut in cuts if cut.axis == 2]
    assert axial == sorted(set(axial))


def test_background_lies_where_the_mask_does():
    mask, background = brain()
    shifted = nb.Nifti1Image(np.asarray(background.dataobj)[::-1], background.affine @ np.diag([-1, 1, 1, 1]))
    shifted.affine[0, 3] = background.affine[0, 3] + (mask.shape[0] - 1) * 8
    first, second = SliceView(mask, background), SliceView(mask, shifted)
    for cut in first.choose():
        np.testing.assert_allclose(first.grey(cut), second.grey(cut), atol=1e-5)


def test_oblique_slices_are_numbered():
    mask, _ = brain()
    turn = np.eye(4)
    turn[:2, :2] = [[0.9, -0.436], [0.436, 0.9]]
    view = SliceView(nb.Nifti1Image(np.asarray(mask.dataobj), turn @ mask.affine))
    assert {cut.label.split()[0] for cut in view.choose() if cut.axis != 2} == {"slice"}


def test_empty_mask_is_shown_whole():
    view = SliceView(nb.Nifti1Image(np.zeros((5, 6, 4), np.uint8), np.eye(4)))
    assert view.choose()


def test_mosaic_paints_what_is_shown_and_frames_what_passes():
    mask, _ = brain()
    view = SliceView(mask)
    values = np.zeros(mask.shape, np.float32)
    values[9:12, 10:13, 9:11] = 1
    cuts = view.choose(values)
    plain = mosaic(view, cuts, [Layer("map", np.zeros_like(values), "unit", (0.0, 1.0))])
    painted = mosaic(view, cuts, [Layer("map", values, "unit", (0.0, 1.0), framed=values > 0)])
    before, after = (np.asarray(raster(figure)).astype(int) for figure in (plain, painted))
    assert before.shape == after.shape
    strip = slice(50, before.shape[0] - 50), slice(10, before.shape[1] - 140)
    assert np.ptp(before[strip], axis=-1).max() == 0  # grey without a map
    assert (np.ptp(after[strip], axis=-1) > 50).any()
    white = [(image[strip].min(axis=-1) == 255).sum() for image in (before, after)]
    assert white[1] > white[0]  # letters are white too


def test_limits_ignore_zeros_and_what_is_not_finite():
    assert robust_limits(np.array([0.0, np.nan, np.inf])) == (0.0, 1.0)
    low, high = robust_limits(np.array([-1.0, 2.0, 0.0]))
    assert low == -high
    assert robust_limits(np.array([1.0, 1.0, 0.0])) == (0.0, 1.0)


def test_outline_is_the_border():
    square = np.zeros((6, 6), bool)
    square[1:5, 1:5] = True
    inner = np.zeros_like(square)
    inner[2:4, 2:4] = True
    np.testing.assert_array_equal(outline(square), square & ~inner)


def test_twelve_classes_look_different():
    styles = line_styles([str(i) for i in range(12)])
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == 12


def test_long_names_are_cut_in_the_middle():
    assert shorten("Temporal_Pole_Left", 9) == "Temp…Left"
    assert shorten("short", 9) == "short"
