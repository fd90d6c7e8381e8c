"""Selection of images by their entities, and the files that belong to each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids.layout import Query

from bids_xai.bids.checks import sidecar_tr
from bids_xai.bids.filters import combined
from bids_xai.bids.layout import KIND, Dataset, belongs, best_match
from bids_xai.bids.records import BidsFile, RunRecord
from bids_xai.bids.spaces import check_space
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

Filters = Mapping[str, Mapping[str, Any]]


def select_images(
    raw: Dataset,
    derived: Sequence[Dataset],
    *,
    preproc: str,
    space: str | None,
    filters: Filters,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    tasks: Sequence[str] = (),
    runs: Sequence[str] = (),
) -> list[BidsFile]:
    """Return the functional images of an analysis, one per run.

    Raises
    ------
    InputError
        If a label is unknown, the space is absent, nothing is found, or two images are of one run.
    """
    present = raw.subjects()
    _check_labels("participant", subjects, present, "--participant-label")
    if preproc == "derivatives":
        found = _preprocessed(derived, space, filters)
    else:
        check_space(space)
        found = raw.files(combined("bold", filters))
    # Phase images carry no BOLD contrast; a filter on "part" can still ask for them.
    if "part" not in filters.get("bold", {}):
        found = [file for file in found if file.entities.get("part") not in ("phase", "imag", "real")]
    if not found:
        raise _nothing(raw, derived, preproc, filters)
    for kind, asked, option in (
        ("session", sessions, "--session-label"),
        ("task", tasks, "--task-id"),
        ("run", runs, "--run-id"),
    ):
        found = _choose(found, kind, asked, option)
    if subjects:
        found = [file for file in found if file.entities.get("subject") in subjects]
        without = sorted(set(subjects) - {file.entities["subject"] for file in found})
        if without:
            raise InputError(
                f"No functional image of the selected sessions, tasks and runs for "
                f"{', '.join('sub-' + label for label in without)}.",
                "at least one run for every participant asked for",
                "leave them out of --participant-label, or widen the selection",
            )
    _check_unique(found)
    return found


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
    prefix = {"session": "ses-", "task": "task-", "run": "run-"}[kind]
    wanted = [_plain(str(label).removeprefix(prefix)) for label in asked]
    present = sorted({str(file.entities[kind]) for file in found if kind in file.entities})
    known = {_plain(label) for label in present}
    unknown = [str(label) for label, plain in zip(asked, wanted, strict=True) if plain not in known]
    _check_labels(kind, unknown, present, option)
    return [file for file in found if _plain(str(file.entities.get(kind, ""))) in wanted]


def _plain(label: str) -> str:
    # run-1 and run-01 are the same run.
    return str(int(label)) if label.isdigit() else label


def _preprocessed(derived: Sequence[Dataset], space: str | None, filters: Filters) -> list[BidsFile]:
    if not derived:
        raise InputError(
            "--preproc derivatives needs a folder of derivatives, and none is given.",
            "a folder of fMRIPrep-like outputs",
            "give it with --derivatives",
        )
    asked = {"desc": "preproc", **combined("bold", filters)}
    by_filter = "space" in filters.get("bold", {})
    anywhere = [file for dataset in derived for file in dataset.files({"space": Query.OPTIONAL, **asked})]
    if by_filter:
        return anywhere
    found = [file for file in anywhere if file.entities.get("space") == space]
    if anywhere and not found:
        spaces = sorted({str(file.entities.get("space") or "native (no --space)") for file in anywhere})
        raise InputError(
            f"No preprocessed image in the space {space!r}."
            if space
            else "No preprocessed image in native space, which is taken when --space is not given.",
            f"one of the spaces present: {', '.join(spaces)}",
            nearest_name(space or "", spaces) or "choose one with --space",
        )
    return found


def _nothing(raw: Dataset, derived: Sequence[Dataset], preproc: str, filters: Filters) -> InputError:
    roots = [str(dataset.root) for dataset in derived] if preproc == "derivatives" else [str(raw.root)]
    kind = "desc-preproc_bold" if preproc == "derivatives" else "bold"
    asked = f" with the filter {dict(filters['bold'])}" if filters.get("bold") else ""
    return InputError(
        f"No functional image ({kind}.nii or .nii.gz) in {', '.join(roots)}{asked}.",
        "sub-*/[ses-*/]func/*_bold.nii.gz",
        "check the folder, the participants, and --bids-filter-file if one is given",
    )


def _check_unique(found: Sequence[BidsFile]) -> None:
    by_run: dict[tuple[str, ...], list[BidsFile]] = defaultdict(list)
    for file in found:
        by_run[_run_of(file)].append(file)
    for files in by_run.values():
        if len(files) > 1:
            differing = sorted(
                name
                for name in set().union(*(file.entities for file in files))
                if len({str(file.entities.get(name)) for file in files}) > 1
            )
            name = next((name for name in differing if name != "extension"), "acquisition")
            values = sorted({str(file.entities.get(name)) for file in files})
            raise InputError(
                f"{len(files)} images are of one run: {', '.join(str(file.path) for file in files[:4])}.",
                f"one image per run; these differ in {name}: {', '.join(values)}",
                f'choose with --bids-filter-file, for example {{"bold": {{"{name}": "{values[-1]}"}}}}',
            )


def _run_of(file: BidsFile) -> tuple[str, ...]:
    return tuple(str(file.entities.get(name, "")) for name in ("subject", "session", "task", "run"))


class Finder:
    """Finds what belongs to an image: events, repetition time, mask, confounds.

    Parameters
    ----------
    raw, derived
        The datasets.
    filters
        Entities per query.
    space
        Space that raw images are declared to be in; masks of it fit them.
    """

    def __init__(self, raw: Dataset, derived: Sequence[Dataset], filters: Filters, space: str | None) -> None:
        self.space = space
        self.datasets = [raw, *derived]
        self.events = raw.files(combined("events", filters))
        self.masks = [file for dataset in derived for file in dataset.files(combined("mask", filters))]
        self.confounds = [
            file for dataset in derived for file in dataset.files(combined("confounds", filters))
        ]
        self.sidecars = {
            dataset.root: dataset.files({"suffix": "bold", "extension": [".json"]})
            for dataset in self.datasets
        }

    def repetition_time(self, file: BidsFile) -> tuple[float, Path]:
        """Return the repetition time in seconds and the sidecar it comes from.

        Sidecars apply by inheritance: in the image's folder or above it, the most specific last. An image
        of derivatives without one takes that of the raw run.
        """
        raw = self.datasets[0]
        # Derivatives may lie inside the raw dataset: the innermost one is the image's own.
        holding = [dataset for dataset in self.datasets if file.path.is_relative_to(dataset.root)]
        own = max(holding, key=lambda dataset: len(dataset.root.parts))
        for dataset in dict.fromkeys((own, raw)):
            fitting = [
                sidecar
                for sidecar in self.sidecars[dataset.root]
                if belongs(sidecar.entities, file.entities)
                and (dataset is not own or sidecar.path.parent in file.path.parents)
            ]
            for sidecar in sorted(fitting, key=_specificity, reverse=True):
                tr = sidecar_tr(sidecar.path)
                if tr is not None:
                    return tr, sidecar.path
        raise InputError(
            f"No sidecar of {file.path} has a RepetitionTime.",
            "RepetitionTime in seconds in a JSON file beside the image or above it",
            "add it: BIDS requires it for functional images",
        )

    def record(self, file: BidsFile, tr: float, n_volumes: int, *, confounds: bool) -> RunRecord:
        """Return the record of an image, without its mask.

        Raises
        ------
        InputError
            If there are no events, or confounds are needed and absent, or two files fit.
        """
        subject, session, task, run = _run_of(file)
        events = best_match(self.events, file.entities, "events", file.path)
        if events is None:
            raise InputError(
                f"No events file for {file.path}.",
                f"{_events_name(file)} in {self.datasets[0].root}, beside the image or above it",
                "add it, or leave the run out with --task-id, --run-id or --participant-label",
            )
        table = None
        if confounds:
            table = best_match(self.confounds, file.entities, "confounds", file.path)
            if table is None:
                raise InputError(
                    f"No confounds file for {file.path}.",
                    "a desc-confounds_timeseries.tsv in the folders of --derivatives",
                    "give the folder, or leave out --confounds",
                )
        names = {name: str(value) for name, value in file.entities.items() if name not in ("scans", "fmap")}
        return RunRecord(subject, session, task, run, file.path, events, tr, n_volumes, None, table, names)

    def mask(self, record: RunRecord, *, required: bool) -> Path | None:
        """Return the mask of a run from the derivatives; None if there is none and none is required."""
        space = {"space": self.space} if self.space else {}
        entities = {**space, **record.entities}
        functional = [mask for mask in self.masks if mask.entities.get("datatype") in ("func", None)]
        found = best_match(functional or self.masks, entities, "mask", record.bold)
        if found is None and required:
            raise InputError(
                f"No mask for {record.bold} in the derivatives.",
                "a desc-brain_mask.nii.gz whose entities are those of the image",
                "give the folder with --derivatives, use --bids-filter-file, or choose another --mask",
            )
        return found


def _specificity(file: BidsFile) -> tuple[int, int]:
    return len(file.path.parts), sum(name not in KIND for name in file.entities)


def _events_name(file: BidsFile) -> str:
    stem = file.path.name
    for key in ("_space-", "_desc-", "_res-"):
        stem = stem.split(key)[0]
    return stem.removesuffix(".gz").removesuffix(".nii").removesuffix("_bold") + "_events.tsv"
