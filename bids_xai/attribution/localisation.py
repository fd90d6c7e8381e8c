"""How well a heatmap finds places that are known: planted or drawn lesions.

All functions take heatmaps of shape (n, x, y, z) or (n, n_voxels); truth and brain have that shape, or lack
the first axis where they are the same for all. They return one number per heatmap, float64, shape (n,).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from bids_xai.errors import InputError

Booleans = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def mass_inside(
    relevance: npt.NDArray, truth: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_] | None = None
) -> Scores:
    """Return the share of the brain's positive relevance that lies in the truth; NaN where none is positive.

    ``sum_{i in truth} max(R_i, 0) / sum_{i in brain} max(R_i, 0)``

    Source: Eitel et al. 2019, doi:10.1016/j.nicl.2019.102003 ("lesion relevance").
    """
    R, inside, within = _rows(relevance, truth, brain)
    positive = np.where(within, np.maximum(R, 0), 0.0)
    return _ratio((positive * inside).sum(axis=1), positive.sum(axis=1))


def chance_mass(
    relevance: npt.NDArray, truth: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_] | None = None
) -> Scores:
    """Return the mass inside of a heatmap that is the same everywhere: voxels of the truth / of the brain."""
    _, inside, within = _rows(relevance, truth, brain)
    return _ratio(inside.sum(axis=1).astype(np.float64), within.sum(axis=1).astype(np.float64))


def ranking_auc(
    relevance: npt.NDArray, truth: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_] | None = None
) -> Scores:
    """Return the chance that a voxel of the truth has more relevance than another of the brain; ties are 1/2.

    ``(sum of the truth's ranks - m (m + 1) / 2) / (m (n - m))`` with the mean rank of ties, m voxels in the
    truth and n in the brain: the area under the ROC curve (Mann and Whitney 1947). NaN where the truth is
    empty or fills the brain.
    """
    R, inside, within = _rows(relevance, truth, brain)
    areas = np.full(len(R), np.nan)
    for i, (values, own, brain_i) in enumerate(zip(R, inside, within, strict=True)):
        ranks = stats.rankdata(values[brain_i])
        n, m = len(ranks), int(own.sum())
        if 0 < m < n:
            areas[i] = (ranks[own[brain_i]].sum() - m * (m + 1) / 2) / (m * (n - m))
    return areas


def pointing_game(
    relevance: npt.NDArray, truth: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_] | None = None
) -> Scores:
    """Return whether the brain's most relevant voxel lies in the truth, 1 or 0; of ties, the share that does.

    Source: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x (there one maximum). NaN for an empty brain.
    """
    R, inside, within = _rows(relevance, truth, brain)
    limited = np.where(within, R, -np.inf)
    highest = within & (limited == limited.max(axis=1, keepdims=True))
    return _ratio((highest & inside).sum(axis=1).astype(np.float64), highest.sum(axis=1).astype(np.float64))


def _rows(
    relevance: npt.NDArray, truth: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_] | None
) -> tuple[Scores, Booleans, Booleans]:
    """Return relevance, truth within the brain, and brain; shapes (n, n_voxels)."""
    R = np.asarray(relevance, np.float64).reshape(len(relevance), -1)
    if not np.isfinite(R).all():
        raise InputError("A heatmap with values that are not finite.", "finite relevance")
    masks = [
        np.ones(relevance.shape[1:], bool) if mask is None else np.asarray(mask) for mask in (truth, brain)
    ]
    for mask in masks:
        if mask.shape not in {relevance.shape, relevance.shape[1:]}:
            raise InputError(
                f"A mask of shape {mask.shape} for heatmaps of shape {relevance.shape}.",
                f"shape {relevance.shape[1:]}, or one mask per heatmap",
            )
    inside, within = (np.broadcast_to(mask.astype(bool), relevance.shape).reshape(R.shape) for mask in masks)
    return R, inside & within, within


def _ratio(part: Scores, whole: Scores) -> Scores:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
