"""Other classifiers, lesions, fingerprints and biomarkers on the page of networks, and how maps are shown."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from test_reports_networks_output import BASELINES, change, make_networks, words_of

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.explain import describe, parse_explanation
from bids_xai.reports import write_group_report
from bids_xai.reports.html import Gallery
from bids_xai.reports.networks_charts import load_scatter
from bids_xai.reports.networks_explanations import formula_of, source_of
from bids_xai.reports.networks_fingerprints import fingerprint_blocks
from bids_xai.reports.networks_lesions import localisation_blocks
from bids_xai.reports.networks_maps import filled_cuts, in_units
from bids_xai.reports.networks_regions import region_blocks
from bids_xai.reports.networks_scores import score_blocks
from bids_xai.reports.networks_survivors import survival_blocks
from bids_xai.reports.networks_trust import trust_blocks
from bids_xai.reports.results import load_results
from bids_xai.reports.slices import SliceView

METHODS = ["LRPAlphaBetaBeta0p5", "Occlusion"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("people"), methods=METHODS, n_permutations=19)


@pytest.fixture
def results(out):
    return load_results(out)


def tables_of(blocks):
    found = []
    for block in blocks:
        if block.kind == "table":
            found.append(block)
        elif block.kind in ("part", "fold"):
            found += tables_of(block.blocks)
    return found


def texts_of(blocks):
    return " ".join(str(block.html) for block in blocks if block.kind == "text")


def table_with(blocks, column):
    (table,) = [table for table in tables_of(blocks) if column in table.header]
    return table


def with_table(results, name, table):
    """Return the same results with another table."""
    copy = load_results(results.out_dir)
    copy.__dict__["_tables"] = {name: table}
    return copy


def test_other_classifiers_stand_beside_the_network(results):
    blocks = score_blocks(results, Gallery())
    table = table_with(blocks, "Network")
    assert table.header == ["Score", "Class", "Network", "Logistic regression", "Linear SVM"]
    scores = results.table("scores")
    for row, (metric, of) in zip(
        table.rows, scores[["metric", "class"]].drop_duplicates().itertuples(index=False), strict=True
    ):
        values = []
        for model in ("network", *BASELINES):
            kept = [
                one["value"]
                for _, one in scores.iterrows()
                if (one["model"], one["metric"], one["class"]) == (model, metric, of)
            ]
            values.append(f"{100 * sum(kept) / len(kept):.1f} %")
        assert row[2:] == values
    assert "The network has the highest value" in texts_of(blocks)
    # The first table is of the network alone, as many runs as it has.
    assert "over 3 runs" in tables_of(blocks)[0].caption


def test_a_classifier_that_does_as_well_is_named(results):
    scores = results.table("scores")
    better = scores.assign(value=scores["value"].where(scores["model"] != "svm-linear", 0.99))
    text = texts_of(score_blocks(with_table(results, "scores", better), Gallery()))
    assert "The linear SVM does as well as the network or better" in text
    assert "logistic regression does" not in text


def test_areas_are_no_percentages_and_empty_columns_are_left_out(results):
    tests = pd.DataFrame([
        {"metric": "auc", "class": "patient", "mean": 0.75, "sd": np.nan, "n_runs": 1, "p": np.nan},
        {"metric": "balanced_accuracy", "class": "all", "mean": 0.5, "sd": np.nan, "n_runs": 1, "p": np.nan},
    ])  # fmt: skip
    table = tables_of(score_blocks(with_table(results, "score_tests", tests), Gallery()))[0]
    assert table.header == ["Score", "Class", "Mean"]
    assert [row[2] for row in table.rows] == ["0.750", "50.0 %"]
    assert "over 1 run. No permutations" in table.caption


def test_localisation_is_averaged_over_those_with_lesions(results):
    blocks = localisation_blocks(results, Gallery())
    table, given = table_with(blocks, "Mass inside"), results.table("localisation")
    assert [row[:3] for row in table.rows] == [
        ["LRP αβ (β = 0.5)", "patient", "10"],
        ["Occlusion", "patient", "10"],
    ]
    for method, row in zip(METHODS, table.rows, strict=True):
        own = [one for _, one in given.iterrows() if one["method"] == method and one["lesion_voxels"] > 0]
        mass = sum(one["mass"] for one in own) / len(own)
        ratio = sum(one["mass"] / one["chance"] for one in own) / len(own)
        assert row[3] == f"{100 * mass:.1f} %"
        assert row[5] == f"{ratio:.3g}"
    assert "10 samples without a lesion voxel: not part of the averages." in texts_of(blocks)
    load = table_with(blocks, "r")
    assert load.rows[1] == ["Occlusion", "0.66", "0.0021", "20", "10\u202f000"]


def test_each_class_with_lesions_has_its_row(results):
    given = results.table("localisation")
    every = given.assign(lesion_voxels=5, chance=0.02, mass=given["mass"].where(given["mass"] > 0, 0.1))
    blocks = localisation_blocks(with_table(results, "localisation", every), Gallery())
    assert [row[1] for row in table_with(blocks, "Mass inside").rows] == ["control", "patient"] * 2
    assert "without a lesion" not in texts_of(blocks)


def test_nobody_with_lesions_gives_no_averages(results):
    none = results.table("localisation").assign(lesion_voxels=0)
    blocks = localisation_blocks(with_table(results, "localisation", none), Gallery())
    assert not tables_of(blocks)
    assert "20 samples without a lesion voxel" in texts_of(blocks)


def test_load_is_drawn_sample_by_sample(results):
    table = results.table("localisation")
    panels = load_scatter(table, {"Occlusion": "Occlusion"}, ["control", "patient"]).axes
    assert len(panels) == 1
    for name, drawn in zip(("control", "patient"), panels[0].collections, strict=True):
        own = table[(table["method"] == "Occlusion") & (table["true"] == name)]
        np.testing.assert_allclose(drawn.get_offsets(), own[["lesion_voxels", "relevance"]])


def test_the_two_who_differ_are_shown_with_their_heatmaps(results):
    gallery = Gallery()
    blocks = fingerprint_blocks(results, gallery)
    assert table_with(blocks, "Cosine distance").rows[0] == [
        "LRP αβ (β = 0.5)",
        "aal",
        "sub-02",
        "sub-04",
        "0.83",
    ]
    assert set(gallery.files) == {f"fingerprints_method-{name}_sub-02_sub-04.png" for name in METHODS}


def test_without_a_heatmap_of_both_there_is_no_picture(results):
    heatmaps = [entry for entry in results.manifest["heatmaps"] if entry["subject"] != "04"]
    gallery = Gallery()
    blocks = fingerprint_blocks(
        replace(results, manifest={**results.manifest, "heatmaps": heatmaps}), gallery
    )
    assert len(tables_of(blocks)) == 1
    assert not gallery.files


def test_biomarker_counts_the_regions_that_pass_family_wise(results):
    table = results.table("biomarker")
    table = table.assign(p_family=np.where(np.arange(len(table)) < 3, 0.04, 1.0))
    shown = table_with(region_blocks(with_table(results, "biomarker", table), Gallery()), "r")
    assert "3 regions pass p ≤ 0.05" in shown.caption
    assert shown.header == ["Region", "Atlas", "Method", "r", "p", "p (family-wise)", "n"]
    assert {len(row) for row in shown.rows} == {7}
    assert [float(row[4]) for row in shown.rows] == sorted(float(row[4]) for row in shown.rows)


def test_methods_that_decompose_nothing_have_no_residual(results):
    table = results.table("conservation").assign(outside_mask=-1e-16)
    shown = table_with(trust_blocks(with_table(results, "conservation", table), Gallery()), "Residual, mean")
    assert shown.rows == [
        ["LRP αβ (β = 0.5)", "0.0001", "0.001", "0.0 %"],
        ["Occlusion", "–", "–", "0.0 %"],
    ]


def test_levels_out_of_reach_are_said_to_be_so_and_nothing_is_counted(results):
    reached = survival_blocks(results, Gallery())
    assert table_with(reached, "Voxels p").rows
    short = replace(results, manifest={**results.manifest, "n_permutations": 9, "smallest_p": 0.1})
    (block,) = survival_blocks(short, Gallery())
    assert block.kind == "alert"
    assert "p ≤ 0.05 cannot be reached with 9 permutations (smallest p 0.1): no voxel can pass" in block.text


def test_family_wise_voxels_are_outlined(results):
    before, after = Gallery(), Gallery()
    survival_blocks(results, before)
    maps = [entry for entry in results.manifest["maps"] if entry["stat"] != "pfwer"]
    survival_blocks(replace(results, manifest={**results.manifest, "maps": maps}), after)
    name = "survivors_class-patient_method-Occlusion.png"
    assert before.files[name] != after.files[name]


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-12, 1e12), st.booleans())
def test_units_change_the_digits_and_not_the_values(top, signed):
    values = np.array([-top, 0.0, 0.3 * top])
    label, shown, limits = in_units("relevance", values, (-top if signed else 0.0, top))
    power = 0
    if label != "relevance":
        digits = label.removeprefix("relevance (10").removesuffix(")")
        power = int(digits.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
        # Logarithms round.
        assert 1 - 1e-9 <= limits[1] <= 10 + 1e-9
    else:
        assert 0.01 * (1 - 1e-9) <= limits[1] <= 100 * (1 + 1e-9)
    np.testing.assert_allclose(shown * 10.0**power, values, rtol=1e-12)
    np.testing.assert_allclose(limits[1] * 10.0**power, top, rtol=1e-12)


def test_slices_beside_the_head_are_left_out():
    shape = (12, 12, 24)
    mask = nb.Nifti1Image(np.ones(shape, np.uint8), np.eye(4))
    head = np.zeros(shape, np.float32)
    head[2:10, 2:10, 2:12] = 1 + np.random.default_rng(0).random((8, 8, 10))
    view = SliceView(mask, nb.Nifti1Image(head, np.eye(4)))
    weight = np.ones(shape)
    cuts = filled_cuts(view, weight)
    axial = [cut.index for cut in cuts if cut.axis == 2]
    assert axial
    assert all(2 <= index < 12 for index in axial)
    assert len(cuts) < len(view.choose(weight))
    # With nothing to see anywhere, all are kept.
    empty = SliceView(mask, nb.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)))
    assert len(filled_cuts(empty, weight)) == len(empty.choose(weight))


@pytest.mark.parametrize("name", list(EXPLANATIONS))
def test_formulas_are_given_without_title_and_source(results, name):
    explanation = parse_explanation(name)
    text = describe(explanation)
    info = {"X": {"name": name, "title": explanation.title, "formula": text, "source": "elsewhere"}}
    shown = replace(results, manifest={**results.manifest, "methods": ["X"], "method_info": info})
    formula, source = formula_of(shown, "X"), source_of(shown, "X")
    assert formula
    assert source
    assert f"{formula}. Source: {source}." in text.replace("Formula: ", "")
    for words in ("Formula:", "Source:", f"{explanation.title}. "):
        assert words not in formula


def test_page_holds_all_of_it(out):
    words = words_of(write_group_report(out).read_text(encoding="utf-8"))
    for part in ("Individual fingerprints", "Random search: 3 draws", "Cosine distance", "Linear SVM",
                 "sum of a person's relevance",
                 "logistic regression (61.0 %) and linear SVM (58.0 %)"):  # fmt: skip
        assert part in words.replace("&#39;", "'")
    assert "nan" not in words.lower().split()


def test_page_says_that_nothing_was_learnt(tmp_path):
    out = make_networks(tmp_path, n_people=3, skill=0.0, methods=["Occlusion"], n_permutations=0, n_runs=1)
    tables = load_results(out).manifest["tables"]
    path = out / "group" / tables["trainings"]
    table = pd.read_csv(path, sep="\t")
    table.assign(best_epoch=1, n_epochs=3).to_csv(path, sep="\t", index=False)
    kept = {name: tables[name] for name in ("trainings", "scores", "predictions", "samples")}
    change(out, tables=kept, maps=[])
    words = words_of(write_group_report(out).read_text(encoding="utf-8"))
    summary = words[: words.index("People and samples of each class")]
    assert "Nothing was learnt: in every training" in summary
    assert "too small to conclude anything" in summary
