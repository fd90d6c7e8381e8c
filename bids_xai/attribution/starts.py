"""What an explanation starts from: the output of a class, or one filter of an inner layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

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
            return self.of_outputs(network(x))
        found: list[Tensor] = []
        handle = network.get_submodule(self.layer).register_forward_hook(
            lambda module, inputs, output: found.append(output)  # noqa: ARG005
        )
        try:
            network(x)
        finally:
            handle.remove()
        return found[0][:, self.filter].flatten(1).sum(dim=1)

    def of_outputs(self, output: Tensor) -> Tensor:
        """Return the class's score of outputs (n, n_outputs), shape (n,); differentiable.

        A probability is ``sigmoid(m)``, m being the class's log-odds, whose gradient ``p (1 - p) dm`` takes
        ``1 - p`` from ``sigmoid(-m)``: of a probability that rounds to 1 it would be 0.
        """
        if self.kind == "probability":
            return cast("Tensor", _Sigmoid.apply(self._margins(output)))
        return self._chosen(class_scores(output, self.kind))

    def drops(self, clean: Tensor, outputs: Tensor) -> Tensor:
        """Return ``f(x) - f(x')`` of one output (1, n_outputs) and others (n, n_outputs), shape (n,).

        Of probabilities that round to 1 the difference of their complements is taken.
        """
        if self.kind != "probability":
            return self.of_outputs(clean) - self.part(_firsts(outputs)).of_outputs(outputs)
        before, after = self._margins(clean), self.part(_firsts(outputs))._margins(outputs)
        near_one = torch.sigmoid(-after) - torch.sigmoid(-before)
        return torch.where(before + after > 0, near_one, torch.sigmoid(before) - torch.sigmoid(after))

    def _chosen(self, scores: Tensor) -> Tensor:
        return scores.gather(1, self.target.to(scores.device)[:, None])[:, 0]

    def _margins(self, output: Tensor) -> Tensor:
        """Return the log-odds of the class against all others, shape (n,)."""
        if output.shape[1] == 1:
            return self._chosen(class_scores(output))
        target = self.target.to(output.device)[:, None]
        others = output.scatter(1, target, -torch.inf).logsumexp(dim=1)
        return output.gather(1, target)[:, 0] - others

    def part(self, chosen: slice | Tensor) -> Start:
        """Return the start of some of the volumes."""
        return Start(self.target[chosen], self.kind, self.layer, self.filter)


class _Sigmoid(torch.autograd.Function):
    """Sigmoid whose gradient holds where it rounds to 1."""

    @staticmethod
    def forward(ctx: Any, margins: Tensor) -> Tensor:
        ctx.save_for_backward(margins)
        return torch.sigmoid(margins)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (margins,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(margins) * torch.sigmoid(-margins)


def _firsts(outputs: Tensor) -> Tensor:
    """Return the place of the first volume for each of the outputs, which are all of it."""
    return torch.zeros(len(outputs), dtype=torch.int64)


def of_class(code: int, n: int, kind: str = "logit") -> Start:
    """Return the start from one class for n volumes."""
    return Start(torch.full((n,), code, dtype=torch.int64), kind)
