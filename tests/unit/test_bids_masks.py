"""Masks of templates in the work folder, which jobs of several participants may share."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_xai.bids.masks import template_mask_file


def _image(step: float) -> nb.Nifti1Image:
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -90, -126, -72
    shape = tuple(int(size / step) for size in (180, 216, 180))
    return nb.Nifti1Image(np.zeros(shape, np.uint8), affine)


def test_every_grid_has_a_mask_of_its_own_that_keeps_its_date(tmp_path: Path) -> None:
    space = "MNI152NLin2009cAsym"
    coarse = template_mask_file(space, _image(12.0), work_dir=tmp_path)
    os.utime(coarse, (1, 1))
    before = coarse.read_bytes()
    fine = template_mask_file(space, _image(9.0), work_dir=tmp_path)
    assert nb.load(fine).shape == _image(9.0).shape
    # Another participant's grid neither takes the place of the first one nor makes its nodes outdated.
    assert coarse.read_bytes() == before
    assert template_mask_file(space, _image(12.0), work_dir=tmp_path) == coarse
    assert coarse.stat().st_mtime == 1
