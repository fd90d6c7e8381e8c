"""Anatomical images that are classified: their levels, rows, grids and masks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.bids.checks import Problems, check_grids, open_image
from bids_xai.bids.engines import MODALITIES
from bids_xai.bids.events import ROW_COLUMNS, check_classes, parse_classes, warn_alike
from bids_xai.bids.layout import Candidates, best_match
from bids_xai.bids.masks import MaskChoice, choose_masks, mask_files, masks_of
from bids_xai.bids.missing import warn_of_unprocessed
from bids_xai.bids.records import AnatomicalRecord, BidsFile
from bids_xai.bids.selection import Search, grouped, select_images
from bids_xai.bids.t1w import anatomical_record, one_per_session, open_images, with_t1w
from bids_xai.bids.targets import check_counts, check_levels, image_levels, levels_of_images, parse_target
from bids_xai.errors import InputError
from bids_xai.images.grids import factors, voxel_sizes
from bids_xai.tables import MISSING

LOGGER = logging.getLogger("bids_xai.bids")
_SAME_SIZE_MM = 1e-3


def find_anatomical(
    search: Search,
    modality: str,
    *,
    target: str,
    classes: Sequence[str] = (),
    mask: MaskChoice,
    resolution: float | None = None,
) -> tuple[list[AnatomicalRecord], tuple[str, ...]]:
    """Return the anatomical images that are classified: every session of every participant, with its level.

    Images whose level is ``n/a`` or of no class are left out. Preprocessed images must share one grid; others
    may lie on any.

    Parameters
    ----------
    search
        Where to look, and for what.
    modality
        ``T1w``, ``FLAIR`` or ``T2w``.
    target, classes
        Column with the levels (:func:`bids_xai.bids.targets.parse_target`) and the classes in it.
    mask
        Which brain masks are taken.
    resolution
        Voxel size in mm of the analysis; chooses among preprocessed images that differ in ``res`` only.

    Returns
    -------
    records : list of AnatomicalRecord
        None where all images that were chosen are of no class.
    levels : tuple of str
        The levels of the target in the whole dataset, whoever is chosen: the classes of a participant that
        runs alone are those of all.

    Raises
    ------
    InputError
        If something is missing, broken, or does not fit together.
    """
    column = parse_target(target, modality)
    if search.tasks:
        raise InputError(
            f"--task-id {' '.join(search.tasks)} with --modality {modality}: anatomical images have no task.",
            "a selection by participant, session or run",
            "leave out --task-id, or choose --modality bold",
        )
    query = MODALITIES[modality]
    files = select_images(search, query)
    if search.engine == "derivatives":
        warn_of_unprocessed(search, query, files)
    if search.engine == "derivatives" and resolution is not None:
        files = _of_resolution(files, resolution)
    files = one_per_session(files, search, query)
    levels = image_levels(search, files, column, query)
    records = [anatomical_record(file, modality, levels[file.path]) for file in files if file.path in levels]
    if not classes:
        check_levels([record.level for record in records], column)
    present = {record.level for record in records}
    if search.subjects:
        everybody = search.of_everybody()
        files = select_images(everybody, query)
        present |= set(levels_of_images(everybody, files, column, query).values())
    named = anatomical_classes(present, target, classes)
    warn_alike(named, present, column[1], f"{column[0]}.tsv")
    class_of = {level: name for name, members in named.items() for level in members}
    records = [record for record in records if record.level in class_of]
    if not search.subjects:
        check_counts(named, Counter(class_of[record.level] for record in records), "images")
    if modality != "T1w" and search.from_raw:
        records = with_t1w(records, search)
    headers = open_images(records)
    chosen = _with_masks(records, headers, search, mask, resolution) if records else []
    return chosen, tuple(sorted(present))


def anatomical_classes(
    levels: Iterable[str], target: str, classes: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return class -> levels for anatomical images; all levels, sorted, where ``classes`` is empty.

    Parameters
    ----------
    levels
        Those of the dataset.
    target, classes
        As the user asked.

    Raises
    ------
    InputError
        If a level does not exist (the nearest is named) or fewer than two classes are left.
    """
    table, column = parse_target(target, "anatomical")
    levels = set(levels)
    return check_classes(parse_classes(classes, levels, MISSING), levels, column, f"{table}.tsv")


def anatomical_rows(
    records: Sequence[AnatomicalRecord], classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return the labelled rows of anatomical images: one per image that is of a class, in their order.

    Parameters
    ----------
    records
        The images.
    classes
        Class -> its levels.

    Returns
    -------
    DataFrame
        The columns of :data:`bids_xai.bids.events.ROW_COLUMNS`; ``task`` is empty, and what belongs to
        an event is NaN.
    """
    class_of = {level: name for name, members in classes.items() for level in members}
    rows = [
        {
            "subject": record.subject,
            "session": record.session,
            "run": record.run,
            "task": "",
            **dict.fromkeys(("event", "onset", "duration", "first_volume", "last_volume"), np.nan),
            "trial_type": record.level,
            "class": class_of[record.level],
        }
        for record in records
        if record.level in class_of
    ]
    return pd.DataFrame(rows, columns=list(ROW_COLUMNS))


def _of_resolution(files: Sequence[BidsFile], resolution: float) -> list[BidsFile]:
    """Choose among images that differ in ``res`` those whose voxels have the size asked for, if any."""
    chosen: list[BidsFile] = []
    for group in grouped(files, ("subject", "session")):
        fitting = group
        if len({str(file.entities.get("res")) for file in group}) > 1:
            fitting = [
                file
                for file in group
                if (
                    abs(voxel_sizes(open_image(file.path, n_dimensions=3)) - resolution) < _SAME_SIZE_MM
                ).all()
            ]
        chosen += fitting or group
    return chosen


def _with_masks(
    records: Sequence[AnatomicalRecord],
    headers: Mapping[Path, nb.Nifti1Image],
    search: Search,
    mask: MaskChoice,
    resolution: float | None,
) -> list[AnatomicalRecord]:
    on_grid = search.engine == "derivatives"
    images = [(record.image, headers[record.image]) for record in records]
    if on_grid:
        problems = Problems()
        check_grids([(str(path), img) for path, img in images], problems)
        problems.raise_any()
        if resolution is not None:
            factors(images[0][1], resolution)
    masks = Candidates(masks_of(mask_files(search), "anat"))

    def find(number: int, required: bool) -> Path | None:
        record = records[number]
        found = best_match(masks, record.entities, "mask", record.image)
        if found is None and required:
            raise InputError(
                f"No mask for {record.image} in the derivatives.",
                "a desc-brain_mask.nii.gz in anat, whose entities are those of the image",
                "give the folder with --derivatives, use --bids-filter-file, or choose another --mask",
            )
        return found

    chosen = choose_masks(images, mask, search, find, on_grid=on_grid)
    return [replace(record, mask=path) for record, path in zip(records, chosen, strict=True)]
