"""What preprocessing aims at: engine, space, template and grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.bids.records import RunRecord, SubjectRecord
from bids_xai.cli.target import check_programs, complete, needs_template, save_template, with_grid
from bids_xai.errors import InputError
from bids_xai.images.grids import fit_shape, same_grid
from bids_xai.images.masking import downsample_mask
from bids_xai.images.templates import template_from_file
from bids_xai.settings import resolve

SHAPE = (24, 28, 22)


def settings(selection=None, **preprocessing):
    return resolve({"preprocessing": preprocessing, "selection": selection or {}})


def head(size=2.0, radius=18.0, shape=SHAPE):
    """Return a ball of tissue in air: a template without skull."""
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -size * (np.asarray(shape) - 1) / 2
    points = nb.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    distance = np.linalg.norm(points, axis=-1)
    return nb.Nifti1Image(np.where(distance < radius, 100 - distance, 0).astype(np.float32), affine)


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "tpl-Ball_T1w.nii.gz"
    nb.save(head(), path)
    return str(path)


def runs(folder, *voxels):
    """Return one participant with a run of each of these voxel sizes."""
    records = []
    for number, size in enumerate(voxels):
        path = folder / f"run-{number}_bold.nii.gz"
        nb.save(nb.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.diag([*size, 1.0])), path)
        records.append(RunRecord("01", "", "look", str(number), path, path, 2.0, 2))
    return [SubjectRecord("01", tuple(records))]


# Engine, registration, space ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("ants", "syn", "MNI152NLin2009cAsym")),
        ({"preproc": "ants", "modality": "T1w"}, ("ants", "syn", "MNI152NLin2009cAsym")),
        ({"preproc": "fsl"}, ("fsl", "affine", "MNI152NLin6Asym")),
        ({"preproc": "fsl", "registration": "syn"}, ("fsl", "syn", "MNI152NLin6Asym")),
        ({"registration": "rigid", "space": "Mine"}, ("ants", "rigid", "Mine")),
        ({"preproc": "none"}, ("none", "syn", None)),
        ({"preproc": "none", "space": "Mine"}, ("none", "syn", "Mine")),
        ({"preproc": "none", "modality": "FLAIR"}, ("none", "syn", None)),
        ({"preproc": "derivatives"}, ("derivatives", "syn", None)),
        ({"preproc": "derivatives", "space": "Mine"}, ("derivatives", "syn", "Mine")),
        ({"template": "MNI152NLin6Asym"}, ("ants", "syn", "MNI152NLin6Asym")),
        ({"template": "A", "space": "A"}, ("ants", "syn", "A")),
        ({"template": "/x/tpl-Old_T1w.nii.gz"}, ("ants", "syn", "Old")),
        ({"template": "/x/sub-01_space-New_T1w.nii"}, ("ants", "syn", "New")),
        ({"template": "/x/my_brain-1.nii.gz"}, ("ants", "syn", "mybrain1")),
        ({"template": "/x/tpl-Old_T1w.nii.gz", "space": "Named"}, ("ants", "syn", "Named")),
        ({"template": "here.nii", "preproc": "none", "modality": "T1w"}, ("none", "syn", None)),
    ],
)
def test_what_is_left_open_is_filled_in(asked, expected):
    images = complete(settings(**asked)).preprocessing
    assert (images.preproc, images.registration, images.space) == expected
    for name, value in asked.items():
        if name != "space":
            assert getattr(images, name) == value


def test_preprocessed_derivatives_are_taken_where_there_are_some(tmp_path):
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text(
        json.dumps({"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": "derivative"})
    )
    asked = {"derivatives": (tmp_path,)}
    (func / "sub-01_task-look_desc-smooth_bold.nii.gz").touch()
    with pytest.raises(InputError, match=r"What is there: desc-smooth_bold \(1\)"):
        complete(settings(asked))
    filters = tmp_path / "filters.json"
    filters.write_text(json.dumps({"bold": {"desc": "smooth"}}))
    found = complete(settings({**asked, "bids_filter_file": filters})).preprocessing
    assert (found.preproc, found.space) == ("derivatives", None)
    (func / "sub-01_task-look_desc-preproc_bold.nii.gz").touch()
    assert complete(settings(asked)).preprocessing.preproc == "derivatives"
    with pytest.raises(InputError, match=r"No preprocessed image \(desc-preproc_T1w\)"):
        complete(settings(asked, modality="T1w"))
    assert complete(settings(asked, modality="T1w", preproc="ants")).preprocessing.preproc == "ants"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"template": "A", "space": "B"}, "--template A and --space B name two templates"),
        ({"template": "A", "preproc": "derivatives"}, "--template A with --preproc derivatives"),
        ({"template": "a.nii", "preproc": "derivatives"}, r"--template a\.nii with --preproc derivatives"),
        ({"modality": "PET"}, "Unknown modality 'PET'"),
    ],
)
def test_contradictions_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        complete(settings(**asked))


@pytest.mark.parametrize(
    ("preproc", "modality", "needed"),
    [
        ("ants", "bold", True),
        ("fsl", "bold", True),
        ("none", "bold", False),
        ("none", "T1w", True),
        ("derivatives", "T1w", False),
    ],
)
def test_who_needs_a_template(preproc, modality, needed, tmp_path):
    asked = settings(preproc=preproc, modality=modality)
    assert needs_template(asked) is needed
    if not needed:
        assert with_grid(asked, []) is asked


def test_the_programs_of_the_engine_must_be_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    check_programs(complete(settings()))  # inside antspyx
    check_programs(settings(preproc="none"))
    with pytest.raises(InputError, match="FSL"):
        check_programs(complete(settings(preproc="fsl")))


# The grid -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voxels", "resolution"),
    [
        ([(3.0, 3.0, 3.0)], 3.0),
        ([(3.0, 3.0, 3.000001)], 3.0),
        ([(3.1, 3.1, 3.0)], 3.5),
        ([(3.0, 3.0, 4.0), (2.4, 2.4, 2.4)], 4.0),
        ([(2.4, 2.4, 2.4), (-3.6, 3.0, 3.0)], 4.0),
        ([(1.2, 1.2, 1.2)], 2.0),  # the template's own: nothing finer can be had
    ],
)
def test_the_grid_of_bold_has_its_largest_voxels(voxels, resolution, template, tmp_path):
    asked = complete(settings(template=template))
    assert with_grid(asked, runs(tmp_path, *voxels)).preprocessing.resolution == resolution


def test_what_was_asked_for_stays(template, tmp_path):
    subjects = runs(tmp_path, (3.0, 3.0, 3.0))
    asked = complete(settings(template=template, resolution=5.0))
    assert with_grid(asked, subjects) == asked
    anatomical = complete(settings(template=template, modality="T1w"))
    assert with_grid(anatomical, []) == anatomical


def test_a_grid_finer_than_the_template_is_refused(template, tmp_path):
    asked = complete(settings(template=template, resolution=1.5))
    with pytest.raises(InputError, match=r"1\.5 mm is finer(.|\n)*at least 2 mm"):
        with_grid(asked, runs(tmp_path, (3.0, 3.0, 3.0)))


@pytest.mark.parametrize("shape", [None, (10, 16, 12)])
@pytest.mark.parametrize("resolution", [None, 4.0])
def test_a_mask_must_lie_on_the_grid(shape, resolution, template, tmp_path):
    own = nb.load(template)
    grid = nb.Nifti1Image((own.get_fdata() > 0).astype(np.uint8), own.affine)
    grid = grid if resolution is None else downsample_mask(grid, resolution)
    grid = grid if shape is None else fit_shape(grid, shape)
    path = tmp_path / "mask.nii.gz"
    nb.save(grid, path)
    asked = {"template": template, "modality": "T1w", "resolution": resolution, "shape": shape}
    with_grid(complete(settings(mask=str(path), **asked)), [])
    affine = grid.affine.copy()
    affine[0, 3] += 1
    nb.save(nb.Nifti1Image(np.asarray(grid.dataobj), affine), path)
    with pytest.raises(InputError, match=r"mask\.nii\.gz(.|\n)*the analysis grid"):
        with_grid(complete(settings(mask=str(path), **asked)), [])


# Templates as files -------------------------------------------------------------------------------------


def saved(path_or_name, work, **asked):
    return save_template(complete(settings(template=str(path_or_name), **asked)), work)


def test_templates_are_written_once(template, tmp_path):
    work = tmp_path / "work"
    target = saved(template, work)
    assert target.space == "Ball"
    assert target.t1w == work / "templates" / "tpl-Ball_T1w.nii.gz"
    times = [path.stat().st_mtime_ns for path in (target.t1w, target.mask)]
    assert saved(template, work) == target
    assert [path.stat().st_mtime_ns for path in (target.t1w, target.mask)] == times
    np.testing.assert_array_equal(nb.load(target.t1w).get_fdata(), nb.load(template).get_fdata())
    assert {path.name for path in target.t1w.parent.iterdir()} == {target.t1w.name, target.mask.name}


@pytest.mark.parametrize("change", ["values", "position"])
def test_a_template_that_changed_is_written_again(change, template, tmp_path):
    saved(template, tmp_path / "work")
    img = head(radius=16) if change == "values" else head()
    affine = img.affine.copy()
    affine[0, 3] += 4 * (change == "position")
    changed = nb.Nifti1Image(img.get_fdata(), affine)
    nb.save(changed, template)
    target = saved(template, tmp_path / "work")
    for path in (target.t1w, target.mask):
        written = nb.load(path)
        assert same_grid(written, changed)
        np.testing.assert_array_equal(written.get_fdata() > 0, changed.get_fdata() > 0)


def test_a_template_by_name_loses_its_skull(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    folder = tmp_path / "tpl-SkullForTests"
    folder.mkdir()
    brain = head()
    skull = nb.Nifti1Image(brain.get_fdata().astype(np.float32) + 7, brain.affine)
    mask = nb.Nifti1Image((brain.get_fdata() > 0).astype(np.uint8), brain.affine)
    nb.save(skull, folder / "tpl-SkullForTests_res-02_T1w.nii.gz")
    nb.save(mask, folder / "tpl-SkullForTests_res-02_desc-brain_mask.nii.gz")
    target = saved("SkullForTests", tmp_path / "work")
    expected = np.where(brain.get_fdata() > 0, brain.get_fdata() + 7, 0)
    np.testing.assert_allclose(nb.load(target.t1w).get_fdata(), expected, atol=1e-4)
    np.testing.assert_array_equal(nb.load(target.mask).get_fdata(), mask.get_fdata())


def test_the_mask_of_a_template_file_is_where_it_is_not_zero(tmp_path):
    img = head()
    data = img.get_fdata().copy()
    data[12, 14, 11] = 0  # a hole
    data[11, 14, 11] = np.nan
    data[0, 0, 0] = -3
    nb.save(nb.Nifti1Image(data[..., None], img.affine), tmp_path / "brain.nii.gz")
    t1w, mask = template_from_file(tmp_path / "brain.nii.gz")
    inside = img.get_fdata() > 0
    np.testing.assert_array_equal(np.asarray(mask.dataobj) > 0, inside)
    assert t1w.shape == SHAPE
    assert t1w.get_fdata()[0, 0, 0] == 0
    assert t1w.get_fdata()[11, 14, 11] == 0
    np.testing.assert_allclose(t1w.get_fdata()[5], img.get_fdata()[5], atol=1e-4)


@pytest.mark.parametrize("name", ["tpl-X_T1w.nii.gz", "tpl-X_desc-head_T1w.nii.gz"])
def test_a_mask_beside_a_template_file_is_its_mask(name, tmp_path):
    img = head()
    whole = nb.Nifti1Image(np.full(SHAPE, 5, np.float32), img.affine)
    small = nb.Nifti1Image((head(radius=10).get_fdata() > 0).astype(np.uint8), img.affine)
    nb.save(whole, tmp_path / name)
    nb.save(small, tmp_path / "tpl-X_desc-brain_mask.nii.gz")
    t1w, mask = template_from_file(tmp_path / name)
    np.testing.assert_array_equal(mask.get_fdata(), small.get_fdata())
    np.testing.assert_array_equal(t1w.get_fdata(), 5 * small.get_fdata())


def unusable(kind, folder):
    path = folder / "tpl-X_T1w.nii.gz"
    img = head()
    if kind == "garbage":
        path.write_bytes(b"no image at all")
    elif kind == "cut short":
        nb.save(img, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "4-D":
        nb.save(nb.Nifti1Image(np.stack([img.get_fdata()] * 2, axis=-1), img.affine), path)
    elif kind == "whole head":
        nb.save(nb.Nifti1Image(img.get_fdata() + 3, img.affine), path)
    elif kind == "empty":
        nb.save(nb.Nifti1Image(np.zeros(SHAPE, np.float32), img.affine), path)
    elif kind == "mask elsewhere":
        nb.save(img, path)
        small = head(size=3.0)
        mask = nb.Nifti1Image((small.get_fdata() > 0).astype(np.uint8), small.affine)
        nb.save(mask, folder / "tpl-X_desc-brain_mask.nii.gz")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "cannot be read"),
        ("garbage", "cannot be read"),
        ("cut short", "cannot be read"),
        ("4-D", "has 4 dimensions"),
        ("whole head", "above 0 in 100% of its voxels(.|\n)*desc-brain_mask"),
        ("empty", "above 0 in 0% of its voxels"),
        ("mask elsewhere", "different grids(.|\n)*desc-brain_mask"),
    ],
)
def test_template_files_that_cannot_be_used_are_refused(kind, message, tmp_path):
    path: Path = unusable(kind, tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        template_from_file(path)
    assert str(path) in str(raised.value)
