"""The page of the group level: complete, self-contained, and steady on poor results."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from test_reports_results import make_output, single_slice

from bids_xai.errors import InputError
from bids_xai.reports import write_group_report
from bids_xai.reports.html import Gallery, number, plain, slug
from bids_xai.tables import read_frame

SECTIONS = ["Summary", "Accuracy", "Confusion", "Importance maps", "Reproducibility", "Univariate", "Regions",
            "Methods", "Warnings", "Settings"]  # fmt: skip


class _Page(HTMLParser):
    """Collects what a browser would load, images without words, anchors, and open tags."""

    void = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.loaded, self.alts, self.ids, self.targets, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        self.loaded += [attrs[key] for key in ("src", "srcset", "data", "poster") if key in attrs]
        self.loaded += [attrs["href"]] if tag == "link" else []
        self.alts += [attrs.get("alt", "")] if tag == "img" else []
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.targets += [attrs["href"][1:]] if attrs.get("href", "").startswith("#") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = make_output(tmp_path_factory.mktemp("out"), n_classes=2, methods=("OD", "LRP-z"))
    write_group_report(out)
    return out


@pytest.fixture(scope="module")
def text(out):
    return (out / "group.html").read_text(encoding="utf-8")


def test_page_loads_nothing_from_elsewhere(text):
    page = _Page(text)
    assert page.loaded
    assert all(source.startswith("data:") for source in page.loaded)
    assert not re.search(r"@import|url\(|<script", text)
    assert not page.open


def test_page_is_accessible(text):
    page = _Page(text)
    assert all(len(alt) > 10 for alt in page.alts)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    assert '<html lang="en">' in text


def test_sections_are_all_there_and_in_the_navigation(text):
    assert re.findall(r'<h2 id="[^"]+">([^<]+)</h2>', text) == SECTIONS
    assert (
        re.findall(r'<a href="#[^"]+">([^<]+)</a>', text.split("</nav>")[0])
        == ["Skip to the content", *SECTIONS][1:]
    )


def test_names_of_the_user_are_escaped(text):
    assert "A &lt;made-up&gt; data set" in text
    assert "<made-up>" not in text


def test_numbers_are_those_of_the_tables(out, text):
    manifest = json.loads((out / "group" / "results.json").read_text())
    assert f"<dt>Samples</dt><dd>{manifest['n_samples']}</dd>" in text
    assert "pass p ≤ 0.01 (threshold of each voxel from 200 permutations, median 0.0123)" in text
    assert "p = 0.00498" in text
    assert "Weights say what the classifier reads, not where the signal is" in text
    assert "failed: 04" in text
    assert "sub-03 has fewer samples" in text


def test_what_survives_correction_comes_first_and_overlap_is_no_evidence(text):
    page = text.split('<h2 id="maps-title"')[1]
    maps, after = page.split('<h2 id="reproducibility-title"')
    pictures = re.findall(r'alt="([^"]+)"', maps)
    assert "that survive correction" in pictures[0]
    assert not any("number of importance measures" in alt for alt in pictures)
    reproducibility = after.split('<h2 id="univariate-title"')[0]
    assert "number of importance measures" in re.findall(r'alt="([^"]+)"', reproducibility)[-1]
    inside = int(re.search(r"<dt>Voxels</dt><dd>([^<]+)</dd>", text)[1].replace(chr(0x202F), ""))
    expected = number(0.01 * inside)
    # In the captions of measures, curves and overlap, and in the table.
    assert f"about {expected} are expected to pass by chance, in most runs the same ones" in maps
    assert f"{expected} voxels of a measure and class are expected to" in reproducibility
    assert (
        f"so many are expected to be marked by each measure: OD {expected}, LRP-z {expected}"
        in reproducibility
    )
    assert f"<td>{expected}</td>" in maps
    assert "which is no correction" in maps


def test_figures_are_files_too(out):
    names = {path.name for path in (out / "group" / "figures").iterdir()}
    maps = {
        f"maps_class-{class_}_method-{name}.png" for class_ in ("face", "house") for name in ("OD", "LRP-z")
    }
    maps |= {f"corrected_class-{class_}.png" for class_ in ("face", "house")}
    assert maps | {"accuracy.svg", "confusion.svg", "curves-by-method.svg", "univariate_F.png"} <= names


def test_old_figures_go_and_page_is_the_same_again(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("OD",), mask=single_slice(), atlas=False)
    before = dict(mpl.rcParams)
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    assert dict(mpl.rcParams) == before
    stale = tmp_path / "group" / "figures" / "stale.png"
    stale.write_bytes(b"")
    assert write_group_report(tmp_path).read_text(encoding="utf-8") == text
    assert not stale.exists()
    for words in ("native space", "in their native space"):
        assert words in text


def test_poor_results_are_reported(tmp_path):
    poor = {"survivors": False, "n_runs": 1, "n_permutations": 19, "n_null": 0}
    make_output(tmp_path, n_classes=2, methods=("OD",), **poor)
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    assert "face: no voxel survives correction for the number of voxels at α = " in text
    assert "that survive correction" not in text
    for words in (
        "cannot be reached with 19 permutations",
        "No second set of permutations",
        "No voxel passes in any region",
        "no voxel can pass at α = 0.001, 0.01",
        "not reachable",
    ):
        assert words in text
    assert "nan" not in re.sub(r"base64,[^\"]+", "", text)


def test_results_without_maps_curves_or_settings_are_reported(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("W",), atlas=False)
    path = tmp_path / "group" / "results.json"
    manifest = json.loads(path.read_text())
    manifest.update(maps=[], settings={}, versions={}, warnings=[], failed_subjects=[], n_permutations=0)
    manifest["tables"] = {key: manifest["tables"][key] for key in ("samples",)}
    path.write_text(json.dumps(manifest))
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="[^"]+">([^<]+)</h2>', text) == ["Summary", "Regions", "Methods", "Warnings"]
    assert "No atlas was asked for" in text


def test_page_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"results\.json does not exist"):
        write_group_report(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "n/a"), (float("nan"), "n/a"), (float("inf"), "not reachable"), (28586, "28\u202f586"),
        (-3.0, "−3"), (0.000999, "0.000999"), (1.5e-7, "1.5×10⁻⁷"), (True, "yes"), ("as is", "as is"),
    ],
)  # fmt: skip
def test_number(value, expected):
    assert number(value) == expected


def test_plain_and_slug():
    assert plain([0.001, "a", None]) == "0.001, a, –"
    assert plain({"face": ["f", "g"]}) == "face: f, g"
    assert slug("a <b>/c") == "a-b-c"
    assert slug("ä") == "x"


def test_figures_of_classes_that_are_spelt_alike_have_files_of_their_own():
    gallery = Gallery()
    for name in ("maps_class-a b", "maps_class-a/b", "other"):
        gallery.drawing(Figure(figsize=(1, 1)), name, "an empty figure", "caption")
    assert list(gallery.files) == ["maps_class-a-b.svg", "maps_class-a-b-2.svg", "other.svg"]


def test_people_are_shown_and_why_they_say_nothing_of_others(out, text):
    assert "2 of 3 subjects with p ≤ 0.05" in text
    assert "No inference to the population: the classifier of one person is trained on others." in text
    assert (out / "group" / "figures" / "accuracy-subjects.svg").exists()


def test_the_population_is_inferred_where_there_is_a_table(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("W",), atlas=False, prevalence=True)
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    for words in (
        "groups of chance 95 % lie below 57.0 % (p = 0.0002)",
        "more than 12.5 % of the population are above chance",
        "<td>0.34</td>",
        "Allefeld",
    ):
        assert words in text
    assert "No inference to the population" not in text


def test_where_p_values_come_from_is_marked(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("W",), atlas=False)
    path = tmp_path / "group" / "accuracytests_table.tsv"
    table = read_frame(path)
    table.assign(p_by=["sequential", "gpd", "counted"]).to_csv(path, sep="\t", index=False)
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    assert text.count("0.00498‡</td>") == 1
    assert text.count("0.00498†</td>") == 1
    assert "† from a generalised Pareto distribution" in text
    assert "‡ h/l, permuting having stopped" in text


@pytest.mark.parametrize("p", [0.051, 0.6])
def test_maps_of_a_classifier_at_chance_are_folded_and_said_to_mean_nothing(tmp_path, p):
    make_output(tmp_path, n_classes=2, methods=("OD",))
    path = tmp_path / "group" / "accuracytests_table.tsv"
    table = read_frame(path)
    table.assign(p=[p, 0.01, 0.01]).to_csv(path, sep="\t", index=False)
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    summary = text.split('<section id="summary"')[1].split("</section>")[0]
    first = re.sub(r"<[^>]+>", "", summary.partition("</h2>")[2]).split(".  ")[0].strip()
    assert first.startswith(
        f"The accuracy is not above chance (p = {p}), and the maps are not to be interpreted"
    )
    for section in ("maps", "regions", "reproducibility"):
        shown = text.split(f'<section id="{section}"')[1].split("</section>")[0]
        before, folds, within = shown.partition("<details>")
        assert "not to be interpreted" in before
        assert "<figure>" not in before
        assert "<figure>" in within
        assert folds
    notes = text.split("Notes on interpretation")[1]
    assert "not to be interpreted" in notes


def test_maps_of_a_classifier_above_chance_are_not_folded(text):
    assert "not above chance" not in text
    assert "<figure>" in text.split('<section id="maps"')[1].partition("<details>")[0]


def test_regions_without_a_voxel_above_threshold_have_no_peak_and_spaces_are_compared(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("OD",))
    path = tmp_path / "group" / "results.json"
    manifest = json.loads(path.read_text())
    note = "The atlas aal is in MNIColin27, the maps are in MNI152NLin2009aSym"
    manifest["atlases"] = [{"name": "aal", "space": "MNIColin27", "note": note}]
    path.write_text(json.dumps(manifest))
    table = read_frame(tmp_path / "group" / "regions_table.tsv")
    table["n_above"] = 0
    table.loc[table["index"] == 7, "n_above"] = 3
    peaks = ["peak", "peak_x", "peak_y", "peak_z"]
    table.loc[table["index"] != 7, peaks] = float("nan")
    table.to_csv(tmp_path / "group" / "regions_table.tsv", sep="\t", index=False, na_rep="n/a")
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    regions = text.split('<section id="regions"')[1].split("</section>")[0]
    assert note in regions
    assert "in MNIColin27" in text.split('id="methods"')[1]
    rows = re.findall(
        r'<th scope="row">Temporal_Pole_Superior_part_(\d+)_L</th>.*?<td>([^<]*)</td></tr>', regions
    )
    assert {place for index, place in rows if index == "7"} == {"−20, 4, 8 (OD)"}
    assert {place for index, place in rows if index != "7"} == {"–"}


def test_who_was_misclassified_is_shown_where_participants_are_of_one_class(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("OD",), atlas=False)
    path = tmp_path / "group" / "results.json"
    manifest = json.loads(path.read_text())
    del manifest["tables"]["subject_tests"]
    manifest["tables"]["misclassified"] = "misclassified_table.tsv"
    path.write_text(json.dumps(manifest))
    rows = ["subject\ttrue\tpredicted\tn_decisions\tmisclassified"]
    rows += [f"{n:02d}\tface\t{'house' if n == 3 else 'face'}\t20\t{share}"
             for n, share in enumerate((0, 0.25, 0, 0.9), 0)]  # fmt: skip
    (tmp_path / "group" / "misclassified_table.tsv").write_text("\n".join(rows) + "\n")
    text = write_group_report(tmp_path).read_text(encoding="utf-8")
    part = text.split('id="misclassified"')[1]
    assert (
        "1 of 4 participants were misclassified in more than half of the decisions about them, 2 at" in part
    )
    shown = re.findall(r'<th scope="row">sub-(\d+)</th>', part.partition("<details>")[0])
    assert shown == ["03", "01"]
    assert "<td>face</td><td>house</td><td>90.0 %</td><td>20</td>" in part
    assert "with p ≤ 0.05" not in text
    assert "No inference to the population" in text
