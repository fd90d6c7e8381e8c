"""In how large a part of the population there is an effect, from the smallest one among the people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_xai.inference.group_bootstrap import N_DRAWS, drawn_groups

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
MAJORITY = 0.5


@dataclass(frozen=True)
class Prevalence:
    """Prevalence inference of several scopes (all samples, classes), arrays of shape (n_scopes,).

    Parameters
    ----------
    minimum
        Smallest value among the people.
    p_global
        p of the global null hypothesis: no effect in anyone.
    p_global_corrected
        The same, family-wise over the scopes.
    p_majority, p_majority_corrected
        p of the null hypothesis that at most half of the population has an effect.
    prevalence, prevalence_corrected
        Largest share of the population that is rejected as too small at the level .05; nan where not even
        the global null hypothesis is.
    """

    minimum: Floats
    p_global: Floats
    p_global_corrected: Floats
    p_majority: Floats
    p_majority_corrected: Floats
    prevalence: Floats
    prevalence_corrected: Floats


def infer_prevalence(
    observed: Floats, null: Floats, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> Prevalence:
    """Infer the prevalence of an effect by the minimum statistic (Allefeld, Goergen & Haynes 2016).

    The smallest value among N people is compared with that of all groups that take one of the P1 first-level
    values of every person, the observed one among them. Drawing is independent between people, so that the
    p-value over all P1^N such groups, which equation 24 estimates from some, is
    ``p = prod_k #{i: a_ik >= m} / P1``. Of the family-wise p-value (equation 26), which compares with the
    largest minimum over the scopes, an estimate from ``n_draws`` groups is taken. The corrected p-value of
    the majority null hypothesis is ``p* + (1 - p*) p`` (equation 21), p* being that of the global one.

    Parameters
    ----------
    observed
        One value per person, shape (n_people, n_scopes), that arose as the null values did: a mean over
        repetitions varies less than they, and its minimum is large without an effect.
    null
        Values on permuted labels, shape (n_permutations, n_people, n_scopes); those of different people
        independent of each other.
    rng, n_draws
        See :func:`bids_xai.inference.group_bootstrap.drawn_groups`.
    """
    values = np.concatenate([observed[None], null])
    n = observed.shape[0]
    minimum = observed.min(axis=0)
    # A tie is at least as large, whatever the last bit of a division.
    p_global = (values >= minimum - 1e-12).mean(axis=0).prod(axis=0)
    reached = np.zeros(len(minimum), dtype=np.int64)
    for block in drawn_groups(values, n_draws, rng):
        largest = block.min(axis=1).max(axis=1)
        reached += (largest[:, None] >= minimum - 1e-12).sum(axis=0)
    corrected = (reached + 1) / (n_draws + 1)
    if len(minimum) == 1:
        # Nothing to correct for, and p is known exactly.
        corrected = p_global
    by_chance = np.zeros_like(corrected) if len(minimum) == 1 else corrected
    p_majority = prevalence_p(p_global, n, MAJORITY)
    level = (ALPHA - by_chance) / np.maximum(1 - by_chance, np.finfo(float).tiny)
    return Prevalence(
        minimum=minimum,
        p_global=p_global,
        p_global_corrected=corrected,
        p_majority=p_majority,
        p_majority_corrected=by_chance + (1 - by_chance) * p_majority,
        prevalence=largest_prevalence(p_global, n, ALPHA),
        prevalence_corrected=largest_prevalence(p_global, n, level),
    )


def prevalence_p(p_global: Floats, n_people: int, share: float) -> Floats:
    """Return the p-value of the null hypothesis that at most a share of the population has an effect.

    ``((1 - share) p^(1/N) + share)^N`` (Allefeld et al. 2016, equation 19), p of the global null hypothesis.
    """
    return np.asarray(((1 - share) * p_global ** (1 / n_people) + share) ** n_people)


def largest_prevalence(p_global: Floats, n_people: int, alpha: float | Floats) -> Floats:
    """Return the largest share whose null hypothesis is rejected at the level alpha; nan if not even 0 is.

    ``(alpha^(1/N) - p^(1/N)) / (1 - p^(1/N))`` (Allefeld et al. 2016, equation 20; equation 23 for the
    corrected one, with ``alpha' = (alpha - p*) / (1 - p*)``, p* being the corrected global p-value).
    """
    alpha = np.broadcast_to(np.asarray(alpha, dtype=np.float64), p_global.shape)
    rejected = (p_global <= alpha) & (p_global < 1)
    root = np.where(rejected, p_global, 0) ** (1 / n_people)
    share = (np.where(rejected, alpha, 1) ** (1 / n_people) - root) / (1 - root)
    return np.where(rejected, share, np.nan)
