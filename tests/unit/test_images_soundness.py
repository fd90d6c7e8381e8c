"""Volumes that hold no image: found, left out, named; cleaning without them."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest

from bids_xai.errors import InputError
from bids_xai.images.cleaning import clean_run, line_smoother
from bids_xai.images.soundness import inspect_run, repaired
from bids_xai.images.windows import without_left_out

SHAPE = (3, 4, 5, 12)


def run(change=None):
    data = np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)
    if change is not None:
        change(data)
    return nb.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))


def test_a_sound_run_has_nothing_to_say():
    found = inspect_run(run(), "run.nii")
    assert (found.lost, found.warnings("run.nii"), found.holes.any()) == ([], [], False)


def test_lost_volumes_are_found_and_named():
    def change(data):
        data[..., :2] = 0
        data[..., 7] = np.nan
        data[1:, ..., 9] = np.inf

    found = inspect_run(run(change), "run.nii")
    assert (found.not_finite, found.constant, found.lost) == ((7, 9), (0, 1), [0, 1, 7, 9])
    first, second = found.warnings("run.nii")
    assert first.startswith("2 volumes (7, 9; counted from 0) of run.nii (12 volumes) are not finite")
    assert second.startswith("2 volumes (0, 1; counted from 0) of run.nii (12 volumes) are constant")


def test_background_is_none_and_holes_are_voxels_without_data():
    def change(data):
        data[0] = np.nan  # as SPM writes what is outside
        data[2, 2, 2, 4] = np.nan
        data[..., 3] = np.nan

    img = run(change)
    found = inspect_run(img, "run.nii")
    assert found.lost == [3]
    assert np.argwhere(found.holes).tolist() == [[2, 2, 2]]
    assert "1 voxels of run.nii are not finite in some volumes" in found.warnings("run.nii")[1]
    out = repaired(img, found).get_fdata()
    assert np.isfinite(out).all()
    assert not out[0].any()
    assert not out[2, 2, 2].any()
    np.testing.assert_array_equal(out[1, ..., 3], img.get_fdata()[1, ..., 2])
    np.testing.assert_array_equal(out[1, ..., 4:], img.get_fdata()[1, ..., 4:])


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf])
def test_a_run_without_images_is_refused(value):
    with pytest.raises(InputError, match=r"7 of the 12 volumes of run\.nii hold no image"):
        inspect_run(run(lambda data: data.__setitem__((..., slice(0, 7)), value)), "run.nii")
    with pytest.raises(InputError, match="12 of the 12"):
        inspect_run(run(lambda data: data.__setitem__(..., value)), "run.nii")


# Cleaning without volumes -------------------------------------------------------------------------------

OPTIONS = [
    {"detrend": True},
    {"detrend": True, "high_pass": 1 / 40},
    {"detrend": False, "high_pass": 1 / 40},
    {"detrend": False},
    {"detrend": True, "high_pass_sigma": 4.0},
    {"detrend": True, "high_pass": 1 / 60, "standardize": False},
    {"detrend": False, "high_pass": 1 / 60, "standardize": False},
]


def series(n=60, n_voxels=7):
    rng = np.random.default_rng(1)
    time = np.arange(n)[:, None]
    return 500 + 0.3 * time + 4 * np.sin(time / 9) + rng.normal(0, 3, (n, n_voxels))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("with_confounds", [False, True])
def test_what_is_left_out_changes_nothing(options, with_confounds):
    """A lost volume may hold anything, and the other volumes come out the same."""
    data = series()
    kept = np.ones(60, dtype=bool)
    kept[[0, 1, 17, 40]] = False
    confounds = np.random.default_rng(2).normal(size=(60, 2)) if with_confounds else None
    first = clean_run(data, 2.0, kept=kept, confounds=confounds, **options)
    damaged = data.copy()
    damaged[~kept] = [[0], [0], [1e6], [-7]]
    second = clean_run(damaged, 2.0, kept=kept, confounds=confounds, **options)
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert not first[~kept].any()
    if options.get("standardize", True):
        np.testing.assert_allclose(first[kept].std(axis=0, ddof=1), 1, atol=1e-5)
        np.testing.assert_allclose(first[kept].mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_with_all_volumes_it_is_what_nilearn_does(options):
    """The regression that leaves out none (but one far away in a longer run) agrees with nilearn's steps."""
    data, confounds = series(), np.random.default_rng(2).normal(size=(60, 2))
    plain = clean_run(data, 2.0, confounds=confounds, **options)
    from bids_xai.images import cleaning

    everything = np.ones(60, dtype=bool)
    high_pass = options.get("high_pass")
    if options.get("high_pass_sigma"):
        smooth = np.eye(60) - line_smoother(60, 4.0)
        data, confounds = smooth @ data, smooth @ confounds
    basis = cleaning._censored_basis(everything, 2.0, options["detrend"], high_pass, confounds)
    left = data - basis @ (basis.T @ data)
    if options.get("standardize", True):
        left = (left - left.mean(axis=0)) / left.std(axis=0, ddof=1)
    np.testing.assert_allclose(left, plain, atol=2e-4)


def test_a_dummy_that_is_left_out_does_not_shrink_the_run():
    """Four volumes of zeros took the samples' standard deviation to .65 of the clean run's."""
    data = series()
    damaged, kept = data.copy(), np.arange(60) >= 4
    damaged[:4] = 0
    clean, out, ignored = (
        clean_run(x, 2.0, high_pass=1 / 128, kept=k)
        for x, k in ((data, None), (damaged, kept), (damaged, None))
    )
    assert out[kept].std() / clean[kept].std() == pytest.approx(1, abs=0.05)
    assert ignored[kept].std() / clean[kept].std() < 0.7


def test_line_smoother_without_volumes_is_a_line_through_the_others():
    kept = np.ones(30, dtype=bool)
    kept[[3, 4, 20]] = False
    line = 5 + 0.7 * np.arange(30.0)
    damaged = np.where(kept, line, 99)
    np.testing.assert_allclose(line_smoother(30, 3.0, kept) @ damaged, line)


# Samples ----------------------------------------------------------------------------------------------------


def test_samples_that_lose_most_of_their_window_go():
    kept = np.ones(12, dtype=bool)
    kept[[0, 1, 4, 5, 6]] = False
    windows = [np.array(volumes) for volumes in ([0, 1], [1, 2, 3], [3, 4], [4, 5, 6, 7], [8, 9])]
    chosen, left = without_left_out(windows, kept)
    assert chosen == [1, 2, 4]
    assert [volumes.tolist() for volumes in left] == [[2, 3], [3], [8, 9]]
