"""Interfaces around FSL's programs: motion, matrices in FLIRT's coordinates, grids, masks of runs."""

from __future__ import annotations

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
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.images import grids, masking
from bids_xai.images.grids import image_like, voxel_sizes
from bids_xai.images.motion import head_centre, motion_regressors, rigid_parameters
from bids_xai.interfaces.memory import LIBRARIES, RunSize
from bids_xai.tables import write_frame

# Share of what an analysis voxel averages that must have data.
_WHOLE = 0.99
_EQUAL_FACTOR = 1e-3
# Of a run in single precision that FSL's programs hold.
_COPIES = 3


def fsl_from_voxel(img: SpatialImage) -> npt.NDArray[np.float64]:
    """Return the 4 x 4 matrix from voxel indices to FLIRT's coordinates in mm.

    These are the indices times the voxel sizes, with the first axis counted from its end where the voxels
    are stored in a right-handed order (positive determinant of the affine).

    Source
    ------
    Jenkinson and Smith 2001, doi:10.1016/S1361-8415(01)00036-6; FSL's FLIRT manual
    """
    matrix = np.diag([*voxel_sizes(img), 1.0])
    if np.linalg.det(img.affine[:3, :3]) > 0:
        matrix[0, 3] = (img.shape[0] - 1) * matrix[0, 0]
        matrix[0, 0] *= -1
    return matrix


def head_movements(motion: npt.NDArray[np.float64], reference: SpatialImage) -> npt.NDArray[np.float64]:
    """Return where the head moved to: MCFLIRT's matrices in world coordinates, from reference to volume.

    Parameters
    ----------
    motion
        (n_volumes, 4, 4) FLIRT matrices of ``mcflirt -mats``, volume to reference volume.
    reference
        Image on the grid of the run.

    Returns
    -------
    array, float64, shape (n_volumes, 4, 4)
        RAS mm, point of the reference -> the same tissue's point in the volume: as
        :class:`bids_xai.images.motion.Motion` has them.

    Source
    ------
    Jenkinson et al. 2002, doi:10.1006/nimg.2002.1132
    """
    to_fsl = fsl_from_voxel(reference) @ np.linalg.inv(reference.affine)
    return np.asarray(np.linalg.inv(to_fsl) @ np.linalg.inv(motion) @ to_fsl)


def centre_matrix(moving: SpatialImage, reference: SpatialImage) -> npt.NDArray[np.float64]:
    """Return the FLIRT matrix that puts one field of view's centre on another's, and turns nothing.

    Applied with ``flirt -applyxfm`` it pads and crops ``moving`` to the reference's grid: the comparison
    without registration of Klingenberg et al. 2021.

    Parameters
    ----------
    moving, reference
        Images with at least three dimensions.

    Returns
    -------
    array, float64, shape (4, 4)
        From the coordinates of ``moving`` to those of ``reference`` (:func:`fsl_from_voxel`), in mm.
    """
    shift = np.eye(4)
    shift[:3, 3] = _centre(reference) - _centre(moving)
    to_reference = fsl_from_voxel(reference) @ np.linalg.inv(reference.affine)
    return np.asarray(to_reference @ shift @ moving.affine @ np.linalg.inv(fsl_from_voxel(moving)))


def _centre(img: SpatialImage) -> npt.NDArray[np.float64]:
    middle = (np.asarray(img.shape[:3]) - 1) / 2
    return np.asarray(nb.affines.apply_affine(img.affine, middle))


def coverage(
    run: SpatialImage,
    reference: SpatialImage,
    to_reference: npt.NDArray[np.float64],
    motion: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Tell for every voxel of a reference whether it lies in the field of view of every volume of a run.

    It is the field of view that counts, not what BET leaves of it. A voxel's centre lies in a view that its
    outermost voxels reach half of their size beyond their centres.

    Parameters
    ----------
    run
        The run, on the grid that ``motion`` refers to.
    reference
        Image whose grid the result has.
    to_reference
        (4, 4) FLIRT matrix, run to ``reference``.
    motion
        (n_volumes, 4, 4) FLIRT matrices of ``mcflirt -mats``, volume to reference volume.

    Returns
    -------
    ndarray of bool, shape of ``reference``
    """
    to_run = np.linalg.inv(to_reference) @ fsl_from_voxel(reference)
    to_voxel = np.linalg.inv(fsl_from_voxel(run))
    covered = np.ones(reference.shape[:3], dtype=bool)
    i, j, k = np.ogrid[tuple(slice(size) for size in covered.shape)]
    for matrix in motion:
        rows = to_voxel @ np.linalg.inv(matrix) @ to_run
        for (x, y, z, start), size in zip(rows[:3], run.shape[:3], strict=True):
            at = (x * i + start) + y * j + z * k
            covered &= (at > -0.5) & (at < size - 0.5)
    return covered


def reference_grid(
    img: SpatialImage, mask: SpatialImage, voxel_mm: float, analysis_mm: float | None = None
) -> tuple[SpatialImage, SpatialImage]:
    """Bring a template and its mask to coarser voxels, on which images are registered and resampled.

    Zeros are added at the far ends, less than one analysis voxel, so that the grid with voxels of
    ``analysis_mm`` is the same whether it is made of the template or of the result. A template that has
    ``voxel_mm`` along an axis, or more, is returned as it is.

    Parameters
    ----------
    img, mask
        Template and its mask, on one grid.
    voxel_mm
        Voxel size of the result.
    analysis_mm
        Voxel size of the analysis, at least ``voxel_mm``; None: that of the result.
    """
    sizes = voxel_sizes(img)
    if (sizes > voxel_mm * (1 - _EQUAL_FACTOR)).any():
        return img, mask
    coarse, coarse_mask = grids.downsample(img, voxel_mm), masking.downsample_mask(mask, voxel_mm)
    if analysis_mm is None:
        return coarse, coarse_mask
    steps = np.floor((np.asarray(img.shape[:3]) - 1) * sizes / analysis_mm + 1e-6)
    needed = np.ceil(steps * analysis_mm / voxel_mm - 1e-6).astype(int) + 1
    widths = [(0, max(0, new - old)) for new, old in zip(needed, coarse.shape, strict=True)]
    padded = [image_like(np.pad(np.asarray(made.dataobj), widths), made) for made in (coarse, coarse_mask)]
    return padded[0], padded[1]


class ReorientImage(SimpleInterface):
    """Store an image as FSL's programs need it (:func:`bids_xai.images.grids.reoriented`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3-D or 4-D image")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="the image as float32, axes in order")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        path = Path(self.inputs.in_file)
        out_file = Path(runtime.cwd) / f"{path.name.split('.nii')[0]}_reoriented.nii.gz"
        nb.save(grids.reoriented(nb.load(path)), out_file)
        self._results["out_file"] = str(out_file)
        return runtime


def program_bytes(run: RunSize) -> float:
    """Count the run as it comes, as one of FSL's programs holds it, or :class:`ReorientImage`."""
    return LIBRARIES + _COPIES * 4 * run.n_volumes * run.native


class MotionParameters(SimpleInterface):
    """Write MCFLIRT's movements as a table (:func:`bids_xai.images.motion.motion_regressors`).

    They are those of :class:`bids_xai.interfaces.functional.EstimateMotion`: movements of the head, about its
    centre, in world coordinates (:func:`head_movements`). MCFLIRT's own ``.par`` file has the opposite
    direction, other axes and another centre.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_motion = File(exists=True, mandatory=True, desc="FLIRT matrices, four lines per volume")
        in_reference = File(exists=True, mandatory=True, desc="mean of the realigned run")

    class _OutputSpec(TraitedSpec):
        out_parameters = File(exists=True, desc="TSV: motion parameters and framewise displacement")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        reference = nb.load(self.inputs.in_reference)
        matrices = head_movements(np.loadtxt(self.inputs.in_motion).reshape(-1, 4, 4), reference)
        centre = head_centre(np.asarray(reference.dataobj, dtype=np.float64), reference)
        out_file = Path(runtime.cwd) / "motion.tsv"
        write_frame(pd.DataFrame(motion_regressors(rigid_parameters(matrices, centre))), out_file)
        self._results["out_parameters"] = str(out_file)
        return runtime


class MergeMatrices(SimpleInterface):
    """Join the matrices of ``mcflirt -mats`` in the order of the volumes, four lines each, as FEAT does."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="4 x 4 matrices of one run")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="text file of 4 n_volumes lines")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        out_file = Path(runtime.cwd) / "hmc.mat"
        texts = [Path(path).read_text().strip() for path in self.inputs.in_files]
        out_file.write_text("\n".join(texts) + "\n")
        self._results["out_file"] = str(out_file)
        return runtime


class CentreMatrix(SimpleInterface):
    """Write the FLIRT matrix that only moves an image to the centre (:func:`centre_matrix`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="image to move")
        reference = File(exists=True, mandatory=True, desc="image in whose centre it shall be")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="4 x 4 matrix as flirt -init reads it")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        out_file = Path(runtime.cwd) / "centre.mat"
        matrix = centre_matrix(nb.load(self.inputs.in_file), nb.load(self.inputs.reference))
        np.savetxt(out_file, matrix, fmt="%.10g")
        self._results["out_file"] = str(out_file)
        return runtime


class ReferenceGrid(SimpleInterface):
    """Bring a template and its mask to the voxels that images are registered on (:func:`reference_grid`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="T1w of the template")
        in_mask = File(exists=True, mandatory=True, desc="its brain mask")
        voxel = traits.Float(desc="voxel size in mm; absent: the template's")
        resolution = traits.Float(desc="voxel size in mm of the analysis; absent: that of the result")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="the template, or what was made of it")
        out_mask = File(exists=True, desc="its mask, or what was made of it")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        self._results.update(out_file=inputs.in_file, out_mask=inputs.in_mask)
        if not isdefined(inputs.voxel):
            return runtime
        template, mask = reference_grid(
            nb.load(inputs.in_file),
            nb.load(inputs.in_mask),
            inputs.voxel,
            inputs.resolution if isdefined(inputs.resolution) else None,
        )
        folder = Path(runtime.cwd)
        nb.save(template, folder / "downsampled.nii")
        nb.save(mask, folder / "mask.nii.gz")
        self._results.update(out_file=str(folder / "downsampled.nii"), out_mask=str(folder / "mask.nii.gz"))
        return runtime


class RunCoverage(SimpleInterface):
    """Find where every volume of a run has data, on a reference's grid (:func:`coverage`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="image on the grid of the realigned run")
        in_motion = File(exists=True, mandatory=True, desc="FLIRT matrices, four lines per volume")
        in_matrix = File(exists=True, mandatory=True, desc="FLIRT matrix, run to reference")
        reference = File(exists=True, mandatory=True, desc="image whose grid the result has")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="1 where every volume has data, else 0")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        reference = nb.load(self.inputs.reference)
        covered = coverage(
            nb.load(self.inputs.in_file),
            reference,
            np.loadtxt(self.inputs.in_matrix),
            np.loadtxt(self.inputs.in_motion).reshape(-1, 4, 4),
        )
        out_file = Path(runtime.cwd) / "coverage.nii.gz"
        nb.save(image_like(covered.astype(np.uint8), reference), out_file)
        self._results["out_file"] = str(out_file)
        return runtime


class RunMasks(SimpleInterface):
    """Find where a run has data, and where its brain is, within the mask of the analysis."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_mask = File(exists=True, mandatory=True, desc="mask on the analysis grid")
        in_coverage = File(
            exists=True, mandatory=True, desc="1 where the run has data, on the reference's grid"
        )
        in_brain = File(exists=True, mandatory=True, desc="the run's brain mask, on the reference's grid")
        resolution = traits.Float(desc="voxel size in mm of the analysis; absent: that of the reference")
        shape = traits.Tuple(traits.Int, traits.Int, traits.Int, desc="voxels of the analysis; absent: as is")

    class _OutputSpec(TraitedSpec):
        out_mask = File(exists=True, desc="the mask where all that a voxel averages has data")
        out_brain = File(exists=True, desc="the part of it that is in the run's brain mask")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        images, names = [nb.load(inputs.in_mask)], [inputs.in_mask]
        for port, path, share in (
            ("out_mask", inputs.in_coverage, _WHOLE),
            ("out_brain", inputs.in_brain, 0.5),
        ):
            img = nb.load(path)
            if isdefined(inputs.resolution):
                img = grids.downsample(img, inputs.resolution)
            if isdefined(inputs.shape):
                img = grids.fit_shape(img, inputs.shape)
            inside = np.asarray(img.dataobj) >= share
            images.append(image_like(inside.astype(np.uint8), img))
            names.append(path)
            out_file = Path(runtime.cwd) / f"{port.removeprefix('out_')}.nii.gz"
            nb.save(masking.intersect(images, names), out_file)
            self._results[port] = str(out_file)
        return runtime
