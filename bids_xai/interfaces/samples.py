"""Interfaces that make labelled samples of cleaned runs and of anatomical images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.bids.events import ROW_COLUMNS, parse_classes, read_events, sample_rows
from bids_xai.bids.records import RunRecord
from bids_xai.images.brain import scale_intensities
from bids_xai.images.grids import image_like
from bids_xai.images.windows import take_samples


class ExtractSamples(SimpleInterface):
    """Average, or take one by one, the volumes in the windows of a run's events.

    See :func:`bids_xai.bids.events.sample_rows` and :func:`bids_xai.images.windows.take_samples`.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D image of the cleaned run")
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

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        image = nb.load(inputs.in_file)
        if isdefined(inputs.classes):
            classes = {name: tuple(levels) for name, levels in inputs.classes.items()}
        else:
            classes = parse_classes((), read_events(inputs.in_events, inputs.target)["level"])
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
        rows, windows = sample_rows(
            run,
            target=inputs.target,
            classes=classes,
            sample=inputs.sample,
            window=inputs.window if isdefined(inputs.window) else None,
            anchor=inputs.window_anchor,
            shift=inputs.hrf_shift,
            merge=inputs.merge_events if isdefined(inputs.merge_events) else None,
        )
        series = np.asarray(image.dataobj, dtype=np.float32).reshape(-1, image.shape[3]).T
        samples, _ = take_samples(series, windows, inputs.sample)
        out_file, out_rows = Path(runtime.cwd) / "samples.nii.gz", Path(runtime.cwd) / "samples.tsv"
        nb.save(image_like(samples.T.reshape(*image.shape[:3], -1), image), out_file)
        rows.to_csv(out_rows, sep="\t", index=False, na_rep="n/a")
        self._results.update(out_file=str(out_file), out_rows=str(out_rows))
        return runtime


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
        table.to_csv(out_rows, sep="\t", index=False, na_rep="n/a")
        self._results.update(out_file=str(out_file), out_rows=str(out_rows))
        return runtime
