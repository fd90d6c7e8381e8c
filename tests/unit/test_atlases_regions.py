"""Regions: labels on another grid, and the table of what maps hold in them."""

from __future__ import annotations

import logging

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from nibabel.affines import apply_affine
from nilearn.image import resample_to_img

from bids_xai.atlases.regions import COLUMNS, labels_on_grid, region_table
from bids_xai.atlases.sources import Atlas

METHODS, CLASSES = ("W", "OD"), ("face", "house", "tool")


def make_atlas(data, affine, rows=None):
    image = nb.Nifti1Image(np.asarray(data, np.int32), affine)
    labels = [label for label in np.unique(data) if label]
    table = pd.DataFrame(rows or [(label, f"region {label}") for label in labels], columns=["index", "name"])
    return Atlas("mine", image, table, "", "", "")


@pytest.fixture
def atlas(rng):
    affine = np.array([[-1.5, 0, 0, 14], [0, 0, 1.5, -12], [0, -1.5, 0, 13], [0, 0, 0, 1]])
    # Beyond the outermost centres, nilearn gives 0 and the nearest voxel is ours: no region reaches there.
    return make_atlas(np.pad(rng.integers(0, 5, size=(18, 17, 16)), 1), affine)


@pytest.fixture
def mask(rng):
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-13.1, -14.2, -15.3)
    return nb.Nifti1Image((rng.random((8, 7, 9)) < 0.6).astype(np.uint8), affine)


def test_labels_on_grid_equals_nilearns_nearest_neighbour(atlas, mask):
    expected = resample_to_img(
        atlas.image, mask, interpolation="nearest", copy_header=True, force_resample=True
    )
    labels = labels_on_grid(atlas, mask)
    np.testing.assert_array_equal(labels, np.asarray(expected.dataobj)[np.asarray(mask.dataobj) > 0])
    assert len(np.unique(labels)) == 5


def test_labels_on_grid_is_the_identity_on_its_own_grid(atlas):
    inside = np.ones(atlas.image.shape, np.uint8)
    labels = labels_on_grid(atlas, nb.Nifti1Image(inside, atlas.image.affine))
    np.testing.assert_array_equal(labels, np.asarray(atlas.image.dataobj).ravel())


def test_a_centre_between_two_voxels_goes_up_whatever_the_last_bit():
    atlas = make_atlas(np.arange(1, 9).reshape(8, 1, 1), np.diag([0.1, 0.1, 0.1, 1]))
    affine = np.diag([0.1, 0.1, 0.1, 1])
    affine[0, 3] = 0.05
    labels = labels_on_grid(atlas, nb.Nifti1Image(np.ones((8, 1, 1), np.uint8), affine))
    assert labels.tolist() == [2, 3, 4, 5, 6, 7, 8, 0]


def textbook(labels, atlas, maps, passing, mask, tail):
    """Row by row, voxel by voxel."""
    ijk = np.argwhere(np.asarray(mask.dataobj) > 0)
    rows = []
    for index, name in sorted(zip(atlas.table["index"], atlas.table["name"], strict=True)):
        members = [v for v in range(len(labels)) if labels[v] == index]
        for m, method in enumerate(METHODS):
            for c, class_ in enumerate(CLASSES):
                values = [float(maps[m, c, v]) for v in members]
                if not members:
                    continue
                above = [v for v in members if passing[m, c, v]]
                peak = max(
                    above,
                    key=lambda v: abs(maps[m, c, v]) if tail == "two-sided" else maps[m, c, v],
                    default=None,
                )
                place = [np.nan] * 4
                if peak is not None:
                    place = [maps[m, c, peak], *apply_affine(mask.affine, ijk[peak])]
                rows.append(
                    (atlas.name, index, name, class_, method, len(members), sum(values),
                     sum(values) / len(values), len(above), *place)
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize("tail", ["greater", "two-sided"])
def test_region_table_equals_the_textbook(atlas, mask, rng, tail):
    labels = labels_on_grid(atlas, mask)
    # Rounded, so that peaks are tied and the first in C order counts.
    maps = rng.normal(size=(2, 3, len(labels))).round(1).astype(np.float32)
    # One voxel in a hundred, so that there are regions without any.
    passing = rng.random(maps.shape) < 0.01
    table = region_table(labels, atlas, maps, passing, mask, METHODS, CLASSES, tail=tail)
    expected = textbook(labels, atlas, maps, passing, mask, tail)
    assert 0 < expected["peak"].isna().sum() < len(expected)
    keys = ["index", "class", "method"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), expected.sort_values(keys, ignore_index=True),
        check_dtype=False,
    )  # fmt: skip
    assert tuple(table.columns) == COLUMNS


def test_two_sided_peak_keeps_its_sign(mask):
    n = int(np.asarray(mask.dataobj).sum())
    atlas = make_atlas(np.ones(mask.shape), mask.affine)
    maps = np.zeros((1, 1, n), np.float32)
    maps[..., 3], maps[..., 5] = -2, 1
    labels = labels_on_grid(atlas, mask)
    peaks = {
        tail: region_table(labels, atlas, maps, maps != 0, mask, ["W"], ["a"], tail=tail)["peak"].item()
        for tail in ("greater", "two-sided")
    }
    assert peaks == {"greater": 1, "two-sided": -2}


def test_regions_without_voxels_are_left_out_with_a_warning(mask, caplog):
    atlas = make_atlas(np.full(mask.shape, 3), mask.affine, [(3, "here"), (4, "absent")])
    n = int(np.asarray(mask.dataobj).sum())
    maps = np.ones((2, 3, n), np.float32)
    with caplog.at_level(logging.WARNING, logger="bids_xai"):
        table = region_table(labels_on_grid(atlas, mask), atlas, maps, maps > 0, mask, METHODS, CLASSES)
    assert set(table["region"]) == {"here"}
    assert "1 of 2 regions" in caplog.text


def test_maps_outside_of_every_region_give_an_empty_table(mask, caplog):
    far = mask.affine.copy()
    far[:3, 3] += 1000
    atlas = make_atlas(np.full(mask.shape, 3), far)
    with caplog.at_level(logging.WARNING, logger="bids_xai"):
        labels = labels_on_grid(atlas, mask)
        maps = np.ones((2, 3, len(labels)), np.float32)
        table = region_table(labels, atlas, maps, maps > 0, mask, METHODS, CLASSES)
    assert len(table) == 0
    assert tuple(table.columns) == COLUMNS
    assert "are the data in that space?" in caplog.text
