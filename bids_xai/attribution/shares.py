"""Maps as shares: where a classifier looked, whatever the size of its output.

A map is shown as ``R_i / sum_j |R_j|`` and tested as ``|R_i| / sum_j |R_j|``, the part of all that the map
holds which lies in a voxel. Both leave the size of the output out. Its sign has to be left out too where maps
of different labels are compared: relevance has the sign of the output, which of networks that learnt nothing
is that of a coin, so that their mean map is next to 0 everywhere and every voxel gains with labels that can
be learnt (relevance propagation); and the sign of a gradient is that of filters which all voxels share
(guided backpropagation).

Parts of a whole: what is less in one place is more in the others. A method that avoids where the signal is
gives more to all other voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_xai.attribution import SHARE
from bids_xai.registry import Attribution


def is_shared(method: Attribution, map_values: str) -> bool:
    """Return whether maps of a method are divided before they are averaged, compared and tested."""
    return map_values == SHARE and not method.scale_has_meaning


def as_shares(maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Divide every map by the sum of its absolute values, ``R_i / sum_j |R_j|``.

    The absolute values of a share sum to 1, so that what is larger in one voxel is smaller in others: a gain
    everywhere, as that of an output that grew, is none. A map of zeros stays one: it says nothing of where.

    Parameters
    ----------
    maps
        Shape (..., n_voxels), the voxels of the mask.

    Returns
    -------
    array of the shape and type of ``maps``
        Computed in float64 after division by the largest value, so that neither large nor tiny values of a
        single-precision map are lost.
    """
    if not maps.shape[-1]:
        return maps.copy()
    exact = np.asarray(maps, dtype=np.float64)
    largest = np.abs(exact).max(axis=-1, keepdims=True)
    scaled = np.divide(exact, largest, out=np.zeros_like(exact), where=largest != 0)
    total = np.abs(scaled).sum(axis=-1, keepdims=True)
    return np.divide(scaled, total, out=np.zeros_like(exact), where=total != 0).astype(maps.dtype)


def magnitudes(maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``|R_i| / sum_j |R_j|`` of maps (..., n_voxels): what is tested and is never below 0."""
    return np.abs(as_shares(maps))


def silent(maps: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which maps are zero in every voxel, shape (...,): they have no shares."""
    return np.asarray(~np.asarray(maps).any(axis=-1))
