from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bids_xai.cli.study import compare_variants
from bids_xai.reports.results import load_results
from tests.unit.test_reports_networks_output import make_networks

VARIANTS = ["registration-none", "registration-affine", "registration-syn"]


def _score(out: Path, values: list[float]) -> None:
    """Replace the balanced accuracies of a result."""
    path = load_results(out).table_path("scores")
    rows = [
        {"model": model, "run": run, "metric": metric, "class": "all", "value": value}
        for model, shift in (("network", 0.0), ("svm-linear", 0.3))
        for metric in ("balanced_accuracy", "auc")
        for run, value in enumerate(v - shift for v in values)
    ]
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


def test_registrations_are_compared_by_signed_ranks_of_the_networks_alone(tmp_path: Path) -> None:
    for shift, name in zip((0.0, 0.1, 0.102), VARIANTS, strict=True):
        make_networks(tmp_path / name, n_permutations=0, n_runs=1)
        _score(tmp_path / name, [0.6 + shift + run / 1000 * (-1) ** run for run in range(8)])
    path = compare_variants(tmp_path, VARIANTS)
    assert path is not None
    table = pd.read_csv(path, sep="\t").set_index(["metric", "first", "second"])
    far = table.loc[("balanced_accuracy", VARIANTS[0], VARIANTS[1])]
    assert far["p"] == pytest.approx(2 / 2**8), "all eight differences have one sign"
    assert far["n"] == 8
    assert far["median_difference"] == pytest.approx(-0.1)
    assert path.with_suffix(".json").exists()


def test_without_all_variants_there_is_nothing_to_compare(tmp_path: Path) -> None:
    make_networks(tmp_path / VARIANTS[0], n_permutations=0, n_runs=1)
    assert compare_variants(tmp_path, VARIANTS) is None
