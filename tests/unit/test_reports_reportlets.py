"""Figures of preprocessing: standalone, the same each time, and with left on the left."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bids_xai.errors import InputError
from bids_xai.reports.carpet import carpet, read_confounds
from bids_xai.reports.inline import inline_svg
from bids_xai.reports.reportlets import bold_summary, mask_overlay, registration_flicker
from bids_xai.reports.sheets import Sheet

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
AFFINE = np.array([[3.0, 0, 0, -30], [0, 3, 0, -36], [0, 0, 3, -27], [0, 0, 0, 1]])
SHAPE = (21, 25, 19)


def ball(affine=AFFINE, shape=SHAPE, *, radius=24.0):
    """Return a world-centred ball whose left half is twice as bright as its right half, and its mask."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = nb.affines.apply_affine(affine, grid)
    inside = np.linalg.norm(world, axis=-1) < radius
    data = np.where(inside, np.where(world[..., 0] < 0, 200.0, 100.0), 0.0)
    image = nb.Nifti1Image(data.astype(np.float32), affine)
    return image, nb.Nifti1Image(inside.astype(np.uint8), affine)


def save(folder, **images):
    """Write images as ``<name>.nii.gz`` and return their paths in order."""
    paths = []
    for name, image in images.items():
        image.to_filename(folder / f"{name}.nii.gz")
        paths.append(folder / f"{name}.nii.gz")
    return paths


def left_handed():
    """Return the affine of the same field of view, stored from right to left."""
    return AFFINE @ np.array([[-1.0, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def turned(degrees):
    """Return the affine turned about the head's axis, as an oblique acquisition is."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


def frames(path):
    """Return the photographs in a figure as arrays."""
    images = ET.parse(path).getroot().iter(f"{SVG}image")
    sources = [image.get(f"{XLINK}href").partition("base64,")[2] for image in images]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


def outlines(path):
    """Return the drawn paths of the outlines in a figure."""
    return [element.get("d") for element in ET.parse(path).getroot().iter(f"{SVG}path")]


@pytest.fixture
def pair(tmp_path):
    image, mask = ball()
    return (*save(tmp_path, image=image, mask=mask), tmp_path)


def flicker(pair, name="x.svg", **options):
    image, mask, folder = pair
    return registration_flicker(image, image, folder / name, **{"mask": mask, **options})


def test_flicker_has_both_images_and_the_outline(pair):
    image, mask, folder = pair
    moving = nb.load(image)
    other = folder / "moving.nii.gz"
    nb.Nifti1Image(np.asarray(moving.dataobj)[::-1], moving.affine).to_filename(other)
    path = registration_flicker(
        image, other, folder / "x.svg", mask=mask, fixed_label="A & B", moving_label="T1w"
    )
    fixed_frame, moving_frame = frames(path)
    assert fixed_frame.shape == moving_frame.shape
    assert np.abs(fixed_frame.astype(int) - moving_frame).max() > 100
    (outline,) = outlines(path)
    # 7 slices in each of 3 orientations, one closed line each.
    assert outline.count("M") == outline.count("z") == 21
    root = ET.parse(path).getroot()
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"A & B", "T1w", "L", "R"} <= set(words)
    assert sum("mm" in word for word in words) == 21
    assert "<script" not in path.read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", path.read_text())


def test_flicker_animates_the_moving_image_alone(pair):
    root = ET.parse(flicker(pair)).getroot()
    style = root.find(f"{SVG}style").text
    name = root.get("class")
    assert f"@keyframes {name}" in style
    assert f".{name}:hover .{name}-moving" in style
    assert [group.get("class") for group in root.iter(f"{SVG}g") if group.get("class")] == [
        f"{name}-fixed",
        f"{name}-moving",
    ]
    assert root.get("tabindex") == "0"
    assert "prefers-reduced-motion" in style


def test_equal_images_give_equal_bytes(pair):
    image, mask, folder = pair
    assert flicker(pair, "a.svg").read_bytes() == flicker(pair, "b.svg").read_bytes()
    first, second = (mask_overlay(image, mask, folder / name) for name in ("c.svg", "d.svg"))
    assert first.read_bytes() == second.read_bytes()
    assert flicker(pair, "e.svg", moving_label="other").read_bytes() != flicker(pair, "a.svg").read_bytes()


@pytest.mark.parametrize(
    "affine", [AFFINE, left_handed(), turned(20), turned(-20) @ np.linalg.inv(AFFINE) @ left_handed()]
)
def test_left_is_left(tmp_path, affine):
    image, mask = save(tmp_path, **dict(zip(("image", "mask"), ball(affine), strict=True)))
    sheet = Sheet(nb.load(mask), margin=0)
    fixed, moving = frames(registration_flicker(image, image, tmp_path / "x.svg", mask=mask))
    (overlay,) = frames(mask_overlay(image, mask, tmp_path / "y.svg"))
    panel = next(panel for panel in sheet.panels if panel.cut.axis == 2)
    assert panel.left < sheet.width / 7
    for frame in (fixed, moving, overlay):
        # The middle of the first rows of slices: axial, then coronal, cut into columns of equal width.
        axial = frame[26 : frame.shape[0] // 3, 3 * frame.shape[1] // 7 : 4 * frame.shape[1] // 7]
        left, right = np.array_split(axial.astype(float), 2, axis=1)
        assert left.sum() > 1.6 * right.sum()


def test_moving_image_of_another_grid_is_shown_in_place(tmp_path):
    image, mask = ball()
    other, _ = ball(turned(30) @ np.diag([0.8, 0.8, 0.8, 1]), (27, 32, 24))
    paths = save(tmp_path, image=image, mask=mask, other=other, flipped=ball(left_handed())[0])
    frame, same = frames(
        registration_flicker(paths[0], paths[3], tmp_path / "y.svg", mask=paths[1], moving_label="fixed")
    )
    assert np.array_equal(frame[30:], same[30:])
    frame, near = frames(registration_flicker(paths[0], paths[2], tmp_path / "x.svg", mask=paths[1]))
    assert np.corrcoef(frame.ravel(), near.ravel())[0, 1] > 0.9


def test_outline_is_closed_where_the_mask_meets_the_border(tmp_path):
    image, _ = ball()
    full = nb.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    paths = save(tmp_path, image=image, mask=full)
    (outline,) = outlines(mask_overlay(*paths, tmp_path / "x.svg"))
    assert outline.count("M") == outline.count("z") == 21


@pytest.mark.parametrize("kind", ["nan", "constant", "zero", "negative", "empty mask", "4-D", "one slice"])
def test_odd_images_are_drawn_without_warnings(tmp_path, kind):
    image, mask = ball()
    data = np.array(image.dataobj)
    if kind == "nan":
        data[:5], data[8, 8, 8] = np.nan, np.inf
    elif kind in ("constant", "zero", "negative"):
        data[:] = {"constant": 7, "zero": 0, "negative": -3}[kind]
    elif kind == "empty mask":
        mask = nb.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
    elif kind == "4-D":
        data = np.stack([data, data * 0], axis=-1)
    elif kind == "one slice":
        data, mask = data[:, :, 9:10], mask.slicer[:, :, 9:10]
    image = nb.Nifti1Image(data, mask.affine)
    paths = save(tmp_path, image=image, mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        overlay = mask_overlay(*paths, tmp_path / "x.svg", label="T1w")
        flicker = registration_flicker(paths[0], paths[0], tmp_path / "y.svg", mask=paths[1])
        registration_flicker(paths[0], paths[0], tmp_path / "z.svg")
    (frame,) = frames(overlay)
    assert len(frames(flicker)) == 2
    if kind in ("constant", "nan", "4-D", "empty mask"):
        assert frame.max() > 80
    if kind == "one slice":
        assert outlines(overlay)[0].count("M") == 1


def test_without_a_mask_slices_spread_over_what_is_bright(tmp_path):
    image, mask = ball(radius=15)
    paths = save(tmp_path, image=image, mask=mask)
    with_mask = registration_flicker(paths[0], paths[0], tmp_path / "x.svg", mask=paths[1])
    without = registration_flicker(paths[0], paths[0], tmp_path / "y.svg")
    assert [text.text for text in ET.parse(with_mask).iter(f"{SVG}text")] == [
        text.text for text in ET.parse(without).iter(f"{SVG}text")
    ]
    assert not outlines(without)


def test_missing_image_is_refused_and_nothing_is_written(pair):
    _, mask, folder = pair
    with pytest.raises(InputError, match=r"absent\.nii\.gz cannot be read"):
        mask_overlay(folder / "absent.nii.gz", mask, folder / "x.svg")
    assert not (folder / "x.svg").exists()


def run_of(tmp_path, n_volumes=30, columns=None, seed=0):
    """Write a run, its mask and its confounds; return their paths."""
    rng = np.random.default_rng(seed)
    image, mask = ball()
    noise = rng.standard_normal((*SHAPE, n_volumes))
    data = (np.asarray(image.dataobj)[..., None] + noise).astype(np.float32)
    bold, mask = save(tmp_path, bold=nb.Nifti1Image(data, AFFINE), mask=mask)
    if columns is None:
        columns = {
            **{name: rng.normal(0, 0.1, n_volumes) for name in ("trans_x", "trans_y", "trans_z")},
            **{name: rng.normal(0, 0.01, n_volumes) for name in ("rot_x", "rot_y", "rot_z")},
            "framewise_displacement": np.r_[np.nan, rng.random(n_volumes - 1)],
            "dvars": np.r_[np.nan, rng.random(n_volumes - 1)],
            "std_dvars": np.r_[np.nan, rng.random(n_volumes - 1)],
            "global_signal": rng.normal(100, 1, n_volumes),
        }
    tsv = tmp_path / "confounds.tsv"
    pd.DataFrame(columns, index=range(n_volumes)).to_csv(tsv, sep="\t", index=False, na_rep="n/a")
    return bold, mask, tsv


def axes_of(path):
    """Return how many panels a figure has."""
    ids = [element.get("id", "") for element in ET.parse(path).getroot().iter(f"{SVG}g")]
    return sum(bool(re.fullmatch(r"axes_\d+", name)) for name in ids)


def test_summary_has_a_panel_for_each_kind_of_confound(tmp_path):
    path = bold_summary(*run_of(tmp_path), tmp_path / "x.svg", tr=2.0)
    # Translation, rotation, FD, standardised DVARS, global signal, carpet.
    assert axes_of(path) == 6
    root = ET.parse(path).getroot()
    assert len(list(root.iter(f"{SVG}image"))) == 1
    assert not list(root.iter(f"{SVG}style"))
    text = path.read_text()
    assert "DOCTYPE" not in text
    for _ in range(4):
        assert bold_summary(*run_of(tmp_path), tmp_path / "y.svg", tr=2.0).read_text() == text


def test_summary_draws_what_columns_there_are(tmp_path):
    bold, mask, tsv = run_of(tmp_path, columns={"dvars": np.arange(30.0), "other": np.arange(30.0)})
    assert axes_of(bold_summary(bold, mask, tsv, tmp_path / "x.svg", tr=None)) == 2
    bold, mask, tsv = run_of(tmp_path, columns={"trans_x": [np.nan] * 30, "rot_y": np.zeros(30)})
    assert axes_of(bold_summary(bold, mask, tsv, tmp_path / "x.svg", tr=2.0)) == 2


@pytest.mark.parametrize("n_volumes", [1, 2, 3])
def test_short_runs_are_drawn_without_warnings(tmp_path, n_volumes):
    files = run_of(tmp_path, n_volumes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = bold_summary(*files, tmp_path / "x.svg", tr=2.0)
    ET.parse(path)


def test_summary_refuses_another_grid_or_number_of_volumes(tmp_path):
    bold, mask, tsv = run_of(tmp_path)
    (other,) = save(tmp_path, other=ball(turned(10))[1])
    with pytest.raises(InputError, match="different grids"):
        bold_summary(bold, other, tsv, tmp_path / "x.svg", tr=2.0)
    tsv.write_text("trans_x\n0\n")
    with pytest.raises(InputError, match="has 1 rows, the run has 30 volumes"):
        bold_summary(bold, mask, tsv, tmp_path / "x.svg", tr=2.0)


def test_carpet_goes_from_the_edge_to_the_centre():
    _, mask = ball()
    inside = np.asarray(mask.dataobj) > 0
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    radius = np.linalg.norm(nb.affines.apply_affine(AFFINE, grid), axis=-1)
    sine = np.sin(np.arange(40))
    # Only the shell varies; the core follows a straight line, which is no signal.
    data = np.where(radius[..., None] > 15, sine, 0.1 * np.arange(40.0)) + 500
    rows = carpet(nb.Nifti1Image(data.astype(np.float32), AFFINE), inside, n_rows=60)
    assert rows.shape == (60, 40)
    assert np.all(rows[:20].std(axis=1) == pytest.approx(1, abs=1e-3))
    assert np.abs(np.corrcoef(rows[0], sine)[0, 1]) > 0.99
    assert np.abs(rows[-5:]).max() == 0


def test_carpet_ignores_what_is_not_finite():
    data = np.random.default_rng(0).standard_normal((*SHAPE, 12)).astype(np.float32)
    data[5:8] = np.nan
    rows = carpet(nb.Nifti1Image(data, AFFINE), np.zeros(SHAPE, bool))
    assert np.isfinite(rows).all()
    assert rows.std() > 0.5


def test_confounds_without_a_value_are_missing(tmp_path):
    (tmp_path / "x.tsv").write_text("framewise_displacement\trot_x\nn/a\t0.1\n0.5\t0.2\n")
    table = read_confounds(tmp_path / "x.tsv")
    assert table["framewise_displacement"].isna().tolist() == [True, False]
    assert table["rot_x"].tolist() == [0.1, 0.2]


def test_inline_figures_share_no_names(pair, tmp_path):
    summary = bold_summary(*run_of(tmp_path), tmp_path / "s.svg", tr=2.0)
    shown = flicker(pair)
    figures = [
        inline_svg(path, f"figure{n}", "words") for n, path in enumerate([summary, summary, shown, shown])
    ]
    names = [re.findall(r'\bid="([^"]+)"', figure) for figure in figures]
    assert all(len(own) == len(set(own)) for own in names)
    assert len({name for own in names for name in own}) == sum(map(len, names))
    for number, (figure, own) in enumerate(zip(figures, names, strict=True)):
        links = re.findall(r'(?:href="#|url\(#)([^")]+)', figure)
        assert set(links) <= set(own)
        classes = re.findall(r'class="([^"]+)"', figure)
        assert all(name.startswith(f"figure{number}-") for name in classes)
        animations = re.findall(r"@keyframes ([\w-]+)", figure)
        assert all(f"animation: {name} 1s" in figure for name in animations)
        css = figure.partition("<style>")[2].partition("</style>")[0]
        assert set(re.findall(r"\.([A-Za-z_][\w-]*)", css)) <= set(classes)
    assert 'aria-label="words"' in figures[2]
    assert "@keyframes figure2-flicker" in figures[2]


def test_inline_figures_run_nothing_and_reach_nothing(tmp_path):
    (tmp_path / "x.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" '
        'height="5pt" viewBox="0 0 10 5" onload="alert(1)"><style>*{fill: red} .a{fill: #abc}</style>'
        '<script>alert(2)</script><g><script>alert(3)</script><image href="https://example.org/x.png"/>'
        '<use xlink:href="#b"/><rect class="a" id="b" style="clip-path: url(#c)"/></g></svg>'
    )
    text = inline_svg(tmp_path / "x.svg", "k", 'a "quoted" < word')
    assert "alert" not in text
    assert "example.org" not in text
    assert "#k *{fill: red}" in text
    assert ".k-a{fill: #abc}" in text
    assert "url(#k-c)" in text
    assert 'href="#k-b"' in text
    assert ET.fromstring(text).get("aria-label") == 'a "quoted" < word'


@pytest.mark.parametrize("content", ["<svg", "<html/>", None])
def test_what_is_no_svg_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "x.svg").write_text(content)
    with pytest.raises(InputError, match="an SVG file"):
        inline_svg(tmp_path / "x.svg", "k", "")


def test_reports_import_no_workflow_engine():
    code = (
        "import sys; import bids_xai.reports.reportlets, bids_xai.reports.subject; "
        "sys.exit(' '.join({'nipype', 'bids', 'nilearn', 'nireports', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "\n" or not done.stderr, done.stderr
