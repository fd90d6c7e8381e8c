"""The parts of the page on single people: their accuracies, and what they say of the population."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.reports.figures import subject_accuracies
from bids_xai.reports.html import Fold, Gallery, Part, Table, Text, count, number, percent
from bids_xai.reports.results import Results

_MOST_SHOWN = 25


def people_parts(results: Results, gallery: Gallery) -> list[Any]:
    """Return what is said of single participants, and the inference to the population.

    Where each participant is of one class, who was misclassified; else their accuracies against their own
    null.
    """
    tests, wrong = results.table("subject_tests"), results.table("misclassified")
    parts = _subjects(results, tests, gallery) if len(tests) else []
    return [*parts, *misclassified_parts(wrong), *(_population(results) if len(tests) or len(wrong) else [])]


def misclassified_parts(table: pd.DataFrame) -> list[Part]:
    """Return who was misclassified when held out, the most often first; nothing without a table.

    Parameters
    ----------
    table
        One row per participant: ``subject``, ``true``, ``predicted``, ``n_decisions``, ``misclassified``
        (:func:`bids_xai.inference.accuracy.misclassified_table`), and where it is known ``probability``,
        the mean probability of the true class.
    """
    if not len(table):
        return []
    ordered = table.sort_values(["misclassified", "subject"], ascending=[False, True], kind="stable")
    mostly, ever = ordered["misclassified"] > 0.5, ordered["misclassified"] > 0
    header = ["Participant", "True class", "Predicted most often", "Misclassified", "Decisions"]
    known = "probability" in table
    rows = [
        [
            f"sub-{row['subject']}",
            str(row["true"]),
            str(row["predicted"]),
            percent(row["misclassified"]),
            number(int(row["n_decisions"])),
            *([percent(row["probability"])] if known else []),
        ]
        for _, row in ordered.iterrows()
    ]
    header += ["Mean probability of the true class"] if known else []
    caption = (
        "Share of the held-out decisions (samples times repetitions) about a participant that were wrong. "
        "Each participant is of one class, so that permuted labels say nothing of any one of them: there is "
        "no p."
    )
    text = (
        f"{number(int(mostly.sum()))} of {count(len(table), 'participant')} were misclassified in more than "
        f"half of the decisions about them, {number(int(ever.sum()))} at least once."
    )
    shown = rows[: min(int(ever.sum()), _MOST_SHOWN)]
    blocks: list[Any] = [Text(text)]
    if shown:
        blocks.append(Table(header, shown, caption))
    if len(shown) < len(rows):
        blocks.append(Fold("All participants", [Table(header, rows, caption)]))
    return [Part("misclassified", "Who was misclassified", blocks)]


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
    overall = table[table["scope"] == ALL_CLASSES].iloc[0]
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
            "all classes" if row["scope"] == ALL_CLASSES else row["scope"],
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
