"""Which images an analysis starts from: raw ones that an engine aligns, or aligned ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from bids_xai.bids.layout import derivative_roots
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

# Modality (BIDS suffix of the image) -> its query in the BIDS filters.
MODALITIES = {"bold": "bold", "T1w": "t1w", "FLAIR": "flair", "T2w": "t2w"}
# Engines that take images as they are; every other one starts from raw images.
ALIGNED = ("derivatives", "none")
DEFAULT_ENGINE = "ants"


def choose_engine(
    preproc: str | None,
    derivatives: Iterable[str | os.PathLike[str]] = (),
    modality: str = "bold",
    bids_filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the preprocessing engine of an analysis.

    Parameters
    ----------
    preproc
        The engine that was asked for; None chooses ``derivatives`` where they hold preprocessed images
        of the modality (``desc-preproc``, or the ``desc`` that the filters name), else ``ants``.
    derivatives
        Folders of derivative datasets, or of several of them.
    modality
        ``bold``, ``T1w``, ``FLAIR`` or ``T2w``.
    bids_filters
        Entities per query (:mod:`bids_xai.bids.filters`).

    Raises
    ------
    InputError
        If the modality is unknown.
    """
    if modality not in MODALITIES:
        raise InputError(
            f"Unknown modality {modality!r}.",
            f"one of {', '.join(MODALITIES)}",
            nearest_name(modality, MODALITIES),
        )
    if preproc is not None:
        return preproc
    desc = (bids_filters or {}).get(MODALITIES[modality], {}).get("desc", "preproc")
    label = desc if isinstance(desc, str) else "preproc"
    pattern = f"sub-*/**/*_desc-{label}_*{modality}.nii*"
    holding = any(next(root.glob(pattern), None) for root in derivative_roots(derivatives))
    return "derivatives" if holding else DEFAULT_ENGINE
