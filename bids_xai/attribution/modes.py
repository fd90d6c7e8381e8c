"""Changes to a network that explanations need for one pass, and that are undone after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Forward = Callable[..., Tensor]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluate (no dropout, stored statistics of batch normalisation); modes are as before after it."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def replaced_forwards(
    network: nn.Module, replace: Callable[[str, nn.Module], Forward | None]
) -> Iterator[None]:
    """Give the leaves of a network another forward while the context lasts.

    Parameters
    ----------
    network
        Network; a leaf is a module without children.
    replace
        Takes a leaf's name and the leaf, returns what is to run instead of its forward, or None.
    """
    changed: list[nn.Module] = []
    try:
        for name, module in leaves(network):
            forward = replace(name, module)
            if forward is not None:
                module.forward = forward
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def leaves(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the names and modules that have no children, in the order of ``named_modules()``."""
    return [(name, module) for name, module in network.named_modules() if not any(module.children())]
