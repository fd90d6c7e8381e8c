"""The methods text follows the settings, and what it cites is listed."""

from __future__ import annotations

import dataclasses
import re

import pytest
from test_reports_results import make_output

from bids_xai.reports import write_citations
from bids_xai.reports.caveats import caveats
from bids_xai.reports.methods_text import citation_keys, methods_paragraphs
from bids_xai.reports.references import ATLAS_REFERENCES, REFERENCES, cited, with_authors
from bids_xai.reports.references_preproc import PREPROCESSING
from bids_xai.reports.results import load_results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return load_results(
        make_output(tmp_path_factory.mktemp("out"), n_classes=2, methods=("W", "OD", "LRP-z"))
    )


def changed(results, settings=None, **manifest):
    content = {**results.manifest, **manifest, "settings": {**results.settings, **(settings or {})}}
    return dataclasses.replace(results, manifest=content)


def text_of(results):
    return " ".join(with_authors(paragraph.text) for paragraph in methods_paragraphs(results))


def test_text_has_the_numbers_of_the_run(results):
    text = text_of(results)
    for words in (
        "3 subjects", "48 samples of 2 classes (face 24, house 24)", "10\u202f000 minibatches of 20 samples",
        "learning rate 0.005; no regularisation", "repeated 20 times", "was repeated 200 times",
        "smallest p within reach was 0.00498", "α = 0.001, 0.01 and 0.05",
        "leaving one subject out (3 folds)", "moved by 5 s", "drifts below 0.00781 Hz",
        "20 further permutations",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("settings", "manifest", "words", "absent"),
    [
        ({"high_pass_sigma": 55.0}, {}, "σ = 55 volumes", "discrete cosines"),
        ({"high_pass": 0.01}, {}, "drifts below 0.01 Hz", "0.00781"),
        ({"high_pass": 0}, {}, "its linear trend was removed and it was scaled", "drifts"),
        ({"detrend": False, "high_pass": 0, "standardize": False}, {}, "not filtered or scaled",
         "linear trend"),
        ({"window": [-5.95, 5.95], "window_anchor": "offset"}, {},
         "−5.95 s to 5.95 s relative to the event's end", "haemodynamic"),
        ({"merge_events": 2.0}, {}, "at most 2 s after the end of the one before. A sample is", "xx"),
        ({"merge_events": None}, {}, "A sample is", "one event (a block)"),
        ({"sample": "volumes"}, {}, "A sample is each volume", "mean of the volumes"),
        ({"hrf_shift": 0.0}, {}, "volumes of the event. This", "haemodynamic"),
        ({"l2": 0.1}, {}, "weight decay 0.1", "no regularisation"),
        ({"confounds": ["trans_x", "rot_x"]}, {}, "confounds trans_x, rot_x", "without realignment and"),
        ({"preproc": "derivatives"}, {}, "fMRIPrep (Esteban et al., 2019), whose own", "taken as they are"),
        ({"preproc": "derivatives", "modality": "T1w"}, {}, "sMRIPrep", "fMRIPrep ("),
        ({"preproc": "none"}, {}, "without realignment or registration", "existing derivatives"),
        ({"preproc": "none", "modality": "T1w"}, {}, "as they are, without registration", "realignment"),
        ({"preproc": "ants", "registration": "syn", "registration_profile": "quick"}, {},
         "symmetric diffeomorphic (SyN) transforms (Avants et al., 2008) (profile “quick”", "FSL"),
        ({"preproc": "ants", "registration": "affine"}, {}, "a rigid and an affine transform.", "SyN"),
        ({"preproc": "ants", "registration": "none"}, {}, "N4 (Tustison et al., 2010)", "to the template"),
        ({"preproc": "ants", "registration": "rigid", "template": "MNI152NLin6Asym"}, {},
         "the template MNI152NLin6Asym by antsRegistration with a rigid transform", "tent kernel"),
        ({"preproc": "ants", "registration": "syn", "resolution": 4}, {},
         "head motion, registration to the T1-weighted image and registration to the template were applied "
         "together, in one interpolation onto a grid with voxels of 4 mm", "tent kernel"),
        ({"preproc": "ants", "coregistration": "affine"}, {},
         "to the T1-weighted image by antsRegistration with a rigid and an affine", "to the template"),
        ({"preproc": "ants"}, {}, "own implementation, as ANTs' Python package", "MCFLIRT"),
        ({"preproc": "ants", "sloppy": True}, {}, "not for publication", "MCFLIRT"),
        ({"preproc": "ants", "modality": "T1w", "registration": "syn", "shape": [96, 114, 96],
          "scaling": "minmax"}, {"permute": "all"}, "resampled onto a grid with 96 × 114 × 96 voxels in one",
         "Head motion"),
        ({"preproc": "ants", "modality": "T1w", "scaling": "minmax"}, {}, "between 0 and 1", "Functional"),
        ({"preproc": "ants", "modality": "T1w", "scaling": "max"}, {}, "divided by the largest", "0 and 1"),
        ({"preproc": "ants", "modality": "T1w", "scaling": "none"}, {}, "A sample is one T1-weighted image",
         "divided by the largest"),
        ({"preproc": "ants", "modality": "FLAIR"}, {}, "Each FLAIR image was registered", "time course"),
        ({"modality": "T1w"}, {"permute": "all"}, "labels of images over the whole", "events"),
        ({"preproc": "fsl"}, {}, "MCFLIRT (Jenkinson et al., 2002). Brains were extracted with BET (Smith",
         "ANTs"),
        ({"preproc": "fsl", "registration": "affine"}, {}, "FLIRT (Jenkinson et al., 2002), affine", "rigid"),
        ({"preproc": "fsl", "modality": "T1w"}, {}, "Brains were extracted with BET", "MCFLIRT"),
        ({"map_scale": 1000.0}, {}, "multiplied by 1000", "xx"),
        ({}, {"permute": "all"}, "single samples over the whole data set", "within each subject"),
        ({}, {"tail": "two-sided"}, "two-sided (absolute values)", "one-sided"),
        ({}, {"cv": "run"}, "the same subject's other runs only", "leaving one subject out"),
        ({}, {"cv": "event", "n_folds": 2, "permute": "fold"},
         "fold n held out the n-th event of every class in every run", "within each subject. With b"),
        ({}, {"cv": "event", "permute": "fold"},
         "labels of whole events among those of a run that the same fold held out. With b", "leaving one"),
        ({}, {"permute": "between"}, "labels of whole subjects between subjects", "of whole events"),
        ({"exchange_within": "participants:site"}, {}, "only between samples of one level of site", "xx"),
        ({}, {"tail_fit": "gpd"}, "fitted to the largest permuted values (Knijnenburg et al., 2009", "xx"),
        ({"stop_after_exceedances": 10}, {}, "is 10/l (Besag & Clifford, 1991)", "xx"),
        ({}, {"tail_fit": "none"}, "the smallest p within reach", "Pareto"),
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
    assert not any("LRP-W2 sums to the output" in note for note in caveats(results))
    with_rule = changed(results, methods=["W", "LRP-W2"])
    assert any("LRP-W2 sums to the output" in note for note in caveats(with_rule))
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


@pytest.mark.parametrize(
    ("settings", "cites", "not_cited"),
    [
        ({"preproc": "ants", "registration": "syn"},
         {"tustison2010", "fisch2024", "avants2008", "friston1995", "power2012", "antsx2021"}, {"smith2002"}),
        ({"preproc": "ants", "registration": "affine", "modality": "T1w"}, {"tustison2010", "fisch2024"},
         {"avants2008", "friston1995", "power2012"}),
        ({"preproc": "fsl"}, {"jenkinson2002", "smith2002", "jenkinson2012"}, {"antsx2021"}),
        ({"preproc": "derivatives"}, {"fmriprep2019"}, {"smriprep", "antsx2021"}),
        ({"preproc": "none"}, set(), set(PREPROCESSING)),
    ],
)  # fmt: skip
def test_preprocessing_is_cited_as_it_was_done(results, settings, cites, not_cited):
    keys = set(citation_keys(changed(results, settings)))
    assert cites <= keys
    assert not not_cited & keys


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
    own = text_of(changed(results, {"bias": False, "clip": 0.01}))
    assert "without biases" in own
    assert "outputs clipped to [0.01, 0.99]" in own
