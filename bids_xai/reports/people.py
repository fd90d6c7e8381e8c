"""The parts of the page on single people: their accuracies, and what they say of the population."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bids_xai.reports.figures import subject_accuracies
from bids_xai.reports.html import Fold, Gallery, Part, Table, Text, count, number, percent
from bids_xai.reports.results import Results


def people_parts(results: Results, gallery: Gallery) -> list[Any]:
    """Return the accuracies of the people against their own null, and the inference to the population."""
    tests = results.table("subject_tests")
    return [*_subjects(results, tests, gallery), *_population(results)] if len(tests) else []


def p_text(row: Any) -> str:
    """Return a p-value, marked where it is not counted."""
    marks = {"gpd": "†", "sequential": "‡"}
    return f"{number(float(row['p']))}{marks.get(str(row.get('p_by')), '')}"


def marks_explained(tests: pd.DataFrame) -> str:
    """Return what the marks of :func:`p_text` mean, for those that a table has."""
    ways = set(tests["p_by"]) if "p_by" in tests else set()
    return "".join(
        words
        for way, words in (
            ("gpd", " † from a generalised Pareto distribution fitted to the tail of the permutations."),
            ("sequential", " ‡ h/l, permuting having stopped at the h-th that was as accurate."),
        )
        if way in ways
    )


def _subjects(results: Results, tests: pd.DataFrame, gallery: Gallery) -> list[Any]:
    chance = float(results.manifest["chance"])
    above = int((tests["p"] <= 0.05).sum())
    caption = (
        "Accuracy of each subject's held-out samples: mean and SD over runs with true labels, on the range "
        "that holds 95 % of the runs with permuted labels."
    )
    alt = "Accuracy of every subject beside the range of its permutations"
    picture = gallery.drawing(subject_accuracies(tests, chance), "accuracy-subjects", alt, caption)
    header = ["Subject", "Mean", "SD", "Null mean", "Null 2.5 %", "Null 97.5 %", "Null maximum", "p"]
    columns = ("mean", "sd", "null_mean", "null_low", "null_high", "null_max")
    rows = [
        [f"sub-{row['subject']}", *(percent(row[name]) for name in columns), p_text(row)]
        for _, row in tests.iterrows()
    ]
    caption = f"One-sided permutation tests, uncorrected over subjects.{marks_explained(tests)}"
    text = f"{above} of {count(len(tests), 'subject')} with p ≤ 0.05, uncorrected."
    blocks = [Text(text), picture, Fold("All subjects", [Table(header, rows, caption)])]
    return [Part("accuracy-by-subject", "Subjects", blocks)]


def _population(results: Results) -> list[Any]:
    table, reason = results.table("prevalence"), results.manifest.get("no_prevalence")
    if not len(table):
        if not reason:
            return []
        return [Part("population", "Population", [Text(f"No inference to the population: {reason}.")])]
    overall = table[table["scope"] == "all"].iloc[0]
    share = (
        f"more than {percent(overall['prevalence'])} of the population are above chance (at the level .05)"
        if pd.notna(overall["prevalence"])
        else "no share of the population is shown to be above chance"
    )
    text = (
        f"The mean over {count(overall['n_subjects'], 'subject')} is {percent(overall['mean'])}; of "
        f"{number(overall['n_draws'])} groups of chance 95 % lie below {percent(overall['null_95'])} "
        f"(p = {number(float(overall['p_mean']))}). By the smallest accuracy among them, "
        f"{percent(overall['minimum'])}, {share}."
    )
    header = ["", "Mean", "p (mean)", "Minimum", "p (global null)", "p (majority null)", "Prevalence above"]
    rows = [
        [
            "all classes" if row["scope"] == "all" else row["scope"],
            percent(row["mean"]),
            number(float(row["p_mean"])),
            percent(row["minimum"]),
            number(float(row["p_global_corrected"])),
            number(float(row["p_majority_corrected"])),
            percent(row["prevalence_corrected"]) if pd.notna(row["prevalence_corrected"]) else "–",
        ]
        for _, row in table.iterrows()
    ]
    caption = (
        "Group mean against groups of one permutation of each subject; minimum statistic, its p-values "
        "family-wise over the classes: that nobody is above chance, that at most half of the population is, "
        "and the largest share rejected at .05."
    )
    return [Part("population", "Population", [Text(text), Table(header, rows, caption)])]
