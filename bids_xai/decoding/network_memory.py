"""What networks hold in memory: bytes of a process with its libraries."""

from __future__ import annotations

from dataclasses import dataclass

# Interpreter, nipype and torch.
_LIBRARIES = 0.35 * 2**30


@dataclass(frozen=True)
class NetworkSize:
    """What the memory of networks depends on.

    Parameters
    ----------
    volumes
        Bytes of all volumes.
    working
        Bytes of outputs, gradients and parameters while a network is trained.
    n_explanations
        Number of explanations.
    """

    volumes: float
    working: float
    n_explanations: int


def volumes_bytes(size: NetworkSize) -> float:
    """Count the volumes."""
    return _LIBRARIES + size.volumes


def training_bytes(size: NetworkSize) -> float:
    """Count the volumes, and what training or explaining a network takes."""
    return _LIBRARIES + size.volumes + size.working


def maps_bytes(size: NetworkSize) -> float:
    """Count the maps of every sample and explanation, and one more."""
    return _LIBRARIES + size.volumes * (size.n_explanations + 1)
