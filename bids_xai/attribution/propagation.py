"""Layer-wise relevance propagation as one forward and one backward with modified gradients.

While a network runs, every leaf's forward is wrapped into an autograd function whose backward hands on
relevance instead of gradients; what is not changed (max-pooling, reshaping) hands on relevance as its
gradient does. Batch normalisations merge with the layer before or after them by following the data, so that
the network itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.modes import Forward, evaluating, leaves, replaced_forwards
from bids_xai.attribution.operations import (
    MEANS,
    NORMALISATIONS,
    WEIGHTED,
    Scale,
    Weighted,
    mean_operation,
    sum_operation,
)
from bids_xai.attribution.rules import Bias, Rule, divided
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError
from bids_xai.models.layers import Add
from bids_xai.models.outputs import class_scores
from bids_xai.models.patches import Merge, Split

BatchNorm = Literal["merge", "pass"]
MaxPool = Literal["winner", "even"]
Kind = Literal["conv", "dense", "mean", "sum"]
Choose = Callable[[Kind, bool], Rule]
"""Gives the rule of a kind of layer, and whether it is the first."""

ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.LeakyReLU, nn.PReLU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Softplus,
    nn.Tanh,
)  # fmt: skip
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout3d, nn.AlphaDropout)
REARRANGEMENTS = (nn.Flatten, nn.Unflatten, nn.ConstantPad3d, Split, Merge)


@dataclass(frozen=True)
class Treatment:
    """What holds for all layers of one propagation.

    Parameters
    ----------
    choose
        Rule per kind and position of a layer.
    bias
        ``"ignore"``: relevance is conserved; ``"include"``: biases absorb their share.
    batch_norm
        ``"merge"``: with the convolution or dense layer before it, else after it (exact). ``"pass"``:
        relevance passes unchanged, and layers use their own weights (Böhle et al. 2019).
    max_pool
        ``"winner"``: the largest input of a window takes all; ``"even"``: all inputs share alike.
    """

    choose: Choose
    bias: Bias = "ignore"
    batch_norm: BatchNorm = "merge"
    max_pool: MaxPool = "winner"


def propagated(network: nn.Module, x: Tensor, start: Start, treatment: Treatment) -> Tensor:
    """Return the relevance of the inputs, shape (n, x, y, z).

    Parameters
    ----------
    network
        Network of modules that are listed here; evaluated, and unchanged afterwards.
    x
        Volumes, shape (n, 1, x, y, z).
    start
        What is explained: the relevance of the class's output is its score (that of -z for the first of two
        classes with one logit z), and of a filter its activation at every position.
    treatment
        Rules.

    Raises
    ------
    InputError
        For a module that no rule is known for, or operations between modules that are no modules.
    """
    run = _Run(network, start, treatment)
    inputs = x.detach().requires_grad_()
    with evaluating(network), replaced_forwards(network, run.replacement):
        output, relevance = run.forward(inputs)
        (attributed,) = torch.autograd.grad(output, inputs, relevance)
    return attributed.sum(dim=1)


class _Wrapped(torch.autograd.Function):
    """Runs ``forward`` without recording it, and hands relevance on by ``backward``."""

    @staticmethod
    def forward(
        ctx: Any, forward: Forward, backward: Callable[[Tensor], tuple[Tensor, ...]], *inputs: Tensor
    ) -> Tensor:
        ctx.hand_on = backward
        return forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.hand_on(relevance[0])


@dataclass
class _Normalisation:
    """A batch normalisation that has not been merged with the layer before it."""

    scale: Scale
    source: Tensor
    merged: bool = False


@dataclass
class _Run:
    """One propagation; ``known`` holds every tensor between leaves and what produced it, by its id."""

    network: nn.Module
    start: Start
    treatment: Treatment
    known: dict[int, tuple[Tensor, Weighted | _Normalisation | None]] = field(default_factory=dict)
    first: bool = True

    def __post_init__(self) -> None:
        weighted = [module for _, module in leaves(self.network) if isinstance(module, WEIGHTED)]
        last = weighted[-1] if weighted else None
        single = last is not None and last.weight.shape[0] == 1
        self.mirrored = last if single and self.start.layer is None else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the explained output and its relevance."""
        self._learn(x, None)
        handles = [
            module.register_forward_pre_hook(self._unmark)
            for module in self.network.modules()
            if any(module.children()) and not isinstance(module, nn.Sequential)
        ]
        found: list[Tensor] = []
        if self.start.layer is not None:
            started = self.network.get_submodule(self.start.layer)
            handles.append(started.register_forward_hook(lambda *call: self._stop(call[2], found)))
        try:
            output = self.network(x)
        finally:
            for handle in handles:
                handle.remove()
            self.known.clear()
        if self.start.layer is None:
            return output, self._of_classes(output.detach())
        activation = found[0].detach()
        relevance = torch.zeros_like(activation)
        relevance[:, self.start.filter] = activation[:, self.start.filter]
        return found[0], relevance

    def _of_classes(self, output: Tensor) -> Tensor:
        logits = output
        if self.mirrored is not None:
            if output.ndim != 2 or output.shape[1] != 2:
                raise InputError(
                    f"An output of shape {tuple(output.shape)} when the last layer has two units.",
                    "a network that ends with the layer of its one logit",
                    "end it with torch.nn.Linear(..., 1)",
                )
            logits = output[:, 1:]
        scores = class_scores(logits, self.start.kind)
        target = self.start.target.to(output.device)[:, None]
        return torch.zeros_like(output).scatter_(1, target, scores.gather(1, target))

    def replacement(self, name: str, module: nn.Module) -> Forward:
        """Return what runs instead of a leaf's forward."""
        original = module.forward
        handlers: tuple[tuple[tuple[type[nn.Module], ...], Callable[..., Tensor]], ...] = (
            (WEIGHTED, self._weighted),
            (NORMALISATIONS, self._normalisation),
            (MEANS, self._mean),
            ((Add,), self._sum),
            ((nn.MaxPool3d,), self._max_pool),
            (ELEMENTWISE, self._passed),
            (IDENTITIES, lambda name, module, original, x: x),  # noqa: ARG005
            (REARRANGEMENTS, lambda name, module, original, x: original(x)),  # noqa: ARG005
        )
        for kinds, handler in handlers:
            if isinstance(module, kinds):
                chosen = handler
                break
        else:
            return lambda *inputs: _refuse(name, module, inputs)

        def forward(*inputs: Tensor) -> Tensor:
            for x in inputs:
                self._check(name, x)
            output = chosen(name, module, original, *inputs)
            if id(output) not in self.known:
                self._learn(output, None)
            return output

        return forward

    def _weighted(self, name: str, module: nn.Conv3d | nn.Linear, original: Forward, x: Tensor) -> Tensor:
        source, before = x, None
        producer = self.known[id(x)][1] if id(x) in self.known else None
        if isinstance(producer, _Normalisation):
            producer.merged, source, before = True, producer.source, producer.scale
        layer = Weighted(name, module, source.detach(), before=before, mirrored=module is self.mirrored)
        rule = self._rule("dense" if isinstance(module, nn.Linear) else "conv")

        def forward(x: Tensor) -> Tensor:
            y = original(x)
            layer.y = y.detach()
            return torch.cat([-y, y], dim=1) if layer.mirrored else y

        wrapped = _Wrapped.apply(forward, lambda relevance: (rule(layer.operation(), relevance),), x)
        self._learn(wrapped, None if layer.mirrored else layer)
        return wrapped

    def _normalisation(
        self, name: str, module: nn.BatchNorm1d | nn.BatchNorm3d, original: Forward, x: Tensor
    ) -> Tensor:
        scale = Scale.of(name, module)
        producer = self.known[id(x)][1] if id(x) in self.known else None
        merge = self.treatment.batch_norm == "merge"
        own = _Normalisation(scale, x.detach())
        if merge and isinstance(producer, Weighted) and producer.after is None:
            producer.after, own.merged = scale, True

        def backward(relevance: Tensor) -> tuple[Tensor]:
            if not merge or own.merged or self.treatment.bias == "ignore":
                return (relevance,)
            # One input, one output: all but the bias's share goes on.
            y = scale.applied(own.source)
            return (divided(relevance * (y - scale.applied(torch.zeros_like(y))), y),)

        output = _Wrapped.apply(original, backward, x)
        self._learn(output, own if merge and not own.merged else None)
        return output

    def _mean(self, name: str, module: nn.Module, original: Forward, x: Tensor) -> Tensor:
        del name, module
        rule, source = self._rule("mean"), x.detach()
        return _Wrapped.apply(
            original, lambda relevance: (rule(mean_operation(source, original), relevance),), x
        )

    def _sum(self, name: str, module: nn.Module, original: Forward, *parts: Tensor) -> Tensor:
        del name, module
        rule, sources = self._rule("sum"), tuple(part.detach() for part in parts)
        return _Wrapped.apply(
            original, lambda relevance: rule(sum_operation(sources), relevance).unbind(dim=1), *parts
        )

    def _max_pool(self, name: str, module: nn.MaxPool3d, original: Forward, x: Tensor) -> Tensor:
        if self.treatment.max_pool == "winner":
            return original(x)
        if module.dilation not in {1, (1, 1, 1)}:
            raise InputError(
                f"The max-pooling {name!r} has dilation {module.dilation}.",
                "windows without gaps for max_pool=even",
                "use max_pool=winner",
            )
        shape = x.shape

        def backward(relevance: Tensor) -> tuple[Tensor]:
            with torch.enable_grad():
                probe = relevance.new_zeros(shape).requires_grad_()
                pooled = functional.avg_pool3d(
                    probe, module.kernel_size, module.stride, module.padding, module.ceil_mode,
                    count_include_pad=False,
                )  # fmt: skip
            return torch.autograd.grad(pooled, probe, relevance)

        return _Wrapped.apply(original, backward, x)

    def _passed(self, name: str, module: nn.Module, original: Forward, x: Tensor) -> Tensor:
        del name
        inplace = getattr(module, "inplace", False)
        # The layer before still needs its output as it was.
        return _Wrapped.apply(
            lambda x: original(x.clone() if inplace else x), lambda relevance: (relevance,), x
        )

    def _rule(self, kind: Kind) -> Rule:
        rule = self.treatment.choose(kind, self.first)
        self.first = False
        return rule

    def _learn(self, x: Tensor, producer: Weighted | _Normalisation | None) -> None:
        self.known[id(x)] = (x, producer)

    def _unmark(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forget what produced the inputs of a block: others may use them, so that nothing merges with it."""
        del module
        for x in inputs:
            if isinstance(x, Tensor) and id(x) in self.known:
                self._learn(x, None)

    def _stop(self, output: Tensor, found: list[Tensor]) -> None:
        """Take the start's activation; what comes after it must not merge with it."""
        found.append(output)
        self._learn(output, None)

    def _check(self, name: str, x: Tensor) -> None:
        if id(x) in self.known or (x._base is not None and id(x._base) in self.known):
            return
        raise InputError(
            f"What enters the module {name!r} comes from no module.",
            "a network whose every operation is a module, so that relevance can be followed",
            "replace functions such as torch.relu, +, torch.cat by modules"
            " (torch.nn.ReLU, bids_xai.models.layers.Residual)",
        )


def _refuse(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    kinds = (*WEIGHTED, *NORMALISATIONS, *MEANS, nn.MaxPool3d, *ELEMENTWISE, *IDENTITIES, *REARRANGEMENTS)
    raise InputError(
        f"No rule of relevance propagation for the module {name!r}, a {type(module).__name__}"
        f" of {len(inputs)} input(s).",
        f"one of {', '.join(kind.__name__ for kind in kinds)}",
        "use an explanation that needs gradients alone, such as integrated-gradients",
    )
