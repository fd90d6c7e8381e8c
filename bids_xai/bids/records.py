"""Records of what a dataset holds for one participant and one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRecord:
    """One functional run and the files that belong to it.

    Parameters
    ----------
    subject, session, task, run
        Labels without their keys; ``session`` and ``run`` are empty when the name has none. ``run`` is
        unique within subject, session and task.
    bold
        The 4-D image.
    events
        Its events file.
    tr
        Repetition time in seconds.
    n_volumes
        Number of volumes.
    mask
        Brain mask on the image's grid; None when it is to be computed or comes from a template.
    confounds
        Confounds table, one row per volume; None when there is none.
    entities
        Entities of the image's name, pybids' names, values as they are in the name.
    dummies
        First volumes that are left out: the magnetisation is not in its steady state.
    """

    subject: str
    session: str
    task: str
    run: str
    bold: Path
    events: Path
    tr: float
    n_volumes: int
    mask: Path | None = None
    confounds: Path | None = None
    entities: dict[str, str] = field(default_factory=dict, hash=False)
    dummies: int = 0


@dataclass(frozen=True)
class AnatomicalRecord:
    """One anatomical session: the T1w, the FLAIR that belongs to it, and what is classified.

    Parameters
    ----------
    subject, session, run
        Labels without their keys, empty when the name has none.
    image
        The image that is classified, or that runs are registered through: T1w or FLAIR as asked.
    t1w, t1w_entities
        The T1w, which may be of another session, and the entities of its name; None where an aligned FLAIR
        is taken as it is.
    level
        Level of the target; empty where BOLD is classified.
    mask
        Brain mask on the image's grid, of derivatives.
    entities
        Entities of the image's name, pybids' names, values as they are in the name.
    """

    subject: str
    session: str
    run: str
    image: Path
    t1w: Path | None = None
    level: str = ""
    mask: Path | None = None
    entities: dict[str, str] = field(default_factory=dict, hash=False)
    t1w_entities: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SubjectRecord:
    """One participant's runs, ordered by session, task and run, and anatomical images, by session and run.

    ``levels`` are those of the target of anatomical images, of all participants of the dataset: classes do
    not depend on who is chosen. Empty where runs are classified.
    """

    subject: str
    runs: tuple[RunRecord, ...] = ()
    anatomical: tuple[AnatomicalRecord, ...] = ()
    levels: tuple[str, ...] = ()

    def anatomies(self) -> list[AnatomicalRecord]:
        """Return the images whose T1w differ: each T1w is one of the first record that has it."""
        first = {record.t1w: record for record in reversed(self.anatomical) if record.t1w is not None}
        return [record for record in self.anatomical if any(record is own for own in first.values())]

    def t1w_index(self) -> list[int]:
        """Return for each run, or else anatomical image, the index of its T1w in :meth:`anatomies`.

        A run takes the T1w of its session, else the first.
        """
        if self.runs:
            sessions = [image.session for image in self.anatomical]
            return [sessions.index(run.session) if run.session in sessions else 0 for run in self.runs]
        paths = [record.t1w for record in self.anatomies()]
        return [paths.index(record.t1w) for record in self.anatomical if record.t1w is not None]

    def sessions(self) -> tuple[str, ...]:
        """Return the labels of the sessions of what is classified, in order; empty where there are none."""
        records = self.runs or self.anatomical
        return tuple(dict.fromkeys(record.session for record in records if record.session))

    def parts(self) -> list[SubjectRecord]:
        """Return what can fail without the rest: each session, with those that share its T1w."""
        records: Sequence[RunRecord | AnatomicalRecord] = self.runs or self.anatomical
        indices: Sequence[int | None] = self.t1w_index() if self.anatomical else ()
        if len(indices) != len(records):
            indices = [None] * len(records)
        groups: dict[int | str, list[int]] = {}
        for number, (record, index) in enumerate(zip(records, indices, strict=True)):
            groups.setdefault(record.session if index is None else index, []).append(number)
        parts = []
        for key, members in groups.items():
            if self.runs:
                anatomical = self.anatomical[key : key + 1] if isinstance(key, int) else ()
                parts.append(replace(self, runs=tuple(self.runs[i] for i in members), anatomical=anatomical))
            else:
                parts.append(replace(self, anatomical=tuple(self.anatomical[i] for i in members)))
        return parts


@dataclass(frozen=True)
class BidsFile:
    """A file of a dataset with the entities of its name (suffix, extension and datatype among them)."""

    path: Path
    entities: dict[str, Any] = field(hash=False)

    def names(self) -> dict[str, str]:
        """Return the entities as text, without those that pybids reads from other files."""
        return {name: str(value) for name, value in self.entities.items() if name not in ("scans", "fmap")}
