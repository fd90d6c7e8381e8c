"""Interfaces for BOLD runs: the tables that they write."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.bids.confounds import ENGINE_COLUMNS
from bids_xai.interfaces.functional import EstimateMotion, GatherConfounds

N_VOLUMES = 6


def test_confounds_have_the_columns_that_engines_promise(tmp_path: Path, rng: np.random.Generator) -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 12)] * 3, indexing="ij"))
    head = 1000 * np.exp(-3 * np.square(grid).sum(axis=0))
    data = head[..., None] + rng.normal(scale=5, size=(12, 12, 12, N_VOLUMES))
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    run, mask = tmp_path / "bold.nii.gz", tmp_path / "mask.nii.gz"
    nb.save(nb.Nifti1Image(data.astype(np.float32), affine), run)
    nb.save(nb.Nifti1Image((head > 100).astype(np.uint8), affine), mask)
    motion = EstimateMotion(in_file=str(run)).run(cwd=str(tmp_path)).outputs
    result = GatherConfounds(in_file=str(run), in_mask=str(mask), in_parameters=motion.out_parameters).run(
        cwd=str(tmp_path)
    )
    table = pd.read_csv(result.outputs.out_file, sep="\t", na_values=["n/a"])
    assert tuple(table.columns) == ENGINE_COLUMNS
    assert len(table) == N_VOLUMES
    needs_a_volume_before = [
        name for name in table if "derivative1" in name or "dvars" in name or name == "framewise_displacement"
    ]
    assert table[needs_a_volume_before].iloc[0].isna().all()
    assert not table.drop(columns=needs_a_volume_before).isna().any(axis=None)
    assert not table.iloc[1:].isna().any(axis=None)
    np.testing.assert_allclose(table["global_signal"], data[head > 100].mean(axis=0), rtol=1e-5)
