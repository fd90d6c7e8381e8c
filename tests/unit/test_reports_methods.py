"""The methods text follows the settings, and what it cites is listed."""

from __future__ import annotations

import dataclasses
import re

import pytest
from test_reports_results import make_output

from bids_xai.reports import write_citations
from bids_xai.reports.caveats import caveats
from bids_xai.reports.methods_text import citation_keys, methods_paragraphs
from bids_xai.reports.references import (
    ATLAS_REFERENCES,
    PRESET_REFERENCES,
    REFERENCES,
    cited,
    with_authors,
)
from bids_xai.reports.results import load_results
from bids_xai.settings import preset_names
from tests.written import injected


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return load_results(
        make_output(tmp_path_factory.mktemp("out"), n_classes=2, methods=("W", "OD", "LRP-z"))
    )


TRAINING = {
    "learning_rate": 0.005, "batch_size": 20, "n_updates": 10_000, "l2": 0.4, "clip": 0.0, "bias": True,
}  # fmt: skip


def changed(results, settings=None, **manifest):
    injected(settings, **manifest)
    content = {**results.manifest, **manifest, "settings": {**results.settings, **(settings or {})}}
    return dataclasses.replace(results, manifest=content)


def text_of(results):
    return " ".join(with_authors(paragraph.text) for paragraph in methods_paragraphs(results))


def test_text_has_the_numbers_of_the_run(results):
    text = text_of(results)
    for words in (
        "3 subjects", "48 samples of 2 classes (face 24, house 24)", "10\u202f000 minibatches of 20 samples",
        "learning rate 0.005; weight decay 0.4, the variance of the samples summed over the voxels",
        "repeated 20 times", "was repeated 200 times",
        "smallest p within reach was 0.00498", "α = 0.001, 0.01 and 0.05",
        "leaving one subject out (3 folds)", "moved by 5 s",
        "20 further permutations",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("settings", "manifest", "words", "absent"),
    [
        ({"window": [-5.95, 5.95], "window_anchor": "offset"}, {},
         "−5.95 s to 5.95 s relative to the event's end", "haemodynamic"),
        ({"merge_events": 2.0}, {}, "at most 2 s after the end of the one before. A sample is", "xx"),
        ({"merge_events": None}, {}, "A sample is", "one event (a block)"),
        ({"sample": "volumes"}, {}, "A sample is each volume", "mean of the volumes"),
        ({"hrf_shift": 0.0}, {}, "volumes of the event. This", "haemodynamic"),
        ({}, {"training": TRAINING}, "weight decay 0.4, the variance of the samples", "no regularisation"),
        ({"l2": 0.4}, {"training": TRAINING}, "weight decay 0.4)", "the variance of the samples"),
        ({"l2": 0.0}, {"training": {**TRAINING, "l2": 0.0}}, "no regularisation", "weight decay"),
        ({}, {"map_values": "share"}, "every map of W was divided by the norm of what", "xx"),
        ({}, {"map_values": "share"}, "every map of OD was divided by that norm and by the mean slope", "xx"),
        ({}, {"map_values": "share"}, "of LRP-z was divided by the sum of its absolute", "xx"),
        ({}, {"map_values": "raw"}, "A class's map is the average over", "was divided"),
        ({}, {"q_from": "gpd"}, "counted ones end at the smallest within reach", "xx"),
        ({}, {"q_from": "counted"}, "the false discovery rate", "counted ones end"),
        ({"modality": "T1w"}, {}, "A sample is one T1-weighted image", "mean of the volumes"),
        ({"preset": "klingenberg2021"}, {},
         "a published analysis (Klingenberg et al., 2021), preset “klingenberg2021”.", "but for"),
        ({"preset": "gotsopoulos2018"}, {"preset_departures": ["n_runs", "l2"]},
         "preset “gotsopoulos2018”, but for “n_runs” and “l2”.", "xx"),
        ({"preset": "emotion-occlusion"}, {}, "follow the preset “emotion-occlusion”.", "published analysis"),
        ({"sloppy": True}, {}, "few and short, for a test (--sloppy): these results are not for publ", "xx"),
        ({"sloppy": False}, {}, "A sample is", "not for publication"),
        ({}, {"preprocessing": [{"text": "Done [@smith2002].", "n_files": 3}]}, "Done (Smith, 2002).",
         "files of samples"),
        ({}, {"preprocessing": [{"text": "Done.", "n_files": 3}, {"text": "Other.", "n_files": 1}]},
         "Of 3 files of samples: Done. Of 1 file of samples: Other.", "xx"),
        ({"modality": "T1w"}, {"permute": "all"}, "labels of images over the whole", "events"),
        ({"map_scale": 1000.0}, {}, "multiplied by 1000", "xx"),
        ({}, {"permute": "all"}, "single samples over the whole data set", "within each subject"),
        ({}, {"tail": "two-sided"}, "two-sided (absolute values)", "one-sided"),
        ({}, {"cv": "run"}, "the same subject's other runs only", "leaving one subject out"),
        ({}, {"cv": "event", "n_folds": 2, "permute": "fold"},
         "fold n held out the n-th event of every class in every run", "within each subject. With b"),
        ({}, {"cv": "event", "permute": "fold"},
         "labels of whole events among those of a run that the same fold held out. With b", "leaving one"),
        ({}, {"permute": "between"}, "labels of whole subjects, and with them their folds, between",
             "of whole events"),
        ({"exchange_within": "participants:site"}, {}, "only between samples of one level of site", "xx"),
        ({}, {"tail_fit": "gpd"}, "fitted to the largest permuted values (Knijnenburg et al., 2009", "xx"),
        ({"stop_after_exceedances": 10}, {}, "is 10/l (Besag & Clifford, 1991)", "xx"),
        ({}, {"tail_fit": "none", "q_from": "counted"}, "the smallest p within reach", "Pareto"),
        ({}, {"cv": "kfold", "n_folds": 5}, "in 5 folds", "leaving one"),
        ({}, {"n_null": 0}, "No second set of permutations", "further permutations"),
        ({}, {"n_permutations": 0, "n_null": 0}, "", "Benjamini"),
        ({}, {"space": None}, "in their native space", "Fonov"),
        ({}, {"importance_samples": "all"}, "all held-out samples", "labelled with that class"),
        ({}, {"n_runs": 1}, "The whole was repeated once", "repeated 1 times"),
    ],
)  # fmt: skip
def test_text_follows_the_settings(results, settings, manifest, words, absent):
    text = text_of(changed(results, settings, **manifest))
    assert words in text
    assert absent not in text


def test_caveats_follow_the_settings(results):
    assert any("Haufe" in with_authors(note) for note in caveats(results))
    assert not any("one-sided" in note for note in caveats(changed(results, tail="two-sided")))
    assert not any("other runs" in note for note in caveats(results))
    assert any("nothing of other runs" in note for note in caveats(changed(results, cv="event")))
    assert any("no family-wise significance" in note for note in caveats(results))
    assert not any("no family-wise significance" in note for note in caveats(changed(results, n_null=0)))
    assert not any("--map-values raw" in note for note in caveats(results))
    raw = caveats(changed(results, map_values="raw"))
    assert any("maps of W follows how hard the labels are to fit" in note for note in raw)
    assert any("maps of LRP-z follows the output" in note for note in raw)
    assert not any("in simulations" in note for note in raw)
    (ranked,) = [note for note in caveats(results) if "How much measures find" in note]
    assert ranked.index("W ") < ranked.index("LRP-z ")
    assert not any("How much measures find" in note for note in caveats(changed(results, {"l2": 1.0})))
    assert any("correlation with t over voxels is W 0.9" in note for note in caveats(results))
    counted = changed(results, q_from="counted", n_permutations=99, n_voxels=600, alphas=[0.05])
    assert any("the smallest p: 120 at α = 0.05" in note for note in caveats(counted))
    assert not any("the tail of the null cannot" in note for note in caveats(results))
    stopped = changed(results, {"stop_after_exceedances": 10, "n_permutations": 1000}, n_permutations=200)
    assert any("stopped after 200 of" in note for note in caveats(stopped))
    ended = changed(results, {"stop_after_exceedances": 10, "n_permutations": 200}, n_permutations=200)
    assert not any("stopped after" in note for note in caveats(ended))
    assert any("α = 0.001:" in note or "α = 0.001." in note for note in caveats(results))
    assert not any("smallest p" in note for note in caveats(changed(results, smallest_p=1e-4)))


@pytest.mark.parametrize("methods", [["W"], ["OD"], ["LRP-z", "Haufe"], ["W", "Haufe", "WX"]])
def test_a_measure_made_of_weights_comes_with_what_weights_do_not_say(results, methods):
    notes = caveats(changed(results, methods=methods))
    (of_weights,) = (note for note in notes if note.startswith("Weights say"))
    assert "[@haufe2014]" in of_weights
    # Who has no patterns is told how to get them.
    assert ("--importance Haufe" in of_weights) == ("Haufe" not in methods)
    assert any(note.startswith("Haufe patterns say") for note in notes) == ("Haufe" in methods)


def test_patterns_alone_come_without_the_note_on_weights(results):
    notes = caveats(changed(results, methods=["Haufe"]))
    assert not any(note.startswith("Weights say") for note in notes)
    assert "per standard deviation of the logits" in text_of(changed(results, methods=["Haufe"]))
    assert "per standard deviation of the logits" not in text_of(results)
    assert "haufe2014" in citation_keys(changed(results, methods=["Haufe"]))


def test_only_what_is_used_is_cited(results):
    keys = citation_keys(results)
    assert {"gotsopoulos2018", "bach2015", "aal2", "fonov2011", "nipype2011"} <= set(keys)
    assert not {"montavon2017", "destrieux2010", "templateflow2022"} & set(keys)


def test_the_population_and_the_tail_are_cited_where_they_are_used(results, tmp_path):
    keys = {"allefeld2016", "stelzer2013"}
    assert not keys & set(citation_keys(results))
    other = load_results(make_output(tmp_path, n_classes=2, methods=("W",), atlas=False, prevalence=True))
    assert keys <= set(citation_keys(other))
    assert "p = 0.03 for the null hypothesis of no effect in anyone" in text_of(other)
    tails = set(citation_keys(changed(results, tail_fit="gpd")))
    assert {"knijnenburg2009", "winkler2016", "zhang2009", "choulakian2001"} <= tails
    assert not any("extrapolation" in note for note in caveats(results))
    tables = {**other.manifest["tables"], "tails": "tails_table.tsv"}
    (other.group_dir / "tails_table.tsv").write_text(
        "method\tclass\tn_voxels_p_few\tn_voxels_p_fitted\nW\tface\t30\t28\nW\thouse\t12\t11\n"
    )
    (note,) = [note for note in caveats(changed(other, tables=tables)) if "extrapolation" in note]
    assert "in 42 voxels, 39 of which have a tail that fits" in note


def test_citations_are_written(results):
    path = write_citations(results.out_dir)
    text, bib = path.read_text(encoding="utf-8"), path.with_suffix(".bib").read_text(encoding="utf-8")
    keys = citation_keys(results)
    assert re.findall(r"^@\w+\{(\w+),$", bib, re.M) == keys
    assert bib.count("{") == bib.count("}")
    assert "[@" not in text
    assert all(REFERENCES[key].doi in text for key in keys)


def test_presets_have_their_references():
    assert {*PRESET_REFERENCES} == {*preset_names()} - {"emotion-occlusion"}
    assert {*PRESET_REFERENCES.values()} <= {*REFERENCES}


def test_works_have_distinct_identifiers():
    dois = [work.doi for work in REFERENCES.values() if work.doi]
    assert len(dois) == len(set(dois))
    assert all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in dois)


def test_every_citation_resolves():
    assert {key for keys in ATLAS_REFERENCES.values() for key in keys} <= set(REFERENCES)
    assert cited(["x [@a; @b] y", "z [@b]"]) == ["a", "b"]
    assert (
        with_authors("as shown [@haufe2014; @bach2015].")
        == "as shown (Haufe et al., 2014; Bach et al., 2015)."
    )


def test_bibtex_escapes_and_splits():
    entry = REFERENCES["glorot2010"].bibtex("glorot2010")
    assert "volume = {9}" in entry
    assert "pages = {249--256}" in entry
    assert "booktitle" in entry
    assert r"Science \& Engineering" in REFERENCES["matplotlib2007"].bibtex("k")


def test_text_says_how_training_departs_from_the_published(results):
    assert "zero biases" in text_of(results)
    assert "clipped" not in text_of(results)
    own = text_of(changed(results, training={**TRAINING, "bias": False, "clip": 0.01}))
    assert "without biases" in own
    assert "outputs clipped to [0.01, 0.99]" in own
