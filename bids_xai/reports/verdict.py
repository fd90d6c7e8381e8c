"""Whether the classifier told the classes apart, and so whether what explains it may be interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bids_xai.reports.html import Alert, Fold, count, number, percent
from bids_xai.reports.networks_scores import SIGNIFICANT, main_score
from bids_xai.reports.results import Results, overall_row

# Name of the setting, and of the profile of registration, for trying out.
_SLOPPY = "sloppy"


def main_test(results: Results) -> dict[str, Any] | None:
    """Return the row of the accuracy that a result is judged by; None where there is none.

    Of the softmax layer that of all held-out samples, of networks the balanced accuracy: at least ``mean``,
    and, where labels were permuted, ``p`` and ``n_permutations``.
    """
    if results.of_networks:
        return main_score(results)
    row = overall_row(results.table("accuracy_tests"))
    return None if row is None else {str(key): value for key, value in row.items()}


def above_chance(results: Results) -> bool | None:
    """Return whether p of the accuracy is at most .05; None: nothing was tested."""
    test = main_test(results)
    p = None if test is None else test.get("p")
    return None if p is None or pd.isna(p) else bool(p <= SIGNIFICANT)


def verdict(results: Results) -> str:
    """Return what has to be said before anything else; empty where the accuracy is above chance."""
    test, above = main_test(results), above_chance(results)
    if test is None or above:
        return ""
    what = "balanced accuracy" if results.of_networks else "accuracy"
    if above is None:
        return (
            f"Nothing was tested: no labels were permuted, so that neither the {what} "
            f"({percent(test['mean'])}) nor a map is shown to be more than chance."
        )
    return (
        f"The {what} is not above chance (p = {number(float(test['p']))}), and the maps are not to be "
        "interpreted: a classifier that does not tell the classes apart gives nothing to explain."
        f"{_out_of_reach(results, test)}"
    )


def _out_of_reach(results: Results, test: dict[str, Any]) -> str:
    reach = results.manifest.get("smallest_p")
    if reach is None or reach <= SIGNIFICANT:
        return ""
    return (
        f" With {count(test.get('n_permutations'), 'permutation')} no p below {number(reach)} was within "
        "reach: more permutations, or samples, are needed to show anything."
    )


def verdict_blocks(results: Results) -> list[Any]:
    """Return the verdict as the first thing that a page says."""
    text = verdict(results)
    first = [Alert(text, "failure" if above_chance(results) is False else "warning")] if text else []
    return [*first, *(Alert(note, "warning") for note in cut_short(results))]


def cut_short(results: Results) -> list[str]:
    """Return that registrations or trainings were cut short, where they were."""
    notes = []
    if results.settings.get("registration_profile") == _SLOPPY:
        notes.append(
            "Registrations were cut short for a test (--sloppy): these results are not for publication."
        )
    return [*notes, *filter(None, [training_cut_short(results)])]


def training_cut_short(results: Results) -> str:
    """Return that trainings were cut short, where they were; else nothing."""
    if not results.settings.get(_SLOPPY):
        return ""
    return "Trainings were few and short, for a test (--sloppy): these results are not for publication."


def folded_at_chance(results: Results, blocks: Sequence[Any], what: str) -> list[Any]:
    """Return blocks that show what explains the classifier, folded away where it is not above chance."""
    if not blocks or above_chance(results) is not False:
        return list(blocks)
    note = f"{what} are not to be interpreted: the accuracy is not above chance."
    return [Alert(note, "warning"), Fold(f"{what} of a classifier that is not above chance", blocks)]
