"""Methods text, citations and notes on interpretation of networks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from test_reports_networks_output import make_networks

from bids_xai.attribution import EXPLANATIONS
from bids_xai.models import NETWORKS
from bids_xai.reports import write_citations
from bids_xai.reports.caveats import caveats
from bids_xai.reports.methods_text import citation_keys, methods_paragraphs
from bids_xai.reports.references import REFERENCES, with_authors
from bids_xai.reports.references_networks import EXPLANATION_REFERENCES, MODEL_REFERENCES
from bids_xai.reports.references_networks import NETWORKS as NETWORK_REFERENCES
from bids_xai.reports.results import load_results
from tests.written import injected


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return load_results(make_networks(tmp_path_factory.mktemp("networks")))


def changed(results, settings=None, **manifest):
    """Return the same results with other settings and keys of the manifest."""
    injected(settings, **manifest)
    merged = {**results.manifest, **manifest}
    merged["settings"] = {**merged["settings"], **(settings or {})}
    return replace(results, manifest=merged)


def without(results, *tables):
    kept = {name: path for name, path in results.manifest["tables"].items() if name not in tables}
    return changed(results, tables=kept)


def text_of(results):
    return " ".join(with_authors(paragraph.text) for paragraph in methods_paragraphs(results))


def explained_by(results, name):
    info = {"X": {"title": "A method", "formula": "f(x)", "name": name}}
    return changed(results, methods=["X"], method_info=info)


def test_text_describes_networks_and_no_softmax_layer(results):
    text = text_of(results)
    assert "convolutional network boehle2019 (Böhle et al., 2019): four blocks" in text
    assert "728\u202f898 parameters" in text
    assert "learning rate 0.0001; weight decay 0.0001; batches of 4 samples" in text
    assert "Training stopped after 8 epochs without a" in text
    assert "LRP αβ (β = 0.5) (R_i = Σ_j" in text
    assert "Explanations start from the probability of the class patient" in text
    assert "repeated 39 times after permuting the labels of whole subjects" in text
    assert "PyTorch (Paszke et al., 2019)" in text
    for word in ("without hidden layers", "Gram space", "Numba", "Haufe", "voxels above threshold"):
        assert word not in text


@pytest.mark.parametrize(
    ("settings", "manifest", "words", "absent"),
    [
        ({}, {"model": "my_package.nets:small"}, "network my_package.nets:small.", "network boehle2019"),
        ({}, {"model": "eitel2019"}, "eitel2019 (Eitel et al., 2019)", "network boehle2019"),
        ({}, {"model": "ukb-a-pif"}, "(Eitel et al., 2021)", "network boehle2019"),
        ({"preset": "klingenberg2021"}, {}, "follow a published analysis (Klingenberg et al., 2021)", "xx"),
        ({"sloppy": True}, {}, "not for publication", "xx"),
        ({"patience": None}, {}, "batches of 4", "Training stopped"),
        ({"pretrained": "a.safetensors"}, {}, "parameters of a network that was trained before", "xx"),
        ({"exchange_within": "participants:site"}, {}, "only between samples of one level of site.", "xx"),
        ({}, {"n_permutations": 0}, "Balanced accuracy", "Phipson"),
        ({}, {"n_runs": 1}, "Scores were taken", "from other seeds"),
        ({}, {"cv": "subject"}, "leaving one subject out", "folds of people"),
        ({}, {"cv": "of mine"}, "by the split “of mine”", "folds of people"),
        ({}, {"explain_start": "logit", "explain_class": "true"}, "the logit of the true class", "softmax"),
        ({}, {"explain_class": "predicted"}, "of the predicted class", "xx"),
        ({}, {"classes": ["a", "b", "c"], "positive": None}, "correctly and wrongly classified", "false pos"),
    ],
)  # fmt: skip
def test_text_follows_the_manifest(results, settings, manifest, words, absent):
    text = text_of(changed(results, settings, **manifest))
    assert words in text
    assert absent not in text


@pytest.mark.parametrize(
    ("table", "key"),
    [("randomization", "adebayo2018"), ("deletion", "samek2017"), ("mantel", "mantel1967"),
     ("positions", "mcinnes2018"), ("rdm", "kriegeskorte2008")],
)  # fmt: skip
def test_what_was_not_done_is_not_cited(results, table, key):
    shown = explained_by(results, "saliency")
    assert key in citation_keys(shown)
    assert key not in citation_keys(without(shown, table))


def test_every_explanation_and_network_of_a_paper_has_its_reference(results):
    assert set(EXPLANATION_REFERENCES) == set(EXPLANATIONS)
    assert set(MODEL_REFERENCES) == set(NETWORKS) - {"emotion"}
    for name, keys in EXPLANATION_REFERENCES.items():
        assert {key.strip(" @") for key in keys.split(";")} <= set(citation_keys(explained_by(results, name)))
    for name, key in MODEL_REFERENCES.items():
        assert key in citation_keys(changed(results, model=name))


def test_references_are_complete():
    for key, reference in NETWORK_REFERENCES.items():
        assert REFERENCES[key] is reference
        assert str(reference.year) in reference.short
        assert reference.authors.partition(",")[0].split()[-1] in reference.short
        assert re.fullmatch(r"(10\.\d{4,}/\S+)?", reference.doi)
        assert not reference.where.startswith(":")
    dois = [reference.doi for reference in REFERENCES.values() if reference.doi]
    assert len(dois) == len(set(dois))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("guided-backprop", "Guided backpropagation changes little"),
        ("guided-grad-cam", "Guided backpropagation changes little"),
        ("guided-grad-cam", "resolution of the layer"),
        ("grad-cam", "resolution of the layer"),
        ("lrp-epsilon", "depend on its rule"),
        ("deep-taylor", "depend on its rule"),
        ("occlusion", "out of distribution"),
        ("region-occlusion", "out of distribution"),
        ("saliency", "noisy from voxel to voxel"),
        ("integrated-gradients", "depend on the baseline"),
    ],
)
def test_a_method_comes_with_its_caveat(results, name, words):
    assert any(words in note for note in caveats(explained_by(results, name)))
    others = {"guided-backprop", "lrp-0", "occlusion", "integrated-gradients", "saliency", "grad-cam"}
    silent = [
        other for other in others if not any(words in note for note in caveats(explained_by(results, other)))
    ]
    assert len(silent) == len(others) - 1


def test_caveats_follow_the_design(results):
    notes = caveats(results)
    assert any("Mean heatmaps of a group hide people" in note for note in notes)
    assert not any("split at random" in note for note in notes)
    assert not any("too small to conclude" in note for note in notes)
    assert any("no voxel can pass at α = 0.01" in note for note in notes)
    assert any("split at random" in note for note in caveats(changed(results, cv="leaky-volumes")))
    assert any("permuted labels" in note for note in caveats(changed(results, n_permutations=0)))
    assert not any("One-sided" in note or "t and F maps" in note for note in notes)


def test_citations_are_written_with_every_key(results):
    path = write_citations(results.out_dir)
    text, bib = path.read_text(encoding="utf-8"), path.with_suffix(".bib").read_text(encoding="utf-8")
    keys = citation_keys(results)
    assert re.findall(r"^@\w+\{(\w+),", bib, re.MULTILINE) == keys
    assert "[@" not in text
    assert {"boehle2019", "bach2015", "springenberg2015", "zeiler2014", "pytorch2019", "haufe2014"} <= set(
        keys
    )
    assert not {"gotsopoulos2018", "numba2015", "selvaraju2017", "wilcoxon1945"} & set(keys)
    for key in keys:
        assert REFERENCES[key].title in text
