"""Sequential Monte Carlo p-values: stop permuting once the observed value is clearly no extreme one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.inference.permutation import p_value, reaches


def stopped_at(observed: float, null: npt.NDArray[np.float64], h: int) -> int | None:
    """Return the number l of permutations after which sampling stops, or None while it goes on.

    Besag and Clifford (1991): it stops at the h-th permutation that reaches the observed value.
    What comes after l in ``null`` plays no part, so that whole chunks of permutations can be handed over.

    Parameters
    ----------
    observed
        Value on the true labels.
    null
        Values on permuted labels, shape (n,), in the order of the permutations: all or the first of them.
    h
        Number of permutations that reach the observed value (ties included) which is enough.

    Raises
    ------
    InputError
        h is below 1.
    """
    _check(h)
    reached = np.flatnonzero(reaches(null, observed))
    return int(reached[h - 1]) + 1 if len(reached) >= h else None


def sequential_p(observed: float, null: npt.NDArray[np.float64], h: int, m: int) -> float:
    """Return the p-value of Besag and Clifford (1991).

    ``p = h / l`` if the h-th permutation that reaches the observed value is the l-th, ``l <= m``; else
    ``(b + 1) / (m + 1)``, b of m permutations reaching it. Under the null ``P(p <= a) <= a``, with equality
    at every value that p can take if there are no ties.

    Parameters
    ----------
    observed, null, h
        See :func:`stopped_at`; of ``null`` the first m count.
    m
        Largest number of permutations.

    Raises
    ------
    InputError
        h is below 1, or sampling was to go on when ``null`` ended.
    """
    null = np.asarray(null, dtype=np.float64)[:m]
    stop = stopped_at(observed, null, h)
    if stop is not None:
        return h / stop
    if len(null) < m:
        raise InputError(
            f"{len(null)} of at most {m} permutations, fewer than {h} of which reach the observed value.",
            "permutations until that number is reached, or all of them",
            "compute the next permutations",
        )
    return p_value(observed, null)


def _check(h: int) -> None:
    if h < 1:
        raise InputError(f"Sequential stopping after {h} exceedances.", "1 or more; 10 is usual")
