"""One interpolation from native space: against loops, linear functions and antsApplyTransforms."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.errors import InputError
from bids_xai.images.motion import rigid_matrix
from bids_xai.images.resampling import resample_run
from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.phantom.anatomy import itk_affine_text
from tests.heads import CENTRE, SmoothHead, centred_affine

SHAPE = (11, 9, 7)
TILT = Rotation.from_euler("xyz", [10, -7, 20], degrees=True).as_matrix()
AFFINE = centred_affine(TILT @ np.diag([-3.0, 3.5, 4.0]), SHAPE)
GRID = nb.Nifti1Image(np.zeros((6, 7, 5), np.float32), centred_affine(np.diag([2.5, 2.0, 3.0]), (6, 7, 5)))


def run_image(rng, n_volumes=3):
    data = rng.normal(1000, 100, (*SHAPE, n_volumes)).astype(np.float32)
    return nb.Nifti1Image(data, AFFINE)


def movements(rng, n_volumes=3):
    scale = [1.5, 1.5, 1.5, 0.05, 0.05, 0.05]
    return np.stack([rigid_matrix(rng.normal(0, scale), CENTRE) for _ in range(n_volumes)])


def field_on(grid, shifts):
    """Return an ITK displacement field (LPS) of shifts (x, y, z, 3) in RAS mm."""
    return nb.Nifti1Image((shifts * [-1, -1, 1])[:, :, :, None, :], grid.affine)


def smooth_shifts(rng):
    shifts = rng.normal(0, 1, (*GRID.shape, 3))
    return 4 * ndimage.gaussian_filter(shifts, (2, 2, 2, 0), mode="nearest")


@pytest.mark.parametrize("order", [0, 1, 3])
def test_identity_gives_the_run_back(order, rng):
    img = run_image(rng)
    grid = img.slicer[..., 0]
    matrices = np.tile(np.eye(4), (3, 1, 1))
    zero = field_on(grid, np.zeros((*SHAPE, 3)))
    series, coverage = resample_run(img, grid, displacement=zero, matrices=matrices, order=order)
    # Relative to values near 1000: single precision.
    np.testing.assert_allclose(series.get_fdata(), img.get_fdata(), atol=0.01)
    assert series.get_data_dtype() == np.float32
    assert coverage.get_data_dtype() == np.uint8
    assert np.asarray(coverage.dataobj).all()


def test_a_linear_function_of_space_passes_through_all_transforms(rng):
    """What comes out at x is f(M (x + u)) exactly, where f is linear: any order, sign or direction shows."""
    slope, offset = np.array([2.0, -3.0, 5.0]), 700.0
    shape = (24, 24, 24)
    affine = centred_affine(TILT @ np.diag([3.0, -3.0, 3.0]), shape)
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    data = np.repeat((points @ slope + offset)[..., None], 3, axis=-1)
    matrices, shifts = movements(rng), smooth_shifts(rng)
    assert np.abs(shifts).max() > 0.5
    series, coverage = resample_run(
        nb.Nifti1Image(data, affine), GRID, displacement=field_on(GRID, shifts), matrices=matrices, order=1
    )
    assert np.asarray(coverage.dataobj).all()
    at = apply_affine(GRID.affine, np.moveaxis(np.indices(GRID.shape), 0, -1)) + shifts
    for volume, matrix in enumerate(matrices):
        expected = apply_affine(matrix, at) @ slope + offset
        np.testing.assert_allclose(series.get_fdata()[..., volume], expected, atol=1e-3)


def bspline(x, order):
    """Return the centred B-spline: box, tent, cubic."""
    x = abs(x)
    if order == 0:
        return float(x <= 0.5)
    if order == 1:
        return max(0.0, 1 - x)
    return (4 - 6 * x**2 + 3 * x**3) / 6 if x < 1 else max(0.0, 2 - x) ** 3 / 6


def slow_value(coefficients, at, order):
    """Sum of B-splines around a position in voxels; coefficients go on as they are at the border."""
    total = 0.0
    base = np.floor(at).astype(int)
    for step in np.ndindex(4, 4, 4):
        knot = base + step - 1
        weight = np.prod([bspline(a - k, order) for a, k in zip(at, knot, strict=True)])
        total += weight * coefficients[tuple(np.clip(knot, 0, np.array(coefficients.shape) - 1))]
    return total


def slow_resampling(img, grid, shifts, matrices, order):
    """Voxel by voxel: where is it in the reference, where was that tissue in volume k, what is there."""
    out = np.zeros((*grid.shape, len(matrices)))
    for k, matrix in enumerate(matrices):
        volume = img.get_fdata()[..., k]
        coefficients = ndimage.spline_filter(volume, 3, mode="reflect") if order == 3 else volume
        for voxel in np.ndindex(*grid.shape):
            reference = grid.affine @ [*voxel, 1]
            reference[:3] += shifts[voxel]
            at = (np.linalg.inv(img.affine) @ matrix @ reference)[:3]
            if (at > -0.5).all() and (at < np.array(volume.shape) - 0.5).all():
                out[(*voxel, k)] = slow_value(coefficients, at, order)
    return out


@pytest.mark.parametrize("order", [0, 1, 3])
def test_one_interpolation_against_a_loop(order, rng):
    img, matrices, shifts = run_image(rng, 2), movements(rng, 2), smooth_shifts(rng)
    matrices[1, 0, 3] += 17  # part of the grid leaves the view
    series, coverage = resample_run(
        img, GRID, displacement=field_on(GRID, shifts), matrices=matrices, order=order
    )
    expected = slow_resampling(img, GRID, shifts, matrices, order)
    covered = np.asarray(coverage.dataobj) > 0
    np.testing.assert_array_equal(covered, (expected != 0).all(axis=-1))
    assert 0.1 < covered.mean() < 0.9
    np.testing.assert_allclose(series.get_fdata(), expected, atol=0.01)


def test_only_what_is_wanted_is_filled(rng):
    img, matrices = run_image(rng), movements(rng)
    inside = np.zeros(GRID.shape, bool)
    inside[2:4, 1:5, 1:3] = True
    everywhere, coverage = resample_run(img, GRID, matrices=matrices)
    wanted, wanted_coverage = resample_run(img, GRID, matrices=matrices, inside=inside)
    np.testing.assert_array_equal(wanted.get_fdata(), np.where(inside[..., None], everywhere.get_fdata(), 0))
    np.testing.assert_array_equal(np.asarray(wanted_coverage.dataobj), inside * np.asarray(coverage.dataobj))


def test_coverage_means_every_volume(rng):
    img = run_image(rng, 2)
    grid = img.slicer[..., 0]
    matrices = np.tile(np.eye(4), (2, 1, 1))
    matrices[0, :3, 3] = AFFINE[:3, 0] * 2  # two voxels along the first axis
    series, coverage = resample_run(img, grid, matrices=matrices)
    covered = np.asarray(coverage.dataobj) > 0
    assert covered[:-2].all()
    assert not covered[-2:].any()
    np.testing.assert_allclose(series.get_fdata()[:-2, ..., 0], img.get_fdata()[2:, ..., 0], atol=0.02)
    assert not series.get_fdata()[-2:, ..., 0].any()
    assert series.get_fdata()[-2:, ..., 1].all()


def test_a_single_volume_and_the_header(rng):
    img = run_image(rng, 4)
    img.header.set_xyzt_units("mm", "sec")
    img.header.set_zooms((3.0, 3.5, 4.0, 1.7))
    grid = nb.Nifti1Image(np.zeros(GRID.shape, np.uint8), GRID.affine)
    grid.set_sform(GRID.affine, 4)
    series, coverage = resample_run(img, grid)
    assert series.shape == (*GRID.shape, 4)
    assert series.header.get_zooms() == pytest.approx((2.5, 2.0, 3.0, 1.7))
    assert series.header.get_xyzt_units() == ("mm", "sec")
    assert int(series.header["sform_code"]) == int(coverage.header["sform_code"]) == 4
    single, _ = resample_run(img.slicer[..., 0], grid)
    np.testing.assert_array_equal(single.get_fdata(), series.get_fdata()[..., :1])


@pytest.mark.parametrize(
    "field",
    [
        nb.Nifti1Image(np.zeros((6, 7, 4, 1, 3)), GRID.affine),  # another shape
        nb.Nifti1Image(np.zeros((6, 7, 5, 1, 2)), GRID.affine),  # two components
        nb.Nifti1Image(np.zeros((6, 7, 5)), GRID.affine),  # no field
        nb.Nifti1Image(np.zeros((6, 7, 5, 1, 3)), AFFINE),  # elsewhere in space
    ],
)
def test_a_field_off_the_grid_is_refused(field, rng):
    with pytest.raises(InputError, match=r"displacement field(.|\n)*\(6, 7, 5, 1, 3\)"):
        resample_run(run_image(rng), GRID, displacement=field)


def test_matrices_of_another_run_are_refused(rng):
    with pytest.raises(InputError, match=r"2 movements(.|\n)*3: one per volume"):
        resample_run(run_image(rng), GRID, matrices=movements(rng, 2))


def test_itk_transforms_mean_what_ants_means(tmp_path):
    """Ours, through ANTs' composite warp, against antsApplyTransforms on the image itself."""
    shape = (30, 32, 28)
    head = SmoothHead().image(shape, centred_affine(TILT @ np.diag([4.0, 4.0, 4.0]), shape))
    grid_shape = (20, 22, 18)
    grid = nb.Nifti1Image(
        np.zeros(grid_shape, np.float32), centred_affine(np.diag([-4.0, 4.0, 4.5]), grid_shape)
    )
    nb.save(head, tmp_path / "head.nii.gz")
    nb.save(grid, tmp_path / "grid.nii.gz")
    movement = rigid_matrix(np.array([7.0, -4.0, 5.0, 0.2, -0.1, 0.15]), CENTRE)
    (tmp_path / "rigid.txt").write_text(itk_affine_text(movement))
    inputs = {
        "dimension": 3,
        "input_image": str(tmp_path / "head.nii.gz"),
        "reference_image": str(tmp_path / "grid.nii.gz"),
        "transforms": [str(tmp_path / "rigid.txt")],
        "interpolation": "Linear",
    }
    warp = ApplyTransforms(print_out_composite_warp_file=True, output_image="field.nii.gz", **inputs)
    field = nb.load(warp.run(cwd=str(tmp_path)).outputs.output_image)
    theirs = (
        ApplyTransforms(output_image="moved.nii.gz", **inputs).run(cwd=str(tmp_path)).outputs.output_image
    )
    expected = nb.load(theirs).get_fdata()
    series, coverage = resample_run(head, grid, displacement=field, order=1)
    covered = np.asarray(coverage.dataobj) > 0
    assert covered.mean() > 0.95
    np.testing.assert_allclose(series.get_fdata()[..., 0][covered], expected[covered], atol=0.5)
    assert np.abs(head.get_fdata()).max() > 1000
    # The same movement as a matrix: reference -> volume, without a field.
    direct, _ = resample_run(head, grid, matrices=movement[None], order=1)
    np.testing.assert_allclose(direct.get_fdata()[..., 0][covered], expected[covered], atol=0.5)
