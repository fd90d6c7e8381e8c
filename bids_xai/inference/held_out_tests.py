"""Scores of held-out samples against those of permuted labels, with confidence intervals over people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.held_out_scores import held_out_scores, score_intervals
from bids_xai.inference.permutation import p_value


def held_out_tests(
    real: tuple[npt.NDArray, npt.NDArray],
    null: tuple[npt.NDArray, npt.NDArray],
    samples: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return a row per metric and class: the mean over runs, its interval, and its permutation test.

    Parameters
    ----------
    real, null
        Confusion counts, shape (n_runs, n_people, C, C), and placements, shape (n_runs, n_people, C, 4) (of
        the null one person may stand for all), on true and on permuted labels
        (:mod:`bids_xai.decoding.held_out_scores`).
    samples
        Different samples of every class that were left out, shape (n_people, C).
    classes
        Names of the classes.

    Returns
    -------
    DataFrame
        Columns ``metric, class, n_runs, mean, sd, ci_low, ci_high, null_mean, null_sd, null_max, p,
        n_permutations``. A score that some permutation does not have, none of its classes being left out, is
        tested by the others.
    """
    observed = held_out_scores(*real, classes)
    permuted = held_out_scores(*null, classes)
    intervals = score_intervals(*real, samples, classes)
    rows = []
    for (metric, of, values), chance in zip(
        observed.itertuples(index=False), permuted["values"], strict=True
    ):
        known = chance[np.isfinite(chance)]
        mean = float(np.mean(values))
        rows.append(
            {
                "metric": metric,
                "class": of,
                "n_runs": len(values),
                "mean": mean,
                "sd": _sd(values),
                "null_mean": known.mean() if len(known) else np.nan,
                "null_sd": _sd(known),
                "null_max": known.max() if len(known) else np.nan,
                "p": p_value(mean, known) if np.isfinite(mean) and len(known) else np.nan,
                "n_permutations": len(known),
            }
        )
    table = pd.DataFrame(rows).merge(
        intervals.rename(columns={"low": "ci_low", "high": "ci_high"}), on=["metric", "class"], how="left"
    )
    order = ["metric", "class", "n_runs", "mean", "sd", "ci_low", "ci_high"]
    return table[[*order, *(name for name in table if name not in order)]]


def _sd(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
