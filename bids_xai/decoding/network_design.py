"""The design of networks: samples are balanced, then split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.partitions import draw_balanced, refuse_lone_people
from bids_xai.decoding.partitions import undersample as undersampled

# What the seed of the draws is of, beside those of bids_xai.interfaces.networks.
_DRAWS = 13


def network_design(
    rows: pd.DataFrame,
    *,
    classes: Sequence[str],
    cv: str | None,
    n_folds: int | None,
    n_repeats: int | None,
    test_size: float,
    stratify: Sequence[str],
    undersample: Sequence[str],
    first_session: bool,
    samples_per_class: int | None,
    seed: int,
    exchange_within: str | None,
) -> tuple[Design, npt.NDArray[np.int64]]:
    """Return the design of the rows that remain after undersampling, and their positions in ``rows``.

    Parameters as in :func:`bids_xai.decoding.design.make_design`; ``undersample`` names the column that is
    balanced, then those of the bins (:func:`bids_xai.decoding.partitions.undersample`).
    """
    positions = np.arange(len(rows), dtype=np.int64)
    if classes:
        positions = positions[rows["class"].isin(classes).to_numpy()]
    chosen = rows.iloc[positions]
    if chosen["subject"].nunique() > 1:
        refuse_lone_people(chosen["class"], chosen["subject"].astype(str))
    seeds = np.random.SeedSequence([seed, _DRAWS]).spawn(2)
    if undersample:
        balance, *within = undersample
        positions = positions[
            undersampled(
                rows.iloc[positions].reset_index(drop=True),
                seed=seeds[0],
                balance=balance,
                within=("class", *within),
            )
        ]
    if samples_per_class is not None:
        own = list(rows["class"].iloc[positions])
        positions = positions[draw_balanced(own, samples_per_class, seed=seeds[1])]
    options: dict[str, dict[str, Any]] = {
        "holdout": {"test_size": test_size, "stratify": tuple(stratify), "first_session": first_session},
        "leaky-volumes": {"test_size": test_size},
    }
    design, kept = make_design(
        rows.iloc[positions].reset_index(drop=True),
        classes=classes,
        cv=cv,
        n_folds=n_folds,
        # A training takes minutes to hours.
        n_repeats=n_repeats or 1,
        seed=seed,
        exchange_within=exchange_within,
        split_options=options.get(cv or ""),
    )
    return design, positions[kept]
