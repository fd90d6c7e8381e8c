"""Interfaces that make labelled samples of cleaned runs and of anatomical images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
from nibabel.spatialimages import SpatialImage
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.bids.confounds import DISPLACEMENT, read_confounds
from bids_xai.bids.events import (
    ROW_COLUMNS,
    RunSamples,
    parse_classes,
    read_events,
    rows_frame,
    run_samples,
)
from bids_xai.bids.records import RunRecord
from bids_xai.errors import InputError
from bids_xai.images import masking
from bids_xai.images.brain import scale_intensities
from bids_xai.images.cleaning import clean_run, count_cosines
from bids_xai.images.grids import image_like
from bids_xai.images.windows import take_samples
from bids_xai.interfaces.memory import LIBRARIES, RunSize
from bids_xai.tables import write_frame


class ExtractSamples(SimpleInterface):
    """Clean a run inside a mask; average, or take one by one, the volumes in the windows of its events.

    See :func:`bids_xai.images.cleaning.clean_run`, :func:`bids_xai.bids.events.run_samples` and
    :func:`bids_xai.images.windows.take_samples`. Voxels outside the mask and voxels without variation are
    zero. The cleaned run is as large as the run and needed for nothing else: it is never written.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D image on the analysis grid")
        in_mask = File(exists=True, mandatory=True, desc="mask on the analysis grid")
        in_check = File(exists=True, desc="JSON: volumes that are left out, and why; absent: none are")
        in_confounds = File(exists=True, desc="TSV with one row per volume")
        fd_threshold = traits.Float(desc="framewise displacement in mm above which volumes are left out")
        confounds = traits.List(traits.Str, desc="columns of in_confounds; shell wildcards allowed")
        detrend = traits.Bool(True, usedefault=True, desc="remove the linear trend")
        high_pass = traits.Float(desc="cut-off in Hz of the discrete cosine filter")
        high_pass_sigma = traits.Float(desc="sigma in volumes of the Gaussian-weighted line fit")
        standardize = traits.Bool(True, usedefault=True, desc="zero mean, unit variance")
        in_events = File(exists=True, mandatory=True, desc="events file of the run")
        repetition_time = traits.Float(mandatory=True, desc="seconds between volumes")
        entities = traits.Dict(mandatory=True, desc="subject, session, task and run")
        target = traits.Str("trial_type", usedefault=True, desc="column with the levels")
        classes = traits.Dict(
            traits.Str, traits.List(traits.Str), desc="levels by class; absent: all but rest"
        )
        merge_events = traits.Float(desc="longest gap in seconds within a block; absent: none are merged")
        sample = traits.Enum("events", "volumes", usedefault=True, desc="what a sample is")
        window = traits.Tuple(traits.Float, traits.Float, desc="seconds relative to the anchor")
        window_anchor = traits.Enum("onset", "offset", usedefault=True, desc="anchor of the window")
        hrf_shift = traits.Float(5.0, usedefault=True, desc="shift in seconds of the default window")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="4-D image, one volume per sample")
        out_rows = File(exists=True, desc="TSV file, one row per sample")
        out_notes = File(exists=True, desc="JSON: what the sidecar says of volumes that were left out")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        image = nb.load(inputs.in_file)
        if isdefined(inputs.classes):
            classes = {name: tuple(levels) for name, levels in inputs.classes.items()}
        else:
            classes = parse_classes((), read_events(inputs.in_events, inputs.target).level)
        labels = {key: str(inputs.entities.get(key) or "") for key in ("subject", "session", "task", "run")}
        run = RunRecord(
            subject=labels["subject"],
            session=labels["session"],
            task=labels["task"],
            run=labels["run"],
            bold=Path(inputs.in_file),
            events=Path(inputs.in_events),
            tr=inputs.repetition_time,
            n_volumes=image.shape[3],
        )
        kept, warnings = self._kept(run)
        found = run_samples(
            run,
            target=inputs.target,
            classes=classes,
            sample=inputs.sample,
            window=inputs.window if isdefined(inputs.window) else None,
            anchor=inputs.window_anchor,
            shift=inputs.hrf_shift,
            merge=inputs.merge_events if isdefined(inputs.merge_events) else None,
            kept=kept,
        )
        warnings += _events_without_samples(found)
        if found.left_out and not found.windows:
            raise InputError(
                f"No event of {inputs.in_events} gives a sample: {' '.join(warnings)}",
                "runs that keep some of their events",
                "leave the run or the participant out, or raise --fd-threshold",
            )
        mask = nb.load(inputs.in_mask)
        samples, _ = take_samples(self._cleaned(image, mask, kept), found.windows, inputs.sample)
        out_file, out_rows = Path(runtime.cwd) / "samples.nii.gz", Path(runtime.cwd) / "samples.tsv"
        nb.save(masking.unmask(samples, mask), out_file)
        write_frame(rows_frame([found.columns]), out_rows)
        notes: dict[str, Any] = {"VolumesLeftOut": int((~kept).sum())}
        cutoff = float(inputs.high_pass) if isdefined(inputs.high_pass) else 0.0
        if cutoff > 0 and not count_cosines(run.n_volumes, run.tr, cutoff):
            notes |= {"HighPass": None}
            warnings.append(
                f"No high-pass filter: the run lasts {run.n_volumes * run.tr:g} s, and one of "
                f"{cutoff:.4g} Hz takes {0.5 / cutoff:g} s or more."
            )
        if warnings:
            notes["Warnings"] = warnings
        (Path(runtime.cwd) / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
        self._results.update(
            out_file=str(out_file), out_rows=str(out_rows), out_notes=str(Path(runtime.cwd) / "notes.json")
        )
        return runtime

    def _kept(self, run: RunRecord) -> tuple[npt.NDArray[np.bool_], list[str]]:
        """Return which volumes count, and what is to be said of the others."""
        inputs, kept = self.inputs, np.ones(run.n_volumes, dtype=bool)
        name, warnings = run.bold.name, []
        if isdefined(inputs.in_check):
            check = json.loads(Path(inputs.in_check).read_text(encoding="utf-8"))
            name, warnings = check["name"], list(check["warnings"])
            kept[check["left_out"]] = False
        if isdefined(inputs.fd_threshold):
            moved, _ = read_confounds(inputs.in_confounds, [DISPLACEMENT], run.n_volumes)
            # The first volume has no displacement: nothing comes before it.
            above = np.nan_to_num(moved[:, 0]) > inputs.fd_threshold
            if above.any():
                warnings.append(
                    f"{above.sum()} of {run.n_volumes} volumes of {name} have a framewise displacement above "
                    f"{inputs.fd_threshold:g} mm: left out of filters, scaling and samples."
                )
            kept &= ~above
        return kept, warnings

    def _cleaned(
        self, image: SpatialImage, mask: SpatialImage, kept: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        inputs, confounds = self.inputs, None
        if isdefined(inputs.in_confounds) and isdefined(inputs.confounds):
            confounds, _ = read_confounds(inputs.in_confounds, inputs.confounds, image.shape[3])
        series = masking.masked_series(image, mask)
        return clean_run(
            series,
            inputs.repetition_time,
            confounds=confounds,
            detrend=inputs.detrend,
            high_pass=inputs.high_pass if isdefined(inputs.high_pass) else None,
            high_pass_sigma=inputs.high_pass_sigma if isdefined(inputs.high_pass_sigma) else None,
            standardize=inputs.standardize,
            kept=kept,
            out=series,
        )


def samples_bytes(run: RunSize) -> float:
    """Count the time courses that :class:`ExtractSamples` cleans, its samples, and a tile."""
    return LIBRARIES + 1.2 * run.inside + run.whole / 8 + run.tile


def _events_without_samples(found: RunSamples) -> list[str]:
    said = []
    for events, why in (
        (found.outside, "their window leaves the run"),
        (found.left_out, "most of the volumes of their window are left out"),
    ):
        if events:
            said.append(f"{len(events)} events give no sample, as {why}: {'; '.join(events)}.")
    return said


class ExtractAnatomicalSample(SimpleInterface):
    """Make one sample of one anatomical image (:func:`bids_xai.images.brain.scale_intensities`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3-D image on the analysis grid")
        row = traits.Dict(mandatory=True, desc="its row: subject, session, run, class, ...")
        scaling = traits.Enum("minmax", "max", "none", usedefault=True, desc="scaling of the values")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="4-D image of one volume")
        out_rows = File(exists=True, desc="TSV file of one row")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = nb.load(self.inputs.in_file)
        data = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3]))
        scaled = scale_intensities(data, self.inputs.scaling)
        out_file, out_rows = Path(runtime.cwd) / "samples.nii.gz", Path(runtime.cwd) / "samples.tsv"
        nb.save(image_like(scaled[..., None], image), out_file)
        table = pd.DataFrame([self.inputs.row], columns=list(ROW_COLUMNS))
        write_frame(table, out_rows)
        self._results.update(out_file=str(out_file), out_rows=str(out_rows))
        return runtime
