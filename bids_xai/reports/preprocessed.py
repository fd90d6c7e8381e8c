"""The files that preprocessing left in a subject's folder, and what their names and sidecars say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_xai.text_files import read_json

QUALITY = "RegistrationQuality"
# What else is judged, and how its failure is called.
JUDGED = {
    QUALITY: "Registration",
    "BrainExtractionQuality": "Brain extraction",
    "ReferenceQuality": "Motion correction",
}
_OF_A_RUN = ("ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part")
_SAMPLES = "_samples.json"


@dataclass(frozen=True)
class Named:
    """A file whose name says what it is: entities by key, suffix, stem without extension."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def of(cls, path: Path) -> Named:
        """Read a BIDS name."""
        *pairs, suffix = path.name.split(".")[0].split("_")
        return cls(path, dict(pair.split("-", 1) for pair in pairs if "-" in pair), suffix)

    @property
    def stem(self) -> str:
        """Name without extension."""
        return self.path.name.split(".")[0]

    @property
    def functional(self) -> bool:
        """Whether it is of a functional run."""
        return "task" in self.entities

    @property
    def recording(self) -> tuple[tuple[str, str], ...]:
        """Entities, in their order, of the run that a file was made from."""
        return tuple(pair for pair in self.entities.items() if pair[0] in _OF_A_RUN)

    @property
    def recording_name(self) -> str:
        """The entities as they stand in file names."""
        return " ".join(f"{key}-{value}" for key, value in self.recording) or "run"


@dataclass(frozen=True)
class Preprocessing:
    """Files about the preprocessing of one subject.

    Parameters
    ----------
    sidecars
        Sidecars of preprocessed images and of transforms, with their content.
    confounds
        Tables of confounds.
    figures
        SVG files that the participant level drew.
    """

    sidecars: list[tuple[Named, Mapping[str, Any]]]
    confounds: list[Named]
    figures: list[Named]

    def __bool__(self) -> bool:
        return bool(self.sidecars or self.confounds or self.figures)

    @property
    def images(self) -> set[tuple[tuple[tuple[str, str], ...], str]]:
        """Preprocessed images, in whatever spaces: entities of what they were made from, and suffix."""
        files = [file for file, _ in self.sidecars if file.entities.get("desc") == "preproc"]
        return {(file.recording, file.suffix) for file in files}

    @property
    def qualities(self) -> list[tuple[Named, Mapping[str, Any]]]:
        """Similarities before and after registration, where they were measured."""
        return [
            (file, found[QUALITY]) for file, found in self.sidecars if isinstance(found.get(QUALITY), dict)
        ]

    @property
    def brains(self) -> list[tuple[Named, Mapping[str, Any]]]:
        """Volumes and shapes of brain masks."""
        key = "BrainExtractionQuality"
        return [(file, found[key]) for file, found in self.sidecars if isinstance(found.get(key), dict)]

    @property
    def failures(self) -> list[tuple[Named, str, Mapping[str, Any]]]:
        """What was judged and is not sound, with what it is called (:data:`JUDGED`)."""
        return [
            (file, what, found[key])
            for file, found in self.sidecars
            for key, what in JUDGED.items()
            if isinstance(found.get(key), dict) and not passed(found[key])
        ]


def read_preprocessing(folder: Path, own_figures: Iterable[str] = ()) -> Preprocessing:
    """Return the files about preprocessing in a subject's folder.

    Parameters
    ----------
    folder
        Folder of the subject, which may have sessions.
    own_figures
        Patterns of names of figures that the page itself writes.
    """
    sidecars = []
    for kind in ("anat", "func"):
        for path in sorted(folder.glob(f"**/{kind}/*.json")):
            content = read_json(path, "the sidecar", "run the participant level again")
            told = isinstance(content, dict) and (
                "_desc-preproc_" in path.name or not JUDGED.keys().isdisjoint(content)
            )
            if told and not path.name.endswith(_SAMPLES):
                sidecars.append((Named.of(path), content))
    figures = sorted((folder / "figures").glob("*.svg"))
    return Preprocessing(
        sidecars,
        [Named.of(path) for path in sorted(folder.glob("**/*_desc-confounds_timeseries.tsv"))],
        [Named.of(path) for path in figures if not any(path.match(pattern) for pattern in own_figures)],
    )


def passed(quality: Mapping[str, Any]) -> bool:
    """Return whether a registration reached its floor; what has neither a verdict nor a floor, has."""
    if "Passed" in quality:
        return bool(quality["Passed"])
    after, floor = quality.get("After"), quality.get("Floor")
    return floor is None or (after is not None and after >= floor)
