"""Anatomical images: conforming, finding brains, scaling."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bids_xai.errors import InputError
from bids_xai.images.brain import brain_shape, conform, extract_brain, is_skull_stripped, scale_intensities
from bids_xai.phantom.anatomy import draw_anatomy, template_position
from bids_xai.phantom.t1w import t1w_image
from bids_xai.phantom.template import grid, grid_points, load_template, sample, smoothed

TILT = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix()


def image(data, axes, origin=(10.0, -20.0, 30.0)):
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = origin
    return nb.Nifti1Image(data, affine)


def world_values(img):
    """Return value by position (0.01 mm) of all voxels: what an image says, however it is stored."""
    voxels = np.argwhere(np.ones(img.shape[:3]))
    points = nb.affines.apply_affine(img.affine, voxels)
    data = np.asarray(img.dataobj).reshape(img.shape[:3])
    return {tuple(point): data[tuple(v)] for point, v in zip(points.round(2) + 0.0, voxels, strict=True)}


# Conforming --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "axes",
    [
        np.diag([-1.0, 1.5, 2.0]),
        TILT @ np.diag([-1.0, 1.5, 2.0]),
        TILT @ np.array([[0, 0, -2.0], [-1.5, 0, 0], [0, 1.0, 0]]),
    ],
    ids=["LAS", "oblique LAS", "oblique PSL"],
)
def test_conforming_moves_axes_and_nothing_in_space(axes, rng):
    img = image(rng.normal(100, 10, (5, 6, 7)).astype(np.float32), axes)
    out = conform(img)
    assert nb.aff2axcodes(out.affine) == ("R", "A", "S")
    assert world_values(out) == world_values(img)


def test_one_volume_of_a_series_and_scaled_integers(tmp_path, rng):
    data = rng.integers(0, 1000, (5, 6, 7, 1)).astype(np.int16)
    img = image(data, np.diag([-1.0, 1.0, 1.0]))
    img.header.set_slope_inter(0.5, 3)
    nb.save(img, tmp_path / "x.nii.gz")
    loaded = nb.load(tmp_path / "x.nii.gz")
    out = conform(loaded)
    assert out.shape == (5, 6, 7)
    assert out.get_data_dtype() == np.float32
    np.testing.assert_allclose(out.get_fdata(), loaded.get_fdata()[::-1, :, :, 0])
    nb.save(out, tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(nb.load(tmp_path / "y.nii.gz").get_fdata(), out.get_fdata())


def test_values_that_are_no_numbers_become_zero():
    data = np.ones((3, 3, 3), np.float32)
    data[0, 0] = [np.nan, np.inf, -np.inf]
    out = conform(image(data, np.eye(3))).get_fdata()
    assert (out[0, 0] == 0).all()
    assert out.sum() == 24


@pytest.mark.parametrize(
    ("sform", "qform", "expected"), [(1, 1, 1), (0, 1, 1), (4, 0, 4), (4, 1, 4), (0, 0, 2)]
)
def test_the_header_has_one_valid_affine(sform, qform, expected, tmp_path):
    img = image(np.ones((3, 4, 5), np.float32), TILT @ np.diag([-1.0, 1.0, 1.0]))
    img.set_sform(img.affine, sform)
    img.set_qform(img.affine, qform)
    nb.save(img, tmp_path / "x.nii.gz")
    out = conform(nb.load(tmp_path / "x.nii.gz"))
    for affine, code in (out.get_sform(coded=True), out.get_qform(coded=True)):
        assert int(code) == expected
        np.testing.assert_allclose(affine, out.affine, atol=1e-5)
    assert out.header.get_xyzt_units()[0] == "mm"


# Skull-stripped or not ---------------------------------------------------------------------------------


def ball(radius, n=40, size=5.0, outside=0.0):
    points = (np.indices((n, n, n)) - (n - 1) / 2) * size
    inside = np.sqrt(np.square(points).sum(axis=0)) < radius
    return image(np.where(inside, 100.0, outside).astype(np.float32), np.eye(3) * size)


def test_a_brain_alone_is_told_from_a_head():
    assert is_skull_stripped(ball(75))  # 1.8 litres
    assert not is_skull_stripped(ball(95))  # 3.6 litres
    assert not is_skull_stripped(ball(75, outside=1.0))
    # A view cut close around a head shows less than 2.6 litres, and hardly a zero.
    close = ball(95).slicer[8:-8, 8:-8, 8:-8]
    assert np.count_nonzero(close.get_fdata()) * 0.125e-3 < 2.6
    assert not is_skull_stripped(close)


# Brain extraction --------------------------------------------------------------------------------------


def head(resolution=3.0, seed=None):
    """Return a phantom's T1w and the true share of brain in its voxels."""
    template = load_template()
    rng = np.random.default_rng(seed or 0)
    anatomy = template_position() if seed is None else draw_anatomy(template, rng)
    data, affine = t1w_image(smoothed(template.t1w, resolution), template, anatomy, resolution, rng)
    tissue = template.gm + template.wm + template.csf
    points = anatomy.to_template(grid_points(*grid(template, resolution)))
    true = sample(smoothed(tissue, resolution), template.affine, points).reshape(data.shape)
    return nb.Nifti1Image(data, affine), true


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.slow
def test_the_brain_of_a_head_is_found_however_it_is_stored():
    img, true = head(seed=7)
    assert not is_skull_stripped(img)
    threads = torch.get_num_threads()
    mask = extract_brain(img)
    assert torch.get_num_threads() == threads
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, img.affine)
    found = np.asarray(mask.dataobj) > 0
    assert dice(found, true > 0.5) > 0.9
    turned = img.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    stored = np.asarray(extract_brain(turned).dataobj) > 0
    back = nb.Nifti1Image(stored.astype(np.uint8), turned.affine)
    np.testing.assert_array_equal(nb.as_closest_canonical(back).affine, nb.as_closest_canonical(img).affine)
    canonical = [np.asarray(nb.as_closest_canonical(x).dataobj) > 0 for x in (back, mask)]
    assert dice(*canonical) > 0.999


def test_a_stripped_brain_stays_whole():
    img, true = head()
    inside = true > 0.5
    data = np.where(inside, img.get_fdata(), 0).astype(np.float32)
    data[tuple(np.argwhere(inside)[1000:1400:7].T)] = 0  # dark voxels within
    data[2, 2, 2] = 50  # a speck in the air
    stripped = nb.Nifti1Image(data, img.affine)
    assert is_skull_stripped(stripped)
    mask = np.asarray(extract_brain(stripped).dataobj) > 0
    assert mask[(data != 0) & inside].all()
    assert not mask[2, 2, 2]
    assert dice(mask, inside) > 0.98


def test_gaps_of_a_stripped_brain_are_closed_and_hollows_filled():
    brain = ball(70, 150, 1.0)
    data = brain.get_fdata().copy()
    data[75:79] = 0  # 4 mm, as between the hemispheres
    points = np.argwhere(data > 0)
    data[tuple(points[np.linalg.norm(points - [110, 75, 75], axis=1) < 12].T)] = 0  # a ventricle
    mask = np.asarray(extract_brain(nb.Nifti1Image(data, brain.affine)).dataobj) > 0
    assert dice(mask, brain.get_fdata() > 0) > 0.99
    assert mask[104:116, 75, 75].all()


def test_closing_is_in_mm():
    brain = ball(70, 30, 7.0)
    data = brain.get_fdata().copy()
    data[:, 15] = 0  # 7 mm stay a gap, and the larger half is the brain
    mask = np.asarray(extract_brain(nb.Nifti1Image(data, brain.affine)).dataobj) > 0
    np.testing.assert_array_equal(mask[:, :15], data[:, :15] > 0)
    assert not mask[:, 15:].any()


def test_a_brain_that_fills_the_view_from_top_to_bottom():
    brain = ball(70, 80, 2.0)
    cut = brain.slicer[:, :, 20:60]
    data = cut.get_fdata().copy()
    mask = np.asarray(extract_brain(nb.Nifti1Image(data, cut.affine)).dataobj) > 0
    np.testing.assert_array_equal(mask, data > 0)


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_no_brain_is_said(value, tmp_path):
    nb.save(image(np.full((40, 40, 40), value, np.float32), np.eye(3) * 5), tmp_path / "sub-01_T1w.nii.gz")
    with pytest.raises(InputError, match=r"No brain was found in .*sub-01_T1w\.nii\.gz"):
        extract_brain(nb.load(tmp_path / "sub-01_T1w.nii.gz"))


# Scaling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [("none", [-2, 0, 8]), ("minmax", [0, 0.2, 1]), ("max", [-0.25, 0, 1])],
)
def test_scaling(how, expected):
    out = scale_intensities(np.array([-2, 0, 8], np.float32), how)
    np.testing.assert_allclose(out, expected)
    assert out.dtype == np.float32


def test_scaling_of_constants():
    constant = np.full(4, 5, np.float32)
    np.testing.assert_array_equal(scale_intensities(constant, "minmax"), 0)
    np.testing.assert_array_equal(scale_intensities(constant, "max"), 1)
    np.testing.assert_array_equal(scale_intensities(np.zeros(4, np.float32), "max"), 0)


def _ellipsoid(axes_mm, voxel_mm=4.0):
    shape = np.ceil(2 * np.array(axes_mm) / voxel_mm).astype(int) + 4
    grid = (np.indices(shape) - (shape[:, None, None, None] - 1) / 2) * voxel_mm
    inside = (np.square(grid / np.array(axes_mm)[:, None, None, None]).sum(axis=0) <= 1).astype(np.uint8)
    return nb.Nifti1Image(inside, np.diag([-voxel_mm, voxel_mm, voxel_mm, 1]))


@pytest.mark.parametrize(
    ("axes_mm", "problem"),
    [
        ((68, 85, 62), ""),  # 1501 ml
        ((82, 100, 79), "ml, expected 400 to 2200 ml"),  # BET's failure had 2705
        ((40, 45, 38), "expected 400 to 2200 ml"),
        ((60, 60, 125), "times as long as thick, expected at most 2"),
    ],
)
def test_the_volume_and_shape_of_a_mask_tell_whether_it_can_be_a_brain(axes_mm, problem):
    found = brain_shape(_ellipsoid(axes_mm))
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * np.prod(axes_mm) / 1e3, rel=0.01)
    assert found.elongation == pytest.approx(max(axes_mm) / min(axes_mm), rel=0.02)
    assert found.solidity == pytest.approx(1, abs=0.02)
    assert bool(found.problem) is bool(problem)
    assert problem in found.problem


def test_scattered_masks_are_no_brains():
    mask = _ellipsoid((68, 85, 62))
    data = np.asarray(mask.dataobj) * (np.random.default_rng(0).random(mask.shape) < 0.5)
    found = brain_shape(nb.Nifti1Image(data.astype(np.uint8), mask.affine))
    assert found.problem.endswith("as full as an ellipsoid of its size, expected 75%")
