"""Layer-wise relevance propagation and deep Taylor decomposition of networks.

Every function returns R, shape (n, x, y, z), in the units of what ``start`` explains: relevance begins with
the class's score (or a filter's activation), and every layer hands it to its inputs by its rule
(:mod:`bids_xai.attribution.rules`, which holds the notation). Nonlinearities pass it on unchanged,
max-pooling gives it to the largest input of the window (``max_pool="even"``: to all alike), average pooling
and sums are linear layers of their own. ``bias`` and ``batch_norm`` are explained by
:class:`bids_xai.attribution.propagation.Treatment`. All raise InputError for a module without a rule.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.propagation import BatchNorm, Kind, MaxPool, Treatment, propagated
from bids_xai.attribution.rules import AlphaBeta, Bias, Box, Epsilon, Gamma, OneSided, Rule, Share
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError

First = Literal["same", "z+", "zb", "w2", "flat"]


def deep_taylor(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    first: Literal["z+", "zb", "w2"] = "z+",
    low: float = 0.0,
    high: float = 1.0,
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """Deep Taylor decomposition: z+ rule in every layer, another on request in the first.

    Formula: ``R_i = sum_j x_i w+_ij / sum_i' x_i' w+_i'j R_j`` (z+; for inputs of both signs, the positive
    parts of x_i w_ij). First layer: ``"zb"`` for inputs between ``low`` and ``high``, ``"w2"`` for inputs
    without bounds.

    Source: Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008, table 1.
    """
    if first not in {"z+", "zb", "w2"}:
        raise InputError(f"first={first} for deep-taylor.", "one of z+, zb, w2")
    rule = AlphaBeta(bias=bias)
    return propagated(network, x, start, _with_first(rule, first, low, high, bias, batch_norm, max_pool))


def lrp_0(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """LRP-0; with ReLU, max-pooling and ``bias="include"`` it equals gradient x input of the logit.

    Formula: ``R_i = sum_j x_i w_ij / sum_i' x_i' w_i'j R_j``.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 56; Montavon et al. 2019, section
    10.2.
    """
    rule = Epsilon(bias=bias)
    return propagated(network, x, start, _uniform(rule, bias, batch_norm, max_pool))


def lrp_epsilon(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    epsilon: float = 1e-3,
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """LRP-epsilon: small sums hand on less, and epsilon absorbs the rest.

    Formula: ``R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j``, ``z_ij = x_i w_ij``, ``z_j = sum_i z_ij``.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 58; epsilon = 0.001 as in
    Eitel et al. 2019, doi:10.1016/j.nicl.2019.102003.
    """
    if epsilon < 0:
        raise InputError(f"epsilon={epsilon} for lrp-epsilon.", "a number >= 0")
    rule = Epsilon(epsilon, bias)
    return propagated(network, x, start, _uniform(rule, bias, batch_norm, max_pool))


def lrp_alpha_beta(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    beta: float = 0.0,
    alpha: float | None = None,
    one_sided: OneSided = "plain",
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """LRP-alpha-beta: positive and negative contributions share relevance apart.

    Formula: ``R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j``, ``alpha = 1 + beta``; beta = 0
    looks at positive contributions alone. Outputs with contributions of one sign only hand on alpha R_j or
    -beta R_j (``one_sided="plain"``), or R_j as their factor is set to 1: ``"boehle"`` (nothing where beta =
    0 and all are negative), ``"conserve"`` (always). Average pooling and sums always conserve.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 60; Böhle et al. 2019,
    doi:10.3389/fnagi.2019.00194, equation 2, and their code for one-sided outputs.
    """
    if beta < 0 or (alpha is not None and abs(alpha - 1 - beta) > 1e-9):
        raise InputError(
            f"alpha={alpha}, beta={beta} for lrp-alpha-beta.",
            "beta >= 0 and alpha = 1 + beta, so that relevance is conserved",
            "give beta alone",
        )
    rule = AlphaBeta(beta, one_sided, bias)
    return propagated(network, x, start, _uniform(rule, bias, batch_norm, max_pool))


def lrp_gamma(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    gamma: float = 0.25,
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """LRP-gamma: contributions that agree with the output's sign weigh more.

    Formula: ``R_i = sum_j (z_ij + gamma z+_ij) / sum_i' (z_i'j + gamma z+_i'j) R_j`` where ``z_j > 0``, and
    with ``z-`` for ``z+`` where ``z_j < 0``.

    Source: Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, section 10.2.3; negative inputs as in
    Andéol et al. 2021, arXiv:2101.10463.
    """
    if gamma < 0:
        raise InputError(f"gamma={gamma} for lrp-gamma.", "a number >= 0")
    rule = Gamma(gamma, bias)
    return propagated(network, x, start, _uniform(rule, bias, batch_norm, max_pool))


def lrp_composite(
    network: nn.Module,
    x: Tensor,
    start: Start,
    *,
    first: First = "same",
    conv: Literal["z+", "alpha-beta", "gamma", "epsilon"] = "z+",
    dense: Literal["epsilon", "z+", "alpha-beta", "gamma"] = "epsilon",
    beta: float = 1.0,
    gamma: float = 0.25,
    epsilon: float = 1e-3,
    low: float = 0.0,
    high: float = 1.0,
    one_sided: OneSided = "plain",
    bias: Bias = "ignore",
    batch_norm: BatchNorm = "merge",
    max_pool: MaxPool = "winner",
) -> Tensor:
    """LRP with one rule for convolutions, one for dense layers, and one for the first layer.

    Formula: those of lrp-epsilon, lrp-alpha-beta (``z+`` is beta = 0), lrp-gamma; first layer ``"zb"``:
    ``z_ij = x_i w_ij - low w+_ij - high w-_ij``, ``"w2"``: ``z_ij = w_ij^2``, ``"flat"``: ``z_ij = 1``, each
    as ``R_i = sum_j z_ij / z_j R_j``. These three give relevance to voxels that are zero, as around a brain:
    the default ``"same"`` is the rule of the convolutions. Average pooling and sums take it, too.

    Source: Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10, section 10.3; Kohlbrenner et al. 2020,
    arXiv:1910.09840.
    """
    rules: dict[str, Rule] = {
        "z+": AlphaBeta(0.0, one_sided, bias),
        "alpha-beta": AlphaBeta(beta, one_sided, bias),
        "gamma": Gamma(gamma, bias),
        "epsilon": Epsilon(epsilon, bias),
    }
    for name, given in (("conv", conv), ("dense", dense)):
        if given not in rules:
            raise InputError(f"{name}={given} for lrp-composite.", f"one of {', '.join(rules)}")
    special = _first_rule(first, rules["z+"], low, high)

    def choose(kind: Kind, is_first: bool) -> Rule:
        if is_first and special is not None:
            return special
        return rules[dense if kind == "dense" else conv]

    return propagated(network, x, start, Treatment(choose, bias, batch_norm, max_pool))


def conservation(network: nn.Module, x: Tensor, start: Start, relevance: Tensor) -> Tensor:
    """Return how far a map is from summing to what it explains: ``|sum R - score| / |score|``, shape (n,).

    A map that sums to a score of zero has residual 0. With biases in the network, outputs without any other
    contribution (those of a filter around the brain, where the volume is zero) keep their relevance even
    where rules ignore biases: the residual shows how much.

    Parameters
    ----------
    network, x, start
        As they were explained; the score is the class's, or the sum of the filter's activation.
    relevance
        Map, shape (n, x, y, z).

    Source: Bach et al. 2015, equation 2.
    """
    with evaluating(network), torch.no_grad():
        score = start.scores(network, x).double()
    total = relevance.double().flatten(1).sum(dim=1).to(score.device)
    residual = (total - score).abs()
    return torch.where(residual == 0, 0.0, residual / score.abs()).to(relevance.dtype)


def _uniform(rule: Rule, bias: Bias, batch_norm: BatchNorm, max_pool: MaxPool) -> Treatment:
    return Treatment(lambda kind, first: rule, bias, batch_norm, max_pool)  # noqa: ARG005


def _with_first(
    rule: Rule, first: First, low: float, high: float, bias: Bias, batch_norm: BatchNorm, max_pool: MaxPool
) -> Treatment:
    special = _first_rule(first, rule, low, high) or rule
    return Treatment(
        lambda kind, is_first: special if is_first else rule,  # noqa: ARG005
        bias,
        batch_norm,
        max_pool,
    )


def _first_rule(first: First, positive: Rule, low: float, high: float) -> Rule | None:
    if low >= high:
        raise InputError(
            f"low={low}, high={high}.", "low < high, the smallest and largest value of the input"
        )
    rules: dict[str, Rule | None] = {
        "same": None,
        "z+": positive,
        "zb": Box(low, high),
        "w2": Share(),
        "flat": Share(flat=True),
    }
    if first not in rules:
        raise InputError(f"first={first}.", f"one of {', '.join(rules)}")
    return rules[first]
