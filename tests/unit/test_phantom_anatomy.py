import numpy as np
import pytest

from bids_xai.phantom.anatomy import (
    draw_anatomy,
    draw_motion,
    framewise_displacement,
    rigid,
    template_position,
)
from bids_xai.phantom.template import load_template
from bids_xai.phantom.truth import write_anatomy


def scattered(rng, n=500):
    return rng.uniform([-80, -110, -60], [80, 80, 90], (n, 3))


def test_the_template_position_changes_nothing():
    points = scattered(np.random.default_rng(0))
    np.testing.assert_allclose(template_position().to_template(points), points)


def test_itk_files_mean_the_same_to_another_reader(tmp_path):
    # nitransforms reads ITK's affine and displacement field with code of its own.
    linear = pytest.importorskip("nitransforms.linear")
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    anatomy = draw_anatomy(load_template(), np.random.default_rng(3))
    mask = {"brain": np.ones((2, 2, 2), dtype=bool)}
    write_anatomy(tmp_path, "sub-01", anatomy, mask, np.eye(4))
    stem = f"{tmp_path}/sub-01/anat/sub-01_from-MNI152NLin2009aSym_to-T1w_mode-image_desc-"
    affine = linear.Affine.from_filename(f"{stem}affine_xfm.txt", fmt="itk")
    warp = nonlinear.DenseFieldTransform.from_filename(f"{stem}warp_xfm.nii.gz", fmt="itk")
    knots = (
        anatomy.knots[:3, :3] @ np.array([[10, 12, 9], [14, 6, 12], [8, 20, 10]]).T + anatomy.knots[:3, 3:]
    )
    scanner = (anatomy.head[:3, :3] @ knots + anatomy.head[:3, 3:]).T  # knots: no interpolation to differ in
    np.testing.assert_allclose(warp.map(affine.map(scanner)), anatomy.to_template(scanner), atol=1e-3)


def test_a_movement_carries_the_head_with_it():
    rng = np.random.default_rng(5)
    anatomy, points = draw_anatomy(load_template(), rng), scattered(rng)
    movement = rigid(np.array([3.0, -2.0, 1.0, 0.05, -0.1, 0.02]))
    moved = points @ movement[:3, :3].T + movement[:3, 3]
    np.testing.assert_allclose(anatomy.to_template(moved, movement), anatomy.to_template(points), atol=1e-4)


def test_rigid_is_rz_ry_rx():
    a, b, c = 0.1, -0.2, 0.3
    rx = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    ry = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    rz = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    expected = np.array(rz) @ np.array(ry) @ np.array(rx)
    np.testing.assert_allclose(rigid(np.array([1, 2, 3, a, b, c]))[:3, :3], expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_heads_do_not_fold(seed):
    anatomy = draw_anatomy(load_template(), np.random.default_rng(seed))
    slopes = np.stack([np.stack(np.gradient(anatomy.displacement[..., a], 8.0), -1) for a in range(3)], -2)
    assert np.linalg.det(np.eye(3) + slopes).min() > 0
    assert 0.8 < np.linalg.det(anatomy.head[:3, :3]) ** (1 / 3) < 1.2


def test_motion_starts_at_rest_and_stays_plausible():
    motion = draw_motion(100, 3, np.random.default_rng(0))
    assert motion.shape == (3, 100, 6)
    assert not motion[0, 0].any()
    assert motion[1, 0].any()
    assert np.abs(motion[..., :3]).max() < 8
    assert np.abs(motion[..., 3:]).max() < 0.2


def test_framewise_displacement_is_powers():
    motion = np.random.default_rng(0).normal(size=(6, 6))
    expected = [0.0]
    for k in range(1, 6):
        step = abs(motion[k] - motion[k - 1])
        expected.append(step[0] + step[1] + step[2] + 50 * step[3] + 50 * step[4] + 50 * step[5])
    np.testing.assert_allclose(framewise_displacement(motion), expected)
