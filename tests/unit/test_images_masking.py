"""Masks: the published rule, computed masks, the way to rows of voxels and back."""

from __future__ import annotations

import itertools

import nibabel as nb
import numpy as np
import pytest
from scipy import ndimage

from bids_xai.errors import InputError
from bids_xai.images.grids import downsample
from bids_xai.images.masking import (
    binary_mask,
    compute_mask,
    downsample_mask,
    intersect,
    load_mask,
    masked_series,
    on_grid,
    unmask,
)


def img(data, size=2.0):
    return nb.Nifti1Image(np.asarray(data), np.diag([size, size, size, 1]))


def ball(shape, radius):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return (grid**2).sum(0) <= radius**2


def test_mask_rule_is_tent_then_more_than_half():
    data = (np.random.default_rng(1).random((9, 8, 7)) > 0.5).astype(np.uint8)
    coarse = downsample_mask(img(data), 4.0)
    expected = downsample(img(data.astype(np.float32)), 4.0).get_fdata() > 0.5 + 1e-6
    np.testing.assert_array_equal(np.asarray(coarse.dataobj), expected)
    assert coarse.get_data_dtype() == np.uint8


def fsl_mask(data):
    """``fslmaths -subsamp2 -thr 0.5 -bin``: its weights as they are written there, edges repeated."""
    weights = {0: 0.125, 1: 0.0625, 2: 0.0312, 3: 0.0156}
    padded = np.pad(data.astype(np.float32), 1, mode="edge")
    out = np.zeros([(n + 1) // 2 for n in data.shape], np.float32)
    for voxel in np.ndindex(out.shape):
        for step in itertools.product((-1, 0, 1), repeat=3):
            at = tuple(2 * place + 1 + move for place, move in zip(voxel, step, strict=True))
            out[voxel] += np.float32(weights[sum(map(abs, step))]) * padded[at]
    return (out >= np.float32(0.5)).astype(np.uint8)


def blob(seed, shape=(12, 13, 11)):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (smooth > np.median(smooth)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(30))
def test_masks_are_those_of_fsl_also_in_ties_and_at_the_edge(seed):
    data = blob(seed)
    np.testing.assert_array_equal(np.asarray(downsample_mask(img(data), 4.0).dataobj), fsl_mask(data))


@pytest.mark.parametrize("planes", [[2], [1, 3]])
def test_exact_halves_are_outside_as_fsl_has_them(planes):
    """Weights .25 .5 .25 along x: output voxel 1 lies at input index 2."""
    data = np.zeros((7, 5, 5), np.uint8)
    data[planes] = 1
    data[5:] = 1
    assert downsample(img(data.astype(np.float32)), 4.0).get_fdata()[1, 1, 1] == 0.5
    found = np.asarray(downsample_mask(img(data), 4.0).dataobj)
    assert found[:, 1, 1].tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(found, fsl_mask(data))


def test_a_half_of_faces_alone_is_the_one_difference_to_fsl():
    data = np.zeros((5, 5, 5), np.uint8)
    data[2, 2, 1:4] = data[2, 1:4, 2] = data[1:4, 2, 2] = 1
    data[4] = 1
    found, fsl = np.asarray(downsample_mask(img(data), 4.0).dataobj), fsl_mask(data)
    assert np.argwhere(found != fsl).tolist() == [[1, 1, 1]]


def test_ball_survives_downsampling():
    coarse = downsample_mask(img(ball((31, 31, 31), 12).astype(float)), 4.0)
    assert np.asarray(coarse.dataobj).sum() == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)


def test_empty_masks_are_refused(tmp_path):
    nb.save(img(np.zeros((4, 4, 4), np.uint8)), tmp_path / "empty_mask.nii.gz")
    with pytest.raises(InputError, match=r"No voxel is inside .*empty_mask\.nii\.gz"):
        load_mask(tmp_path / "empty_mask.nii.gz")
    with pytest.raises(InputError, match="dimensions"):
        binary_mask(img(np.ones((3, 3, 3, 2))))
    left, right = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    left[0], right[3] = 1, 1
    with pytest.raises(InputError, match="intersection of 2 masks"):
        intersect([img(left), img(right)])
    tiny = np.zeros((9, 9, 9))
    tiny[3, 3, 3] = 1
    with pytest.raises(InputError, match="at 8 mm"):
        downsample_mask(img(tiny), 8.0)


def test_intersection():
    a, b = ball((9, 9, 9), 3), ball((9, 9, 9), 4)
    np.testing.assert_array_equal(
        np.asarray(intersect([img(a * 1.0), img(b * 1.0)]).dataobj), (a & b).astype(np.uint8)
    )


@pytest.mark.parametrize("background", ["noise", "zero outside the head", "skull-stripped"])
def test_brain_is_found(background):
    rng = np.random.default_rng(0)
    brain = ball((24, 24, 24), 8)
    data = np.where(brain[..., None], 1000 + 30 * rng.normal(size=(24, 24, 24, 5)), 0)
    if background == "noise":
        data += np.abs(rng.normal(size=data.shape)) * 20
    if background == "zero outside the head":
        data += np.abs(rng.normal(size=data.shape)) * 20 * ball((24, 24, 24), 10.5)[..., None]
    found = np.asarray(compute_mask([img(data.astype(np.float32))]).dataobj) > 0
    overlap = 2 * (found & brain).sum() / (found.sum() + brain.sum())
    assert overlap > 0.9
    if background == "skull-stripped":
        np.testing.assert_array_equal(found, brain)


def test_brain_in_a_single_slice():
    rng = np.random.default_rng(0)
    brain = ball((40, 20, 9), 8)[:, :, 4:5]
    data = np.where(brain[..., None], 1000, 20) + 10 * rng.normal(size=(40, 20, 1, 4))
    found = np.asarray(compute_mask([img(data)]).dataobj) > 0
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.95


def test_no_brain_is_refused():
    with pytest.raises(InputError, match="same in every voxel"):
        compute_mask([img(np.full((8, 8, 8, 2), 7.0))])


def test_rows_and_back():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5, 4, 3, 6)).astype(np.float32)
    mask = img((rng.random((5, 4, 3)) > 0.4).astype(np.uint8))
    series = masked_series(img(data), mask)
    inside = mask.get_fdata() > 0
    np.testing.assert_array_equal(series, data[inside].T)
    np.testing.assert_array_equal(unmask(series, mask).get_fdata(), data * inside[..., None])
    assert unmask(series[0], mask).shape == (5, 4, 3)
    with pytest.raises(InputError, match="different grids"):
        masked_series(img(data, 3.0), mask)


def test_a_mask_on_another_grid_is_where_half_of_a_voxel_is_inside() -> None:
    data = np.zeros((20, 20, 20), np.uint8)
    data[4:12, 6:14, 2:8] = 1
    mask = nb.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert np.array_equal(on_grid(mask, mask), data > 0)
    coarse = nb.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.diag([4.0, 4.0, 4.0, 1.0]))
    coarse.affine[:3, 3] = 1  # voxels of 2 x 2 x 2 of the finer ones
    found = on_grid(mask, coarse)
    assert np.array_equal(found, data.reshape(10, 2, 10, 2, 10, 2).mean(axis=(1, 3, 5)) >= 0.5)
    away = nb.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.diag([4.0, 4.0, 4.0, 1.0]))
    away.affine[:3, 3] = 500
    assert not on_grid(mask, away).any()


def test_a_computed_mask_that_cannot_be_right_is_refused(shared_data):
    """Haxby's slice: run 1's mask holds 419 of the 530 voxels, that of run 2 only 88."""
    folder = shared_data / "ds-haxby2001" / "sub-01" / "func"
    runs = [folder / f"sub-01_task-objectviewing_acq-slice_run-{run}_bold.nii.gz" for run in ("01", "02")]
    assert 400 < np.asarray(compute_mask([nb.load(runs[0])]).dataobj).sum() < 530
    with pytest.raises(InputError, match=r"run-02_bold.*cannot be right: it holds 88 voxels, 20%") as refusal:
        compute_mask([nb.load(runs[1])])
    assert "--mask FILE" in refusal.value.remedy


def test_a_mask_of_the_brightest_part_alone_is_refused(monkeypatch):
    """A bright spot in a dim brain: the widest gap of the histogram lies between the two."""
    rng = np.random.default_rng(0)
    head = np.where(ball((20, 20, 20), 8), 1000.0, 10.0)
    head[ball((20, 20, 20), 3)] = 1900.0
    data = np.stack([head + rng.normal(0, 3, head.shape) for _ in range(3)], axis=-1)
    found = nb.Nifti1Image(ball((20, 20, 20), 3).astype(np.uint8), np.eye(4))
    monkeypatch.setattr("nilearn.masking.compute_epi_mask", lambda *_, **__: found)
    with pytest.raises(InputError, match="cannot be right"):
        compute_mask([nb.Nifti1Image(data, np.eye(4))])
