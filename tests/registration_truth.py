"""How far from the truth a phantom's registration puts its tissue."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nitransforms.io.itk import ITKLinearTransformArray

from bids_xai.interfaces.ants import ApplyTransforms
from bids_xai.phantom.anatomy import MOTION_COLUMNS, Anatomy, draw_anatomy, rigid
from bids_xai.phantom.bids_dataset import _ANATOMY, _stream
from bids_xai.phantom.parameters import TASK, PhantomParameters
from bids_xai.phantom.template import grid, grid_points, load_template, sample

_SPACING_MM = 6.0


def t1w_errors(out: Path, parameters: PhantomParameters, subject: int, space: str) -> tuple[float, float]:
    """Return the mean error in mm over the brain of a subject's T1w, registered and not."""
    points, anatomy = _truth(parameters, subject)
    (transform,) = (out / f"sub-{subject:02d}" / "anat").glob(f"*_from-T1w_to-{space}_*_xfm.*[!n]")
    found = _carried(points, [transform])
    return _error(anatomy.to_template(found), points), _error(anatomy.to_template(points), points)


def run_errors(out: Path, bids: Path, parameters: PhantomParameters, subject: int, space: str) -> list[float]:
    """Return the mean error in mm over the brain of every eighth volume of a subject's runs."""
    points, anatomy = _truth(parameters, subject)
    folder = out / f"sub-{subject:02d}"
    (to_template,) = (folder / "anat").glob(f"*_from-T1w_to-{space}_*_xfm.*[!n]")
    errors = []
    for run in range(1, parameters.runs + 1):
        stem = f"sub-{subject:02d}_task-{TASK}_run-{run}"
        to_t1w = folder / "func" / f"{stem}_from-boldref_to-T1w_mode-image_xfm.h5"
        reference = _carried(points, [to_template, to_t1w])
        movements = folder / "func" / f"{stem}_from-orig_to-boldref_mode-image_xfm.txt"
        matrices = ITKLinearTransformArray.from_filename(str(movements)).to_ras()
        truth = _motion(bids, folder.name, stem, len(matrices))
        for matrix, movement in list(zip(matrices, truth, strict=True))[::8]:
            seen = apply_affine(matrix, reference)
            errors.append(_error(anatomy.to_template(seen, rigid(movement)), points))
    return errors


def _motion(bids: Path, subject: str, stem: str, n_volumes: int) -> np.ndarray:
    path = bids / "derivatives" / "truth" / subject / "func" / f"{stem}_desc-motion_timeseries.tsv"
    if not path.exists():
        return np.zeros((n_volumes, 6))
    return pd.read_csv(path, sep="\t")[list(MOTION_COLUMNS)].to_numpy()


def _truth(parameters: PhantomParameters, subject: int) -> tuple[np.ndarray, Anatomy]:
    template = load_template()
    points = grid_points(*grid(template, _SPACING_MM))
    brain = sample(template.gm + template.wm, template.affine, points) > 0.5
    return points[brain], anatomy_of(parameters, subject)


def anatomy_of(parameters: PhantomParameters, subject: int) -> Anatomy:
    """Return the head that a phantom's subject was given."""
    return draw_anatomy(load_template(), _stream(parameters, _ANATOMY, subject))


def _carried(points: np.ndarray, transforms: list[Path]) -> np.ndarray:
    """Return where transforms put points of the template, by a composite warp of antsApplyTransforms."""
    with tempfile.TemporaryDirectory() as folder:
        line = nb.Nifti1Image(np.zeros((66, 78, 64), np.float32), _field_affine())
        nb.save(line, Path(folder) / "grid.nii.gz")
        ApplyTransforms(
            dimension=3,
            input_image=f"{folder}/grid.nii.gz",
            reference_image=f"{folder}/grid.nii.gz",
            transforms=[str(path) for path in transforms],
            print_out_composite_warp_file=True,
            output_image=f"{folder}/field.nii.gz",
        ).run(cwd=folder)
        field = np.asarray(nb.load(f"{folder}/field.nii.gz").dataobj).squeeze()
    shift = [sample(field[..., axis].astype(np.float32), _field_affine(), points) for axis in range(3)]
    return points + np.stack(shift, axis=1) * [-1, -1, 1]


def _field_affine() -> np.ndarray:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-98, -134, -72]
    return affine


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected, axis=1).mean())
