"""Templates: those in packages, TemplateFlow's cache, and their absence."""

from __future__ import annotations

import os
import subprocess
import sys

import nibabel as nb
import numpy as np
import pytest

from bids_xai.errors import InputError
from bids_xai.images import TEMPLATES
from bids_xai.images.grids import same_grid
from bids_xai.images.masking import downsample_mask
from bids_xai.images.templates import template_image, template_mask


@pytest.mark.parametrize("name", TEMPLATES)
def test_packaged_templates(name):
    t1w, mask = template_image(name, 8.0), template_mask(name, 8.0)
    assert same_grid(t1w, mask)
    volume_litres = np.asarray(mask.dataobj).sum() * 8.0**3 / 1e6
    assert 1.4 < volume_litres < 2.3
    inside = np.asarray(mask.dataobj) > 0
    assert t1w.get_fdata()[inside].mean() > 3 * np.abs(t1w.get_fdata()[~inside]).mean()
    assert int(t1w.header["sform_code"]) == 4
    assert nb.aff2axcodes(t1w.affine) in (("R", "A", "S"), ("L", "A", "S"))


def test_the_published_grid_from_fsls_template():
    at_2mm = template_mask("MNI152NLin6Asym", 2.0)
    assert at_2mm.shape == (91, 109, 91)
    coarse = downsample_mask(at_2mm, 4.0)
    assert coarse.shape == (46, 55, 46)
    # Gotsopoulos et al. have 28 586 voxels from FSL's own 2 mm mask; this one is made from FSL's 1 mm brain.
    assert int(np.asarray(coarse.dataobj).sum()) == pytest.approx(28_586, rel=0.01)


def test_templateflow_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    folder = tmp_path / "tpl-Mine"
    folder.mkdir()
    affine = np.diag([2.0, 2, 2, 1])
    data = np.ones((6, 6, 6), np.float32)
    nb.save(nb.Nifti1Image(data, affine), folder / "tpl-Mine_res-02_T1w.nii.gz")
    nb.save(nb.Nifti1Image(data, affine), folder / "tpl-Mine_res-02_desc-brain_mask.nii.gz")
    # A file that TemplateFlow lists and has not fetched.
    (folder / "tpl-Mine_res-01_T1w.nii.gz").touch()
    assert template_image("Mine").shape == (6, 6, 6)
    assert template_mask("Mine", 4.0).shape == (3, 3, 3)


def test_absent_template_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"'OASIS30ANTs' is not on this machine(.|\n)*--allow-downloads"):
        template_image("OASIS30ANTs")
    with pytest.raises(InputError, match="did you mean 'MNI152NLin2009cAsym'"):
        template_mask("MNI152NLin2009cAsim")


def test_a_template_that_cannot_be_fetched_is_wrong_input_and_not_a_crash():
    # A folder that nobody can make, with or without network.
    environ = {**os.environ, "TEMPLATEFLOW_HOME": "/proc/none"}
    words = [sys.executable, "-m", "bids_xai.cli.fetch", "NKI"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be fetched into /proc/none" in done.stderr
    assert "Traceback" not in done.stderr
