"""Selection of images by their labels and entities, one per run or session."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids.layout import Query

from bids_xai.bids.engines import (
    ALIGNED,
    PREPROCESSED,
    asked_desc,
    holds_preprocessed,
    in_words_of_desc,
    none_preprocessed,
)
from bids_xai.bids.filters import DEFAULTS, combined
from bids_xai.bids.layout import Dataset, choice, differing_entity
from bids_xai.bids.names import ENTITY_KEYS, is_asked, plain_value
from bids_xai.bids.records import BidsFile
from bids_xai.bids.spaces import check_space
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

LOGGER = logging.getLogger("bids_xai.bids")
Filters = Mapping[str, Mapping[str, Any]]

_NOUNS = {"bold": "functional image", "t1w": "T1w image", "flair": "FLAIR image", "t2w": "T2w image"}
_SESSION = ("subject", "session")
# Runs of a task may differ in any of these; images that differ in others (echo, part, space) are of one run.
_OF_RUNS = ("acquisition", "ceagent", "reconstruction", "direction", "run")
_RUN = (*_SESSION, "task", *_OF_RUNS)


@dataclass(frozen=True)
class Search:
    """Where images are looked for, and which of them.

    Parameters
    ----------
    raw, derived
        The datasets.
    filters
        Entities per query.
    engine
        The preprocessing engine: ``derivatives`` takes preprocessed images, any other raw ones.
    space
        Space to choose among the derivatives, to register to, or that raw images are declared to be in.
    subjects, sessions, tasks, runs
        Labels to take; all when empty.
    """

    raw: Dataset
    derived: Sequence[Dataset]
    filters: Filters
    engine: str
    space: str | None = None
    subjects: Sequence[str] = ()
    sessions: Sequence[str] = ()
    tasks: Sequence[str] = ()
    runs: Sequence[str] = ()

    def of_everybody(self) -> Search:
        """Return the same search without the selection of participants."""
        return replace(
            self,
            raw=self.raw.of_everybody(),
            derived=[dataset.of_everybody() for dataset in self.derived],
            subjects=(),
        )

    @property
    def from_raw(self) -> bool:
        """Whether the engine aligns raw images: they may lie on any grid, and have no masks yet."""
        return self.engine not in ALIGNED

    @property
    def datasets(self) -> list[Dataset]:
        """All datasets, the raw one first."""
        return [self.raw, *self.derived]

    def dataset_of(self, file: BidsFile) -> Dataset:
        """Return the dataset that a file is of; derivatives may lie inside the raw one."""
        holding = [dataset for dataset in self.datasets if file.path.is_relative_to(dataset.root)]
        return max(holding, key=lambda dataset: len(dataset.root.parts))


def select_images(search: Search, query: str) -> list[BidsFile]:
    """Return the images of a kind that the labels and filters choose.

    Parameters
    ----------
    search
        Where to look, and for which participants, sessions, tasks and runs.
    query
        Name of the kind in the BIDS filters: ``bold``, ``t1w``, ``flair`` or ``t2w``.

    Raises
    ------
    InputError
        If a label is unknown, the space is absent, or nothing is found.
    """
    _check_labels("participant", search.subjects, search.raw.subjects(), "--participant-label")
    if search.engine == "derivatives":
        found = _preprocessed(search, query)
    else:
        check_space(search.space)
        found = search.raw.files(combined(query, search.filters))
    # Images of no participant, such as a template's, are of nobody who could be classified.
    found = [file for file in magnitude(found, query, search.filters) if "subject" in file.entities]
    if not found:
        raise _nothing(search, query)
    for kind, asked, option in (
        ("session", search.sessions, "--session-label"),
        ("task", search.tasks, "--task-id"),
        ("run", search.runs, "--run-id"),
    ):
        found = _choose(found, kind, asked, option)
    if search.subjects:
        chosen = set(search.subjects)
        found = [file for file in found if file.entities["subject"] in chosen]
        without = sorted(set(search.subjects) - {file.entities["subject"] for file in found})
        if without:
            selection = "sessions, tasks and runs" if query == "bold" else "sessions and runs"
            raise InputError(
                f"No {_NOUNS[query]} of the selected {selection} for "
                f"{', '.join('sub-' + label for label in without)}{_in_derivatives(search, query)}.",
                f"at least one {'run' if query == 'bold' else 'image'} for every participant asked for",
                "leave them out of --participant-label, or widen the selection",
            )
    return found


def magnitude(found: list[BidsFile], query: str, filters: Filters) -> list[BidsFile]:
    """Leave out phase, real and imaginary parts, which carry no contrast, unless a filter names parts."""
    if "part" in filters.get(query, {}):
        return found
    return [file for file in found if file.entities.get("part") not in ("phase", "imag", "real")]


def _check_labels(kind: str, asked: Sequence[str], present: Sequence[str], option: str) -> None:
    unknown = [label for label in asked if label not in present]
    if unknown:
        raise InputError(
            f"Unknown {kind} {', '.join(repr(label) for label in unknown)} ({option}).",
            f"one of {', '.join(present) or 'none: there are no ' + kind + 's'}",
            nearest_name(unknown[0], list(present)) or f"correct {option}",
        )


def _choose(found: list[BidsFile], kind: str, asked: Sequence[str], option: str) -> list[BidsFile]:
    if not asked:
        return found
    present = sorted({str(file.entities[kind]) for file in found if kind in file.entities})
    unknown = [label for label in asked if not any(is_asked(kind, value, [label]) for value in present)]
    _check_labels(kind, [label.removeprefix(f"{ENTITY_KEYS[kind]}-") for label in unknown], present, option)
    return [file for file in found if is_asked(kind, file.entities.get(kind, ""), asked)]


def _preprocessed(search: Search, query: str) -> list[BidsFile]:
    if not search.derived:
        raise InputError(
            "--preproc derivatives needs a folder of derivatives, and none is given.",
            "a folder of outputs of fMRIPrep, sMRIPrep or the like",
            "give it with --derivatives",
        )
    asked = {"desc": PREPROCESSED, **combined(query, search.filters)}
    anywhere = [
        file for dataset in search.derived for file in dataset.files({"space": Query.OPTIONAL, **asked})
    ]
    if "space" in search.filters.get(query, {}):
        return anywhere
    spaces = sorted({str(file.entities.get("space") or "native (no --space)") for file in anywhere})
    if search.space is None and query != "bold" and anywhere:
        standard = [name for name in spaces if not name.startswith("native")]
        raise InputError(
            f"No --space is given, and {_NOUNS[query]}s in native space do not share a grid.",
            f"one of the spaces present: {', '.join(standard) or 'none but the native one'}",
            "choose one with --space" if standard else "register the raw images with --preproc ants",
        )
    found = [file for file in anywhere if file.entities.get("space") == search.space]
    if anywhere and not found:
        raise InputError(
            f"No preprocessed {_NOUNS[query]} in the space {search.space!r}."
            if search.space
            else "No preprocessed image in native space, which is taken when --space is not given.",
            f"one of the spaces present: {', '.join(spaces)}",
            nearest_name(search.space or "", spaces) or "choose one with --space",
        )
    return found


def _in_derivatives(search: Search, query: str) -> str:
    """Say what is looked for in derivatives; empty where raw images are."""
    if search.engine != "derivatives":
        return ""
    where = "" if search.space is None else f" in space {search.space}"
    roots = ", ".join(str(dataset.root) for dataset in search.derived)
    desc = in_words_of_desc(asked_desc(query, search.filters))
    return f": no {desc}_{DEFAULTS[query]['suffix']}{where} in {roots}"


def _nothing(search: Search, query: str) -> InputError:
    aligned = search.engine == "derivatives"
    roots = [str(dataset.root) for dataset in search.derived] if aligned else [str(search.raw.root)]
    suffix = DEFAULTS[query]["suffix"]
    desc = asked_desc(query, search.filters)
    if aligned and not holds_preprocessed([dataset.root for dataset in search.derived], suffix, desc):
        return none_preprocessed([dataset.root for dataset in search.derived], suffix, desc)
    kind = f"{in_words_of_desc(desc)}_{suffix}" if aligned else suffix
    chosen = search.filters.get(query)
    asked = f" with the filter {dict(chosen)}" if chosen else ""
    if search.subjects:
        asked = f" of {', '.join('sub-' + label for label in search.subjects)}{asked}"
    return InputError(
        f"No {_NOUNS[query]} ({kind}.nii or .nii.gz) in {', '.join(roots)}{asked}.",
        expected_path(query),
        "check the folder, the participants, and --bids-filter-file if one is given",
    )


def expected_path(query: str, subject: str = "*") -> str:
    """Return where BIDS has images of a kind, as a pattern."""
    return f"sub-{subject}/[ses-*/]{DEFAULTS[query]['datatype']}/*_{DEFAULTS[query]['suffix']}.nii.gz"


def grouped(found: Sequence[BidsFile], entities: Sequence[str]) -> Iterator[list[BidsFile]]:
    """Yield the files that share the values of some entities, in the order of their first file."""
    groups: dict[tuple[str, ...], list[BidsFile]] = defaultdict(list)
    for file in found:
        groups[tuple(plain_value(name, file.entities.get(name, "")) for name in entities)].append(file)
    yield from groups.values()


def check_one_per_run(found: Sequence[BidsFile], search: Search) -> None:
    """Raise InputError if two functional images are of one run."""
    for files in grouped(found, _RUN):
        if len(files) > 1:
            raise several(files, "run", search, "bold")


def run_labels(found: Sequence[BidsFile]) -> dict[Path, str]:
    """Return a label for every functional image that is unique within its participant, session and task.

    That is its run, where runs differ in nothing else; else what they differ in, such as ``dir-AP_run-1``.
    Runs that differ in their reconstruction only are logged: they may be of one scan.
    """
    labels: dict[Path, str] = {}
    for files in grouped(found, (*_SESSION, "task")):
        values = {
            name: {plain_value(name, file.entities.get(name, "")) for file in files} for name in _OF_RUNS
        }
        differing = [name for name in _OF_RUNS if len(values[name]) > 1]
        if differing == ["reconstruction"]:
            LOGGER.warning(
                "%s and %s are taken as two runs: if they are two reconstructions of one scan, choose one "
                "with --bids-filter-file.",
                *[file.path for file in files[:2]],
            )
        for file in files:
            own = {name: str(file.entities.get(name, "")) for name in differing or ["run"]}
            labels[file.path] = (
                own["run"]
                if [*own] == ["run"]
                else "_".join(f"{ENTITY_KEYS[name]}-{value}" for name, value in own.items() if value)
            )
    return labels


def several(files: Sequence[BidsFile], unit: str, search: Search, query: str) -> InputError:
    """Return the error that several images are there where one is expected, and how to choose.

    Parameters
    ----------
    files
        The images.
    unit
        What they are of: ``run`` or ``session``.
    search, query
        Where they were found, and with which query.
    """
    found = f"{len(files)} images are of one {unit}: {', '.join(str(file.path) for file in files[:4])}."
    name = differing_entity(files)
    if name is not None:
        values = sorted({str(file.entities.get(name)) for file in files})
        expected = f"one image per {unit}; these differ in {name}: {', '.join(values)}"
        return InputError(found, expected, choice(files, query))
    roots = list(dict.fromkeys(str(search.dataset_of(file).root) for file in files))
    if len(roots) > 1:
        return InputError(
            found,
            f"each image in one dataset; these are in {' and in '.join(roots)}",
            f"leave one of the folders out of --derivatives, for example {roots[-1]}",
        )
    return InputError(
        found, f"one file per {unit}", "remove the copy, for example the one that is not compressed"
    )
