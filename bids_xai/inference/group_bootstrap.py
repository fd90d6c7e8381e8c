"""Groups of chance: one permuted accuracy of every person, drawn anew many times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

N_DRAWS = 100_000
_BLOCK_VALUES = 1 << 21


def drawn_groups(values: Floats, n_draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield blocks of groups, each of one value per person, drawn independently for every person.

    Parameters
    ----------
    values
        Values of every person, shape (n_values, n_people, n_scopes); a draw takes all scopes together.
    n_draws
        Number of groups.
    rng
        Source of the draws.

    Yields
    ------
    array, shape (n_in_block, n_people, n_scopes)
    """
    n_values, n_people, n_scopes = values.shape
    size = max(_BLOCK_VALUES // (n_people * n_scopes), 1)
    people = np.arange(n_people)
    for start in range(0, n_draws, size):
        yield values[rng.integers(n_values, size=(min(size, n_draws - start), n_people)), people]


def group_mean_p(
    observed: Floats, null: Floats, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> tuple[Floats, Floats]:
    """Compare the mean over people with that of groups of chance (Stelzer, Chen & Turner 2013).

    Every group takes one value of each person, from the person's null values and the observed one: without
    the latter, p could lie below ``1 / (m + 1)^N``, the smallest that m permutations of N people can give.
    ``p = (b + 1) / (n_draws + 1)``, b groups having a mean of at least the observed one.

    Parameters
    ----------
    observed
        Shape (n_people, n_scopes).
    null
        Shape (n_permutations, n_people, n_scopes).
    rng, n_draws
        See :func:`drawn_groups`.

    Returns
    -------
    p, highest : array, shape (n_scopes,)
        And the .95 quantile of the means of the groups.
    """
    values = np.concatenate([observed[None], null])
    means = np.concatenate([block.mean(axis=1) for block in drawn_groups(values, n_draws, rng)])
    # Sums of the same accuracies may differ in the last bit.
    reached = (means >= observed.mean(axis=0) - 1e-12).sum(axis=0)
    return (reached + 1) / (n_draws + 1), np.quantile(means, 0.95, axis=0)
