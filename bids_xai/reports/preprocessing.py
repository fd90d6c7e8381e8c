"""The sections about preprocessing: figures, similarities, head motion, what was done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_xai.errors import InputError
from bids_xai.images.brain import BRAIN_ML, LEAST_SOLID, MOST_ELONGATED
from bids_xai.reports.carpet import FD_LIMIT_MM, read_confounds
from bids_xai.reports.html import (
    Alert,
    Drawing,
    Fold,
    Index,
    Part,
    Section,
    Table,
    count,
    number,
    plain,
    slug,
)
from bids_xai.reports.inline import inline_svg
from bids_xai.reports.preprocessed import JUDGED, Named, Preprocessing, passed
from bids_xai.reports.timeline import natural, run_name

_NOT_DONE = (*JUDGED, "Sources", "Description")
_POINT = "Point at the figure, or move the keyboard's focus to it, to switch between both."
_TRANSLATIONS, _ROTATIONS = ("trans_x", "trans_y", "trans_z"), ("rot_x", "rot_y", "rot_z")


def alerts(found: Preprocessing, used: Collection[str]) -> list[Any]:
    """Return what must be said first: what failed, and that a subject or a session is not used.

    Parameters
    ----------
    found
        Files about preprocessing.
    used
        Sessions with samples (an empty label where there are no sessions); empty where there are no samples.
    """
    notes = [f"{what} failed: {file.stem} ({_why(quality)})." for file, what, quality in found.failures]
    lost = sorted({file.entities.get("ses", "") for file, *_ in found.failures} - set(used))
    if not used:
        why = "see why below" if notes else "no samples were made of the preprocessed images"
        notes.insert(0, f"This subject is not used in the analysis: {why}.")
    elif lost:
        notes.insert(
            0, f"Not used in the analysis: {', '.join('ses-' + name for name in lost)}; see why below."
        )
    return [Alert(note, "failure") for note in notes]


def _why(quality: Mapping[str, Any]) -> str:
    if quality.get("Problem"):
        return str(quality["Problem"])
    before = f"{number(quality.get('Before'))} before, " if "Before" in quality else ""
    return (
        f"{quality.get('Measure') or 'similarity'}: {before}{number(quality.get('After'))}"
        f"{' after' if before else ''}, at least {number(quality.get('Floor'))} expected"
    )


def anatomy(found: Preprocessing) -> Section:
    """Return the section about anatomical images: figures and similarities by session, what was done."""
    figures = [file for file in found.figures if not file.functional]
    sidecars = [(file, content) for file, content in found.sidecars if not file.functional]
    sessions = sorted({file.entities.get("ses", "") for file in [*figures, *(file for file, _ in sidecars)]})
    blocks: list[Any] = []
    for session in sessions:
        drawn = sorted((file for file in figures if file.entities.get("ses", "") == session), key=_order)
        inner = [*_drawings(drawn)]
        if len(sessions) > 1:
            inner = [Part(slug(f"anatomy-{session}"), run_name(session, "", ""), inner)]
        blocks += inner
    blocks += _brains(found.brains)
    blocks += _similarity([each for each in found.qualities if not each[0].functional])
    return Section("anatomy", "Anatomy", [*blocks, *_done(sidecars)])


def functional_runs(found: Preprocessing) -> Section:
    """Return the section about functional runs: head motion of all, then figures by run, what was done."""
    figures = [file for file in found.figures if file.functional]
    sidecars = [(file, content) for file, content in found.sidecars if file.functional]
    names = {file.recording: file.recording_name for file in figures}
    blocks = [
        *_motion(found.confounds),
        *_similarity([each for each in found.qualities if each[0].functional]),
    ]
    parts = []
    for run in sorted(names, key=_natural_run):
        drawn = sorted((file for file in figures if file.recording == run), key=_order)
        parts.append(Part(slug(f"run {names[run]}"), names[run], _drawings(drawn)))
    if len(parts) > 1:
        blocks.append(Index([(part.anchor, part.title) for part in parts]))
    blocks += parts
    return Section("functional-runs", "Functional runs", [*blocks, *_done(sidecars)])


def motion_summary(confounds: pd.DataFrame) -> list[float]:
    """Return a run's numbers of head motion, in the order of the table's columns.

    They are: volumes, mean and largest FD (mm), volumes above the limit, largest translation (mm) and largest
    rotation (°) about an axis. Missing values do not count; what a table has no column for is not a number.
    """

    def largest(columns: Iterable[str]) -> float:
        values = confounds[[name for name in columns if name in confounds]].abs().to_numpy(dtype=float)
        return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")

    displacement = confounds.get("framewise_displacement", pd.Series(dtype=float))
    above = float((displacement > FD_LIMIT_MM).sum()) if displacement.notna().any() else float("nan")
    mean = float(displacement.mean()) if displacement.notna().any() else float("nan")
    return [
        len(confounds), mean, largest(["framewise_displacement"]), above, largest(_TRANSLATIONS),
        float(np.rad2deg(largest(_ROTATIONS))),
    ]  # fmt: skip


def _motion(files: list[Named]) -> list[Any]:
    if not files:
        return []
    ordered = sorted(files, key=lambda file: _natural_run(file.recording))
    rows = [
        [file.recording_name, *map(number, motion_summary(read_confounds(file.path)))] for file in ordered
    ]
    header = [
        "Run", "Volumes", "Mean FD (mm)", "Largest FD (mm)", f"Volumes with FD > {FD_LIMIT_MM:g} mm",
        "Largest translation (mm)", "Largest rotation (°)",
    ]  # fmt: skip
    caption = (
        "Head motion by run. FD: framewise displacement (Power et al., 2012); translation and rotation about "
        "each axis, relative to the run's reference."
    )
    return [Table(header, rows, caption)]


def _brains(qualities: list[tuple[Named, Mapping[str, Any]]]) -> list[Any]:
    if not qualities:
        return []
    rows = [
        [
            file.stem, *(number(quality.get(key)) for key in ("VolumeMl", "Elongation", "Solidity")),
            "yes" if passed(quality) else "no",
        ]
        for file, quality in qualities
    ]  # fmt: skip
    caption = (
        "Brain masks: volume, longest over shortest axis, and volume over that of the ellipsoid of the same "
        f"moments. Expected: {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml, at most {MOST_ELONGATED:g}, at least "
        f"{LEAST_SOLID:g}."
    )
    return [Table(["Mask", "Volume (ml)", "Elongation", "Solidity", "Passed"], rows, caption)]


def _similarity(qualities: list[tuple[Named, Mapping[str, Any]]]) -> list[Any]:
    if not qualities:
        return []
    rows = [
        [
            file.stem, str(quality.get("Measure") or "n/a"),
            *(number(quality.get(key)) for key in ("Before", "After", "Floor")),
            "yes" if passed(quality) else "no",
        ]
        for file, quality in qualities
    ]  # fmt: skip
    header = ["Image", "Similarity", "Before", "After", "At least", "Passed"]
    return [Table(header, rows, "Similarity with the target before and after registration.")]


def _done(sidecars: list[tuple[Named, Mapping[str, Any]]]) -> list[Any]:
    tables = []
    for file, content in sidecars:
        rows = [[key, plain(value)] for key, value in content.items() if _is_step(key, value)]
        if rows:
            tables.append(Table(["Sidecar", "Value"], rows, file.stem))
    return [Fold(f"What was done, from {count(len(tables), 'sidecar')}", tables)] if tables else []


def _is_step(key: str, value: Any) -> bool:
    return key not in _NOT_DONE and not isinstance(value, dict) and value not in ("", None, [])


def _natural_run(recording: tuple[tuple[str, str], ...]) -> list[tuple[int, str]]:
    return natural(tuple(value for _, value in recording))


def _order(file: Named) -> tuple[int, str]:
    # Brain extraction before registration, coregistration before the summary, T1w before other images.
    first = ("brain", "coreg").count(file.entities.get("desc", ""))
    return (0 if first else 1, f"{file.suffix != 'T1w'}{file.stem}")


def _drawings(files: list[Named]) -> list[Any]:
    blocks: list[Any] = []
    for file in files:
        caption, alt = _described(file)
        try:
            svg = inline_svg(file.path, slug(file.stem), alt)
        except InputError as error:
            blocks.append(Alert(str(error), "warning"))
        else:
            blocks.append(Drawing(svg, Markup("<b>{}</b> {}").format(file.stem, caption)))
    return blocks


def _described(file: Named) -> tuple[str, str]:
    kind, space = file.entities.get("desc", ""), file.entities.get("space", "")
    if kind == "brain":
        words = f"Brain extraction: the outline of the brain mask on the {file.suffix} image."
        return words, f"Slices of the {file.suffix} image with the brain mask outlined"
    if kind == "coreg":
        words = "Registration of the BOLD reference to the T1w image; the T1w image's brain mask is outlined."
        return f"{words} {_POINT}", "Slices of the BOLD reference above the T1w image, brain mask outlined"
    if kind == "carpetplot":
        return (
            f"Head motion, framewise displacement (dashed: {FD_LIMIT_MM:g} mm), other confounds, and the "
            "carpet plot: a row per voxel from the brain's edge to its centre, linear trend removed, black "
            "to white from −2 to 2 standard deviations.",
            "Traces of head motion and other confounds over time above the carpet plot of the run",
        )
    if space:
        target = "the T1w image" if space == "T1w" else space
        words = f"Registration of the {file.suffix} image to {target}; the target's brain mask is outlined."
        return f"{words} {_POINT}", f"Slices of the {file.suffix} image above {target}, brain mask outlined"
    return "Figure of the participant level.", f"Figure {file.stem}"
