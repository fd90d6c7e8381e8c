"""Anatomical images: sound ones of any orientation pass, broken and contradictory ones are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from bids_xai.bids.checks import check_anatomical, open_anatomical, open_image
from bids_xai.bids.orientation import check_orientation
from bids_xai.bids.query import query
from bids_xai.errors import InputError
from tests.datasets import make_dataset, write_head


@pytest.fixture
def head(tmp_path: Path, rng: np.random.Generator) -> Path:
    return write_head(tmp_path / "sub-01_T1w.nii.gz", rng)


def save(path: Path, data: np.ndarray, affine: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    img = nb.Nifti1Image(data, affine)
    img.set_qform(affine, codes[0])
    img.set_sform(affine, codes[1])
    nb.save(img, path)
    return path


def with_forms(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int]) -> Path:
    img = nb.load(path)
    img = nb.Nifti1Image(np.asarray(img.dataobj), None, img.header)
    img.set_qform(qform, codes[0], update_affine=False)
    img.set_sform(sform, codes[1], update_affine=False)
    img.header["qform_code"], img.header["sform_code"] = codes
    nb.save(img, path)
    return path


def moved(affine: np.ndarray, mm: float) -> np.ndarray:
    shifted = affine.copy()
    shifted[0, 3] += mm
    return shifted


def turned(affine: np.ndarray, degrees: float) -> np.ndarray:
    rotation = np.eye(4)
    rotation[:3, :3] = euler2mat(z=np.radians(degrees))
    return rotation @ affine


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI", "PIR", "ASL"])
def test_every_orientation_is_right(head: Path, codes: str) -> None:
    img = nb.load(head)
    change = ornt_transform(nb.io_orientation(img.affine), axcodes2ornt(codes))
    data = apply_orientation(np.asarray(img.dataobj), change)
    path = save(head.with_name("x.nii.gz"), data, img.affine @ inv_ornt_aff(change, img.shape))
    assert nb.aff2axcodes(open_anatomical(path).affine) == tuple(codes)


@pytest.mark.parametrize("degrees", [5, 30, 60])
def test_oblique_images_are_right(head: Path, degrees: float) -> None:
    img = nb.load(head)
    save(head, np.asarray(img.dataobj), turned(img.affine, degrees))
    assert open_anatomical(head).shape == img.shape


def test_one_volume_of_four_dimensions_is_right(head: Path) -> None:
    img = nb.load(head)
    save(head, np.asarray(img.dataobj)[..., None], img.affine)
    assert open_anatomical(head).shape[3] == 1
    save(head, np.repeat(np.asarray(img.dataobj)[..., None], 2, axis=3), img.affine)
    with pytest.raises(InputError, match=r"sub-01_T1w\.nii\.gz has 4 dimensions(.|\n)*give one volume"):
        open_anatomical(head)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((20, 22, 1), np.diag([8.0, 8, 8, 1]), r"shape 20x22x1: that is a slice or a slab"),
        ((20, 15, 18), np.diag([8.0, 8, 8, 1]), r"at least 16 voxels"),
        ((20, 22, 18), np.diag([0.05, 0.05, 0.05, 1]), r"0\.05 x 0\.05 x 0\.05 mm(.|\n)*0\.1 to 10 mm"),
        ((20, 22, 18), np.diag([8.0, 8, 11, 1]), r"8 x 8 x 11 mm(.|\n)*unit must be mm"),
    ],
)
def test_grids_that_are_no_head(head: Path, shape: tuple[int, ...], affine: np.ndarray, message: str) -> None:
    save(head, np.random.default_rng(0).random(shape).astype(np.float32), affine)
    with pytest.raises(InputError, match=message):
        open_anatomical(head)


def test_long_voxels_are_logged(head: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(head, np.random.default_rng(0).random((20, 22, 18)).astype(np.float32), np.diag([1.0, 1, 7, 1]))
    open_anatomical(head)
    assert "strongly anisotropic: 1 x 1 x 7 mm" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((20, 22, 18), 3, np.int16), r"All voxels of .*T1w\.nii\.gz are constant \(3\)"),
        (np.full((20, 22, 18), np.nan, np.float32), r"No value of .*T1w\.nii\.gz is finite"),
        (np.full((20, 22, 18), np.inf, np.float32), r"No value of .* is finite"),
        (np.zeros((20, 22, 18), np.complex64), r"values of type complex64"),
        (np.zeros((20, 22, 18), [("R", "u1"), ("G", "u1"), ("B", "u1")]), r"one real number per voxel"),
    ],
)
def test_values_that_are_no_head(head: Path, data: np.ndarray, message: str) -> None:
    save(head, data, np.diag([8.0, 8, 8, 1]))
    with pytest.raises(InputError, match=message):
        open_anatomical(head)


def test_a_few_values_that_are_not_finite_pass(head: Path, rng: np.random.Generator) -> None:
    data = rng.random((20, 22, 18)).astype(np.float32)
    data[0, 0, :2] = np.nan, np.inf
    save(head, data, np.diag([8.0, 8, 8, 1]))
    open_anatomical(head)


def test_a_flipped_byte_in_the_middle_is_found(head: Path) -> None:
    whole = head.read_bytes()
    found = 0
    for place in np.linspace(0.3, 0.9, 7):
        content = bytearray(whole)
        content[int(place * len(content))] ^= 0x55
        head.write_bytes(bytes(content))
        with pytest.raises(InputError, match=r"sub-01_T1w\.nii\.gz is (damaged|truncated|not a readable)"):
            open_anatomical(head)
        found += 1
    assert found == 7
    # A header cannot tell: only what is read in whole is known to be whole.
    head.write_bytes(whole)
    check_anatomical(head, open_image(head, n_dimensions=3))


def test_an_image_that_is_not_compressed_is_read(head: Path) -> None:
    path = head.with_suffix("").with_suffix(".nii")
    nb.save(nb.load(head), path)
    open_anatomical(path)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([0.0, 0, 0, 1]), r"The affine of .*T1w\.nii\.gz is zero"),
        (np.diag([8.0, 8, 0, 1]), r"The affine of .* is singular: \[8 0 0 0; 0 8 0 0; 0 0 0 0\]"),
        (np.diag([8.0, np.nan, 8, 1]), r"The affine of .* has values that are not finite"),
    ],
)
def test_affines_that_say_nothing(head: Path, affine: np.ndarray, message: str) -> None:
    with_forms(head, np.diag([8.0, 8, 8, 1]), affine, (0, 1))
    with pytest.raises(InputError, match=message):
        open_anatomical(head)


@pytest.mark.parametrize(
    ("change", "codes", "message"),
    [
        (lambda affine: moved(affine, 0.9), (1, 1), None),
        (lambda affine: moved(affine, 1.1), (1, 1), r"1\.1 mm apart at a corner"),
        (
            lambda affine: turned(affine, 3),
            (2, 2),
            r"mm apart at a corner.*qform \(code 2\) \[.*sform \(code 2\)",
        ),
        (lambda affine: affine @ np.diag([-1.0, 1, 1, 1]), (1, 1), r"mirrored, so that left and right"),
        (lambda affine: affine @ np.diag([-1.0, 1, 1, 1]), (1, 4), r"mirrored, so that left and right"),
        (lambda affine: turned(affine, 90), (1, 2), r"contradict each other"),
        (lambda affine: turned(moved(affine, 12), 3), (1, 2), None),
        (lambda affine: turned(affine, 90), (0, 1), None),
        (lambda affine: turned(affine, 90), (1, 0), None),
    ],
)
def test_qform_and_sform_that_contradict_each_other(head: Path, change, codes, message: str | None) -> None:
    affine = nb.load(head).affine
    with_forms(head, affine, change(affine), codes)
    if message is None:
        open_anatomical(head)
        return
    with pytest.raises(InputError, match=message) as refusal:
        open_anatomical(head)
    assert "set the code of the other to 0" in refusal.value.remedy
    assert str(head) in refusal.value.found


def test_forms_of_different_spaces_are_logged(head: Path, caplog: pytest.LogCaptureFixture) -> None:
    affine = nb.load(head).affine
    with_forms(head, affine, moved(affine, 12), (1, 2))
    open_anatomical(head)
    assert "The qform (scanner) and sform (aligned)" in caplog.text
    assert "12 mm apart: the sform is taken" in caplog.text


def test_an_image_without_forms_is_logged(head: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_forms(head, np.diag([8.0, 8, 8, 1]), np.diag([8.0, 8, 8, 1]), (0, 0))
    open_anatomical(head)
    assert "neither qform nor sform" in caplog.text


def test_a_quaternion_that_is_no_rotation(head: Path) -> None:
    img = nb.load(head)
    img.header["quatern_b"] = 5
    with pytest.raises(InputError, match=r"The qform of x\.nii \(code 1\) is not a rotation"):
        check_orientation(Path("x.nii"), img)


def test_functional_images_that_an_engine_registers_are_checked_too(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=2)
    for folder in bids.glob("sub-*"):
        write_head(folder / "anat" / f"{folder.name}_T1w.nii.gz", np.random.default_rng(0))
    path = bids / "sub-01/func/sub-01_task-look_run-1_bold.nii.gz"
    affine = nb.load(path).affine
    with_forms(path, affine, affine @ np.diag([-1.0, 1, 1, 1]), (1, 1))
    with pytest.raises(InputError, match=r"run-1_bold\.nii\.gz contradict each other \(mirrored"):
        query(bids)
