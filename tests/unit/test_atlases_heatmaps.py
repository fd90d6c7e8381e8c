"""Region metrics of heatmaps against loops and SciPy."""

from __future__ import annotations

from itertools import combinations

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from bids_xai.atlases import heatmaps
from bids_xai.atlases.heatmaps import (
    OVERLAP_COLUMNS,
    TABLE_COLUMNS,
    TOP_COLUMNS,
    densities,
    fingerprint_distances,
    heatmap_table,
    most_different,
    region_sums,
    regions_of,
    top_overlaps,
    top_regions,
    without_side,
)
from bids_xai.atlases.sources import Atlas
from bids_xai.errors import InputError

NAMES = {
    4: "Left_Hippocampus",
    9: "Right_Hippocampus",
    2: "Brain_Stem",
    7: "Vermis_1",
    8: "Vermis_2",
    5: "None",
}


@pytest.fixture
def atlas():
    table = pd.DataFrame(NAMES.items(), columns=["index", "name"])
    return Atlas("mine", nb.Nifti1Image(np.zeros((1, 1, 1), np.int32), np.eye(4)), table, "", "", "")


@pytest.fixture
def labels(rng):
    # 5 has no voxel, and 11 is not in the table.
    return rng.choice([0, 2, 4, 7, 8, 9, 11], size=300).astype(np.int32)


def textbook_sums(maps, labels, parts, absolute):
    out = []
    for values in maps:
        row = []
        for labels_of_region in parts:
            total = 0.0
            for value, label in zip(values, labels, strict=True):
                if label in labels_of_region:
                    total += abs(float(value)) if absolute else float(value)
            row.append(total)
        out.append(row)
    return np.array(out)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("tile", [1, 1000, 1 << 22])
def test_sums_against_a_loop(atlas, labels, rng, absolute, tile, monkeypatch):
    monkeypatch.setattr(heatmaps, "_TILE_VALUES", tile)
    maps = rng.normal(size=(7, 300)).astype(np.float32)
    regions = regions_of(labels, atlas)
    assert regions.names == ("Left_Hippocampus", "Right_Hippocampus", "Brain_Stem", "Vermis_1", "Vermis_2")
    sums = region_sums(maps, regions, absolute=absolute)
    np.testing.assert_allclose(sums, textbook_sums(maps, labels, [{4}, {9}, {2}, {7}, {8}], absolute))
    sizes = [np.sum(labels == label) for label in (4, 9, 2, 7, 8)]
    np.testing.assert_array_equal(regions.sizes, sizes)
    np.testing.assert_allclose(densities(sums, regions), sums / sizes)


def test_sides_and_substructures_are_merged(atlas, labels, rng):
    maps = rng.normal(size=(3, 300)).astype(np.float32)
    regions = regions_of(labels, atlas, merge_sides=True, merge={"Vermis": "Vermis"})
    assert regions.names == ("Hippocampus", "Brain_Stem", "Vermis")
    expected = textbook_sums(maps, labels, [{4, 9}, {2}, {7, 8}], False)
    np.testing.assert_allclose(region_sums(maps, regions), expected)
    assert regions.sizes[2] == np.sum((labels == 7) | (labels == 8))


def test_the_first_expression_that_matches_names_the_region(atlas, labels):
    regions = regions_of(labels, atlas, merge={"Vermis_1": "first", "Verm": "rest"})
    assert regions.names[-2:] == ("first", "rest")
    regions = regions_of(labels, atlas, merge={"Verm": "all", "Vermis_1": "first"})
    assert regions.names[-1] == "all"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Left_Frontal_Pole", "Frontal_Pole"),
        ("Precentral_R", "Precentral"),
        ("Left-Cerebral-White-Matter", "Cerebral-White-Matter"),
        ("ctx-lh-insula", "ctx-insula"),
        ("ctx_rh_S_suborbital", "ctx_S_suborbital"),
        ("G_Frontal_Sup-1-L", "G_Frontal_Sup-1"),
        ("Superior corona radiata R", "Superior corona radiata"),
        ("right hippocampus", "hippocampus"),
        ("hippocampus (left)", "hippocampus"),
        ("Cuneus (R)", "Cuneus"),
        # Nothing of these is a side.
        ("Brain_Stem", "Brain_Stem"),
        ("Lateral_Ventricle", "Lateral_Ventricle"),
        ("Rolandic_Oper", "Rolandic_Oper"),
        ("Leftover", "Leftover"),
        ("L", "L"),
    ],
)
def test_sides_of_names(name, expected):
    assert without_side(name) == expected


def test_bad_regions_are_refused(atlas, labels):
    with pytest.raises(InputError, match="No voxel"):
        regions_of(np.zeros(5, np.int32), atlas)
    with pytest.raises(InputError, match="no regular expression"):
        regions_of(labels, atlas, merge={"(": "x"})
    with pytest.raises(InputError, match="matches no region"):
        regions_of(labels, atlas, merge={"Thalamus": "x"})
    regions = regions_of(labels, atlas)
    with pytest.raises(InputError, match="300 labels"):
        region_sums(np.ones((2, 299), np.float32), regions)
    bad = np.ones((2, 300), np.float32)
    bad[1, labels == 7] = np.nan
    with pytest.raises(InputError, match="not finite"):
        region_sums(bad, regions)


def test_table_against_a_loop(atlas, labels, rng):
    regions = regions_of(labels, atlas)
    sums = region_sums(rng.gamma(1, size=(9, 300)).astype(np.float32), regions)
    sums[:, 1] = 0
    patients = np.array([True, False, True, True, False, False, True, False, True])
    table = heatmap_table(sums, regions, patients)
    assert tuple(table.columns) == TABLE_COLUMNS
    for k, row in enumerate(table.itertuples(index=False)):
        ill = np.mean([sums[i, k] for i in range(9) if patients[i]])
        well = np.mean([sums[i, k] for i in range(9) if not patients[i]])
        assert row.region == regions.names[k]
        assert (row.sum, row.sum_controls) == pytest.approx((ill, well))
        assert (row.density, row.density_controls) == pytest.approx((ill / row.n_voxels, well / row.n_voxels))
        assert np.isnan(row.gain) if k == 1 else row.gain == pytest.approx(ill / well)
    alone = heatmap_table(sums, regions, np.ones(9, bool))
    assert alone[["gain", "sum_controls", "density_controls"]].isna().all(axis=None)
    with pytest.raises(InputError, match="0 patients"):
        heatmap_table(sums, regions, np.zeros(9, bool))


def table_of(values):
    frame = pd.DataFrame({"region": [f"r{k}" for k in range(len(values))]})
    return frame.assign(sum=values, density=-np.asarray(values), gain=np.abs(values))


def test_top_regions_are_those_of_largest_value():
    table = table_of([3.0, np.nan, 5.0, 3.0, -9.0])
    top = top_regions(table, 3)
    assert tuple(top.columns) == TOP_COLUMNS
    assert top["metric"].tolist() == ["sum"] * 3 + ["density"] * 3 + ["gain"] * 3
    assert top["rank"].tolist() == [1, 2, 3] * 3
    assert top["region"].tolist() == ["r2", "r0", "r3", "r4", "r0", "r3", "r4", "r2", "r0"]
    assert top["value"].tolist() == [5, 3, 3, 9, -3, -3, 9, 5, 3]
    assert len(top_regions(table, 25, ["sum"])) == 4
    with pytest.raises(InputError, match="1 or more"):
        top_regions(table, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_overlaps_against_sets(seed, k):
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=12) for name in "abc"}
    table = top_overlaps({name: table_of(own) for name, own in values.items()}, k)
    assert tuple(table.columns) == OVERLAP_COLUMNS
    assert len(table) == 9
    for row in table.itertuples():
        sign = {"sum": values.get, "density": lambda n: -values[n], "gain": lambda n: np.abs(values[n])}
        sets = [set(np.argsort(sign[row.metric](name))[-k:]) for name in (row.first, row.second)]
        assert row.overlap == pytest.approx(100 * len(sets[0] & sets[1]) / k)
    assert list(combinations("abc", 2)) == list(zip(table["first"], table["second"], strict=True))[:3]
    if k == 12:
        assert (table["overlap"] == 100).all()


def test_overlap_of_fewer_regions_than_k_counts_those_there_are():
    tables = {"a": table_of([2.0, 1.0, np.nan]), "b": table_of([2.0, 1.0, 3.0])}
    assert top_overlaps(tables, 10, ["sum"])["overlap"].tolist() == [50]
    none = {"a": table_of([np.nan, np.nan]), "b": table_of([2.0, 1.0])}
    assert top_overlaps(none, 10, ["sum"])["overlap"].isna().all()
    with pytest.raises(InputError, match="two or more"):
        top_overlaps({"a": table_of([1.0])})


def test_fingerprints_against_scipy(rng):
    prints = rng.normal(size=(6, 4))
    distances = fingerprint_distances(prints)
    for i in range(6):
        for j in range(6):
            assert distances[i, j] == pytest.approx(cosine(prints[i], prints[j]), abs=1e-12)
    prints[2] = 0
    assert np.isnan(fingerprint_distances(prints)[2]).all()


def test_the_most_different_people_are_sought_among_high_scores(rng):
    prints = rng.gamma(1, size=(8, 30))
    scores = np.array([0.95, 0.2, 0.91, 0.99, 0.9, 0.93, 0.5, 0.97])
    strongest = sorted(range(30), key=lambda r: -prints[:, r].mean())[:25]
    best = max(
        (cosine(prints[i, strongest], prints[j, strongest]), i, j)
        for i, j in combinations([0, 2, 3, 5, 7], 2)
    )
    found = most_different(prints, scores)
    assert found == (best[1], best[2], pytest.approx(best[0]))
    everything = max((cosine(prints[i], prints[j]), i, j) for i, j in combinations(range(8), 2))
    found = most_different(prints, scores, above=0.0, k=None)
    assert found == (everything[1], everything[2], pytest.approx(everything[0]))
    assert most_different(prints, scores, above=0.98) is None
    assert most_different(prints[:2], np.array([0.9, 0.95])) is None  # above, not at
    assert most_different(prints[:2], np.array([0.91, 0.95])) is not None
    assert most_different(prints, scores, above=1.0) is None
