"""Interfaces between anatomical images, templates and grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nitransforms.linear import Affine

from bids_xai.errors import InputError
from bids_xai.images import alignment, brain, grids, masking
from bids_xai.interfaces.images import save_image


class _ImageInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="3-D image")


class _ImageOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="the result")


class ConformImage(SimpleInterface):
    """Bring an image's axes and header into order (:func:`bids_xai.images.brain.conform`)."""

    input_spec = _ImageInputSpec
    output_spec = _ImageOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = brain.conform(nb.load(self.inputs.in_file))
        self._results["out_file"] = save_image(image, runtime.cwd, "conformed.nii.gz")
        return runtime


class ExtractBrain(SimpleInterface):
    """Find the brain in a T1w (:func:`bids_xai.images.brain.extract_brain`)."""

    class _OutputSpec(TraitedSpec):
        out_mask = File(exists=True, desc="brain mask")
        out_file = File(exists=True, desc="the image, 0 outside the brain")

    input_spec = _ImageInputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = nb.load(self.inputs.in_file)
        mask = brain.extract_brain(image)
        self._results["out_mask"] = save_image(mask, runtime.cwd, "mask.nii.gz")
        self._results["out_file"] = save_image(masked(image, mask), runtime.cwd, "brain.nii.gz")
        return runtime


class PrepareRegistration(SimpleInterface):
    """Bring two images to the resolution of a registration, and find where it starts.

    See :func:`bids_xai.images.alignment.initial_translation`.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        fixed = File(exists=True, mandatory=True, desc="3-D image, 0 outside the brain")
        moving = File(exists=True, mandatory=True, desc="3-D image")
        resolution = traits.Float(mandatory=True, desc="finest voxel size in mm that is used")

    class _OutputSpec(TraitedSpec):
        fixed = File(exists=True, desc="the fixed image, coarser if it was finer")
        moving = File(exists=True, desc="the moving image, coarser if it was finer")
        initial = File(exists=True, desc="ITK transform: fixed -> moving")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        fixed, moving = (
            _at_most(nb.load(path), self.inputs.resolution)
            for path in (self.inputs.fixed, self.inputs.moving)
        )
        matrix = alignment.initial_translation(fixed, moving)
        self._results["fixed"] = save_image(fixed, runtime.cwd, "fixed.nii")
        self._results["moving"] = save_image(moving, runtime.cwd, "moving.nii")
        self._results["initial"] = _save_matrix(matrix, runtime.cwd, "initial.txt")
        return runtime


class CentringTransform(SimpleInterface):
    """Make the transform that pads or crops to a grid (:func:`~bids_xai.images.alignment.centring`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="the image to be shown")
        grid = File(exists=True, mandatory=True, desc="image whose grid shows it")

    class _OutputSpec(TraitedSpec):
        composite_transform = File(exists=True, desc="ITK transform: grid -> image")
        inverse_composite_transform = File(exists=True, desc="ITK transform: image -> grid")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        matrix = alignment.centring(nb.load(self.inputs.in_file), nb.load(self.inputs.grid))
        for name, value in (("", matrix), ("inverse_", np.linalg.inv(matrix))):
            path = _save_matrix(value, runtime.cwd, f"{name}transform.txt")
            self._results[f"{name}composite_transform"] = path
        return runtime


class ToGrid(SimpleInterface):
    """Show an image on a grid without registration (:func:`bids_xai.images.alignment.resampled`).

    Where it is in the grid's space, its affine says where it lies; else centre is put on centre.
    """

    class _InputSpec(_ImageInputSpec):
        grid = File(exists=True, mandatory=True, desc="image whose grid the result has")
        in_space = traits.Bool(mandatory=True, desc="the image is in the grid's space")

    class _OutputSpec(_ImageOutputSpec):
        out_view = File(exists=True, desc="where the grid shows the image; everywhere if centred")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, grid = nb.load(self.inputs.in_file), nb.load(self.inputs.grid)
        shown, matrix = np.ones(grid.shape[:3], dtype=bool), None
        if self.inputs.in_space:
            shown, matrix = alignment.seen(image, grid), np.eye(4)
        if not shown.any():
            raise InputError(
                f"{self.inputs.in_file} shows nothing of the space that it is said to be in: it lies beside "
                f"{grids.describe_grid(grid, 'the grid of the template')}.",
                "an image in the space named by --space",
                "leave out --space to centre images on the grid, or register them (--preproc ants)",
            )
        data = alignment.resampled(image, grid, matrix)
        view = grids.image_like(shown.astype(np.uint8), grid)
        self._results["out_file"] = save_image(grids.image_like(data, grid), runtime.cwd, "fitted.nii.gz")
        self._results["out_view"] = save_image(view, runtime.cwd, "view.nii.gz")
        return runtime


class AnalysisGrid(SimpleInterface):
    """Bring a template and its mask to the resolution and shape of the analysis."""

    class _InputSpec(BaseInterfaceInputSpec):
        template = File(exists=True, mandatory=True, desc="T1w of the template")
        mask = File(exists=True, mandatory=True, desc="its brain mask")
        resolution = traits.Float(desc="voxel size in mm; absent: the template's")
        shape = traits.Tuple(traits.Int, traits.Int, traits.Int, desc="voxels; absent: the template's")

    class _OutputSpec(TraitedSpec):
        template = File(exists=True, desc="the template on the grid")
        mask = File(exists=True, desc="the mask on the grid")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        template, mask = nb.load(self.inputs.template), nb.load(self.inputs.mask)
        if isdefined(self.inputs.resolution):
            template = grids.downsample(template, self.inputs.resolution)
            mask = masking.downsample_mask(mask, self.inputs.resolution)
        if isdefined(self.inputs.shape):
            template, mask = (grids.fit_shape(image, self.inputs.shape) for image in (template, mask))
        self._results["template"] = save_image(template, runtime.cwd, "template.nii.gz")
        self._results["mask"] = save_image(mask, runtime.cwd, "mask.nii.gz")
        return runtime


class ClipNegative(SimpleInterface):
    """Set to 0 what an interpolation with splines undershoots."""

    input_spec = _ImageInputSpec
    output_spec = _ImageOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = nb.load(self.inputs.in_file)
        clipped = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, None)
        self._results["out_file"] = save_image(
            grids.image_like(clipped, image), runtime.cwd, "clipped.nii.gz"
        )
        return runtime


class MaskImage(SimpleInterface):
    """Set an image to 0 outside a mask on its grid."""

    class _InputSpec(_ImageInputSpec):
        in_mask = File(exists=True, mandatory=True, desc="mask on the image's grid")

    input_spec = _InputSpec
    output_spec = _ImageOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = masked(nb.load(self.inputs.in_file), nb.load(self.inputs.in_mask))
        self._results["out_file"] = save_image(image, runtime.cwd, "masked.nii.gz")
        return runtime


def masked(image: nb.Nifti1Image, mask: nb.Nifti1Image) -> nb.Nifti1Image:
    """Return an image that is 0 outside a mask on its grid."""
    grids.check_same_grid(image, mask)
    inside = np.asarray(mask.dataobj) > 0
    return grids.image_like(np.where(inside, np.asarray(image.dataobj, dtype=np.float32), 0), image)


def _at_most(image: nb.Nifti1Image, resolution: float) -> nb.Nifti1Image:
    """Bring an image to a voxel size unless some of its voxels are larger already."""
    if (grids.voxel_sizes(image) > resolution * 0.99).any():
        return image
    return grids.downsample(image, resolution)


def _save_matrix(matrix: Any, folder: str, name: str) -> str:
    path = str(Path(folder) / name)
    Affine(matrix).to_filename(path, fmt="itk")
    return path
