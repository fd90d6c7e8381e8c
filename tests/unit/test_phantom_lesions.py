"""The phantom with lesions: what is written, that images show what the truth says, and what can be learnt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from bids_xai.errors import InputError
from bids_xai.phantom.anatomy import draw_anatomy
from bids_xai.phantom.lesion_parameters import LesionParameters
from bids_xai.phantom.lesions import (
    Lesions,
    choose_sites,
    draw_lesions,
    head_of,
    in_lesions,
    site_mask,
    tissue_of,
    with_lesions,
)
from bids_xai.phantom.lesions_dataset import _ANATOMY, _stream, make_lesion_dataset, person
from bids_xai.phantom.template import grid, grid_points, load_template, sample

SPACE = "MNI152NLin2009aSym"
COARSE = {"resolution": 8.0, "seed": 2}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def image(path):
    return np.asanyarray(nib.load(path).dataobj)


def template_mask(folder, part):
    name = f"tpl-{SPACE}_res-8_{part}_mask.nii.gz"
    return image(folder / "derivatives/truth" / f"tpl-{SPACE}" / name) > 0


def own_mask(folder, subject, label):
    name = f"{subject}_space-{SPACE}_res-8_label-{label}_mask.nii.gz"
    return image(folder / "derivatives/truth" / subject / "anat" / name) > 0


def people_of(folder):
    return pd.read_csv(folder / "participants.tsv", sep="\t")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return make_lesion_dataset(tmp_path_factory.mktemp("many") / "ds", LesionParameters(**COARSE, scanners=2))


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    parameters = LesionParameters(subjects=2, anatomy=True, modality="FLAIR", **COARSE)
    return make_lesion_dataset(tmp_path_factory.mktemp("placed") / "ds", parameters)


@pytest.fixture(scope="module")
def sites():
    parameters = LesionParameters()
    return choose_sites(load_template(), parameters, np.random.default_rng(0))


def lesion(centre, radius=8.0, contrast=0.7):
    axes = np.eye(3)[None] / radius
    return Lesions(np.array([0]), np.array([centre], float), axes, np.array([radius]), np.array([contrast]))


def test_same_seed_same_bytes_and_subjects_do_not_depend_on_each_other(many, tmp_path):
    alone = contents(make_lesion_dataset(tmp_path / "few", LesionParameters(2, scanners=2, **COARSE)))
    everything = contents(many)
    subjects = [name for name in alone if "sub-0" in name and name.endswith((".nii.gz", ".tsv"))]
    assert len(subjects) == 2 * 4
    assert all(alone[name] == everything[name] for name in subjects)
    again = contents(make_lesion_dataset(tmp_path / "again", LesionParameters(2, scanners=2, **COARSE)))
    assert alone == again
    other = LesionParameters(2, scanners=2, **{**COARSE, "seed": 3})
    changed = contents(make_lesion_dataset(tmp_path / "other", other))
    assert all(changed[name] != alone[name] for name in subjects)


@pytest.mark.parametrize("name", ["many", "placed"])
@pytest.mark.parametrize("inner", [".", "derivatives/truth"])
def test_the_bids_validator_finds_no_error(name, inner, request):
    validator = shutil.which("bids-validator-deno", path=sys.exec_prefix + "/bin") or shutil.which(
        "bids-validator-deno"
    )
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    folder = request.getfixturevalue(name) / inner
    done = subprocess.run([validator, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_groups_are_balanced_in_sex_age_and_scanner(many):
    table = people_of(many)
    assert table["group"].value_counts().to_dict() == {"control": 30, "patient": 30}
    assert (pd.crosstab(table["group"], table["sex"]) == 15).all(axis=None)
    counts = pd.crosstab(table["group"], table["scanner"])
    assert (counts.loc["control"] == counts.loc["patient"]).all()
    assert set(counts.columns) == {"scanner1", "scanner2"}
    pairs = table["age"].to_numpy().reshape(-1, 2)
    assert np.abs(np.diff(pairs, axis=1)).max() <= 5
    assert np.ptp(table["age"]) > 15
    # Who of a pair comes first is random.
    assert 5 < (table["group"][::2] == "patient").sum() < 25
    meanings = json.loads((many / "participants.json").read_text())
    assert set(meanings) == set(table.columns) - {"participant_id"}


def test_lesions_of_patients_only_lie_at_the_sites_of_the_truth(many):
    target, incidental = template_mask(many, "label-target"), template_mask(many, "label-incidental")
    assert not (target & incidental).any()
    assert target.sum() > 4 * 10
    inside = {"control": [], "patient": []}
    for row in people_of(many).itertuples():
        every, evidence = (own_mask(many, row.participant_id, label) for label in ("lesion", "evidence"))
        assert not (evidence & ~every).any()
        assert evidence.any() == (row.group == "patient")
        inside[row.group].append((every & target).sum())
        # The head is deformed by a few mm, so that a lesion may stand out of its site.
        assert (evidence & target).sum() >= 0.7 * evidence.sum()
    assert np.mean(inside["patient"]) > 20 * np.mean(inside["control"])


def test_both_groups_have_as_many_lesions(many):
    table = people_of(many)
    volume = [table.loc[table["group"] == group, "lesion_volume"] for group in ("control", "patient")]
    assert stats.mannwhitneyu(*volume).pvalue > 0.01
    assert min(v.mean() for v in volume) > 5


def read_samples(folder):
    table = people_of(folder)
    X = np.stack([image(folder / s / "anat" / f"{s}_T1w.nii.gz") for s in table["participant_id"]])
    y = (table["group"] == "patient").to_numpy().astype(int)
    return X.astype(np.float64), y, template_mask(folder, "desc-brain")


def test_the_places_can_be_learnt_and_the_mean_brightness_tells_nothing(many):
    X, y, brain = read_samples(many)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    voxels = X[:, brain] / X[:, brain].mean(axis=1, keepdims=True)
    found = cross_val_predict(LogisticRegression(max_iter=500), voxels, y, cv=folds)
    assert balanced_accuracy_score(y, found) > 0.9
    for mean in (X.mean(axis=(1, 2, 3)), X[:, brain].mean(axis=1)):
        one = (mean[:, None] - mean.mean()) / mean.std()
        guessed = cross_val_predict(LogisticRegression(C=1e3), one, y, cv=folds)
        assert balanced_accuracy_score(y, guessed) < 0.65


def test_scanners_differ_in_brightness(many):
    X, _, brain = read_samples(many)
    mean = X[:, brain].mean(axis=1)
    scanner = people_of(many)["scanner"].to_numpy()
    means = [mean[scanner == name] for name in ("scanner1", "scanner2")]
    assert abs(means[0].mean() - means[1].mean()) > means[0].std()


def test_heads_differ_by_a_small_deformation(many):
    table = people_of(many)
    in_template = np.rint(table["lesion_volume"] * 1000 / 8**3).to_numpy()
    in_image = np.array([own_mask(many, subject, "lesion").sum() for subject in table["participant_id"]])
    assert (in_template != in_image).mean() > 0.5
    assert np.corrcoef(in_template, in_image)[0, 1] > 0.9
    assert np.abs(in_template - in_image).mean() < 0.15 * in_template.mean()


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "darker"), [("T1w", True), ("FLAIR", False)])
def test_images_show_the_lesions_where_the_masks_say(tmp_path, modality, darker):
    made = {}
    for contrast in (0.01, 0.7):
        parameters = LesionParameters(
            2, modality=modality, contrast=contrast, **{**COARSE, "resolution": 4.0}
        )
        made[contrast] = make_lesion_dataset(tmp_path / f"{contrast}", parameters)
    for subject in ("sub-01", "sub-02"):
        plain, with_them = (
            image(made[contrast] / subject / "anat" / f"{subject}_{modality}.nii.gz").astype(float)
            for contrast in (0.01, 0.7)
        )
        anat = made[0.7] / "derivatives/truth" / subject / "anat"
        mask = image(anat / f"{subject}_space-{SPACE}_res-4_label-lesion_mask.nii.gz") > 0
        change = (with_them - plain)[mask] / plain[mask]
        assert mask.sum() > 30
        assert ((change < -0.2) if darker else (change > 0.2)).mean() > 0.9
        # Nothing changes away from lesions but noise: equal draws, so that rounding alone is left.
        from_lesions = np.abs(with_them - plain) > 5
        near = np.zeros_like(mask)
        near[1:-1, 1:-1, 1:-1] = np.stack(
            [np.roll(mask, (i, j, k), (0, 1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
        ).any(axis=0)[1:-1, 1:-1, 1:-1]
        assert (from_lesions & ~near).sum() < 0.05 * from_lesions.sum()


def test_a_head_of_its_own_comes_with_its_truth(placed):
    parameters = LesionParameters(subjects=2, anatomy=True, modality="FLAIR", **COARSE)
    shape, affine = grid(load_template(), 8.0)
    for number, subject in enumerate(("sub-01", "sub-02"), 1):
        truth = placed / "derivatives/truth" / subject / "anat"
        for suffix in ("FLAIR", "T1w"):
            header = nib.load(placed / subject / "anat" / f"{subject}_{suffix}.nii.gz").header
            assert int(header["sform_code"]) == 1
        name = f"{subject}_label-lesion_mask.nii.gz"
        own, mapped = image(truth / name) > 0, own_mask(placed, subject, "lesion")
        assert not np.array_equal(own, mapped)
        # Voxel by voxel: where the head puts the table's lesions.
        anatomy = draw_anatomy(load_template(), _stream(parameters, _ANATOMY, number))
        at = anatomy.to_template(grid_points(shape, affine))
        table = pd.read_csv(truth / f"{subject}_space-{SPACE}_lesions.tsv", sep="\t")
        distance = np.linalg.norm(at[:, None] - table[["x", "y", "z"]].to_numpy(), axis=2)
        near = (distance < 1.6 * table["radius"].to_numpy()).any(axis=1).reshape(shape)
        assert own.sum() > 3
        assert not (own & ~near).any()
        assert (truth / f"{subject}_from-{SPACE}_to-T1w_mode-image_desc-affine_xfm.txt").is_file()
        assert (truth / f"{subject}_from-{SPACE}_to-T1w_mode-image_desc-warp_xfm.nii.gz").is_file()
        bright = image(placed / subject / "anat" / f"{subject}_FLAIR.nii.gz")
        assert np.median(bright[own]) > 1.25 * np.median(bright[bright > 100])


def test_nothing_tells_the_groups_of_a_null_dataset_apart(tmp_path):
    parameters = LesionParameters(4, null=True, **COARSE)
    folder = make_lesion_dataset(tmp_path / "null", parameters)
    assert not template_mask(folder, "label-target").any()
    assert template_mask(folder, "label-incidental").any()
    assert not any(own_mask(folder, f"sub-0{k}", "evidence").any() for k in range(1, 5))
    assert any(own_mask(folder, f"sub-0{k}", "lesion").any() for k in range(1, 5))
    people = [person(number, LesionParameters(subjects=999, null=True)) for number in range(1, 1000)]
    table = pd.crosstab([one.group for one in people], [one.ill for one in people])
    assert stats.chi2_contingency(table).pvalue > 0.01
    real = [person(number, LesionParameters(subjects=99)) for number in range(1, 100)]
    assert all(one.ill == (one.group == "patient") for one in real)


def test_sites_lie_in_white_matter_and_apart(sites):
    assert sites.target.tolist() == [True] * 4 + [False] * 20
    template = load_template()
    assert (sample(template.wm, template.affine, sites.centres) > 0.5).mean() > 0.9
    distance = np.linalg.norm(sites.centres[:, None] - sites.centres, axis=2) + 99 * np.eye(24)
    assert distance.min() > 2 * 1.5 * 8


def test_site_masks_against_a_loop(sites):
    parameters = LesionParameters(resolution=8.0)
    template = load_template()
    shape, affine = grid(template, 8.0)
    mask = site_mask(sites, template, parameters, target=True)
    tissue = sample(template.gm + template.wm, template.affine, grid_points(shape, affine)).reshape(shape)
    for voxel in np.ndindex(shape):
        world = affine[:3, :3] @ voxel + affine[:3, 3]
        near = any(np.linalg.norm(world - centre) <= 12 for centre in sites.centres[:4])
        assert mask[voxel] == (near and tissue[voxel] >= 0.5)


def test_lesions_are_drawn_as_asked_for(sites):
    def draw(seed, ill, **values):
        return draw_lesions(sites, LesionParameters(**values), np.random.default_rng(seed), ill=ill)

    ill, well = ([draw(seed, one, presence=0.6) for seed in range(400)] for one in (True, False))
    own = np.array([(lesions.sites < 4).sum() for lesions in ill])
    assert stats.binomtest(int(own.sum()), 1600, 0.6).pvalue > 0.001
    others = np.array([(lesions.sites >= 4).sum() for lesions in ill])
    assert others.mean() == pytest.approx(2.0, abs=4 * np.sqrt(2 / 400))
    assert all((lesions.sites >= 4).all() for lesions in well)
    assert all(len(np.unique(lesions.sites)) == len(lesions.sites) for lesions in ill + well)
    counts = [[len(lesions.sites) for lesions in group] for group in (ill, well)]
    assert stats.ks_2samp(*counts).pvalue > 0.01
    radii = np.concatenate([lesions.radii for lesions in ill])
    assert radii.min() >= 8 * 0.7
    assert radii.max() <= 8 * 1.3
    assert not any(len(draw(seed, False, incidental=0.0).sites) for seed in range(20))
    assert all((draw(seed, True, incidental=0.0).sites < 4).all() for seed in range(20))


def test_profiles_against_a_loop(sites, rng):
    lesions = draw_lesions(sites, LesionParameters(), rng, ill=True)
    points = lesions.centres[rng.integers(len(lesions.centres), size=300)] + rng.normal(0, 8, (300, 3))
    profiles = lesions.profiles(points)
    for k, centre in enumerate(lesions.centres):
        for m, point in enumerate(points):
            distance = np.sqrt(np.sum((lesions.axes[k] @ (point - centre)) ** 2))
            expected = 1 / (1 + np.exp((distance - 1) * lesions.radii[k] / 0.7))
            assert profiles[k, m] == pytest.approx(expected, abs=1e-4)


def test_lesions_change_tissue_and_leave_fluid():
    points = np.array([[0, 0, 0], [0, 0, 8], [0, 0, 30], [0, 0, 0]], dtype=float)
    brightness, tissue = np.ones(4, np.float32), np.array([1, 1, 1, 0], np.float32)
    one = lesion([0, 0, 0], contrast=0.6)
    edge = 1 / (1 + np.exp(-8 / 0.7))
    seen = with_lesions(brightness, one, tissue, points, "T1w")
    np.testing.assert_allclose(seen, [1 - 0.6 * edge, 0.7, 1, 1], atol=1e-6)
    bright = with_lesions(brightness, one, tissue, points, "FLAIR")
    np.testing.assert_allclose(bright, 2 - seen, atol=1e-6)
    nothing = Lesions(*(np.zeros((0, *shape)) for shape in ((), (3,), (3, 3), (), ())))
    np.testing.assert_array_equal(with_lesions(brightness, nothing, tissue, points, "T1w"), brightness)
    template = load_template()
    white = np.array([[-28.0, -30.0, 30.0]])
    assert in_lesions(lesion(white[0]), tissue_of(template), template, white).tolist() == [[True]]
    assert in_lesions(lesion(white[0]), tissue_of(template), template, white + 20).tolist() == [[False]]


def test_fluid_is_dark_in_both_kinds_of_head():
    template = load_template()
    for modality in ("T1w", "FLAIR"):
        head = head_of(template, modality)
        fluid, white = head[template.csf > 0.95].mean(), head[template.wm > 0.95].mean()
        assert fluid < 0.6 * white
        assert head[template.gm + template.wm + template.csf == 0].max() > 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subjects", 1),
        ("classes", 3),
        ("seed", -1),
        ("modality", "T2w"),
        ("resolution", 0.5),
        ("sites", 0),
        ("presence", 0.0),
        ("incidental", float("nan")),
        ("radius", 11.0),
        ("contrast", 0.9),
        ("noise", -1.0),
        ("scanners", 0),
    ],
)
def test_a_value_that_cannot_be_made_is_refused_by_its_option(name, value):
    with pytest.raises(InputError) as refused:
        LesionParameters(**{name: value})
    assert f"--{name} is {value}" in refused.value.found


def test_sites_that_do_not_fit_are_refused():
    template = load_template()
    shrunken = replace(template, wm=np.where(template.t1w > 0.99, template.wm, 0))
    shrunken.wm[:100] = 0
    with pytest.raises(InputError, match="smaller --radius"):
        choose_sites(shrunken, LesionParameters(radius=10.0, sites=8), np.random.default_rng(0))


def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr("bids_xai.phantom.lesions_dataset._write_subject", fail)
    with pytest.raises(OSError, match="disk full"):
        make_lesion_dataset(tmp_path / "ds", LesionParameters(2, **COARSE))
    assert not list(tmp_path.iterdir())
