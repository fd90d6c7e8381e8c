"""Memory that nodes declare to the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from nipype.pipeline import engine as pe

from bids_xai.bids.records import RunRecord
from bids_xai.interfaces.memory import RunSize

_GIGABYTE = 2**30


def with_memory(node: pe.Node, needed: Callable[[Any], float]) -> pe.Node:
    """Return a node, which now knows what it takes: :func:`declare_memory` asks for that.

    Graphs are made before the sizes of data are known, and without them.

    Parameters
    ----------
    node
        The node; of a MapNode it is a part that takes so much.
    needed
        Gives the bytes of its process from a size: of a run (:class:`bids_xai.interfaces.memory.RunSize`), of
        the group level (:class:`bids_xai.inference.memory.GroupSize`) or of networks
        (:class:`bids_xai.decoding.network_memory.NetworkSize`). All nodes of a graph take the same kind.
    """
    node.needed_bytes = needed
    return node


def declare_memory(workflow: pe.Workflow, size: Any) -> None:
    """Let the nodes of a graph that know what they take declare it for a size (:func:`with_memory`)."""
    for _, node in _nodes(workflow):
        node._mem_gb = node.needed_bytes(size) / _GIGABYTE


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
        name: max(node.needed_bytes(size) for size in sizes) / _GIGABYTE
        for name, node in _nodes(workflow)
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
    for name, node in _nodes(workflow):
        node._mem_gb = gb.get(name, node._mem_gb)
        if low_mem and "low_mem" in node.inputs.copyable_trait_names():
            node.inputs.low_mem = True


def _nodes(workflow: pe.Workflow) -> Iterator[tuple[str, pe.Node]]:
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if hasattr(node, "needed_bytes"):
            yield name, node


def _size(run: RunRecord, field: SpatialImage | None, resolution: float | None, low_mem: bool) -> RunSize:
    image = nb.load(run.bold)
    native, voxel_mm3 = float(np.prod(image.shape[:3])), _voxel_mm3(image)
    field_mm3 = native * voxel_mm3 if field is None else float(np.prod(field.shape[:3])) * _voxel_mm3(field)
    grid = field_mm3 / (voxel_mm3 if resolution is None else resolution**3)
    return RunSize(native, grid, run.n_volumes, low_mem)


def _voxel_mm3(image: SpatialImage) -> float:
    return float(abs(np.linalg.det(image.affine[:3, :3])))
