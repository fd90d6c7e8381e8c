"""Similarity of images, starts of registrations, centre on centre."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.images.alignment import (
    Comparison,
    centring,
    correlation,
    initial_translation,
    mutual_information,
    resampled,
)
from bids_xai.images.grids import fit_shape
from tests.heads import CENTRE, SmoothHead, centred_affine

SHAPE = (46, 48, 44)
AFFINE = centred_affine(np.diag([4.0, 4.0, 4.0]), SHAPE)


def translation(*shift):
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def brain(shift=(0, 0, 0), affine=AFFINE, shape=SHAPE):
    """Return a head cut off at a distance (0 outside, as a brain), after a shift in mm."""
    img = SmoothHead().image(shape, affine, translation(*shift)[None])
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - CENTRE - shift
    data = np.where(np.square(points / [60, 72, 55]).sum(axis=-1) < 1, img.get_fdata()[..., 0], 0)
    return nb.Nifti1Image(data.astype(np.float32), affine)


def other_contrast(img, seed=4):
    """Invert what is bright and dark inside the brain, and add noise everywhere."""
    data = img.get_fdata()
    noise = np.random.default_rng(seed).normal(0, 20, data.shape)
    return nb.Nifti1Image(np.where(data != 0, 1800 - 0.8 * data, 100) + noise, img.affine)


# Correlation -------------------------------------------------------------------------------------------


def test_correlation_is_pearsons_inside_the_mask(rng):
    a = rng.normal(5, 2, (6, 5, 4)).astype(np.float32)
    b = (0.4 * a + rng.normal(0, 1, a.shape)).astype(np.float32)
    inside = rng.uniform(size=a.shape) > 0.4
    assert correlation(a, b, inside) == pytest.approx(np.corrcoef(a[inside], b[inside])[0, 1], abs=1e-6)
    assert correlation(a, -2 * a + 1, inside) == pytest.approx(-1)
    assert correlation(a, np.ones_like(a), inside) == 0


# Mutual information ------------------------------------------------------------------------------------


def test_independent_values_share_nothing(rng):
    x, y = rng.normal(size=(2, 200_000))
    # A joint histogram of independent values overestimates by (bins - 1)^2 / 2n (Miller 1955).
    assert mutual_information(x, y) == pytest.approx(31**2 / 400_000, abs=2e-3)


def test_a_value_shares_with_itself_its_entropy(rng):
    x = rng.integers(0, 8, 5000).astype(float)
    shares = np.bincount(x.astype(int)) / 5000
    assert mutual_information(x, x) == pytest.approx(-(shares * np.log(shares)).sum())
    # Any invertible relation is as good, as between contrasts.
    relabelled = np.array([3, 0, 7, 5, 1, 6, 2, 4.0])[x.astype(int)]
    assert mutual_information(x, relabelled) == pytest.approx(mutual_information(x, x))


def test_mutual_information_is_symmetric_and_knows_the_gaussian_formula(rng):
    x = rng.normal(size=100_000)
    y = 0.8 * x + 0.6 * rng.normal(size=100_000)
    assert mutual_information(x, y) == pytest.approx(mutual_information(y, x), rel=1e-12)
    assert mutual_information(x, y) == pytest.approx(-0.5 * np.log(1 - 0.8**2), rel=0.05)


def test_a_constant_shares_nothing(rng):
    assert mutual_information(rng.normal(size=100), np.full(100, 3.0)) == pytest.approx(0, abs=1e-12)


def test_a_few_outliers_do_not_empty_the_histogram(rng):
    x, noise = rng.normal(size=(2, 20_000))
    y = x + 0.5 * noise
    spoilt = x.copy()
    spoilt[:20] = 1e6
    assert mutual_information(spoilt, y) == pytest.approx(mutual_information(x, y), rel=0.03)


# Comparison --------------------------------------------------------------------------------------------


def test_only_an_alignment_gains_over_shifts():
    fixed = brain()
    assert Comparison(fixed, other_contrast(fixed)).information_gain() > 1.1
    for axis in range(3):
        for sign in (-1, 1):
            shift = np.zeros(3)
            shift[axis] = 12 * sign
            comparison = Comparison(fixed, other_contrast(brain(shift)))
            assert comparison.information_gain() <= 1
            assert comparison.information_gain(translation(*shift)) > 1.1


def test_information_is_largest_where_the_images_agree():
    fixed, shift = brain(), np.array([9.0, -14.0, 6.0])
    comparison = Comparison(fixed, other_contrast(brain(shift)))
    best = comparison.information(translation(*shift))
    for axis in range(3):
        for step in (-6, 6):
            beside = shift + step * np.eye(3)[axis]
            assert comparison.information(translation(*beside)) < best


def test_resolution_and_storage_hardly_matter():
    fixed = brain()
    coarse = Comparison(fixed, other_contrast(fixed)).information(np.eye(4))
    turned = nb.Nifti1Image.from_image(other_contrast(fixed)).as_reoriented(
        np.array([[1, -1], [2, 1], [0, 1]])
    )
    assert Comparison(fixed, turned).information(np.eye(4)) == pytest.approx(coarse)
    shape = (92, 96, 88)
    fine = brain(affine=centred_affine(np.diag([2.0, 2, 2]), shape), shape=shape)
    assert Comparison(fine, other_contrast(fixed)).information(np.eye(4)) == pytest.approx(coarse, rel=0.1)


def test_a_mask_says_where():
    fixed = brain()
    moving = other_contrast(fixed).get_fdata()
    moving[: SHAPE[0] // 2] = 0
    inside = np.zeros(SHAPE, np.uint8)
    inside[SHAPE[0] // 2 + 4 :] = 1
    mask = nb.Nifti1Image(inside * (fixed.get_fdata() != 0).astype(np.uint8), AFFINE)
    moving = nb.Nifti1Image(moving, AFFINE)
    within = Comparison(fixed, moving, mask).information(np.eye(4))
    untouched = Comparison(fixed, other_contrast(fixed), mask).information(np.eye(4))
    assert within == pytest.approx(untouched, rel=0.02)


# Starts ------------------------------------------------------------------------------------------------


def test_positions_of_one_session_are_kept():
    fixed = brain()
    data = other_contrast(fixed).get_fdata()
    data[:, :, : SHAPE[2] // 3] = 0  # cut off: neither centre of mass nor centre of view is right
    moving = nb.Nifti1Image(data[:, :-6], AFFINE)
    np.testing.assert_array_equal(initial_translation(fixed, moving), np.eye(4))


def test_brains_in_other_places_are_found_by_their_mass():
    shift = np.array([70.0, -55.0, 40.0])
    shape = (70, 60, 60)
    moving = brain(shift, centred_affine(np.diag([4.0, 4, 4]), shape), shape)
    start = initial_translation(brain(), moving)
    np.testing.assert_allclose(start[:3, :3], np.eye(3))
    np.testing.assert_allclose(start[:3, 3], shift, atol=4)


def test_scanner_origins_elsewhere_are_undone_by_the_views():
    moving = other_contrast(brain())
    data = moving.get_fdata()
    data[:, :, :6] += 4000  # a bright neck draws the centre of mass away
    far = nb.Nifti1Image(data, translation(300, -200, 150) @ AFFINE)
    np.testing.assert_allclose(initial_translation(brain(), far), translation(300, -200, 150), atol=1e-6)


# Centre on centre --------------------------------------------------------------------------------------

GRID_SHAPE = (20, 15, 18)
GRID = nb.Nifti1Image(np.zeros(GRID_SHAPE, np.float32), centred_affine(np.diag([-2.0, 3.0, 2.5]), GRID_SHAPE))
ORIENTATIONS = [("R", "A", "S"), ("L", "A", "S"), ("A", "S", "R"), ("I", "L", "P"), ("P", "R", "S")]


def small_image(rng, shape, tilt=None, origin=(40.0, -70.0, 90.0)):
    """Return random voxels with the grid's sizes and axes nearest to left, anterior, superior."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if tilt is None else tilt) @ np.diag([-2.0, 3.0, 2.5])
    affine[:3, 3] = origin
    return nb.Nifti1Image(rng.normal(10, 1, shape).astype(np.float32), affine)


def in_orientation(img, codes):
    return img.as_reoriented(ornt_transform(io_orientation(img.affine), axcodes2ornt(codes)))


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("shape", [(24, 19, 16), (12, 9, 30), GRID_SHAPE])
def test_centring_pads_and_crops_to_the_voxel(codes, tilted, shape, rng):
    tilt = Rotation.from_euler("xyz", [12, 9, -14], degrees=True).as_matrix() if tilted else None
    img = small_image(rng, shape, tilt)
    stored = in_orientation(img, codes)
    expected = fit_shape(img, GRID_SHAPE).get_fdata()
    np.testing.assert_allclose(resampled(stored, GRID), expected, atol=1e-4)


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_centring_is_rigid_and_maps_centre_to_centre(codes, rng):
    stored = in_orientation(small_image(rng, (24, 19, 16)), codes)
    matrix = centring(stored, GRID)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    centre = apply_affine(stored.affine, (np.array(stored.shape) - 1) / 2)
    np.testing.assert_allclose(apply_affine(matrix, CENTRE), centre, atol=1e-9)


def test_other_voxel_sizes_are_interpolated_linearly(rng):
    img = small_image(rng, (30, 28, 26))
    shape = (13, 13, 13)
    grid = nb.Nifti1Image(np.zeros(shape), centred_affine(np.diag([3.0, 3.0, 3.0]), shape))
    centre = (np.array(img.shape) - 1) / 2
    expected = np.zeros(shape)
    for voxel in np.ndindex(*shape):
        mm = (np.array(voxel) - 6) * 3.0
        at = centre + mm / [-2.0, 3.0, 2.5]
        expected[voxel] = ndimage.map_coordinates(img.get_fdata(), at[:, None], order=1)[0]
    np.testing.assert_allclose(resampled(img, grid), expected, atol=1e-4)


def test_a_sheared_affine_gives_a_rotation(rng):
    img = small_image(rng, (10, 10, 10))
    affine = img.affine.copy()
    affine[0, 1] += 0.4
    matrix = centring(nb.Nifti1Image(img.get_fdata(), affine), GRID)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
