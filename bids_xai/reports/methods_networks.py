"""The paragraphs of the methods section about networks, their training and their explanations."""

from __future__ import annotations

import math
from typing import Any

from bids_xai.attribution import SHARE
from bids_xai.models import NETWORKS
from bids_xai.reports.html import count, listed, number, percent
from bids_xai.reports.networks_explanations import formula_of, title_of
from bids_xai.reports.networks_scores import baseline_means, classifier_name, main_score
from bids_xai.reports.networks_training_text import training_text
from bids_xai.reports.references_networks import EXPLANATION_REFERENCES, MODEL_REFERENCES
from bids_xai.reports.results import Results

_CV = {
    "subject": "leaving one subject out",
    "run": "leaving one run out within each subject",
    "event": "leaving out, within each subject, the n-th event of every class of every run in turn",
    "kfold": "in {n_folds} folds whose people never lie on both sides",
    "holdout": "on {test}, in {splits}",
    "leaky-volumes": "in {splits} of volumes, by which volumes of one person lie on both sides",
}


def network_texts(results: Results) -> list[tuple[str, str]]:
    """Return titles and texts that describe exactly the analysis behind results of networks.

    Parameters
    ----------
    results
        Manifest of kind ``networks``; what it does not say is not described.

    Returns
    -------
    list of (str, str)
        Works are cited as ``[@key; @key]``; an empty text stands for what was not done.
    """
    return [
        ("Network", _network(results)),
        ("Training", training_text(results)),
        ("Evaluation", _evaluation(results)),
        ("Explanations", _explanations(results)),
        ("Permutation tests", _permutations(results)),
        ("Trust", _trust(results)),
        ("Robustness", _robustness(results)),
        ("Similarity", _similarity(results)),
    ]


def _network(results: Results) -> str:
    manifest = results.manifest
    name = str(manifest.get("model") or "a network")
    key = MODEL_REFERENCES.get(name)
    what = f": {NETWORKS[name].summary}" if name in NETWORKS else ""
    words = [
        f"Images were classified by the convolutional network {name}{f' [@{key}]' if key else ''}{what}."
    ]
    if manifest.get("n_parameters"):
        words.append(f"It has {number(manifest['n_parameters'])} parameters.")
    if manifest.get("shape"):
        words.append(f"Its input is a whole volume of {' × '.join(map(str, manifest['shape']))} voxels.")
    if manifest.get("positive"):
        words.append(f"The positive class is {manifest['positive']}.")
    return " ".join(words)


def _evaluation(results: Results) -> str:
    manifest = results.manifest
    split = str(manifest.get("cv") or "")
    how = _CV.get(split, f"by the split “{split}”" if split else "on held-out samples")
    n_folds, share = manifest.get("n_folds"), results.settings.get("test_size")
    places = {
        "n_folds": number(n_folds and n_folds // (manifest.get("n_repeats") or 1)),
        "splits": count(n_folds, "random split"),
        "test": f"a share of {share:g} of the people" if share else "people who were held out",
    }
    runs = manifest.get("n_runs")
    words = [f"Scores were taken of held-out samples, {how.format(**places)}."]
    if results.settings.get("test_first_session") and split == "holdout":
        words.append("Of held-out people only the first session was tested.")
    if runs and runs > 1:
        words.append(f"Every network was trained {number(runs)} times from other seeds.")
    score = main_score(results)
    if score:
        sd = score.get("sd")
        spread = f"SD over runs {percent(sd)}; " if sd is not None and percent(sd) != "n/a" else ""
        words.append(
            f"Balanced accuracy, the mean of the accuracies of the classes, was {percent(score['mean'])} "
            f"({spread}chance {percent(manifest['chance'])}{_tested(score)})."
        )
    if len(results.table("roc")) and runs and runs > 1:
        words.append("ROC curves were averaged over runs; their standard error is that over runs.")
    words += [text for text in [_compared(results)] if text]
    return " ".join(words)


def _compared(results: Results) -> str:
    found = [f"{classifier_name(name)} ({percent(mean)})" for name, mean in baseline_means(results).items()]
    if not found:
        return ""
    return (
        f"The same samples were classified by {listed(found)}, from the voxels of the mask, standardised "
        "within the training samples."
    )


def _tested(score: dict[str, Any]) -> str:
    p = score.get("p")
    return "" if p is None or math.isnan(p) else f"; p = {number(float(p))}"


def _explanations(results: Results) -> str:
    info = results.manifest.get("method_info") or {}
    described = []
    for label in results.methods:
        one = info.get(label) or {}
        formula = formula_of(results, label)
        formula = f" ({formula})" if formula else ""
        key = EXPLANATION_REFERENCES.get(str(one.get("name") or label))
        described.append(f"{title_of(results, label)}{formula}{f' [@{key}]' if key else ''}")
    if not described:
        return ""
    starts = {"logit": "the logit", "probability": "the probability"}
    classes = {"true": "the true class", "predicted": "the predicted class"}
    start = starts.get(str(results.manifest.get("explain_start")), "the output")
    class_ = str(results.manifest.get("explain_class"))
    which = _explained_samples(results)
    return (
        f"Decisions about {which} were explained by {'; '.join(described)}. Explanations start from "
        f"{start} of {classes.get(class_, f'the class {class_}')}. {_as_shown(results)}Heatmaps were "
        f"averaged over the samples of each class and over {_outcomes(results)}."
    )


def _divided(results: Results, use: str) -> list[str]:
    """Return the labels of methods whose heatmaps are shares where they are of a use: tested or shown."""
    info = results.manifest.get("method_info") or {}
    return [label for label in results.methods if (info.get(label) or {}).get(use) == SHARE]


def _as_shown(results: Results) -> str:
    if not _divided(results, "shown"):
        return ""
    return (
        "Every heatmap was divided by the sum of its absolute values in the mask, R/Σ|R|, so that no "
        "participant and no training counts more because its output is larger. "
    )


def _as_tested(results: Results) -> str:
    """Say what of the heatmaps was compared with permuted labels, and why."""
    divided = _divided(results, "tested")
    words = []
    if divided:
        words.append(
            "What was compared are the parts |R|/Σ|R| of every heatmap that lie in a voxel, averaged over "
            "the samples: the size of a heatmap follows that of the output, which is larger after training "
            "on labels that can be learnt (and a gradient vanishes where a probability is near 1), and its "
            "sign that of the output, so that means of the heatmaps as they are would differ in voxels "
            "without information."
        )
    raw = [title_of(results, label) for label in results.methods if label not in divided]
    if raw and (results.manifest.get("method_info") or {}):
        words.append(f"Heatmaps of {listed(raw)} were compared as they are.")
    return f" {' '.join(words)}" if words else ""


def _explained_samples(results: Results) -> str:
    most, least = results.settings.get("explain_samples"), results.settings.get("explain_above")
    which = f"the {most} best classified of each class and fold of the held-out samples" if most else ""
    likely = f"whose true class had a probability of at least {least:g}" if least else ""
    if most and least:
        return f"{which}, {likely},"
    return which or f"held-out samples{f' {likely}' if likely else ''}"


def _outcomes(results: Results) -> str:
    if len(results.classes) == 2:
        return "true and false positives and negatives"
    return "correctly and wrongly classified samples"


def _permutations(results: Results) -> str:
    manifest = results.manifest
    n = manifest.get("n_permutations") or 0
    if not n:
        return ""
    schemes = {
        "subject": "permuting labels within each subject",
        "between": "permuting the labels of whole subjects between subjects",
        "all": "permuting labels over all samples",
    }
    scheme = schemes.get(str(manifest.get("permute")), f"permuting labels ({manifest.get('permute')})")
    within = results.settings.get("exchange_within")
    if within:
        scheme += f", and only between samples of one level of {str(within).rpartition(':')[2]}"
    return (
        f"Training, test and explanation were repeated {number(n)} {'time' if n == 1 else 'times'} after "
        f"{scheme}. With b of m permutations at least as large as the observation, p = (b + 1)/(m + 1) "
        "[@phipson2010], for scores and, voxel by voxel, for mean heatmaps; the distribution of the maximum "
        f"over voxels gave family-wise p-values [@nichols2002].{_as_tested(results)} The smallest p within "
        f"reach was {number(manifest.get('smallest_p'))}."
    )


def _trust(results: Results) -> str:
    words = []
    if len(results.table("conservation")):
        words.append("The residual of conservation is the relevance that the rules did not hand down.")
    if len(results.table("randomization")):
        words.append(
            "Heatmaps were compared with those of networks whose layers had been given random parameters, by "
            "rank correlation and structural similarity [@adebayo2018]."
        )
    if len(results.table("deletion")):
        words.append(
            "Voxels were removed from the most to the least relevant, and at random, and the probability of "
            "the explained class was followed [@samek2017]."
        )
    if len(results.table("localisation")):
        words.append(
            "Heatmaps were compared with masks of what is known to differ: share of positive relevance "
            "inside them, and area under the ROC curve of ranking voxels."
        )
    if len(results.table("lesion_load")):
        words.append(
            "The number of lesion voxels was correlated with the sum of a participant's relevance as the "
            "method gives it [@eitel2019]; p by permutation."
        )
    if len(results.table("biomarker")):
        words.append(
            f"{_regional(results)} of every region was correlated over people with "
            f"{results.settings.get('biomarker') or 'a biomarker'}, with permutation p, and family-wise p "
            "over the regions."
        )
    if len(results.table("fingerprints")):
        words.append(
            "Of the people classified with a probability above .9 the two with the largest cosine distance "
            "between their regional densities are shown [@boehle2019]."
        )
    return " ".join(words)


def _regional(results: Results) -> str:
    return "The share of the relevance" if _divided(results, "tested") else "The relevance"


def _robustness(results: Results) -> str:
    ways = [
        words
        for name, words in (
            (
                "distances",
                "the L2 distance between mean heatmaps, each divided by its largest absolute value",
            ),
            ("overlap", "the overlap of their leading regions"),
        )
        if len(results.table(name))
    ]
    if not ways:
        return ""
    return (
        f"The agreement of explanations over repeated trainings was measured by {listed(ways)} "
        "[@eitel2019robustness]."
    )


def _similarity(results: Results) -> str:
    words = []
    if len(results.table("rdm")):
        words.append(
            "Dissimilarities (1 − correlation) between classes were computed for mean volumes and for mean "
            "activations of the layer before the last [@kriegeskorte2008]"
            + (" and compared by a Mantel test with permuted classes [@mantel1967]" if len(
                results.table("mantel")) else "")
            + "."
        )  # fmt: skip
    positions = results.table("positions")
    if len(positions):
        embedded = " and embedded in two dimensions by UMAP [@mcinnes2018]" if "umap_1" in positions else ""
        words.append(f"The positions whose occlusion costs each class most were collected{embedded}.")
    return " ".join(words)
