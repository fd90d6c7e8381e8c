"""Memory that nodes declare to the scheduler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from nipype.pipeline import engine as pe

from bids_xai.bids.records import RunRecord

# One number for all nodes, or one for each by name.
Memory = float | Mapping[str, float]

_GIGABYTE = 2**30
_LIBRARIES = 0.2 * _GIGABYTE
# Of the voxels of a grid; brain masks with their margin are smaller.
_INSIDE = 0.3
# Volumes that the estimation of motion holds (images.motion), and that one interpolation does.
_REALIGNED, _INTERPOLATED = 64, 14
# Copies of a tile of 8192 voxels while it is cleaned (images.cleaning, images.dvars).
_TILE_BYTES = 8 * 8192 * 8
# Of a run in single precision that FSL's programs hold.
_FSL_COPIES = 3
FSL_NODES = (
    *("realign_wf.reorient", "realign_wf.mcflirt", "realign_wf.mean", "realign_wf.extract"),
    *("high_pass_wf.mean", "high_pass_wf.high_pass", "resample_wf.apply"),
)


def memory_of(mem_gb: Memory, node: str) -> float:
    """Return the GB of a node."""
    return mem_gb[node] if isinstance(mem_gb, Mapping) else float(mem_gb)


def run_memory(
    runs: Sequence[RunRecord],
    *,
    field: SpatialImage | None = None,
    resolution: float | None = None,
    low_mem: bool = False,
) -> dict[str, float]:
    """Return the GB that nodes of runs take, by the end of their names, for the largest run, from headers.

    Parameters
    ----------
    runs
        The runs of a subject.
    field
        Image whose field of view the runs are brought to; None: they keep their own.
    resolution
        Voxel size in mm of the analysis grid; None: that of the runs.
    low_mem
        Resampled runs are held in files.
    """
    largest: dict[str, float] = {}
    for run in runs:
        image = nb.load(run.bold)
        native, n = float(np.prod(image.shape[:3])), run.n_volumes
        voxel_mm3 = float(abs(np.linalg.det(image.affine[:3, :3])))
        field_mm3 = native * voxel_mm3
        if field is not None:
            field_mm3 = float(np.prod(field.shape[:3]) * abs(np.linalg.det(field.affine[:3, :3])))
        grid = field_mm3 / (voxel_mm3 if resolution is None else resolution**3)
        whole, inside = 4 * n * grid, 4 * n * grid * _INSIDE
        tile = _TILE_BYTES * n
        of_run = {
            "bold_wf.motion": 8 * native * _REALIGNED,
            "bold_wf.resample": (0 if low_mem else whole / 2) + 8 * (grid + native) * _INTERPOLATED,
            **dict.fromkeys(("bold_wf.confounds", "resample_wf.confounds"), 2 * inside + tile),
            "samples_wf.extract": 1.2 * inside + whole / 8 + tile,
            "grid_wf.downsample": whole + 8 * native * 4,
            "grid_wf.fit": 2 * whole,
            **dict.fromkeys(FSL_NODES, _FSL_COPIES * 4 * n * native),
        }
        for name, size in of_run.items():
            largest[name] = max(largest.get(name, 0), (_LIBRARIES + size) / _GIGABYTE)
    return largest


def declare_run_memory(
    workflow: pe.Workflow,
    runs: Sequence[RunRecord],
    *,
    template: Path | str | None = None,
    resolution: float | None = None,
    low_mem: bool = False,
) -> None:
    """Let the nodes of a graph that work on runs declare :func:`run_memory`, and hold runs in files.

    Parameters
    ----------
    workflow
        The graph of a subject.
    template
        Image whose field of view the runs are brought to; None: they keep their own.
    runs, resolution, low_mem
        See :func:`run_memory`.
    """
    try:
        field = None if template is None else nb.load(template)
        gb = run_memory(runs, field=field, resolution=resolution, low_mem=low_mem)
    except (ImageFileError, OSError):
        # The node that reads the image says what is wrong with it.
        return
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if not isinstance(node, pe.MapNode):
            continue
        own = [size for end, size in gb.items() if name.endswith(end)]
        if own:
            node._mem_gb = max(own)
        if low_mem and "low_mem" in node.inputs.copyable_trait_names():
            node.inputs.low_mem = True
