"""The page of the group level of networks, and the section on a subject's own page."""

from __future__ import annotations

import json
import re
import shutil

import nibabel as nb
import numpy as np
import pytest
from test_reports_group import _Page
from test_reports_networks_output import change, make_networks, words_of

from bids_xai.errors import InputError
from bids_xai.reports import write_group_report, write_subject_report
from bids_xai.reports.networks_subject import MOST_IMAGES
from bids_xai.tables import read_frame

SECTIONS = ["Summary", "Scores", "Training", "Explanations", "What survives permutation", "Trust", "Regions",
            "Robustness", "Similarity", "Methods", "Warnings", "Settings"]  # fmt: skip
TWO = ["LRPAlphaBetaBeta0p5", "Occlusion"]


def sections_of(text):
    return re.findall(r"<h2[^>]*>([^<]*)", text)


def manifest_of(out):
    return json.loads((out / "group" / "results.json").read_text(encoding="utf-8"))


def section_of(text, anchor):
    return text.split(f'<section id="{anchor}"')[1].split("</section>")[0]


def outside_folds(text, anchor):
    """Return what of a section is seen before anything is unfolded (folds lie at its end)."""
    return section_of(text, anchor).partition("<details>")[0]


def first_block(text):
    """Return the first block of the summary, without tags."""
    (block,) = re.findall(r"</h2>\s*<(?:div|p)[^>]*>(.*?)</(?:div|p)>", section_of(text, "summary"))
    return block


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = make_networks(tmp_path_factory.mktemp("two"), methods=TWO)
    write_group_report(out)
    return out


@pytest.fixture(scope="module")
def text(out):
    return (out / "group.html").read_text(encoding="utf-8")


@pytest.fixture
def small(tmp_path, out):
    """Return a copy to break: the maps of one method, no tables but samples and scores."""
    copy = tmp_path / "small"
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("figures", "*.html"))
    tables = manifest_of(copy)["tables"]
    kept = {name: tables[name] for name in ("samples", "scores", "score_tests")}
    maps = [entry for entry in manifest_of(copy)["maps"] if entry["method"] == "Occlusion"]
    change(copy, tables=kept, maps=maps, methods=["Occlusion"])
    return copy


def test_page_has_every_section_and_loads_nothing_from_elsewhere(text):
    assert sections_of(text) == SECTIONS
    page = _Page(text)
    assert page.loaded
    assert all(source.startswith("data:") for source in page.loaded)
    assert not page.open
    assert all(page.alts)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    assert "<made-up>" not in text
    assert "nan" not in words_of(text).lower().split()


def test_summary_gives_the_score_with_its_p(out, text):
    tests = (out / "group" / "networks_score_tests.tsv").read_text().splitlines()
    row = dict(zip(tests[0].split("\t"), tests[2].split("\t"), strict=True))
    assert row["metric"] == "balanced_accuracy"
    words = words_of(text)
    assert f"balanced accuracy of {100 * float(row['mean']):.1f} %" in words
    assert "p = 0.025 in 39 permutations" in words
    assert "too small to conclude" not in words
    assert "not above chance" not in words
    assert "<details><summary>Heatmaps" not in text


def test_small_samples_and_chance_are_said_to_be_so(tmp_path):
    out = make_networks(tmp_path, n_people=4, skill=0.0, methods=["Occlusion"], seed=3, n_permutations=9)
    tables = manifest_of(out)["tables"]
    change(out, tables={name: tables[name] for name in ("samples", "score_tests")})
    text = write_group_report(out).read_text(encoding="utf-8")
    words = words_of(text)
    for section in ("explanations", "survivors"):
        assert "<figure>" not in outside_folds(text, section)
    assert "<figure>" in section_of(text, "explanations")
    summary = words[: words.index("People and samples of each class")]
    assert "This sample is too small to conclude anything" in summary
    assert "(control 4, patient 4)" in summary
    assert first_block(text) == (
        "The balanced accuracy is not above chance (p = 0.1), and the maps are not to be interpreted: a "
        "classifier that does not tell the classes apart gives nothing to explain. With 9 permutations no p "
        "below 0.1 was within reach: more permutations, or samples, are needed to show anything."
    )
    # With 9 permutations p cannot be below 0.1.
    assert "no p below 0.1 was within reach" in summary
    assert "p ≤ 0.05 cannot be reached with 9 permutations" in words


def test_without_permutations_there_is_no_p(small):
    tables = {name: path for name, path in manifest_of(small)["tables"].items() if name != "score_tests"}
    maps = [entry for entry in manifest_of(small)["maps"] if entry["stat"] == "mean"]
    change(small, n_permutations=0, smallest_p=None, tables=tables, maps=maps)
    text = write_group_report(small).read_text(encoding="utf-8")
    words = words_of(text)
    assert "No permutations: no p-value." in words
    score = re.findall(r"balanced accuracy of ([0-9.]+ %)", words)[0]
    assert first_block(text) == (
        f"Nothing was tested: no labels were permuted, so that neither the balanced accuracy ({score}) nor a "
        "map is shown to be more than chance."
    )
    (own,) = first_sentences(write_subject_report(small, "01").read_text(encoding="utf-8"))
    assert own.startswith("Nothing was tested")
    assert "No permutations were run: which parts" in words
    assert "p = " not in words[: words.index("Methods Text for a paper")].split("Scores", 2)[-1]


def test_survivors_are_counted_as_a_loop_counts_them(out, text):
    mask = np.asarray(nb.load(out / "group" / "maps" / "mask.nii.gz").dataobj)
    for group in ("control", "patient"):
        counts = []
        for stat in ("p", "pfwer"):
            name = f"class-patient_method-Occlusion_group-{group}_stat-{stat}_map.nii.gz"
            values = np.asarray(nb.load(out / "group" / "maps" / name).dataobj)
            counts.append(
                sum(bool(m and v <= 0.05000001) for m, v in zip(mask.flat, values.flat, strict=True))
            )
        shown = " ".join(f"{n:,}".replace(",", " ") for n in counts)
        assert f"Occlusion {group} {shown} " in words_of(text)
    assert counts[1] > 0


def test_strips_of_one_figure_share_a_symmetric_scale(out, text):
    mask = np.asarray(nb.load(out / "group" / "maps" / "mask.nii.gz").dataobj) > 0
    inside = np.concatenate([
        np.asarray(nb.load(out / "group" / entry["path"]).dataobj)[mask]
        for entry in manifest_of(out)["maps"]
        if (entry["stat"], entry["method"]) == ("mean", "Occlusion") and len(entry["group"]) > 2
    ])  # fmt: skip
    top = np.percentile(np.abs(inside[inside != 0]), 99.5)
    assert f"explained: patient. Colour scale ±{top:.3g}." in words_of(text)
    assert "Held-out decisions, over all runs: control 72, patient 72." in words_of(text)


def test_equal_results_give_equal_bytes(small):
    before = write_group_report(small).read_bytes()
    figures = {path.name: path.read_bytes() for path in (small / "group" / "figures").iterdir()}
    assert write_group_report(small).read_bytes() == before
    assert {path.name: path.read_bytes() for path in (small / "group" / "figures").iterdir()} == figures


def test_sections_without_data_are_left_out(small):
    change(small, tables={}, maps=[], warnings=[], heatmaps=[])
    text = write_group_report(small).read_text(encoding="utf-8")
    assert sections_of(text) == ["Summary", "Methods", "Warnings", "Settings"]


def test_missing_map_is_refused(small):
    path = next((small / "group" / "maps").glob("*Occlusion_group-patient_stat-mean*"))
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        write_group_report(small)


def test_maps_of_many_classes_are_named_by_their_groups(tmp_path):
    out = make_networks(tmp_path, n_classes=3, n_people=3, n_permutations=0, n_runs=1, methods=["Occlusion"])
    change(out, tables={})
    words = words_of(write_group_report(out).read_text(encoding="utf-8"))
    figures = {path.name for path in (out / "group" / "figures").iterdir()}
    assert figures == {
        f"explanations_class-patient_method-Occlusion_{kind}.png" for kind in ("classes", "outcomes")
    }
    assert "correct (" in words
    assert "incorrect (" in words


def explanations_of(out, subject):
    text = write_subject_report(out, subject).read_text(encoding="utf-8")
    return (
        words_of(text.split('id="explanations"')[1].split("<section")[0])
        if 'id="explanations"' in text
        else ""
    )


def first_sentences(text):
    return re.findall(r'id="explanations-title">Explanations</h2>\s*<div[^>]*>(.*?)</div>', text)


def test_subject_page_folds_heatmaps_of_networks_at_chance(small):
    table = read_frame(small / "group" / "networks_score_tests.tsv")
    table.assign(p=0.4).to_csv(small / "group" / "networks_score_tests.tsv", sep="\t", index=False)
    text = write_subject_report(small, "01").read_text(encoding="utf-8")
    (own,) = first_sentences(text)
    assert own.startswith("The balanced accuracy is not above chance (p = 0.4)")
    assert "<figure>" not in outside_folds(text, "explanations")
    assert "<figure>" in section_of(text, "explanations")


def test_subject_page_shows_heatmaps_over_the_own_image(small):
    words = explanations_of(small, "01")
    entry = manifest_of(small)["heatmaps"][-1]
    assert "True class control, predicted patient (wrong) with probability 87.3 %." in words
    assert "ses-01: control, classified as patient" in words
    assert "(correct)" in explanations_of(small, "sub-02")
    first = next(one for one in manifest_of(small)["heatmaps"] if one["subject"] == "01")
    image = nb.load(small / first["path"])
    values = np.asarray(image.dataobj)
    place = max(np.ndindex(values.shape), key=lambda index: abs(values[index]))
    x, y, z = (round(float(v)) for v in image.affine[:3, :3] @ place + image.affine[:3, 3])
    assert f"({x}, {y}, {z}) mm".replace("-", "−") in words
    assert entry["subject"] == "04"
    assert (small / "sub-01" / "figures" / "sub-01_desc-explanations1.png").exists()


def test_own_image_is_behind_the_heatmap(small):
    write_subject_report(small, "01")
    path = small / "sub-01" / "figures" / "sub-01_desc-explanations1.png"
    before = path.read_bytes()
    image = small / manifest_of(small)["heatmaps"][0]["image"]
    data = np.asarray(nb.load(image).dataobj)[::-1] ** 2
    nb.Nifti1Image(data.astype(np.float32), nb.load(image).affine).to_filename(image)
    write_subject_report(small, "01")
    assert path.read_bytes() != before


def test_heatmap_of_another_grid_is_refused(small):
    path = small / manifest_of(small)["heatmaps"][0]["path"]
    image = nb.load(path)
    nb.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine).to_filename(path)
    with pytest.raises(InputError, match="does not lie on the grid"):
        write_subject_report(small, "01")


def test_volumes_are_taken_from_series_and_limited_in_number(small):
    entries = [one for one in manifest_of(small)["heatmaps"] if one["subject"] == "01"][:1]
    path = small / entries[0]["image"]
    data, affine = np.asarray(nb.load(path).dataobj), nb.load(path).affine
    n = MOST_IMAGES + 2
    nb.Nifti1Image(np.repeat(data, n, axis=3), affine).to_filename(path)
    change(small, heatmaps=[{**entries[0], "task": "film", "volume": volume} for volume in range(n)])
    words = explanations_of(small, "01")
    assert f"The first {MOST_IMAGES} of {n} explained images are shown." in words
    assert "ses-01, task-film, volume 8: control" in words
    assert "volume 9:" not in words


def test_no_section_where_nothing_was_explained(small, tmp_path):
    change(small, heatmaps=[])
    assert explanations_of(small, "01") == ""
    change(small, kind="softmax", heatmaps=[{"subject": "01"}])
    assert explanations_of(small, "01") == ""
    (small / "group" / "results.json").write_text("{", encoding="utf-8")
    assert explanations_of(small, "01") == ""
