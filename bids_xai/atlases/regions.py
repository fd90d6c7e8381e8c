"""What maps hold in the regions of an atlas."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.atlases.sources import Atlas
from bids_xai.errors import InputError

_LOGGER = logging.getLogger("bids_xai.atlases")
COLUMNS = (
    "atlas", "index", "region", "class", "method", "n_voxels", "sum", "density", "n_above",
    "peak", "peak_x", "peak_y", "peak_z",
)  # fmt: skip


def labels_on_grid(atlas: Atlas, mask: nb.Nifti1Image) -> npt.NDArray[np.int32]:
    """Return the label of the atlas at the centre of every voxel of a mask (nearest neighbour).

    Parameters
    ----------
    atlas
        Regions; its space must be that of the mask.
    mask
        3-D image, voxels above 0 are in it.

    Returns
    -------
    array, int32, shape (n_voxels,)
        In the (C) order of the mask's voxels; 0 outside all regions and outside the atlas's image.
    """
    to_atlas = np.linalg.inv(atlas.image.affine)
    # Rounded first: centres halfway between two voxels fall to the same one on every machine.
    indices = np.floor(np.round(_apply(to_atlas, _positions(mask)), 4) + 0.5).astype(np.int64)
    data = np.asarray(atlas.image.dataobj)
    inside = ((indices >= 0) & (indices < data.shape)).all(axis=1)
    labels = np.zeros(len(indices), dtype=np.int32)
    labels[inside] = data[tuple(indices[inside].T)]
    if not labels.any():
        _LOGGER.warning(
            "No voxel of the mask lies in a region of the atlas %s (space %s): are the data in that space?",
            atlas.name,
            atlas.space or "not stated",
        )
    return labels


def region_table(
    labels: npt.NDArray[np.int32],
    atlas: Atlas,
    maps: npt.NDArray[np.float32],
    passing: npt.NDArray[np.bool_],
    mask: nb.Nifti1Image,
    methods: Sequence[str],
    classes: Sequence[str],
    *,
    tail: str = "greater",
) -> pd.DataFrame:
    """Return what every map holds in every region: sum, density, voxels above threshold, and their peak.

    Regional sum, and density = sum / number of voxels: Böhle et al. (2019), doi:10.3389/fnagi.2019.00194.

    Parameters
    ----------
    labels
        Label of every voxel of the mask, shape (n_voxels,) (:func:`labels_on_grid`).
    atlas
        Its name and the names of its regions.
    maps, passing
        Values, and which of them pass their threshold, shape (n_methods, n_classes, n_voxels).
    mask
        The mask whose voxels the last axis counts.
    methods, classes
        Names along the first two axes.
    tail
        ``"greater"``: the peak is the largest value; ``"two-sided"``: the one of largest absolute value.

    Returns
    -------
    DataFrame
        One row per method, class and region that has voxels on this grid (others are left out and counted in
        the log), columns :data:`COLUMNS`; the (first) peak of the voxels above threshold and its position in
        mm, NaN where no voxel is above threshold.

    Raises
    ------
    InputError
        The shapes disagree.
    """
    positions = _positions(mask)
    expected = (len(methods), len(classes), len(positions))
    if maps.shape != expected or passing.shape != expected or labels.shape != expected[2:]:
        raise InputError(
            f"Maps of shape {maps.shape}, thresholds of {passing.shape} and {labels.shape} labels.",
            f"(methods, classes, voxels of the mask) = {expected}, and as many labels as voxels",
        )
    # Voxels by region: a stable sort keeps those of one region in the mask's order.
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], atlas.table["index"].to_numpy(), side="left")
    last = np.searchsorted(labels[order], atlas.table["index"].to_numpy(), side="right")
    parts = [
        _region_rows(maps, passing, order[start:stop], positions, tail).assign(index=index, region=name)
        for index, name, start, stop in zip(
            atlas.table["index"], atlas.table["name"], first, last, strict=True
        )
        if stop > start
    ]
    absent = len(atlas.table) - len(parts)
    if absent:
        _LOGGER.warning(
            "Atlas %s: %d of %d regions have no voxel on this grid and are left out.",
            atlas.name,
            absent,
            len(atlas.table),
        )
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(parts).sort_values(["method", "class"], kind="stable")
    table["method"] = np.asarray(methods, dtype=object)[table["method"]]
    table["class"] = np.asarray(classes, dtype=object)[table["class"]]
    return table.assign(atlas=atlas.name)[list(COLUMNS)].reset_index(drop=True)


def _region_rows(
    maps: npt.NDArray[np.float32],
    passing: npt.NDArray[np.bool_],
    voxels: npt.NDArray[np.int64],
    positions: npt.NDArray[np.float64],
    tail: str,
) -> pd.DataFrame:
    """Return one row per method and class (as numbers) of one region."""
    values = maps[:, :, voxels]
    total = values.sum(axis=2, dtype=np.float64)
    above = passing[:, :, voxels]
    size = np.where(above, np.abs(values) if tail == "two-sided" else values, -np.inf)
    peak = size.argmax(axis=2)
    # A peak of what does not pass is a place that means nothing.
    none = ~above.any(axis=2).ravel()
    at_peak = np.where(none[:, None], np.nan, positions[voxels[peak.ravel()]])
    height = np.take_along_axis(values, peak[..., None], axis=2).ravel().astype(np.float64)
    method, of_class = np.indices(total.shape)
    return pd.DataFrame(
        {
            "method": method.ravel(),
            "class": of_class.ravel(),
            "n_voxels": len(voxels),
            "sum": total.ravel(),
            "density": total.ravel() / len(voxels),
            "n_above": above.sum(axis=2).ravel(),
            "peak": np.where(none, np.nan, height),
            "peak_x": at_peak[:, 0],
            "peak_y": at_peak[:, 1],
            "peak_z": at_peak[:, 2],
        }
    )


def _positions(mask: nb.Nifti1Image) -> npt.NDArray[np.float64]:
    """Return the centres of the mask's voxels in mm, shape (n_voxels, 3)."""
    return _apply(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))


def _apply(affine: npt.NDArray, points: npt.NDArray) -> npt.NDArray[np.float64]:
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])
