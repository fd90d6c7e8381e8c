"""What belongs to a functional image: events, repetition time, mask, confounds."""

from __future__ import annotations

from pathlib import Path

from bids_xai.bids.checks import has_volume_timing, sidecar_tr
from bids_xai.bids.confounds import count_dummies
from bids_xai.bids.filters import combined
from bids_xai.bids.layout import KIND, Candidates, belongs, best_match
from bids_xai.bids.masks import mask_files, masks_of
from bids_xai.bids.records import BidsFile, RunRecord
from bids_xai.bids.selection import Search
from bids_xai.errors import InputError


class Finder:
    """Finds what belongs to an image: events, repetition time, mask, confounds.

    Parameters
    ----------
    search
        The datasets, the entities per query, and the space that raw images are declared to be in: masks
        of it fit them.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.events = Candidates(search.raw.files(combined("events", search.filters)))
        self.masks = Candidates(masks_of(mask_files(search), "func"))
        self.confounds = Candidates(
            file
            for dataset in search.derived
            for file in dataset.files(combined("confounds", search.filters))
        )
        self.sidecars = {
            dataset.root: Candidates(dataset.files({"suffix": "bold", "extension": [".json"]}))
            for dataset in search.datasets
        }

    def repetition_time(self, file: BidsFile) -> tuple[float, Path]:
        """Return the repetition time in seconds and the sidecar it comes from.

        Sidecars apply by inheritance: in the image's folder or above it, the most specific last. An image
        of derivatives without one takes that of the raw run.
        """
        own = self.search.dataset_of(file)
        irregular: Path | None = None
        for dataset in dict.fromkeys((own, self.search.raw)):
            fitting = [
                sidecar
                for sidecar in self.sidecars[dataset.root].near(file.entities)
                if belongs(sidecar.entities, file.entities)
                and (dataset is not own or sidecar.path.parent in file.path.parents)
            ]
            for sidecar in sorted(fitting, key=_specificity, reverse=True):
                tr = sidecar_tr(sidecar.path)
                if tr is not None:
                    return tr, sidecar.path
                irregular = irregular or (sidecar.path if has_volume_timing(sidecar.path) else None)
        if irregular is not None:
            raise InputError(
                f"{irregular} gives VolumeTiming for {file.path}: its volumes are not evenly spaced.",
                "RepetitionTime: sparse and irregular series are not supported",
                "leave the run out with --task-id, --run-id or --bids-filter-file",
            )
        raise InputError(
            f"No sidecar of {file.path} has a RepetitionTime.",
            "RepetitionTime in seconds in a JSON file beside the image or above it",
            "add it: BIDS requires it for functional images",
        )

    def record(
        self,
        file: BidsFile,
        tr: float,
        n_volumes: int,
        *,
        run: str | None = None,
        confounds: bool,
        dummies: int | None = None,
    ) -> RunRecord:
        """Return the record of an image, without its mask; its run is called ``run`` if that is given.

        Where the number of dummies is None, a table of confounds beside an aligned image says it.

        Raises
        ------
        InputError
            If there are no events, or confounds are needed and absent, or two files fit.
        """
        subject, session, task, own = (
            str(file.entities.get(name, "")) for name in ("subject", "session", "task", "run")
        )
        run = own if run is None else run
        events = best_match(self.events, file.entities, "events", file.path)
        if events is None:
            raise InputError(
                f"No events file for {file.path}.",
                f"{_events_name(file)} in {self.search.raw.root}, beside the image or above it",
                "add it, or leave the run out with --task-id, --run-id or --participant-label",
            )
        table = None
        wanted = confounds or (dummies is None and self.search.engine == "derivatives")
        found = best_match(self.confounds, file.entities, "confounds", file.path) if wanted else None
        if dummies is None:
            dummies = 0 if found is None else count_dummies(found, n_volumes)
        if dummies >= n_volumes:
            raise InputError(
                f"{dummies} dummy scans of {file.path}, which has {n_volumes} volumes.",
                "fewer",
                "give a smaller number with --dummy-scans",
            )
        if confounds:
            table = found
            if table is None:
                raise InputError(
                    f"No confounds file for {file.path}.",
                    "a desc-confounds_timeseries.tsv in the folders of --derivatives",
                    "give the folder, or leave out --confounds and --fd-threshold",
                )
        names = file.names()
        return RunRecord(
            subject, session, task, run, file.path, events, tr, n_volumes, None, table, names, dummies
        )

    def mask(self, record: RunRecord, *, required: bool) -> Path | None:
        """Return the mask of a run from the derivatives; None if there is none and none is required."""
        space = {"space": self.search.space} if self.search.space else {}
        found = best_match(self.masks, {**space, **record.entities}, "mask", record.bold)
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
