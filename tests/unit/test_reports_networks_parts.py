"""Parts of the page of networks: what is computed for it, and what its figures show."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from sklearn.metrics import auc
from test_reports_networks_output import make_networks

from bids_xai.reports.networks_charts import dots, symmetric
from bids_xai.reports.networks_curves import (
    MOST_TRAININGS,
    deletion_curves,
    randomisation_curves,
    roc_curves,
    training_curves,
)
from bids_xai.reports.networks_maps import peak_position, peak_text
from bids_xai.reports.networks_regions import leading
from bids_xai.reports.networks_similarity import mantel_sentence
from bids_xai.reports.results import load_results


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("networks"), methods=["Occlusion"], n_permutations=0)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4), elements=st.floats(-9, 9)),
    st.lists(st.floats(-90, 90), min_size=3, max_size=3),
)
def test_peak_is_where_a_loop_finds_it(values, offset):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = offset
    best, place = 0.0, None
    for index, value in np.ndenumerate(values):
        if abs(value) > best:
            best, place = abs(value), index
    found = peak_position(values, affine)
    if place is None:
        assert found is None
        assert peak_text(found) == "none (all 0)"
    else:
        wanted = [scale * voxel + shift for scale, voxel, shift in zip((2, 3, 4), place, offset, strict=True)]
        np.testing.assert_allclose(found, wanted)


def test_peak_in_words_has_no_negative_zero():
    assert peak_text([-0.2, 12.4, -7.6]) == "(0, 12, −8) mm"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, -1.0, np.inf, np.nan]), min_size=1, max_size=12),
       st.integers(1, 12))  # fmt: skip
def test_leading_regions_are_those_of_a_sorted_list(gains, most):
    table = pd.DataFrame(
        {"region": [f"r{i}" for i in range(len(gains))], "index": range(len(gains)), "gain": gains}
    )
    finite = [(-gain, index) for index, gain in enumerate(gains) if np.isfinite(gain)]
    wanted = [f"r{index}" for _, index in sorted(finite)][:most]
    shuffled = table.sample(frac=1, random_state=0)
    assert list(leading(shuffled, "gain", most)["region"]) == wanted


def test_pairs_become_a_symmetric_matrix():
    pairs = pd.DataFrame({"class_a": ["b", "a"], "class_b": ["a", "c"], "distance": [0.5, 1.5]})
    matrix = symmetric(pairs, ["a", "b", "c"])
    np.testing.assert_array_equal(matrix, [[0, 0.5, 1.5], [0.5, 0, np.nan], [1.5, np.nan, 0]])


def test_area_under_the_mean_curve_is_that_of_scikit_learn(out):
    roc = load_results(out).table("roc")
    figure = roc_curves(roc, ["control", "patient"])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    for name, text in zip(("control", "patient"), legend, strict=False):
        rows = roc[roc["class"] == name]
        assert text == f"{name} (area {auc(rows['fpr'], rows['tpr']):.3f})"


def test_lines_of_the_randomisation_are_the_means_over_trainings():
    table = pd.DataFrame({
        "method": "m", "mode": "cascading", "depth": [1, 1, 2, 2], "layer": ["b", "b", "a", "a"],
        "spearman_abs": [1.0, 0.5, 0.2, 0.0],
    })  # fmt: skip
    (axes,) = randomisation_curves(table, ["m"]).axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0.75], [2, 0.1]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "a"]


def test_thick_line_of_training_is_the_median_over_those_that_got_there():
    history = pd.DataFrame({
        "run": ["0", "0", "1"], "fold": ["0", "0", "0"], "epoch": [1, 2, 1], "train_loss": [1.0, 0.5, 0.6],
    })  # fmt: skip
    (axes,) = training_curves(history).axes
    assert axes.get_title() == "Loss"
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[1, 0.8], [2, 0.5]])


def test_deletion_ends_at_the_fraction_removed(out):
    table = load_results(out).table("deletion")
    axes = deletion_curves(table, ["Occlusion"]).axes[0]
    lines = {line.get_linestyle(): line.get_xydata() for line in axes.lines}
    for style, name in (("-", "Occlusion"), ("--", "random")):
        rows = table[table["method"] == name]
        np.testing.assert_allclose(lines[style][:, 0], 100 * rows["fraction"])
        np.testing.assert_allclose(lines[style][:, 1], rows["probability"])


@pytest.mark.parametrize(
    ("r", "p", "words"),
    [(-0.59, 0.21, "not significant"), (0.8, 0.01, "alike in the network"),
     (-0.8, 0.01, "unlike in the network"),
     (np.nan, np.nan, "No Mantel test")],
)  # fmt: skip
def test_mantel_in_words(r, p, words):
    assert words in mantel_sentence(pd.Series({"r": r, "p": p, "n_permutations": 119}))


def test_dots_show_every_value_and_their_mean():
    values = {"a": np.array([1.0, 2.0, 6.0]), "b": np.array([np.nan, 4.0])}
    (axes,) = dots(values, "distance", reference=1.0).axes
    shown = [
        sorted(np.asarray(found.get_offsets())[:, 0])
        for found in axes.collections
        if len(found.get_offsets())
    ]
    assert [1.0, 2.0, 6.0] in shown
    assert [4.0] in shown
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == [3.0, 4.0]
    # A distance is read against 0.
    assert axes.get_xlim()[0] <= 0


def test_of_many_trainings_the_first_are_drawn():
    n = MOST_TRAININGS + 5
    history = pd.DataFrame({"run": range(n), "fold": "0", "epoch": 1, "train_loss": 0.5})
    (axes,) = training_curves(history).axes
    assert len(axes.lines) == MOST_TRAININGS + 1
