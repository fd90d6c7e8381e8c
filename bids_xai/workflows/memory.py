"""Memory that nodes declare to the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from nipype.pipeline import engine as pe

from bids_xai.bids.records import RunRecord
from bids_xai.interfaces.memory import RunSize

# One number for all nodes, or one for each by name.
Memory = float | Mapping[str, float]

_GIGABYTE = 2**30
_LIBRARIES = 0.2 * _GIGABYTE


def memory_of(mem_gb: Memory, node: str) -> float:
    """Return the GB of a node."""
    return mem_gb[node] if isinstance(mem_gb, Mapping) else float(mem_gb)


def of_runs(node: pe.MapNode, needed: Callable[[RunSize], float]) -> pe.MapNode:
    """Return a node, which now knows what a run takes in it: :func:`declare_run_memory` asks for that.

    Graphs are made before the sizes of runs are known, and without them.

    Parameters
    ----------
    node
        A node with a run in every part.
    needed
        Gives the bytes that a part takes besides its libraries: the ``*_bytes`` beside the interface.
    """
    node.needed_of_run = needed
    return node


def run_memory(
    workflow: pe.Workflow,
    runs: Sequence[RunRecord],
    *,
    field: SpatialImage | None = None,
    resolution: float | None = None,
    low_mem: bool = False,
) -> dict[str, float]:
    """Return the GB that the nodes of a graph that hold runs take, by name, for the largest run.

    Parameters
    ----------
    workflow
        The graph: :func:`bids_xai.workflows.samples.init_samples_wf`, or one that contains it.
    runs
        The runs of a subject; their headers are read.
    field
        Image whose field of view the runs are brought to; None: they keep their own.
    resolution
        Voxel size in mm of the analysis grid; None: that of the runs.
    low_mem
        Resampled runs are held in files.
    """
    sizes = [_size(run, field, resolution, low_mem) for run in runs]
    return {
        name: (_LIBRARIES + max(node.needed_of_run(size) for size in sizes)) / _GIGABYTE
        for name, node in _nodes_of_runs(workflow)
        if sizes
    }


def declare_run_memory(
    workflow: pe.Workflow,
    runs: Sequence[RunRecord],
    *,
    template: Path | str | None = None,
    resolution: float | None = None,
    low_mem: bool = False,
) -> None:
    """Let the nodes of a graph that hold runs declare :func:`run_memory`, and hold runs in files.

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
        gb = run_memory(workflow, runs, field=field, resolution=resolution, low_mem=low_mem)
    except (ImageFileError, OSError):
        # The node that reads the image says what is wrong with it.
        return
    for name, node in _nodes_of_runs(workflow):
        node._mem_gb = gb.get(name, node._mem_gb)
        if low_mem and "low_mem" in node.inputs.copyable_trait_names():
            node.inputs.low_mem = True


def _nodes_of_runs(workflow: pe.Workflow) -> Iterator[tuple[str, pe.MapNode]]:
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if hasattr(node, "needed_of_run"):
            yield name, node


def _size(run: RunRecord, field: SpatialImage | None, resolution: float | None, low_mem: bool) -> RunSize:
    image = nb.load(run.bold)
    native, voxel_mm3 = float(np.prod(image.shape[:3])), _voxel_mm3(image)
    field_mm3 = native * voxel_mm3 if field is None else float(np.prod(field.shape[:3])) * _voxel_mm3(field)
    grid = field_mm3 / (voxel_mm3 if resolution is None else resolution**3)
    return RunSize(native, grid, run.n_volumes, low_mem)


def _voxel_mm3(image: SpatialImage) -> float:
    return float(abs(np.linalg.det(image.affine[:3, :3])))
