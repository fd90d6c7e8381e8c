"""Rules of layer-wise relevance propagation: how a layer hands the relevance of its outputs to its inputs.

Notation: z_ij = x_i w_ij contribution of input i to output j, z_j = sum_i z_ij, (.)+ and (.)- positive and
negative part, b_j bias, R_j relevance of output j. With bias="ignore" denominators leave the bias out, so
that relevance is conserved; with bias="include" they hold it, and it absorbs its share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from bids_xai.attribution.operations import Operation

Bias = Literal["ignore", "include"]
OneSided = Literal["plain", "boehle", "conserve"]


class Rule(Protocol):
    """Hands relevance from the outputs of a linear operation to its inputs."""

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i in the shape of ``operation.x`` for R_j in the shape of ``operation.z``."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """Epsilon rule: ``R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j``; epsilon 0 is LRP-0.

    Source: Bach et al. 2015, equations 56 and 58; Montavon et al. 2019, section 10.2.1.
    """

    epsilon: float = 0.0
    bias: Bias = "ignore"

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i."""
        z = operation.z + operation.bias if self.bias == "include" else operation.z
        if self.epsilon:
            z = torch.where(z >= 0, z + self.epsilon, z - self.epsilon)
        return operation.x * operation.transposed(divided(relevance, z), operation.weight)


@dataclass(frozen=True)
class AlphaBeta:
    """Alpha-beta rule: ``R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j``, alpha = 1 + beta.

    beta = 0 is the z+ rule. An output is one-sided where z+_j or z-_j is zero. ``one_sided`` says what it
    hands on: ``"plain"`` the formula, alpha R_j or -beta R_j; ``"boehle"`` R_j, as the factors are set to 1
    (nothing where beta = 0 and z+_j = 0); ``"conserve"`` R_j always.

    Source: Bach et al. 2015, equation 60; Binder et al. 2016; Böhle et al. 2019, equation 2 and their code.
    """

    beta: float = 0.0
    one_sided: OneSided = "plain"
    bias: Bias = "ignore"

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i."""
        if operation.weightless and self.one_sided != "conserve":
            # An average of activations after rectifiers is one-sided everywhere.
            return replace(self, one_sided="conserve")(operation, relevance)
        sides = Sides(operation, operation.weight.clamp(min=0), operation.weight.clamp(max=0))
        bias = operation.bias if self.bias == "include" else torch.zeros_like(operation.bias)
        positive = sides.sums(positive=True) + bias.clamp(min=0)
        negative = None
        alone = nothing(positive)
        if self.beta or (self.one_sided == "conserve" and bool((alone & (relevance != 0)).any())):
            negative = sides.sums(positive=False) + bias.clamp(max=0)
        if negative is None:
            return sides.transposed(divided(relevance, positive), None)
        if self.one_sided == "plain":
            alpha, beta = relevance * (1 + self.beta), relevance * -self.beta
        else:
            alone |= nothing(negative)
            alpha = torch.where(alone, relevance, relevance * (1 + self.beta))
            beta = torch.where(alone, relevance, relevance * -self.beta)
        return sides.transposed(divided(alpha, positive), divided(beta, negative))


@dataclass(frozen=True)
class Gamma:
    """Gamma rule: ``R_i = sum_j (z_ij + gamma z+_ij) / sum_i (z_ij + gamma z+_ij) R_j`` where z_j > 0.

    Where z_j < 0, z- takes the place of z+ (the generalisation to inputs of both signs).

    Source: Montavon et al. 2019, section 10.2.3; Andéol et al. 2021.
    """

    gamma: float = 0.25
    bias: Bias = "ignore"

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i."""
        weight, gamma = operation.weight, self.gamma
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        bias = operation.bias if self.bias == "include" else torch.zeros_like(operation.bias)
        z, agreeing = operation.z, Sides(operation, up, down).sums(positive=True)
        total = z + bias
        above, below = relevance * (total > 0), relevance * (total < 0)
        positive = total + gamma * (agreeing + bias.clamp(min=0))
        sides = Sides(operation, weight + gamma * up, weight + gamma * down)
        if not bool((below != 0).any()):
            return sides.transposed(divided(above, positive), None)
        # z- = z - z+ loses no digits where z < 0.
        negative = total + gamma * (z - agreeing + bias.clamp(max=0))
        return sides.transposed(divided(above, positive), divided(below, negative))


@dataclass(frozen=True)
class Box:
    """z^B rule: ``R_i = sum_j q_ij / sum_i q_ij R_j``, ``q_ij = x_i w_ij - low w+_ij - high w-_ij``.

    For the first layer, whose inputs lie between ``low`` and ``high``; it has no part for a bias.

    Source: Montavon et al. 2017, section 4.2 and table 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i."""
        weight = operation.weight
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        one = torch.ones_like(operation.x[:1])
        total = (
            operation.z - self.low * operation.linear(one, above) - self.high * operation.linear(one, below)
        )
        s = divided(relevance, total)
        return (
            operation.x * operation.transposed(s, weight)
            - self.low * operation.transposed(s, above)
            - self.high * operation.transposed(s, below)
        )


@dataclass(frozen=True)
class Share:
    """w^2 rule and flat rule: ``R_i = sum_j v_ij / sum_i v_ij R_j`` with ``v = w^2``, or 1 where ``flat``.

    For the first layer; the input's values take no part.

    Source: Montavon et al. 2017, table 1 (w^2); Lapuschkin et al. 2019 (flat).
    """

    flat: bool = False

    def __call__(self, operation: Operation, relevance: Tensor) -> Tensor:
        """Return R_i."""
        weight = torch.ones_like(operation.weight) if self.flat else operation.weight**2
        total = operation.linear(torch.ones_like(operation.x[:1]), weight)
        return operation.transposed(divided(relevance, total), weight)


class Sides:
    """Sums over the positive and over the negative contributions of an operation.

    The positive side multiplies x+ with the weights ``a`` and x- with ``b``; the negative side x+ with ``b``
    and x- with ``a``. Inputs without negative values (after rectifiers) need half the work.
    """

    def __init__(self, operation: Operation, a: Tensor, b: Tensor) -> None:
        self.operation, self.a, self.b = operation, a, b
        x = operation.x
        self.above, self.below = x, None
        if bool((x < 0).any()):
            self.above, self.below = x.clamp(min=0), x.clamp(max=0)

    def sums(self, *, positive: bool) -> Tensor:
        """Return the sum of one side's contributions, in the shape of z."""
        a, b = (self.a, self.b) if positive else (self.b, self.a)
        total = self.operation.linear(self.above, a)
        return total if self.below is None else total + self.operation.linear(self.below, b)

    def transposed(self, positive: Tensor, negative: Tensor | None) -> Tensor:
        """Return sum_j z_ij s_j over both sides, in the shape of x."""
        total = self._half(positive, self.a, self.b)
        return total if negative is None else total + self._half(negative, self.b, self.a)

    def _half(self, s: Tensor, a: Tensor, b: Tensor) -> Tensor:
        total = self.above * self.operation.transposed(s, a)
        return total if self.below is None else total + self.below * self.operation.transposed(s, b)


def nothing(z: Tensor) -> Tensor:
    """Return where a sum is zero, or so near that dividing by it would overflow."""
    return z.abs() <= torch.finfo(z.dtype).tiny ** 0.75


def divided(relevance: Tensor, z: Tensor) -> Tensor:
    """Return R_j / z_j, 0 where z_j is zero."""
    return torch.where(nothing(z), 0.0, relevance / z)
