"""Interfaces for BOLD runs: motion, resampling in one step, confounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nitransforms.linear import LinearTransformsMapping

from bids_xai.bids.checks import check_undamaged
from bids_xai.images import masking
from bids_xai.images.dvars import dvars
from bids_xai.images.motion import estimate_motion, motion_regressors
from bids_xai.images.resampling import resample_run
from bids_xai.images.soundness import inspect_run, repaired
from bids_xai.interfaces.memory import LIBRARIES, RunSize
from bids_xai.tables import read_frame, write_frame

# Volumes that the estimation of motion holds (images.motion), and that one interpolation does.
_REALIGNED, _INTERPOLATED = 64, 14


class CheckRuns(SimpleInterface):
    """Find the volumes of runs that hold no image (:func:`bids_xai.images.soundness.inspect_run`).

    A compressed run is read to its end, where its checksum is.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="4-D runs")
        dummies = traits.List(traits.Int, desc="first volumes of each run that are left out; absent: none")

    class _OutputSpec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="the runs; repaired copies where volumes are lost")
        out_checks = traits.List(File(exists=True), desc="JSON of each run: name, left_out, warnings")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        runs = list(self.inputs.in_files)
        dummies = list(self.inputs.dummies) if isdefined(self.inputs.dummies) else [0] * len(runs)
        files, checks = [], []
        for number, (run, n_dummies) in enumerate(zip(runs, dummies, strict=True)):
            path, img = Path(run), nb.load(run)
            check_undamaged(path, img)
            found = inspect_run(img, path.name)
            warnings = found.warnings(path.name)
            if n_dummies:
                warnings.append(f"The first {n_dummies} volumes of {path.name} are left out (dummy scans).")
            folder = Path(runtime.cwd) / str(number)
            folder.mkdir(exist_ok=True)
            if found.lost or found.holes.any():
                path = folder / f"{path.name.split('.nii')[0]}.nii.gz"
                nb.save(repaired(img, found), path)
            left_out = sorted({*range(n_dummies), *found.lost})
            content = {"name": Path(run).name, "left_out": left_out, "warnings": warnings}
            (folder / "check.json").write_text(json.dumps(content), encoding="utf-8")
            files.append(str(path))
            checks.append(str(folder / "check.json"))
        self._results.update(out_files=files, out_checks=checks)
        return runtime


class EstimateMotion(SimpleInterface):
    """Estimate the head's position in every volume (:func:`bids_xai.images.motion.estimate_motion`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D run")

    class _OutputSpec(TraitedSpec):
        out_reference = File(exists=True, desc="mean of realigned volumes")
        out_matrices = File(exists=True, desc=".npy, (n_volumes, 4, 4): reference -> volume, RAS mm")
        out_transforms = File(exists=True, desc="the same as ITK transforms")
        out_parameters = File(exists=True, desc="TSV: motion parameters and framewise displacement")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        motion = estimate_motion(nb.load(self.inputs.in_file))
        folder = Path(runtime.cwd)
        nb.save(motion.reference, folder / "reference.nii.gz")
        np.save(folder / "matrices.npy", motion.matrices)
        LinearTransformsMapping(motion.matrices).to_filename(str(folder / "transforms.txt"), fmt="itk")
        table = pd.DataFrame(motion_regressors(motion.parameters()))
        write_frame(table, folder / "motion.tsv")
        self._results.update(
            out_reference=str(folder / "reference.nii.gz"),
            out_matrices=str(folder / "matrices.npy"),
            out_transforms=str(folder / "transforms.txt"),
            out_parameters=str(folder / "motion.tsv"),
        )
        return runtime


def motion_bytes(run: RunSize) -> float:
    """Count the volumes that :class:`EstimateMotion` holds."""
    return LIBRARIES + 8 * run.native * _REALIGNED


class ResampleRun(SimpleInterface):
    """Bring a run to the analysis grid in one interpolation.

    See :func:`bids_xai.images.resampling.resample_run`. Values are wanted within a margin of two voxels
    around the mask; the rest is 0.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D run in its own space")
        in_matrices = File(exists=True, mandatory=True, desc=".npy: reference -> volume")
        in_field = File(exists=True, mandatory=True, desc="ITK displacement field: grid -> reference")
        in_mask = File(exists=True, mandatory=True, desc="mask on the analysis grid")
        low_mem = traits.Bool(False, usedefault=True, nohash=True, desc="hold the run in a file meanwhile")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="4-D run on the analysis grid")
        out_mask = File(exists=True, desc="the mask where every volume has data")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        mask = nb.load(self.inputs.in_mask)
        inside = np.asarray(mask.dataobj) > 0
        run, held, out = nb.load(self.inputs.in_file), Path(runtime.cwd) / "resampled.dat", None
        if self.inputs.low_mem:
            # A volume is one piece of the file, as it is of the image.
            shape = (*mask.shape[:3], run.shape[3])
            out = np.memmap(held, np.float32, "w+", shape=shape, order="F")
        series, coverage = resample_run(
            run,
            mask,
            displacement=nb.load(self.inputs.in_field),
            matrices=np.load(self.inputs.in_matrices),
            inside=masking.dilated(inside),
            out=out,
        )
        out_file, out_mask = Path(runtime.cwd) / "resampled.nii.gz", Path(runtime.cwd) / "mask.nii.gz"
        nb.save(series, out_file)
        held.unlink(missing_ok=True)
        nb.save(
            masking.intersect([mask, coverage], [self.inputs.in_mask, "where the run has data"]), out_mask
        )
        self._results.update(out_file=str(out_file), out_mask=str(out_mask))
        return runtime


def resample_bytes(run: RunSize) -> float:
    """Count the run that :class:`ResampleRun` writes, and one interpolation."""
    return LIBRARIES + (0 if run.low_mem else run.whole / 2) + 8 * (run.grid + run.native) * _INTERPOLATED


class GatherConfounds(SimpleInterface):
    """Add DVARS (:func:`bids_xai.images.dvars.dvars`) and the global signal to motion parameters."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D run after motion correction")
        in_mask = File(exists=True, mandatory=True, desc="brain mask on its grid")
        in_parameters = File(exists=True, mandatory=True, desc="TSV of motion parameters")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="TSV, one row per volume, columns as fMRIPrep names them")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        table = read_frame(self.inputs.in_parameters)
        series = masking.masked_series(nb.load(self.inputs.in_file), nb.load(self.inputs.in_mask))
        table["dvars"], table["std_dvars"] = dvars(series)
        table["global_signal"] = series.mean(axis=1, dtype=np.float64)
        out_file = Path(runtime.cwd) / "confounds.tsv"
        write_frame(table, out_file)
        self._results["out_file"] = str(out_file)
        return runtime


def confounds_bytes(run: RunSize) -> float:
    """Count the time courses of :class:`GatherConfounds`, and a tile of them."""
    return LIBRARIES + 2 * run.inside + run.tile
