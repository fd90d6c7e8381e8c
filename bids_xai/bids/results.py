"""Finding the samples that the participant level has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_xai.bids.checks import Problems
from bids_xai.bids.names import is_asked
from bids_xai.bids.sample_files import check_written, stacked_rows
from bids_xai.bids.sidecars import MAY_HAVE_NO_EFFECT
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.text_files import read_json_object

# What two runs must share for their samples to be rows of one table.
SHARED_SETTINGS = (
    "Sample", "Target", "Classes", "MergeEvents", "Window", "WindowAnchor", "HrfShift", "Detrend",
    "HighPass", "HighPassSigma", "Confounds", "FramewiseDisplacementThreshold", "Standardize", "Modality",
    "Preprocessing", "Scaling", "Registration", "RegistrationProfile", "Template", "CentredOn", "Space",
    "Resolution",
)  # fmt: skip


@dataclass(frozen=True)
class SampleSet:
    """The samples of one run or anatomical image: image, rows and mask, and what its sidecar says."""

    samples: Path
    rows: Path
    mask: Path
    subject: str
    session: str
    task: str
    run: str
    metadata: dict[str, Any]

    @property
    def space(self) -> str | None:
        """Name of the template space, None for a native one."""
        return self.metadata.get("Space")

    @property
    def resolution(self) -> float | None:
        """Voxel size of the analysis grid in mm, None where it is that of the images."""
        return self.metadata.get("Resolution")


def find_samples(
    output_dir: Path,
    *,
    participant_label: Sequence[str] = (),
    session_label: Sequence[str] = (),
    task_id: Sequence[str] = (),
    run_id: Sequence[str] = (),
    sample: str | None = None,
    excluding: Sequence[str] = (),
    strict: bool = True,
) -> list[SampleSet]:
    """Find participant-level results, sorted by subject, session, task and run.

    Parameters
    ----------
    output_dir
        Folder of the derivatives.
    participant_label, session_label, task_id, run_id
        What to take; empty takes all.
    sample
        ``"events"``, ``"volumes"`` or the modality of anatomical images (``"T1w"``, ``"FLAIR"``); None
        takes all.
    excluding
        Labels of subjects to leave out, or ``<label>_ses-<label>``: one of their sessions.
    strict
        Refuse an empty or inconsistent result instead of returning it.

    Raises
    ------
    InputError
        There are no results, or none of those asked for, or runs were made with different settings.
    """
    found = [_read(output_dir, sidecar) for sidecar in sorted(output_dir.glob("sub-*/**/*_samples.json"))]
    labels = {label.removeprefix("sub-") for label in participant_label}
    chosen = [
        item
        for item in found
        if (not labels or item.subject in labels)
        and is_asked("session", item.session, session_label)
        and is_asked("task", item.task, task_id)
        and is_asked("run", item.run, run_id)
        and (sample is None or item.metadata.get("Sample") == sample)
        and not {item.subject, f"{item.subject}_ses-{item.session}"} & set(excluding)
    ]
    if strict:
        _check(output_dir, found, chosen, labels)
    return sorted(chosen, key=lambda item: (item.subject, item.session, item.task, item.run))


def written_rows(found: Sequence[SampleSet], exchange_within: str | None = None) -> pd.DataFrame:
    """Return the rows of participant-level results one below the other, once their files belong together.

    ``exchange_within`` is the column of the blocks (:func:`bids_xai.bids.events.read_rows`).

    Raises
    ------
    InputError
        Image, rows or mask of some are not those that their sidecars describe; all of these are named.
    """
    problems = Problems()
    for item in found:
        try:
            check_written(item.samples, item.mask)
        except InputError as error:
            problems.add(error)
    problems.raise_any()
    rows = stacked_rows([item.rows for item in found], [item.samples for item in found], exchange_within)
    return rows.drop(columns=["image", "volume"])


def _read(output_dir: Path, sidecar: Path) -> SampleSet:
    metadata = read_json_object(sidecar, "the sidecar", "run the participant level again")
    stem = sidecar.name.removesuffix(".json")
    entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
    return SampleSet(
        samples=sidecar.with_name(f"{stem}.nii.gz"),
        rows=sidecar.with_name(f"{stem}.tsv"),
        mask=output_dir / metadata["Mask"],
        subject=entities["sub"],
        session=entities.get("ses", ""),
        task=entities.get("task", ""),
        run=entities.get("run", ""),
        metadata=metadata,
    )


def _check(
    output_dir: Path, found: Sequence[SampleSet], chosen: Sequence[SampleSet], labels: set[str]
) -> None:
    if not found:
        raise InputError(
            f"{output_dir} holds no participant-level results (sub-*/**/*_samples.nii.gz).",
            "the samples that the participant level writes",
            "run 'bids-xai BIDS OUT participant' first, or both levels in one call",
        )
    present = sorted({item.subject for item in found})
    absent = sorted(labels - set(present))
    # Who else is asked for and has none is left out and named by the group level.
    if absent and len(absent) == len(labels):
        raise InputError(
            f"--participant-label {' '.join(absent)}: no participant-level results in {output_dir}.",
            f"some of {', '.join(present)}",
            nearest_name(absent[0], present),
        )
    if not chosen:
        raise InputError(
            f"No participant-level results in {output_dir} are of the asked session, task, run and sample.",
            f"results such as {found[0].samples.name}",
            "change the selection, or run the participant level with it",
        )
    for key in SHARED_SETTINGS:
        values = {
            json.dumps(item.metadata.get(key)): item.samples.name
            for item in chosen
            if key not in MAY_HAVE_NO_EFFECT or item.metadata.get(key, ...) is not None
        }
        if len(values) > 1:
            listed = "; ".join(f"{value} in {name}" for value, name in sorted(values.items()))
            raise InputError(
                f"Participant-level results in {output_dir} were made with different {key}: {listed}.",
                "one setting for all that are classified together",
                "run the participant level again for all, or select with --participant-label, --task-id",
            )
