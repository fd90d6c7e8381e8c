"""Records of what a dataset holds for one participant and one run."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class SubjectRecord:
    """One participant's runs, ordered by session, task and run."""

    subject: str
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True)
class BidsFile:
    """A file of a dataset with the entities of its name (suffix, extension and datatype among them)."""

    path: Path
    entities: dict[str, Any] = field(hash=False)
