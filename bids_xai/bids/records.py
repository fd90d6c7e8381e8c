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
    t1w
        The T1w; None where an aligned FLAIR is taken as it is.
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


@dataclass(frozen=True)
class SubjectRecord:
    """One participant's runs, ordered by session, task and run, and anatomical images, by session and run."""

    subject: str
    runs: tuple[RunRecord, ...] = ()
    anatomical: tuple[AnatomicalRecord, ...] = ()

    def anatomy_of_runs(self) -> list[int]:
        """Return for each run the index of its anatomical image: of its session, else the first."""
        sessions = [image.session for image in self.anatomical]
        return [sessions.index(run.session) if run.session in sessions else 0 for run in self.runs]


@dataclass(frozen=True)
class BidsFile:
    """A file of a dataset with the entities of its name (suffix, extension and datatype among them)."""

    path: Path
    entities: dict[str, Any] = field(hash=False)

    def names(self) -> dict[str, str]:
        """Return the entities as text, without those that pybids reads from other files."""
        return {name: str(value) for name, value in self.entities.items() if name not in ("scans", "fmap")}
