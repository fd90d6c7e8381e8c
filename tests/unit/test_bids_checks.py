"""Checks of single images."""

from __future__ import annotations

import gzip
import json

import nibabel as nb
import numpy as np
import pytest

from bids_xai.bids.checks import (
    Problems,
    check_tr,
    check_varies,
    enclosed,
    open_anatomical,
    open_image,
    sidecar_tr,
)
from bids_xai.errors import InputError


def series(shape=(4, 4, 4, 6), tr=2.0, units=("mm", "sec")):
    img = nb.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), np.eye(4))
    if len(shape) == 4:
        img.header.set_zooms((1, 1, 1, tr))
    img.header.set_xyzt_units(*units)
    return img


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_truncated_images_are_refused(tmp_path, ending):
    path = tmp_path / f"x_bold{ending}"
    nb.save(series(), path)
    assert open_image(path).shape == (4, 4, 4, 6)
    whole = path.read_bytes()
    for keep in (len(whole) - 40, len(whole) // 2, 200, 10, 0):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=rf"x_bold{ending}"):
            open_image(path)


def test_shorter_data_in_a_whole_gzip_is_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(series().to_bytes()[:-100]))
    with pytest.raises(InputError, match="truncated"):
        open_image(path)


def test_gzip_of_several_members_is_whole(tmp_path):
    data = series().to_bytes()
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))
    assert open_image(path).shape == (4, 4, 4, 6)
    path.write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:-4]))
    with pytest.raises(InputError, match="truncated"):
        open_image(path)


def test_what_is_not_nifti_is_refused(tmp_path):
    for name in ("x.nii", "x.nii.gz"):
        (tmp_path / name).write_text("hello " * 200)
        with pytest.raises(InputError, match=f"{name} is not a readable NIfTI"):
            open_image(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        open_image(tmp_path / "absent.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "annex" / "object")
    with pytest.raises(InputError, match="datalad get"):
        open_image(tmp_path / "link.nii")


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 4, 1)])
def test_three_dimensions_are_refused_for_a_series(tmp_path, shape):
    nb.save(series(shape), tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"a 4-D series"):
        open_image(tmp_path / "x.nii")
    assert open_image(tmp_path / "x.nii", n_dimensions=3).shape == shape


def test_series_without_change_are_refused(tmp_path):
    data = np.repeat(np.random.default_rng(0).random((3, 3, 3, 1)), 6, axis=3)
    with pytest.raises(InputError, match=r"All voxels of x\.nii are constant"):
        check_varies("x.nii", nb.Nifti1Image(data, np.eye(4)))
    data[0, 0, 0, 5] += 1
    check_varies("x.nii", nb.Nifti1Image(data, np.eye(4)))


@pytest.mark.parametrize(
    ("tr", "units", "accepted"),
    [
        (2.0, "sec", True),
        (2.0009, "sec", True),
        (2.002, "sec", False),
        (2000.0, "msec", True),
        (2e6, "usec", True),
        (2.0, "msec", False),
        (2000.0, "unknown", True),
        (1.0, "unknown", False),
        (0.0, "sec", True),
    ],
)
def test_repetition_time_of_header_and_sidecar(tr, units, accepted, tmp_path):
    img = series(tr=tr, units=("mm", units))
    if accepted:
        check_tr(2.0, tmp_path / "x_bold.json", img, tmp_path / "x_bold.nii")
        return
    with pytest.raises(InputError, match=rf"2 s in .*x_bold\.json but {tr:g} .*x_bold\.nii"):
        check_tr(2.0, tmp_path / "x_bold.json", img, tmp_path / "x_bold.nii")


@pytest.mark.parametrize("value", [0, -1, "2", True, None])
def test_repetition_time_of_a_sidecar(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"RepetitionTime": value}))
    if value is None:
        assert sidecar_tr(path) is None
        return
    with pytest.raises(InputError, match="has the RepetitionTime"):
        sidecar_tr(path)


def test_problems_are_reported_together():
    problems = Problems()
    problems.raise_any()
    for number in [*range(12), 3]:
        problems.add(InputError(f"problem {number}"))
    with pytest.raises(InputError, match=r"12 problems(.|\n)*problem 9\n- and 2 more"):
        problems.raise_any()
    single = Problems()
    single.add(InputError("only", "x", "y"))
    with pytest.raises(InputError, match="only") as caught:
        single.raise_any()
    assert caught.value.remedy == "y"


def test_holes_that_are_not_finite_are_refused_and_a_background_is_not(tmp_path):
    data = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    background = data.copy()
    background[:3] = np.nan
    background[3, 10, 10] = np.inf  # hangs together with the background
    nb.save(nb.Nifti1Image(background, np.diag([2, 2, 2, 1])), tmp_path / "background.nii.gz")
    assert open_anatomical(tmp_path / "background.nii.gz").shape == (20, 20, 20)
    background[8, 10, 10] = np.nan
    background[8, 10, 11] = np.inf
    nb.save(nb.Nifti1Image(background, np.diag([2, 2, 2, 1])), tmp_path / "hole.nii.gz")
    with pytest.raises(InputError, match=r"2 voxels inside .*hole\.nii\.gz are not finite"):
        open_anatomical(tmp_path / "hole.nii.gz")


def test_enclosed_voxels_are_those_of_no_part_at_the_border():
    voxels = np.zeros((5, 5, 5), dtype=bool)
    voxels[2, 2, 2] = voxels[1, 1, 1] = True
    assert enclosed(voxels) == 2  # corner to corner is not together
    voxels[0, 1, 1] = True
    assert enclosed(voxels) == 1
    voxels[2, 2, :] = True
    assert enclosed(voxels) == 0
