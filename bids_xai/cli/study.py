"""What follows a registration study: whether its variants classify differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_xai.bids.descriptions import write_tsv
from bids_xai.inference.networks import variant_tests
from bids_xai.reports.results import load_results

_METRICS = ("balanced_accuracy", "auc")
_COLUMNS = {
    "metric": "Score: balanced accuracy, or auc, the area under the ROC curve, mean over the classes",
    "first": "Variant",
    "second": "Variant",
    "n": "Number of pairs: trainings on the same split",
    "median_difference": "Median of first - second",
    "statistic": "Wilcoxon's signed-rank statistic",
    "p": "Two-sided p-value of Wilcoxon's signed-rank test",
    "smallest_p": "Smallest p that so many pairs can give",
    "p_holm": "p after Holm's correction over the pairs of variants",
}


def compare_variants(output_dir: Path, variants: Sequence[str]) -> Path | None:
    """Write ``OUT/desc-variants_table.tsv``: Wilcoxon signed-rank tests (Klingenberg et al. 2021).

    Parameters
    ----------
    output_dir
        Folder that holds a folder for every variant.
    variants
        Names of the folders.

    Returns
    -------
    Path or None
        The table; None unless every variant has scores of the same trainings.
    """
    scores = {}
    for name in variants:
        if not (output_dir / name / "group" / "results.json").is_file():
            return None
        table = load_results(output_dir / name).table("scores")
        if not len(table):
            return None
        scores[name] = table[table["model"] == "network"] if "model" in table else table
    tests = []
    for metric in _METRICS:
        values = {
            name: table[table["metric"] == metric].groupby("run")["value"].mean().to_numpy()
            for name, table in scores.items()
        }
        if len({len(own) for own in values.values()}) != 1:
            return None
        tests.append(variant_tests(values, metric))
    return write_tsv(output_dir / "desc-variants_table.tsv", pd.concat(tests, ignore_index=True), _COLUMNS)
