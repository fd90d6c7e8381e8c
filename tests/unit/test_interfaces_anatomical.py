"""Interfaces between anatomical images, templates and grids: files in, files out."""

from __future__ import annotations

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nitransforms.linear import Affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_xai.errors import InputError
from bids_xai.images.alignment import correlation, resampled
from bids_xai.images.grids import downsample, fit_shape, same_grid, voxel_sizes
from bids_xai.images.masking import downsample_mask
from bids_xai.interfaces.anatomical import (
    AnalysisGrid,
    CentringTransform,
    ClipNegative,
    ConformImage,
    ExtractBrain,
    MaskImage,
    PrepareRegistration,
    ToGrid,
)
from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.interfaces.quality import CoregistrationQuality, RequireQuality, TemplateSimilarity
from tests.heads import CENTRE, SmoothHead, centred_affine

SHAPE = (40, 44, 38)
AFFINE = centred_affine(np.diag([4.0, 4.0, 4.0]), SHAPE)
TILT = Rotation.from_euler("xyz", [8, -6, 11], degrees=True).as_matrix()


@pytest.fixture
def save(tmp_path):
    def write(image, name):
        path = tmp_path / f"{name}.nii.gz"
        nb.save(image, path)
        return str(path)

    return write


@pytest.fixture
def run(tmp_path):
    """Run an interface in a folder of its own and return its outputs."""
    folder = tmp_path / "work"
    folder.mkdir()
    return lambda interface, **inputs: interface(**inputs).run(cwd=str(folder)).outputs


def shifted(*mm):
    matrix = np.eye(4)
    matrix[:3, 3] = mm
    return matrix


def brain(shift=(0.0, 0.0, 0.0), affine=AFFINE, shape=SHAPE, seed=0):
    img = SmoothHead(seed).image(shape, affine, shifted(*shift)[None])
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - CENTRE - shift
    inside = np.square(points / [60, 70, 55]).sum(axis=-1) < 1
    return nb.Nifti1Image(np.where(inside, img.get_fdata()[..., 0], 0).astype(np.float32), affine)


def mask_of(img):
    return nb.Nifti1Image((img.get_fdata() != 0).astype(np.uint8), img.affine)


def random_image(rng, shape, axes, origin=(30.0, -50.0, 12.0)):
    affine = shifted(*origin)
    affine[:3, :3] = axes
    return nb.Nifti1Image(rng.normal(100, 10, shape).astype(np.float32), affine)


# Starts and centring -----------------------------------------------------------------------------------


def test_preparing_a_registration(save, run):
    shape = (80, 88, 76)
    fine = brain(affine=centred_affine(np.diag([2.0, 2, 2]), shape), shape=shape)
    far = shifted(150, -80, 60)
    moving = nb.Nifti1Image(brain().get_fdata(), far @ AFFINE)
    out = run(PrepareRegistration, fixed=save(fine, "fixed"), moving=save(moving, "moving"), resolution=3.5)
    np.testing.assert_allclose(voxel_sizes(nb.load(out.fixed)), 3.5)
    np.testing.assert_array_equal(nb.load(out.fixed).get_fdata(), downsample(fine, 3.5).get_fdata())
    # Coarser than asked for already: as it was.
    np.testing.assert_array_equal(nb.load(out.moving).get_fdata(), moving.get_fdata())
    np.testing.assert_allclose(Affine.from_filename(out.initial, fmt="itk").matrix, far, atol=4)


def test_images_of_the_asked_resolution_are_not_touched(save, run):
    img = brain()
    out = run(PrepareRegistration, fixed=save(img, "fixed"), moving=save(img, "moving"), resolution=4.0)
    np.testing.assert_array_equal(nb.load(out.fixed).get_fdata(), img.get_fdata())
    np.testing.assert_allclose(Affine.from_filename(out.initial, fmt="itk").matrix, np.eye(4), atol=1e-9)


@pytest.mark.parametrize(
    "axes", [np.diag([2.0, 3, 2.5]), np.diag([-2.0, 3, 2.5]), TILT @ np.diag([-2.0, 3, 2.5])]
)
@pytest.mark.parametrize("shape", [(18, 16, 20), (10, 24, 14)])
def test_antsapplytransforms_pads_and_crops_with_the_centring(axes, shape, rng, save, run):
    grid_shape = (14, 18, 16)
    img = random_image(rng, shape, axes)
    grid = random_image(rng, grid_shape, np.abs(np.diag([2.0, 3, 2.5])), (-4.0, 9.0, 70.0))
    image_file, grid_file = save(img, "image"), save(grid, "grid")
    out = run(CentringTransform, in_file=image_file, grid=grid_file)
    inputs = {"dimension": 3, "interpolation": "Linear"}
    moved = run(
        ApplyTransforms,
        input_image=image_file,
        reference_image=grid_file,
        transforms=[out.composite_transform],
        output_image="moved.nii.gz",
        **inputs,
    ).output_image
    canonical = nb.as_closest_canonical(img)
    expected = fit_shape(canonical, grid_shape).get_fdata()
    np.testing.assert_allclose(nb.load(moved).get_fdata(), expected, atol=0.01)
    back = run(
        ApplyTransforms,
        input_image=moved,
        reference_image=image_file,
        transforms=[out.inverse_composite_transform],
        output_image="back.nii.gz",
        **inputs,
    ).output_image
    seen = nb.as_closest_canonical(nb.load(back)).get_fdata()
    kept = fit_shape(fit_shape(nb.Nifti1Image(np.ones(shape), np.eye(4)), grid_shape), shape).get_fdata() > 0
    np.testing.assert_allclose(seen[kept], canonical.get_fdata()[kept], atol=0.01)
    assert not seen[~kept].any()


def test_padding_or_cropping_without_registration(rng, save, run):
    img = random_image(rng, (18, 16, 20), np.diag([-2.0, 3, 2.5]))
    grid = random_image(rng, (14, 18, 16), np.diag([2.0, 3, 2.5]), (1.0, 2.0, 3.0))
    out = run(ToGrid, in_file=save(img, "image"), grid=save(grid, "grid"), in_space=False)
    fitted, view = nb.load(out.out_file), nb.load(out.out_view)
    expected = fit_shape(nb.as_closest_canonical(img), (14, 18, 16)).get_fdata()
    np.testing.assert_allclose(fitted.get_fdata(), expected, atol=1e-3)
    assert same_grid(fitted, grid)
    assert same_grid(view, grid)
    assert np.asarray(view.dataobj).all()


def test_an_image_in_the_space_lies_where_its_affine_says(save, run):
    """Cut to another box, with other voxels and axes: the same tissue is at the same place of the world."""
    head, shape = SmoothHead(), (30, 34, 30)
    grid = head.image(shape, centred_affine(np.diag([-4.0, 4, 4]), shape))
    # Reaches 26 mm less far at one end, as SPM's usual box does.
    box = centred_affine(np.array([[0, 0, 3.0], [3.0, 0, 0], [0, -3.0, 0]]), (36, 40, 38))
    box[:3, 3] += [6.0, -12.0, 9.0]
    image = head.image((36, 40, 38), box)
    inputs = {"in_file": save(image, "image"), "grid": save(grid, "grid")}
    placed = run(ToGrid, in_space=True, **inputs)
    view = np.asarray(nb.load(placed.out_view).dataobj) > 0
    assert 0.3 < view.mean() < 1
    found = nb.load(placed.out_file).get_fdata()
    assert not found[~ndimage.binary_dilation(view)].any()
    moved = nb.load(run(ToGrid, in_space=False, **inputs).out_file).get_fdata()
    truth = grid.get_fdata()[view]
    assert np.corrcoef(truth, found[view])[0, 1] > 0.995
    assert np.corrcoef(truth, moved[view])[0, 1] < 0.95


def test_an_image_beside_its_space_is_refused(save, run):
    grid = SmoothHead().image((10, 10, 10), centred_affine(np.diag([4.0, 4, 4]), (10, 10, 10)))
    image = nb.Nifti1Image(grid.get_fdata(), nb.affines.from_matvec(np.eye(3) * 4, [900, 0, 0]))
    with pytest.raises(InputError, match="shows nothing of the space"):
        run(ToGrid, in_file=save(image, "image"), grid=save(grid, "grid"), in_space=True)


# Quality -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "passed"), [((0, 0, 0), True), ((25, -30, 20), False)])
def test_similarity_with_the_template(shift, passed, save, run):
    template, registered = brain(), brain(shift)
    before = nb.Nifti1Image(brain((5, 0, -4)).get_fdata()[2:], shifted(90, 10, 0) @ AFFINE)
    quality = run(
        TemplateSimilarity,
        in_file=save(registered, "registered"),
        before=save(before, "before"),
        template=save(template, "template"),
        mask=save(mask_of(template), "mask"),
        floor=0.4,
    ).quality
    inside = template.get_fdata() != 0
    target = template.get_fdata()
    assert quality["Passed"] is passed
    assert quality["After"] == pytest.approx(correlation(registered.get_fdata(), target, inside), abs=1e-4)
    assert quality["Before"] == pytest.approx(
        correlation(resampled(before, template), target, inside), abs=1e-4
    )
    assert quality["Floor"] == 0.4
    assert 0.1 < quality["Before"] < 0.999


@pytest.mark.parametrize(
    ("shift", "passed"), [((0, 0, 0), True), ((2, -1, 2), True), ((12, 0, 0), False), ((0, 0, -12), False)]
)
def test_quality_of_a_coregistration(shift, passed, save, run):
    reference, aligned = brain(), brain(shift)
    data = aligned.get_fdata()
    contrast = nb.Nifti1Image(np.where(data != 0, 1800 - 0.8 * data, 100), AFFINE)
    before = nb.Nifti1Image(contrast.get_fdata(), shifted(40, 0, 0) @ AFFINE)
    quality = run(
        CoregistrationQuality,
        in_file=save(contrast, "aligned"),
        before=save(before, "before"),
        reference=save(reference, "reference"),
    ).quality
    assert quality["Passed"] is passed
    assert (quality["After"] > 1) is passed
    assert quality["Before"] < 1
    assert quality["Floor"] == 1


def verdict(passed):
    return {
        "Measure": "similarity",
        "Before": 0.1,
        "After": 0.7 if passed else 0.213,
        "Floor": 0.4,
        "Passed": passed,
    }


def test_images_pass_when_all_registrations_worked(rng, save, run):
    files = [save(random_image(rng, (3, 3, 3), np.eye(3)), name) for name in "ab"]
    inputs = {"in_files": files, "names": ["T1w", "run-1", "run-2"]}
    qualities = {"t1w_quality": [verdict(True)], "image_quality": [verdict(True)] * 2}
    assert run(RequireQuality, **qualities, **inputs).out_files == files


def test_failed_registrations_are_named(rng, save, run):
    files = [save(random_image(rng, (3, 3, 3), np.eye(3)), "a")]
    names = ["sub-01_T1w.nii.gz", "sub-01_run-1_bold.nii.gz", "sub-01_run-2_bold.nii.gz"]
    inputs = {"in_files": files, "names": names, "t1w_quality": [verdict(True)]}
    with pytest.raises(RuntimeError, match=r"similarity: 0\.21, expected more than 0\.40") as raised:
        run(RequireQuality, image_quality=[verdict(False)] * 2, **inputs)
    message = str(raised.value)
    assert names[1] in message
    assert names[2] in message
    assert names[0] not in message


def test_what_failed_is_named_with_its_own_advice(rng, save, run):
    files = [save(random_image(rng, (3, 3, 3), np.eye(3)), "a")]
    names = ["ses-1_T1w.nii.gz", "ses-2_T1w.nii.gz", "run-1_bold.nii.gz", "run-2_bold.nii.gz"]
    brain = {"Measure": "volume", "VolumeMl": 2705.0, "Passed": False, "Problem": "a volume of 2705 ml"}
    with pytest.raises(RuntimeError) as raised:
        run(
            RequireQuality,
            in_files=files,
            names=names,
            brain_quality=[{**brain, "Passed": True}, brain],
            t1w_quality=[verdict(True)] * 2,
            image_quality=[verdict(True)] * 2,
            reference_quality=[verdict(False), verdict(True)],
        )
    first, second = str(raised.value).splitlines()
    assert first.startswith("The brain extraction failed for ses-2_T1w.nii.gz (a volume of 2705 ml). ")
    assert "--preproc derivatives" in first
    assert second.startswith("The motion correction failed for run-1_bold.nii.gz (similarity: 0.21, ")
    assert "scl_slope" in second


# Grids and masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [None, 8.0])
@pytest.mark.parametrize("shape", [None, (24, 20, 30)])
def test_the_analysis_grid(resolution, shape, save, run):
    template = brain()
    mask = mask_of(template)
    inputs = {key: value for key, value in (("resolution", resolution), ("shape", shape)) if value}
    out = run(AnalysisGrid, template=save(template, "template"), mask=save(mask, "mask"), **inputs)
    if resolution:
        template, mask = downsample(template, resolution), downsample_mask(mask, resolution)
    if shape:
        template, mask = fit_shape(template, shape), fit_shape(mask, shape)
    for path, expected in ((out.template, template), (out.mask, mask)):
        found = nb.load(path)
        assert same_grid(found, expected)
        np.testing.assert_array_equal(found.get_fdata(), expected.get_fdata())
    assert found.shape == (shape or ((20, 22, 19) if resolution else SHAPE))


def test_masking(rng, save, run):
    img = random_image(rng, (5, 6, 7), np.eye(3))
    inside = rng.uniform(size=img.shape) > 0.5
    mask = nb.Nifti1Image(inside.astype(np.uint8), img.affine)
    out = nb.load(run(MaskImage, in_file=save(img, "image"), in_mask=save(mask, "mask")).out_file)
    np.testing.assert_array_equal(out.get_fdata(), np.where(inside, img.get_fdata(), 0))
    elsewhere = nb.Nifti1Image(inside.astype(np.uint8), shifted(0, 0, 1) @ img.affine)
    with pytest.raises(InputError, match=r"different grids(.|\n)*image\.nii\.gz(.|\n)*elsewhere\.nii\.gz"):
        run(MaskImage, in_file=save(img, "image"), in_mask=save(elsewhere, "elsewhere"))


def test_conforming_clipping_and_brains_are_files(save, run):
    img = brain()
    data = img.get_fdata() * 1.0
    data[0, 0, 0] = -5
    turned = nb.Nifti1Image(data[::-1], AFFINE @ np.array(
        [[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    ))  # fmt: skip
    conformed = nb.load(run(ConformImage, in_file=save(turned, "turned")).out_file)
    np.testing.assert_array_equal(conformed.get_fdata(), data)
    clipped = nb.load(run(ClipNegative, in_file=save(conformed, "conformed")).out_file)
    np.testing.assert_array_equal(clipped.get_fdata(), img.get_fdata().clip(0))
    out = run(ExtractBrain, in_file=save(clipped, "stripped"))
    inside = np.asarray(nb.load(out.out_mask).dataobj) > 0
    np.testing.assert_array_equal(nb.load(out.out_file).get_fdata(), np.where(inside, clipped.get_fdata(), 0))
    assert inside[clipped.get_fdata() > 0].all()
