"""What the nodes of the group level take of memory, from the design and the settings.

Measured by ``tests/benchmarks/bench_node_memory.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_xai.attribution.runs import WEIGHTS_AT_ONCE
from bids_xai.decoding.basis import is_dual
from bids_xai.decoding.design import Design
from bids_xai.errors import InputError
from bids_xai.execution.resources import GIGABYTE, Resources
from bids_xai.inference.ledger import part_values
from bids_xai.inference.null import kept_values
from bids_xai.settings import Settings

if TYPE_CHECKING:
    from torch import nn

# Interpreter, nipype and the libraries that a node of the kind loads.
_LIBRARIES = {"chunks": 0.18, "summaries": 0.18, "images": 0.18, "figures": 0.35, "networks": 0.35}
# Values of a tile and its temporary copies (inference.univariate).
_TILE_BYTES = 3.5 * 8 * (1 << 23)
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
    gb
        GB by node: ``collect``, ``chunks``, ``univariate``, ``thresholds``, ``summarize``, ``write``.
    weights_at_once
        Weights that a chunk holds at once (:func:`bids_xai.attribution.runs.run_repetitions`).
    """

    gb: Mapping[str, float]
    weights_at_once: int


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
    size = _Sizes(settings, design, n_voxels)
    of_repetition = len(design.folds) * len(design.classes) * n_voxels
    smallest = of_repetition if settings.execution.low_mem else max(WEIGHTS_AT_ONCE, of_repetition)
    at_once = min(max(smallest // of_repetition, 1), settings.execution.chunk_size)
    if available is not None:
        workers = max(available.n_procs // settings.execution.omp_nthreads, 1)
        while at_once > 1 and size.chunk(at_once) * workers > available.memory_gb * GIGABYTE:
            at_once -= 1
    parts: dict[str, Callable[[], float]] = {
        "collect": size.collect,
        "univariate": size.univariate,
        "thresholds": size.thresholds,
        "summarize": size.summarize,
        "write": size.write,
    }
    gb = {name: part() / GIGABYTE for name, part in parts.items()}
    return GroupMemory({**gb, "chunks": size.chunk(at_once) / GIGABYTE}, at_once * of_repetition)


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
) -> dict[str, float]:
    """Return the GB that the nodes of networks take, by name.

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

    volumes = 4.0 * n_samples * math.prod(shape)
    if device == "cuda":
        working = _CUDA_GB * GIGABYTE
    else:
        outputs = 4.0 * settings.decoding.batch_size * outputs_per_volume(network, shape)
        working = _COPIES_OF_OUTPUTS * outputs + 4.0 * _COPIES_OF_PARAMETERS * parameter_count(network)
    libraries = _libraries("networks")
    of_maps = volumes * (len(settings.network.explain) + 1)
    return {
        "collect": (libraries + volumes) / GIGABYTE,
        "networks": (libraries + volumes + working) / GIGABYTE,
        "heatmaps": (libraries + of_maps) / GIGABYTE,
    }


class _Sizes:
    """Bytes of the nodes; a value is one of a voxel, a class and a measure."""

    def __init__(self, settings: Settings, design: Design, n_voxels: int) -> None:
        inference = settings.inference
        self.execution, self.double = settings.execution, settings.decoding.precision == "double"
        self.n_samples, self.n_voxels = len(design.labels), n_voxels
        self.n_folds, self.n_classes = len(design.folds), len(design.classes)
        self.n_tested = max(len(fold.test) for fold in design.folds)
        self.n_alphas = len(inference.alpha)
        self.n_kept = kept_values(inference.n_permutations, inference.alpha)
        self.values = len(inference.importance) * self.n_classes * n_voxels
        self.samples = 4.0 * self.n_samples * n_voxels
        self.basis = 4.0 * self.n_samples * min(self.n_samples, n_voxels)
        self.dual = is_dual((self.n_samples, n_voxels))

    def collect(self) -> float:
        """Count samples, their products, and the images of a run while they are read."""
        products = 6 * self.basis if self.dual else self.basis
        return _libraries("images") + self.samples * 1.2 + products

    def chunk(self, at_once: int) -> float:
        """Count weights of the repetitions trained together, those of one more, and what is kept of maps."""
        scale = 2 if self.double else 1
        weights = 4.0 * scale * self.n_folds * self.n_classes * self.n_voxels
        n_threads, n_together = self.execution.omp_nthreads, min(at_once, self.execution.chunk_size)
        samples = self.samples * (3 if self.double else 1) + self.basis * (7 if self.double else 1)
        explained = weights + 4.0 * scale * self.n_tested * self.n_voxels + 4.0 * self.values
        finished = 4.0 * self.values * (n_together if n_threads > 1 else 1)
        largest = 4.0 * self.values * (min(self.n_kept, self.execution.chunk_size) + 1)
        counted = (8.0 * self.n_alphas + 16) * self.values
        part = (
            3 * max(4.0 * self.n_kept, 4.0 * self.n_alphas + 16) * part_values(self.values, 4 * self.n_kept)
        )
        working = n_together * weights + min(n_threads, n_together) * explained + finished
        return _libraries("chunks") + samples + working + max(largest, counted) + part

    def univariate(self) -> float:
        """Count a tile of voxels, and samples that are read through it."""
        return _libraries("chunks") + self.samples + min(_TILE_BYTES, 3.5 * 2 * self.samples)

    def thresholds(self) -> float:
        """Count thresholds, and a part of the null."""
        part = 3 * 4.0 * self.n_kept * part_values(self.values, 4 * self.n_kept)
        return _libraries("chunks") + 4.0 * self.n_alphas * self.values + part

    def summarize(self) -> float:
        """Count the null's largest values, counts of two sets of runs, and all maps."""
        # In a file, the system gives its memory to whoever needs it.
        null = 0.0 if self.execution.low_mem else 4.0 * self.n_kept * self.values
        counts = 2 * (4.0 * self.n_alphas + 8) * self.values
        maps = (12.0 * self.n_alphas + 24) * self.values
        return _libraries("summaries") + null + counts + maps + 8.0 * self.n_alphas * self.values

    def write(self) -> float:
        """Count all maps, and the figures."""
        return _libraries("figures") + (12.0 * self.n_alphas + 20) * self.values


def _libraries(kind: str) -> float:
    return _LIBRARIES[kind] * GIGABYTE
