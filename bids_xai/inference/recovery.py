"""How well importance maps find voxels that are known to matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bids_xai.inference.thresholds import false_discovery

MEASURES = ("n_voxels", "accuracy", "FDR", "FOR", "sensitivity")
# Name of the row that averages over the classes, and of the univariate test among the methods.
MEAN, T_TEST = "mean", "t"
_LEVELS = np.linspace(0, 1, 101)


def recovery(
    discovered: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.float64]]:
    """Compare the voxels that were found with those that are true.

    Gotsopoulos et al. (2018), section 3.2. With D voxels found, T true and H both, of V: ``accuracy`` =
    (V - D - T + 2 H) / V, the share of voxels that are rightly called important or not; ``FDR`` =
    (D - H) / max(D, 1), false discoveries among the discoveries; ``FOR`` = (T - H) / max(V - D, 1), true
    voxels among those not found; ``sensitivity`` = H / max(T, 1); ``n_voxels`` = D.

    Parameters
    ----------
    discovered, truth
        Shapes (..., n_voxels) that broadcast.

    Returns
    -------
    dict
        An array of shape (...) for each of :data:`MEASURES`.
    """
    n_voxels = truth.shape[-1]
    found = discovered.sum(axis=-1, dtype=np.int64)
    true = np.broadcast_to(truth.sum(axis=-1, dtype=np.int64), found.shape)
    both = (discovered & truth).sum(axis=-1, dtype=np.int64)
    return {
        "n_voxels": found.astype(np.float64),
        "accuracy": (n_voxels - found - true + 2 * both) / n_voxels,
        "FDR": (found - both) / np.maximum(found, 1),
        "FOR": (true - both) / np.maximum(n_voxels - found, 1),
        "sensitivity": both / np.maximum(true, 1),
    }


def recovery_curves(
    reproducibility: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    levels: npt.NDArray[np.float64] = _LEVELS,
) -> dict[str, npt.NDArray[np.float64]]:
    """Compare the voxels of at least some reproducibility with the true ones, level by level.

    Parameters
    ----------
    reproducibility
        Share of the runs in which a voxel passes, shape (..., n_voxels).
    truth
        Shape that broadcasts with it.
    levels
        Least reproducibility of a discovery, shape (n_levels,).

    Returns
    -------
    dict
        An array of shape (n_levels, ...) for each of :data:`MEASURES`.
    """
    # A share of 7 / 10 in float32 is less than .7 in float64.
    rows = [recovery(reproducibility >= level - 1e-6, truth) for level in levels]
    return {name: np.stack([row[name] for row in rows]) for name in MEASURES}


def t_test_discoveries(
    t: npt.NDArray[np.float32], n_samples: int, alpha: float
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which voxels a two-sided t-test finds, by how it is corrected for the number of voxels.

    Parameters
    ----------
    t
        Student's t, shape (..., n_voxels), with n_samples - 2 degrees of freedom.
    n_samples
        Number of samples.
    alpha
        Level: of every voxel (``p``), of the false discovery rate (``FDR``, Benjamini and Hochberg 1995) and
        family-wise (``FWER``, Bonferroni).
    """
    p = 2 * stats.t.sf(np.abs(t.astype(np.float64)), n_samples - 2)
    return {"p": p <= alpha, "FDR": false_discovery(p, alpha), "FWER": p <= alpha / t.shape[-1]}


def recovery_tables(
    maps: Mapping[str, npt.NDArray],
    thresholds: pd.DataFrame,
    truth: npt.NDArray[np.bool_],
    *,
    n_samples: int,
    classes: Sequence[str],
    methods: Sequence[str],
    alphas: Sequence[float],
) -> dict[str, pd.DataFrame]:
    """Compare all maps of an analysis with the truth.

    Parameters
    ----------
    maps, thresholds
        As :func:`bids_xai.inference.summary.summarize` gives them (``Summary.maps``, and its table).
    truth
        Whether a voxel is of a class's pattern, shape (n_classes, n_voxels).
    n_samples
        Number of samples, for the t-test.
    classes, methods, alphas
        Names and levels, in the order of the arrays.

    Returns
    -------
    dict
        ``recovery``: one row per method, level, class and reproducibility asked for. ``discoveries``: one row
        per method, level, class and criterion: ``p``, ``FWER`` and ``reproducibility`` (more than any voxel
        reaches by chance) for the methods, ``p``, ``FDR`` and ``FWER`` for the t-test. Class ``mean`` is the
        mean over the classes. Columns of both: :data:`MEASURES`.
    """
    curves, found = [], []
    for number, alpha in enumerate(alphas):
        reproducibility = np.asarray(maps[f"reproducibility-{number}"])
        by_level = recovery_curves(reproducibility, truth)
        limits = _limits(thresholds, methods, classes, alpha)
        criteria = {
            "p": np.asarray(maps[f"thresholded-{number}"]) != 0,
            "FWER": np.asarray(maps[f"fwer-{number}"]) != 0,
            "reproducibility": reproducibility > limits[..., None] + 1e-6,
        }
        if np.isnan(limits).all():
            del criteria["reproducibility"]
        for m, method in enumerate(methods):
            of_method = {name: values[:, m] for name, values in by_level.items()}
            for place, level in enumerate(_LEVELS):
                at_level = {name: values[place] for name, values in of_method.items()}
                curves += _rows(
                    {"method": method, "alpha": alpha, "reproducibility": level}, at_level, classes
                )
            for criterion, discovered in criteria.items():
                head = {"method": method, "alpha": alpha, "criterion": criterion}
                found += _rows(head, recovery(discovered[m], truth), classes)
        for criterion, discovered in t_test_discoveries(np.asarray(maps["t"]), n_samples, alpha).items():
            head = {"method": T_TEST, "alpha": alpha, "criterion": criterion}
            found += _rows(head, recovery(discovered, truth), classes)
    return {"recovery": pd.DataFrame(curves), "discoveries": pd.DataFrame(found)}


def _limits(
    thresholds: pd.DataFrame, methods: Sequence[str], classes: Sequence[str], alpha: float
) -> npt.NDArray[np.float64]:
    """Return the reproducibility thresholds of one level, shape (n_methods, n_classes)."""
    chosen = thresholds[np.isclose(thresholds["alpha"], alpha)]
    table = chosen.pivot_table(
        index="method", columns="class", values="reproducibility_threshold", dropna=False
    )
    return table.reindex(index=list(methods), columns=list(classes)).to_numpy(dtype=np.float64)


def _rows(
    head: Mapping[str, Any], measures: Mapping[str, npt.NDArray[np.float64]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row per class, and one of their means."""
    rows = [
        {**head, "class": name, **{key: float(values[c]) for key, values in measures.items()}}
        for c, name in enumerate(classes)
    ]
    return [*rows, {**head, "class": MEAN, **{key: float(v.mean()) for key, v in measures.items()}}]
