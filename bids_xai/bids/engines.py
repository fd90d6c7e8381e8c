"""Which images an analysis starts from: raw ones that an engine aligns, or aligned ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bids.layout import Query

from bids_xai.bids.filters import combined
from bids_xai.bids.layout import derivative_roots
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

# Modality (BIDS suffix of the image) -> its query in the BIDS filters.
MODALITIES = {"bold": "bold", "T1w": "t1w", "FLAIR": "flair", "T2w": "t2w"}
# Engines that take images as they are; every other one starts from raw images.
ALIGNED = ("derivatives", "none")
DEFAULT_ENGINE = "ants"
PREPROCESSED = "preproc"
_MOST_SHOWN = 4


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
        The engine that was asked for; None chooses ``derivatives`` where there are any, else ``ants``.
    derivatives
        Folders of derivative datasets, or of several of them.
    modality
        ``bold``, ``T1w``, ``FLAIR`` or ``T2w``.
    bids_filters
        Entities per query (:mod:`bids_xai.bids.filters`).

    Raises
    ------
    InputError
        If the modality is unknown, or derivatives are given of which no image is one of the modality that is
        taken: ``desc-preproc``, or the ``desc`` that the filters name.
    """
    if modality not in MODALITIES:
        raise InputError(
            f"Unknown modality {modality!r}.",
            f"one of {', '.join(MODALITIES)}",
            nearest_name(modality, MODALITIES),
        )
    if preproc is not None:
        return preproc
    derivatives = list(derivatives)
    if not derivatives:
        return DEFAULT_ENGINE
    desc = asked_desc(MODALITIES[modality], bids_filters or {})
    roots = derivative_roots(derivatives)
    if holds_preprocessed(roots, modality, desc):
        return "derivatives"
    raise none_preprocessed(roots, modality, desc)


def holds_preprocessed(roots: Iterable[Path], modality: str, asked: Any) -> bool:
    """Tell whether derivatives hold an image of the modality with the ``desc`` that is asked for."""
    pattern = f"sub-*/**/*_{modality}.nii*"
    return any(fits_desc(_desc(path), asked) for root in roots for path in root.glob(pattern))


def asked_desc(query: str, filters: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the ``desc`` of the preprocessed images that are taken: ``preproc``, or what the filters say."""
    return combined(query, filters).get("desc", PREPROCESSED)


def fits_desc(desc: str | None, asked: Any) -> bool:
    """Tell whether an image with this ``desc`` (None: without one) is asked for."""
    if asked is Query.OPTIONAL:
        return True
    if asked in (Query.ANY, Query.NONE):
        return (desc is None) == (asked is Query.NONE)
    return any(fits_desc(desc, item) for item in asked) if isinstance(asked, list) else desc == str(asked)


def none_preprocessed(roots: Iterable[Path], modality: str, asked: Any) -> InputError:
    """Return the error that derivatives hold no image that is taken, with what they do hold.

    Parameters
    ----------
    roots
        Folders of derivative datasets.
    modality
        ``bold``, ``T1w``, ``FLAIR`` or ``T2w``.
    asked
        The ``desc`` that was looked for (:func:`asked_desc`).
    """
    roots = list(roots)
    images = sorted(path for root in roots for path in root.glob("sub-*/**/*.nii*"))
    named = Counter(_desc(path) for path in images if _suffix(path) == modality)
    others = Counter(_suffix(path) for path in images if _suffix(path) != modality)
    # fMRIPrep 1.0 wrote sub-01_task-x_bold_space-T_preproc.nii.gz.
    old = [path.name for path in images if f"_{modality}_" in path.name]
    there = [f"desc-{desc}_{modality} ({n})" for desc, n in named.most_common() if desc is not None]
    there += [f"{modality} without desc ({named[None]})"] * (None in named)
    if old:
        there.append(f"names of before BIDS derivatives, such as {old[0]} ({len(old)})")
    if not there:
        there = [f"*_{suffix} ({n})" for suffix, n in others.most_common(_MOST_SHOWN)]
    query = MODALITIES[modality]
    choosable = next((desc for desc, _ in named.most_common() if desc is not None), None)
    word = f'"{choosable}"' if choosable else "null"
    choose = f'--bids-filter-file with {{"{query}": {{"desc": {word}}}}} takes those, ' if named else ""
    return InputError(
        f"No preprocessed image ({in_words_of_desc(asked)}_{modality}) in {', '.join(map(str, roots))}. "
        f"What is there: {', '.join(there) or 'no image of a participant (sub-*/**/*.nii.gz)'}.",
        f"sub-*/**/*_{in_words_of_desc(asked)}_{modality}.nii.gz, as fMRIPrep writes them",
        f"{choose}--preproc {DEFAULT_ENGINE} registers the raw images, without --derivatives",
    )


def in_words_of_desc(asked: Any) -> str:
    """Return the ``desc`` that is looked for as it stands in file names."""
    if isinstance(asked, list):
        return " or ".join(map(in_words_of_desc, asked))
    return {Query.ANY: "desc-*", Query.NONE: "no desc", Query.OPTIONAL: "any"}.get(asked, f"desc-{asked}")


def _desc(path: Path) -> str | None:
    entities = dict(part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part)
    return entities.get("desc")


def _suffix(path: Path) -> str:
    return path.name.split(".")[0].rpartition("_")[2]
