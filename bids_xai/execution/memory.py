"""Memory of the group level: what its nodes will declare, and refusing what does not fit.

Measured by ``tests/benchmarks/bench_node_memory.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bids_xai.attribution.runs import WEIGHTS_AT_ONCE
from bids_xai.decoding.design import Design
from bids_xai.decoding.network_memory import NetworkSize, maps_bytes, training_bytes, volumes_bytes
from bids_xai.errors import InputError
from bids_xai.execution.resources import GIGABYTE, Resources
from bids_xai.inference.memory import (
    GroupSize,
    chunk_bytes,
    collect_bytes,
    results_bytes,
    summary_bytes,
    thresholds_bytes,
    univariate_bytes,
)
from bids_xai.inference.null import kept_values
from bids_xai.settings import Settings

if TYPE_CHECKING:
    from torch import nn

# What messages call the nodes, which declare the same functions.
_GROUP: dict[str, Callable[[GroupSize], float]] = {
    "collect": collect_bytes,
    "univariate": univariate_bytes,
    "thresholds": thresholds_bytes,
    "summarize": summary_bytes,
    "write": results_bytes,
    "chunks": chunk_bytes,
}
_NETWORKS: dict[str, Callable[[NetworkSize], float]] = {
    "collect": volumes_bytes,
    "networks": training_bytes,
    "heatmaps": maps_bytes,
}
# Of the outputs of all layers for a minibatch: they are kept for the gradients, which are as large, and
# convolutions unfold them. Parameters, their gradients, moments, and the best ones.
_COPIES_OF_OUTPUTS, _COPIES_OF_PARAMETERS = 2.4, 5
# CUDA's libraries on the side of the processor.
_CUDA_GB = 3.0


@dataclass(frozen=True)
class GroupMemory:
    """Memory of the nodes of the group level.

    Parameters
    ----------
    size
        What nodes count theirs from (:func:`bids_xai.workflows.memory.declare_memory`).
    gb
        GB by what messages call a node: ``collect``, ``chunks``, ``univariate``, ``thresholds``,
        ``summarize``, ``write``.
    """

    size: GroupSize
    gb: Mapping[str, float]

    @property
    def weights_at_once(self) -> int:
        """Weights that a chunk holds at once (:func:`bids_xai.attribution.runs.run_repetitions`)."""
        return self.size.at_once * self.size.weights


@dataclass(frozen=True)
class NetworksMemory:
    """Memory of the nodes of networks.

    Parameters
    ----------
    size
        What nodes count theirs from (:func:`bids_xai.workflows.memory.declare_memory`).
    gb
        GB by what messages call a node: ``collect``, ``networks`` (each that runs one), ``heatmaps``.
    """

    size: NetworkSize
    gb: Mapping[str, float]


def group_memory(
    settings: Settings, design: Design, n_voxels: int, available: Resources | None = None
) -> GroupMemory:
    """Return what every node takes, with as many weights in a chunk as there is memory for.

    Parameters
    ----------
    settings
        All settings.
    design
        Labels and folds.
    n_voxels
        Voxels of the mask.
    available
        What chunks share; None: nothing is short.
    """
    size = _size(settings, design, n_voxels)
    smallest = size.weights if size.low_mem else max(WEIGHTS_AT_ONCE, size.weights)
    size = replace(size, at_once=min(max(smallest // size.weights, 1), size.chunk_size))
    if available is not None:
        workers = max(available.n_procs // size.n_threads, 1)
        while size.at_once > 1 and chunk_bytes(size) * workers > available.memory_gb * GIGABYTE:
            size = replace(size, at_once=size.at_once - 1)
    return GroupMemory(size, {name: needed(size) / GIGABYTE for name, needed in _GROUP.items()})


def _size(settings: Settings, design: Design, n_voxels: int) -> GroupSize:
    inference, execution = settings.inference, settings.execution
    return GroupSize(
        n_samples=len(design.labels),
        n_voxels=n_voxels,
        n_classes=len(design.classes),
        n_folds=len(design.folds),
        n_tested=max(len(fold.test) for fold in design.folds),
        n_measures=len(inference.importance),
        n_alphas=len(inference.alpha),
        n_kept=kept_values(inference.n_permutations, inference.alpha),
        chunk_size=execution.chunk_size,
        n_threads=execution.omp_nthreads,
        double=settings.decoding.precision == "double",
        low_mem=execution.low_mem,
    )


def check_group_memory(memory: GroupMemory, settings: Settings, available: Resources) -> None:
    """Refuse what would not fit.

    Raises
    ------
    InputError
        A node takes more memory than there is, with the smallest working set.
    """
    node = largest(memory.gb)
    ways = ["a coarser --resolution"]
    if len(settings.inference.importance) > 1:
        ways.append("fewer measures of --importance")
    if node == "summarize" and not settings.execution.low_mem:
        ways.insert(0, "--low-mem")
    if node in ("summarize", "thresholds", "chunks"):
        ways.append("a smaller largest --alpha")
    if settings.decoding.precision == "double":
        ways.insert(0, "--precision single")
    refuse_excess("The group level", memory.gb, available, ways)


def largest(gb: Mapping[str, float]) -> str:
    """Return the node that takes most."""
    return max(gb, key=lambda node: gb[node])


def refuse_excess(what: str, gb: Mapping[str, float], available: Resources, ways: Sequence[str]) -> None:
    """Refuse what has a node that takes more memory than there is.

    Parameters
    ----------
    what
        What needs it, for the message.
    gb
        GB by node.
    available
        What there is.
    ways
        What takes less.

    Raises
    ------
    InputError
        A node takes more.
    """
    node = largest(gb)
    if gb[node] > available.memory_gb:
        raise InputError(
            f"{what} needs {gb[node]:.1f} GB in one process ({node}), and there are "
            f"{available.memory_gb:.1f} GB.",
            f"at least {gb[node]:.1f} GB (--mem-gb; by default nine tenths of what this process may use)",
            f"give more memory, or use {', or '.join(ways)}",
        )


def networks_memory(
    settings: Settings, network: nn.Module, n_samples: int, shape: Sequence[int], device: str
) -> NetworksMemory:
    """Return what the nodes of networks take.

    Parameters
    ----------
    settings
        All settings.
    network
        The network.
    n_samples, shape
        Samples, and voxels of a volume.
    device
        ``"cpu"`` or ``"cuda"``: where layers' outputs and gradients are.
    """
    from bids_xai.decoding.network_estimate import outputs_per_volume
    from bids_xai.models.build import parameter_count

    if device == "cuda":
        working = _CUDA_GB * GIGABYTE
    else:
        outputs = 4.0 * settings.decoding.batch_size * outputs_per_volume(network, shape)
        working = _COPIES_OF_OUTPUTS * outputs + 4.0 * _COPIES_OF_PARAMETERS * parameter_count(network)
    size = NetworkSize(4.0 * n_samples * math.prod(shape), working, len(settings.network.explain))
    return NetworksMemory(size, {name: needed(size) / GIGABYTE for name, needed in _NETWORKS.items()})
