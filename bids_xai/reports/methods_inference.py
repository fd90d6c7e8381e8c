"""The paragraphs of the methods section on permutations and what is inferred from them."""

from __future__ import annotations

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.inference.accuracy import FITTED
from bids_xai.reports.html import listed, number
from bids_xai.reports.methods_preproc import modality_of
from bids_xai.reports.results import Results

_PERMUTE = {
    "subject": "exchanging the labels of whole events within each subject",
    "run": "exchanging the labels of whole events within each run",
    "fold": "exchanging the labels of whole events among those of a run that the same fold held out",
    "between": "exchanging the labels of whole subjects, and with them their folds, between all subjects",
    "whole": "exchanging the labels of all samples of a subject, in their order, and with them the folds, "
    "between subjects with as many samples [@winkler2015]",
    "all": "exchanging the labels of single samples over the whole data set, as published",
}
_PERMUTE_IMAGES = {
    "subject": "exchanging the labels of images within each subject",
    "run": "exchanging the labels of images within each run",
    "between": _PERMUTE["between"],
    "whole": _PERMUTE["whole"],
    "all": "exchanging the labels of images over the whole data set",
}


def permutation_text(results: Results) -> str:
    """Describe how labels were permuted, and what p-values and thresholds came of it."""
    manifest = results.manifest
    n = manifest.get("n_permutations") or 0
    if not n:
        return ""
    levels = listed([f"{alpha:g}" for alpha in manifest["alphas"]])
    anatomical = modality_of(results.settings) != "bold"
    schemes = _PERMUTE_IMAGES if anatomical else _PERMUTE
    scheme = schemes.get(manifest.get("permute", ""), manifest.get("permute", ""))
    within = results.settings.get("exchange_within")
    if within:
        scheme += f", and only between samples of one level of {within.rpartition(':')[2]}"
    tail = (
        "one-sided (larger)"
        if manifest.get("tail", "greater") == "greater"
        else "two-sided (absolute values)"
    )
    return (
        f"The whole procedure was repeated {times(n)} after {scheme}. With b of m permutations at least as "
        "large as the observation, p = (b + 1)/(m + 1) [@phipson2010], for accuracies and, voxel by voxel, "
        f"for each measure and class; the smallest p within reach was {number(manifest.get('smallest_p'))}. "
        f"{_stopping(results)}{_tail_fit(results)}Thresholds, {tail}, were set at α = {levels} for each "
        "voxel; the distribution of the maximum over voxels gave thresholds that control the family-wise "
        "error [@nichols2002], and Benjamini and Hochberg's procedure the false discovery rate "
        f"[@benjamini1995]{_q_from(results)}."
    )


def _q_from(results: Results) -> str:
    """Say which p-values the false discovery rates are of, where they are not those of the maps."""
    manifest = results.manifest
    if manifest.get("q_from") != FITTED or manifest.get("tail_fit") == FITTED:
        return ""
    return (
        ", of p-values that, where fewer than 10 permutations reached the observation, were those of a "
        "generalised Pareto distribution without an end (shape from 0 on) fitted to the largest permuted "
        "values [@knijnenburg2009; @winkler2016; @zhang2009]: counted ones end at the smallest within reach"
    )


def _stopping(results: Results) -> str:
    h = results.settings.get("stop_after_exceedances")
    if not h:
        return ""
    return (
        f"Permuting was to end with the round in which {number(h)} permutations had reached the mean "
        f"accuracy; if the {number(h)}th of these was the l-th of all, the p-value of the accuracy is "
        f"{number(h)}/l [@besag1991]. "
    )


def _tail_fit(results: Results) -> str:
    if results.manifest.get("tail_fit") != "gpd":
        return ""
    return (
        "Where fewer than 10 permutations reached the observation, p was taken from a generalised Pareto "
        "distribution fitted to the largest permuted values [@knijnenburg2009; @winkler2016], and "
        "averaged over the uncertainty of its estimate [@zhang2009]; where an Anderson-Darling test "
        "[@choulakian2001] refused the fit at .05, fewer values were taken, and where none fitted, the "
        "counted p. "
    )


def population_text(results: Results) -> str:
    """Describe the inference from the people to their population; empty where there is none."""
    table = results.table("prevalence")
    if not len(table):
        return ""
    row = table[table["scope"] == ALL_CLASSES].iloc[0]
    return (
        "The mean accuracy over subjects was compared with that of "
        f"{number(row['n_draws'])} groups, each of one permutation of every subject [@stelzer2013] "
        f"(p = {number(float(row['p_mean']))}). The prevalence of accuracies above chance in the population "
        "was inferred from the smallest accuracy among the subjects, in the first repetition "
        f"[@allefeld2016]: p = {number(float(row['p_global']))} for the null hypothesis of no effect in "
        f"anyone, p = {number(float(row['p_majority']))} for that of an effect in at most half of the "
        "population."
    )


def reproducibility_text(results: Results) -> str:
    """Describe reproducibility and its threshold."""
    manifest = results.manifest
    if not manifest.get("n_permutations"):
        return ""
    text = (
        f"The reproducibility of a voxel is the fraction of the {number(manifest.get('n_runs'))} runs with "
        "true labels in which its importance exceeds the per-voxel threshold [@gotsopoulos2018]."
    )
    if manifest.get("n_null"):
        return (
            f"{text} The same was done with {number(manifest['n_null'])} further permutations of the labels; "
            "the highest reproducibility that any voxel reached there is the reproducibility threshold, as "
            "published. It does not control the family-wise error."
        )
    return f"{text} No second set of permutations was run, so there is no reproducibility threshold."


def times(value: int | None) -> str:
    """Return a number of times in words."""
    return "once" if value == 1 else f"{number(value)} times"
