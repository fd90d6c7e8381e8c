"""Head motion: parameters, displacement, and realignment of heads whose movements are known."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.bids.confounds import ENGINE_COLUMNS
from bids_xai.images.motion import (
    MOTION_COLUMNS,
    estimate_motion,
    framewise_displacement,
    motion_regressors,
    rigid_matrix,
    rigid_parameters,
)
from bids_xai.interfaces.ants import ApplyTransforms, Registration
from tests.heads import CENTRE, SmoothHead, centred_affine

TILT = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
GRIDS = {
    "isotropic": (np.diag([4.0, 4, 4]), (34, 38, 32)),
    "anisotropic": (np.diag([3.0, 3, 4.5]), (44, 50, 28)),
    "oblique": (TILT @ np.diag([3.5, 3.5, 4.0]), (38, 42, 32)),
    "left-handed": (np.diag([-4.0, 4, 4]), (34, 38, 32)),
    "permuted": (np.array([[0, 0, -4.0], [3.5, 0, 0], [0, 4.0, 0]]), (40, 32, 34)),
}


def walk(n, seed=1):
    """Return a random walk of (trans, rot) in mm and rad, up to a few mm and degrees."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (n, 6)) * [0.5, 0.5, 0.5, 0.01, 0.01, 0.01]
    return np.cumsum(steps, axis=0)


def movements_of(parameters, centre=CENTRE):
    return np.stack([rigid_matrix(row, centre) for row in parameters])


def head_points(seed=3):
    """Points of the brain: uniform in a ball of 60 mm."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return CENTRE + 60 * points * rng.uniform(0, 1, (400, 1)) ** (1 / 3)


def apart(found, true):
    """Mean distance in mm, per volume, between where two series of matrices (n, 4, 4) put the brain."""
    points = head_points()
    return np.array(
        [
            np.linalg.norm(apply_affine(a, points) - apply_affine(b, points), axis=1).mean()
            for a, b in zip(found, true, strict=True)
        ]
    )


def from_first(matrices):
    """Movements relative to the first volume: they do not depend on which reference was chosen."""
    return matrices @ np.linalg.inv(matrices[0])


def run_image(grid, parameters, noise=10.0, gains=1.0, seed=5):
    axes, shape = GRIDS[grid]
    img = SmoothHead().image(shape, centred_affine(axes, shape), movements_of(parameters))
    rng = np.random.default_rng(seed)
    data = img.get_fdata() * gains + noise * rng.standard_normal(img.shape)
    return nb.Nifti1Image(data.astype(np.float32), img.affine)


vectors = hnp.arrays(np.float64, 3, elements=st.floats(-100, 100))
angles = hnp.arrays(np.float64, 3, elements=st.floats(-1.5, 1.5))


@settings(deadline=None)
@given(shift=vectors, angle=angles, centre=vectors)
def test_parameters_are_the_inverse_of_the_matrix(shift, angle, centre):
    parameters = np.concatenate([shift, angle])
    matrix = rigid_matrix(parameters, centre)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(apply_affine(matrix, centre), centre + shift, atol=1e-9)
    np.testing.assert_allclose(rigid_parameters(matrix[None], centre)[0], parameters, atol=1e-9)


def test_the_rotation_is_rz_ry_rx():
    a, b, c = 0.2, -0.3, 0.4
    rx = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    ry = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    rz = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    matrix = rigid_matrix(np.array([0, 0, 0, a, b, c]), np.zeros(3))
    np.testing.assert_allclose(matrix[:3, :3], np.array(rz) @ np.array(ry) @ np.array(rx), atol=1e-12)


def test_framewise_displacement_by_hand():
    parameters = np.array([[0, 0, 0, 0, 0, 0], [1, -2, 0, 0.01, 0, 0], [1, -2, 0.5, -0.01, 0, 0.02]])
    # 1 + 2 + 50 * .01; .5 + 50 * (.02 + .02)
    np.testing.assert_allclose(framewise_displacement(parameters), [np.nan, 3.5, 2.5])
    np.testing.assert_array_equal(framewise_displacement(np.zeros((1, 6))), [np.nan])


def test_regressors_have_the_names_and_order_of_the_confounds_tables():
    parameters = walk(5)
    table = motion_regressors(parameters)
    assert tuple(table) == ENGINE_COLUMNS[: ENGINE_COLUMNS.index("dvars")]
    for column, name in enumerate(MOTION_COLUMNS):
        values = parameters[:, column]
        change = [np.nan, *(values[i] - values[i - 1] for i in range(1, 5))]
        np.testing.assert_array_equal(table[name], values)
        np.testing.assert_array_equal(table[f"{name}_power2"], values * values)
        np.testing.assert_array_equal(table[f"{name}_derivative1"], change)
        np.testing.assert_array_equal(table[f"{name}_derivative1_power2"], np.square(change))
    np.testing.assert_array_equal(table["framewise_displacement"], framewise_displacement(parameters))


@pytest.mark.parametrize("grid", GRIDS)
def test_known_motion_is_recovered(grid):
    parameters = walk(12)
    motion = estimate_motion(run_image(grid, parameters))
    true = from_first(movements_of(parameters))
    assert apart(true, np.tile(np.eye(4), (12, 1, 1))).max() > 1.5  # there is something to recover
    assert apart(from_first(motion.matrices), true).max() < 0.1
    np.testing.assert_allclose(motion.centre, CENTRE, atol=8)


def test_large_and_sudden_movements_are_recovered():
    parameters = np.zeros((8, 6))
    parameters[3:] = [6, -5, 4, 0.08, -0.06, 0.1]
    parameters[6:, :3] -= 9
    found = estimate_motion(run_image("isotropic", parameters)).matrices
    assert apart(from_first(found), movements_of(parameters)).max() < 0.15


def test_the_reference_is_where_its_matrices_say():
    parameters = walk(6)
    motion = estimate_motion(run_image("isotropic", parameters, noise=0))
    assert motion.reference.shape == GRIDS["isotropic"][1]
    # Volume 0 shows the tissue of the reference's point p at M_0 p.
    points = head_points()
    to_tissue = np.linalg.inv(movements_of(parameters)[0]) @ motion.matrices[0]
    voxels = apply_affine(np.linalg.inv(motion.reference.affine), points).T
    seen = ndimage.map_coordinates(motion.reference.get_fdata(), voxels, order=3)
    assert np.abs(seen - SmoothHead()(apply_affine(to_tissue, points))).mean() < 0.1


def test_the_parameters_belong_to_the_matrices():
    motion = estimate_motion(run_image("oblique", walk(3)))
    parameters = motion.parameters()
    assert parameters.shape == (3, 6)
    np.testing.assert_allclose(movements_of(parameters, motion.centre), motion.matrices, atol=1e-9)


@pytest.mark.parametrize("ornt", [[[0, -1], [1, 1], [2, 1]], [[2, 1], [0, -1], [1, 1]]])
def test_storage_order_does_not_change_the_answer_in_space(ornt):
    img = run_image("isotropic", walk(4))
    stored = img.as_reoriented(np.array(ornt))
    assert stored.shape != img.shape or not np.allclose(stored.affine, img.affine)
    assert apart(estimate_motion(stored).matrices, estimate_motion(img).matrices).max() < 0.005


def test_changes_of_intensity_are_not_taken_for_movements():
    parameters = walk(6)
    gains = np.array([1.0, 1.4, 2.5, 1.0, 0.4, 0.9])
    found = estimate_motion(run_image("isotropic", parameters, gains=gains)).matrices
    assert apart(from_first(found), from_first(movements_of(parameters))).max() < 0.1


def test_a_run_without_motion_stays():
    found = estimate_motion(run_image("isotropic", np.zeros((5, 6)))).matrices
    assert apart(found, np.tile(np.eye(4), (5, 1, 1))).max() < 0.1


def test_integers_on_disk_give_what_floats_in_memory_give(tmp_path):
    img = run_image("isotropic", walk(3))
    whole = nb.Nifti1Image(np.rint(img.get_fdata()).astype(np.int16), img.affine)
    nb.save(whole, tmp_path / "run.nii.gz")
    found = estimate_motion(nb.load(tmp_path / "run.nii.gz")).matrices
    np.testing.assert_array_equal(found, estimate_motion(whole).matrices)
    assert apart(found, estimate_motion(img).matrices).max() < 0.01


def test_a_repeat_is_equal_to_the_bit():
    img = run_image("anisotropic", walk(4))
    first, second = estimate_motion(img), estimate_motion(img)
    np.testing.assert_array_equal(first.matrices, second.matrices)
    np.testing.assert_array_equal(first.reference.get_fdata(), second.reference.get_fdata())


def test_a_single_slice_moves_in_its_plane():
    parameters = np.zeros((6, 6))
    parameters[:, [0, 1, 5]] = walk(6)[:, [0, 1, 5]]
    axes = TILT @ np.diag([3.0, 3, 3])
    # In the frame of the slice: movements about its own axes.
    movements = movements_of(parameters)
    turn = np.eye(4)
    turn[:3, :3] = TILT
    turn[:3, 3] = CENTRE - TILT @ CENTRE
    movements = turn @ movements @ np.linalg.inv(turn)
    shape = (46, 48, 1)
    img = SmoothHead().image(shape, centred_affine(axes, shape), movements)
    found = from_first(estimate_motion(img).matrices)
    points = apply_affine(img.affine, np.argwhere(np.ones(shape)))
    inner = points[np.linalg.norm(points - CENTRE, axis=1) < 50]
    for matrix, true in zip(found, from_first(movements), strict=True):
        assert np.linalg.norm(apply_affine(matrix, inner) - apply_affine(true, inner), axis=1).mean() < 0.1


@pytest.mark.parametrize("shape", [(2, 2, 2), (5, 5, 3), (7, 6, 1), (1, 1, 1)])
@pytest.mark.parametrize("n_volumes", [1, 2])
def test_very_small_runs_give_finite_matrices(shape, n_volumes, rng):
    data = rng.uniform(500, 1000, (*shape, n_volumes)).astype(np.float32)
    motion = estimate_motion(nb.Nifti1Image(data, np.diag([4.0, 4, 4, 1])))
    assert motion.matrices.shape == (n_volumes, 4, 4)
    assert np.isfinite(motion.matrices).all()
    assert motion.reference.shape == shape


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_constant_runs_do_not_move(value):
    data = np.full((12, 12, 12, 3), value, np.float32)
    found = estimate_motion(nb.Nifti1Image(data, np.diag([4.0, 4, 4, 1]))).matrices
    np.testing.assert_allclose(found, np.tile(np.eye(4), (3, 1, 1)), atol=1e-6)


def test_a_slow_drift_is_followed_far_and_out_of_the_view():
    parameters = np.linspace(0, 1, 12)[:, None] * np.array([28, -15, 20, 0.25, -0.2, 0.3])
    found = estimate_motion(run_image("isotropic", parameters)).matrices
    assert apart(from_first(found), movements_of(parameters)).max() < 0.25


@pytest.mark.parametrize("spoilt", ["empty", "noise"])
def test_a_spoilt_volume_stays_and_spoils_no_other(spoilt, rng):
    parameters = walk(8)
    img = run_image("isotropic", parameters)
    data = img.get_fdata()
    data[..., 5] = 0 if spoilt == "empty" else rng.uniform(0, 1000, img.shape[:3])
    found = estimate_motion(nb.Nifti1Image(data, img.affine)).matrices
    np.testing.assert_allclose(found[5], found[4], atol=1e-9)
    kept = [0, 1, 2, 3, 4, 6, 7]
    assert apart(from_first(found[kept]), from_first(movements_of(parameters)[kept])).max() < 0.1


def test_ants_finds_the_same_movement(tmp_path):
    parameters = np.array([np.zeros(6), [2.0, -1.5, 1.0, 0.03, -0.02, 0.04]])
    img = run_image("isotropic", parameters)
    fixed, moving = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    nb.save(img.slicer[..., 0], fixed)
    nb.save(img.slicer[..., 1], moving)
    registration = Registration(
        dimension=3,
        fixed_image=str(fixed),
        moving_image=str(moving),
        transforms=["Rigid"],
        transform_parameters=[(0.1,)],
        metric=["MeanSquares"],
        metric_weight=[1.0],
        radius_or_number_of_bins=[0],
        number_of_iterations=[[100, 100]],
        shrink_factors=[[2, 1]],
        smoothing_sigmas=[[1.0, 0.0]],
        write_composite_transform=True,
        random_seed=1,
    )
    transform = registration.run(cwd=str(tmp_path)).outputs.composite_transform
    # A displacement field on a few points tells what ANTs' transform does, whatever its parametrisation.
    field = ApplyTransforms(
        dimension=3,
        input_image=str(moving),
        reference_image=str(fixed),
        transforms=[transform],
        print_out_composite_warp_file=True,
        output_image="field.nii.gz",
    )
    composed = nb.load(field.run(cwd=str(tmp_path)).outputs.output_image)
    shifts = composed.get_fdata().reshape(*composed.shape[:3], 3) * [-1, -1, 1]
    found = from_first(estimate_motion(img).matrices)[1]
    points = apply_affine(img.affine, np.argwhere(np.ones(img.shape[:3])))
    near = np.linalg.norm(points - CENTRE, axis=1) < 60
    theirs = points[near] + shifts.reshape(-1, 3)[near]
    assert np.linalg.norm(apply_affine(found, points[near]) - theirs, axis=1).mean() < 0.2
