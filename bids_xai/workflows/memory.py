"""Memory that nodes declare to the scheduler."""

from __future__ import annotations

from collections.abc import Mapping

# One number for all nodes, or one for each by name.
Memory = float | Mapping[str, float]


def memory_of(mem_gb: Memory, node: str) -> float:
    """Return the GB of a node."""
    return mem_gb[node] if isinstance(mem_gb, Mapping) else float(mem_gb)
