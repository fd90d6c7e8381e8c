"""What an explanation starts from: the output of a class, or one filter of an inner layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bids_xai.models.outputs import class_scores


@dataclass(frozen=True)
class Start:
    """The number per volume that is explained.

    Parameters
    ----------
    target
        Class of every volume, int64, shape (n,).
    kind
        ``"logit"`` or ``"probability"`` (:func:`bids_xai.models.outputs.class_scores`).
    layer, filter
        Name of an inner layer (``network.named_modules()``) and one of its filters: their activation,
        summed over space, is explained instead of a class.
    """

    target: Tensor
    kind: str = "logit"
    layer: str | None = None
    filter: int = 0

    def scores(self, network: nn.Module, x: Tensor) -> Tensor:
        """Return what is explained of volumes (n, 1, x, y, z), shape (n,); differentiable."""
        if self.layer is None:
            scores = class_scores(network(x), self.kind)
            return scores.gather(1, self.target.to(x.device)[:, None])[:, 0]
        found: list[Tensor] = []
        handle = network.get_submodule(self.layer).register_forward_hook(
            lambda module, inputs, output: found.append(output)  # noqa: ARG005
        )
        try:
            network(x)
        finally:
            handle.remove()
        return found[0][:, self.filter].flatten(1).sum(dim=1)

    def part(self, chosen: slice | Tensor) -> Start:
        """Return the start of some of the volumes."""
        return Start(self.target[chosen], self.kind, self.layer, self.filter)


def of_class(code: int, n: int, kind: str = "logit") -> Start:
    """Return the start from one class for n volumes."""
    return Start(torch.full((n,), code, dtype=torch.int64), kind)
