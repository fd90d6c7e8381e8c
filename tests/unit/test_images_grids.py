"""Grids: the tent kernel, downsampling, comparison of grids."""

from __future__ import annotations

import gzip

import nibabel as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.errors import InputError
from bids_xai.images.grids import (
    check_same_grid,
    downsample,
    fit_shape,
    same_grid,
    tent_weights,
    volumes,
    voxel_sizes,
)


def image(shape, size=2.0, seed=0):
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    affine = np.diag([-size, size, size, 1.0])
    affine[:3, 3] = (90, -126, -72)
    return nb.Nifti1Image(data, affine)


def subsamp2_reference(data):
    """``fslmaths -subsamp2`` as a plain loop: 27 neighbours weighted 1, .5, .25, .125, the edge repeated."""
    shape = [(n + 1) // 2 for n in data.shape]
    out = np.zeros(shape)
    for index in np.ndindex(*shape):
        total = weight_total = 0.0
        for step in np.ndindex(3, 3, 3):
            offset = np.array(step) - 1
            at = np.clip(2 * np.array(index) + offset, 0, np.array(data.shape) - 1)
            weight = 0.5 ** np.abs(offset).sum()
            total += weight * data[tuple(at)]
            weight_total += weight
        out[index] = total / weight_total
    return out


def test_factor_two_is_subsamp2():
    img = image((7, 6, 5))
    coarse = downsample(img, 4.0)
    assert coarse.shape == (4, 3, 3)
    np.testing.assert_allclose(coarse.get_fdata(), subsamp2_reference(img.get_fdata()), atol=1e-6)
    np.testing.assert_allclose(coarse.affine[:3, 3], img.affine[:3, 3])
    np.testing.assert_allclose(coarse.affine[:3, :3], 2 * img.affine[:3, :3])


def test_the_published_grid():
    assert downsample(image((91, 109, 91)), 4.0).shape == (46, 55, 46)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 40), factor=st.floats(1, 6))
def test_weights_average_and_keep_constants(n, factor):
    weights = tent_weights(n, factor).toarray()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights.shape[0] - 1) * factor <= n - 1 + 1e-5


def test_interior_of_a_linear_ramp_is_kept():
    ramp = np.arange(40.0)
    weights = tent_weights(40, 3.0).toarray()
    inside = slice(1, -1)
    np.testing.assert_allclose((weights @ ramp)[inside], (np.arange(len(weights)) * 3.0)[inside])


def test_equal_resolution_changes_nothing_and_keeps_header():
    img = image((4, 5, 6, 3))
    img.header.set_zooms((2, 2, 2, 1.5))
    img.header.set_xyzt_units("mm", "sec")
    img.set_sform(img.affine, 4)
    same = downsample(img, 2.0)
    np.testing.assert_array_equal(same.get_fdata(), img.get_fdata())
    assert same.header.get_zooms()[3] == 1.5
    assert int(same.header["sform_code"]) == 4
    assert same.header.get_xyzt_units() == ("mm", "sec")


def test_series_from_file_equals_series_in_memory(tmp_path):
    img = image((6, 5, 4, 7))
    nb.save(img, tmp_path / "x.nii.gz")
    loaded = nb.load(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(downsample(loaded, 5.0).get_fdata(), downsample(img, 5.0).get_fdata())
    assert not loaded.in_memory


def test_compressed_series_is_read_front_to_back(tmp_path, monkeypatch):
    nb.save(image((6, 5, 4, 7)), tmp_path / "x.nii.gz")
    img = nb.load(tmp_path / "x.nii.gz")
    rewinds = []
    original = gzip.GzipFile.rewind
    monkeypatch.setattr(gzip.GzipFile, "rewind", lambda self: (rewinds.append(1), original(self)))
    assert len(list(volumes(img))) == 7
    assert len(rewinds) <= 1


def test_values_that_are_not_finite_count_as_zero():
    data = np.ones((3, 3, 3))
    data[0, 0, 0] = np.nan
    data[0, 0, 1] = np.inf
    assert next(volumes(nb.Nifti1Image(data, np.eye(4)))).sum() == 25


def test_single_slice_keeps_its_thickness():
    img = nb.Nifti1Image(np.ones((40, 20, 1), np.float32), np.diag([3.1, 3.75, 3.75, 1]))
    coarse = downsample(img, 6.0)
    assert coarse.shape == (21, 12, 1)
    np.testing.assert_allclose(voxel_sizes(coarse), [6, 6, 3.75], rtol=1e-6)


def test_finer_than_the_data_is_refused():
    with pytest.raises(InputError, match=r"1\.5 mm is finer.*2 x 2 x 2"):
        downsample(image((3, 3, 3)), 1.5)


def test_grids_are_compared_in_mm():
    a, b = image((20, 20, 20)), image((20, 20, 20))
    assert same_grid(a, b)
    tilted = b.affine.copy()
    tilted[0, 0] += 0.01  # a hundredth of a mm per voxel is .19 mm at the far end
    c = nb.Nifti1Image(b.get_fdata(), tilted)
    assert not same_grid(a, c)
    with pytest.raises(InputError, match=r"one\.nii \(shape 20x20x20.*two\.nii"):
        check_same_grid(a, c, "one.nii", "two.nii")
    assert not same_grid(a, image((20, 20, 19)))


SHAPES = st.tuples(*[st.integers(1, 7)] * 3)


@given(SHAPES, SHAPES, st.booleans())
def test_padding_keeps_values_in_place_and_cropping_undoes_it(old, new, series):
    shape = (*old, 2) if series else old
    affine = nb.affines.from_matvec(np.diag([-2, 2, 3]), [5, -6, 7])
    data = np.arange(1, np.prod(shape) + 1, dtype=np.int16).reshape(shape)
    img = nb.Nifti1Image(data, affine)
    out = fit_shape(img, new)
    assert out.shape == (*new, *shape[3:])
    assert out.get_data_dtype() == np.int16
    values = np.asarray(out.dataobj)
    inside = np.argwhere((values[..., 0] if series else values) > 0)
    assert len(inside) == np.minimum(old, new).prod()
    home = np.linalg.inv(affine) @ out.affine
    for voxel in inside:
        source = tuple(np.rint(nb.affines.apply_affine(home, voxel)).astype(int))
        np.testing.assert_array_equal(values[tuple(voxel)], data[source])
    back = fit_shape(fit_shape(img, tuple(np.maximum(old, new))), old)
    np.testing.assert_array_equal(back.dataobj, data)
    np.testing.assert_allclose(back.affine, affine)


@pytest.mark.parametrize(
    ("old", "new", "first", "last"),
    [
        ((91, 109, 91), (96, 114, 96), [2, 2, 2], [92, 110, 92]),  # the published padding, by 5 voxels
        ((5, 4, 6), (5, 7, 4), [0, 1, 0], [4, 4, 3]),
    ],
)
def test_of_an_odd_number_the_one_more_is_added_at_the_far_end(old, new, first, last):
    out = fit_shape(nb.Nifti1Image(np.ones(old, np.uint8), np.diag([2, 2, 2, 1])), new)
    filled = np.argwhere(np.asarray(out.dataobj) > 0)
    assert filled.min(axis=0).tolist() == first
    assert filled.max(axis=0).tolist() == last
    crop = fit_shape(nb.Nifti1Image(np.arange(7.0).reshape(7, 1, 1), np.eye(4)), (4, 1, 1))
    assert np.asarray(crop.dataobj).ravel().tolist() == [1, 2, 3, 4]
    assert crop.affine[0, 3] == 1
