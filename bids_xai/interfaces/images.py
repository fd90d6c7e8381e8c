"""Interfaces that bring images of one run to the analysis grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.images import grids, masking
from bids_xai.interfaces.memory import LIBRARIES, RunSize


class _ResolutionInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image in any grid")
    resolution = traits.Float(mandatory=True, desc="voxel size of the output in mm")


class _OneFileOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="the result")


class DownsampleImage(SimpleInterface):
    """Bring a 3-D or 4-D image to a coarser grid (:func:`bids_xai.images.grids.downsample`)."""

    input_spec = _ResolutionInputSpec
    output_spec = _OneFileOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = grids.downsample(nb.load(self.inputs.in_file), self.inputs.resolution)
        self._results["out_file"] = save_image(image, runtime.cwd, "downsampled.nii")
        return runtime


def downsample_bytes(run: RunSize) -> float:
    """Count the run on the coarse grid that :class:`DownsampleImage` makes, and some volumes as they come."""
    return LIBRARIES + run.whole + 8 * run.native * 4


class ComputeMask(SimpleInterface):
    """Compute a brain mask from a run (:func:`bids_xai.images.masking.compute_mask`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D image")

    class _OutputSpec(TraitedSpec):
        out_mask = File(exists=True, desc="3-D image of zeros and ones")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        mask = masking.compute_mask([nb.load(self.inputs.in_file)])
        self._results["out_mask"] = save_image(mask, runtime.cwd, "mask.nii.gz")
        return runtime


class DownsampleMask(SimpleInterface):
    """Intersect the masks of the runs and bring them to the analysis grid.

    The rule is that of ``fslmaths -subsamp2 -thr 0.5 -bin`` for any factor
    (:func:`bids_xai.images.masking.downsample_mask`).
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_masks = InputMultiObject(File(exists=True), mandatory=True, desc="masks on one grid")
        resolution = traits.Float(desc="voxel size of the output in mm; absent: the grid stays")

    class _OutputSpec(TraitedSpec):
        out_mask = File(exists=True, desc="3-D image of zeros and ones on the analysis grid")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        mask = masking.intersect([nb.load(path) for path in self.inputs.in_masks])
        if isdefined(self.inputs.resolution):
            mask = masking.downsample_mask(mask, self.inputs.resolution)
        self._results["out_mask"] = save_image(mask, runtime.cwd, "mask.nii.gz")
        return runtime


class FitShape(SimpleInterface):
    """Pad or crop an image around its centre (:func:`bids_xai.images.grids.fit_shape`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3-D or 4-D image")
        shape = traits.Tuple(traits.Int, traits.Int, traits.Int, mandatory=True, desc="voxels of the output")

    input_spec = _InputSpec
    output_spec = _OneFileOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = grids.fit_shape(nb.load(self.inputs.in_file), self.inputs.shape)
        self._results["out_file"] = save_image(image, runtime.cwd, "fitted.nii.gz")
        return runtime


def fit_bytes(run: RunSize) -> float:
    """Count the run before and after :class:`FitShape`."""
    return LIBRARIES + 2 * run.whole


def save_image(image: Any, folder: str, name: str) -> str:
    """Write an image into a node's working folder and return its path."""
    path = str(Path(folder) / name)
    nb.save(image, path)
    return path
