"""Representational similarity: dissimilarity matrices, the Mantel test, and embeddings of positions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, permutations
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError
from bids_xai.inference.permutation import reaches

Floats = npt.NDArray[np.float64]

GREATER, TWO_SIDED = "greater", "two-sided"
_TAILS = (GREATER, TWO_SIDED)
# Up to 8! = 40 320 relabelings all are counted: exact, and no dearer than a usual number of draws.
EXACT_UP_TO = 40_320
_BATCH = 4096
N_NEIGHBORS, MIN_DIST = 30, 0.1


@dataclass(frozen=True)
class Mantel:
    """Result of a Mantel test.

    Parameters
    ----------
    r
        Pearson correlation of the upper triangles of the two matrices.
    p
        p-value; never 0.
    n_permutations
        Number of relabelings that it rests on, the true one included if exact.
    exact
        Whether all relabelings were counted.
    smallest_p
        Smallest p that the test could have given.
    """

    r: float
    p: float
    n_permutations: int
    exact: bool
    smallest_p: float


def class_means(X: npt.NDArray, y: npt.NDArray[np.int64], n_classes: int) -> Floats:
    """Return the mean sample of every class, shape (n_classes, n_features).

    Parameters
    ----------
    X
        Samples x features, shape (n_samples, n_features); may be memory-mapped.
    y
        Class codes, shape (n_samples,).
    n_classes
        Number of classes.

    Raises
    ------
    InputError
        A class has no sample.
    """
    counts = np.bincount(y, minlength=n_classes)
    if (counts == 0).any():
        raise InputError(f"Class {int(np.argmin(counts))} has no sample.", "samples of every class")
    return np.stack([np.asarray(X[y == c], dtype=np.float64).mean(axis=0) for c in range(n_classes)])


def dissimilarity(means: Floats) -> Floats:
    """Return the representational dissimilarity matrix, ``RDM_kl = 1 - corr(m_k, m_l)``.

    Kriegeskorte et al. (2008), doi:10.3389/neuro.06.004.2008, with Pearson's correlation over the features.

    Parameters
    ----------
    means
        Mean pattern of every class (:func:`class_means`), shape (n_classes, n_features).

    Returns
    -------
    array, shape (n_classes, n_classes)
        Symmetric, from 0 (on the diagonal) to 2.

    Raises
    ------
    InputError
        A pattern is constant or not finite: it has no correlation.
    """
    centred = np.asarray(means, dtype=np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    # Rounding of the mean leaves a constant row with values of the last bit.
    flat = ~(norm > 1e-12 * np.abs(means).max(axis=1) * np.sqrt(means.shape[1]))
    if flat.any():
        raise InputError(
            f"The mean pattern of class {int(np.argmax(flat))} is constant or not finite.",
            "patterns that vary over the features",
        )
    unit = centred / norm[:, None]
    correlation = np.clip(unit @ unit.T, -1.0, 1.0)
    rdm = 1.0 - (correlation + correlation.T) / 2
    np.fill_diagonal(rdm, 0.0)
    return rdm


def mantel(
    first: Floats,
    second: Floats,
    rng: np.random.Generator,
    *,
    n_permutations: int = 10_000,
    tail: str = GREATER,
) -> Mantel:
    """Test whether two dissimilarity matrices of the same items are related (Mantel 1967).

    The statistic is Pearson's correlation of the upper triangles. Rows and columns of the second matrix are
    relabelled together: ``p = (b + 1) / (m + 1)``, b of m random relabelings being at least as extreme; where
    there are no more than ``EXACT_UP_TO`` (or m + 1) relabelings, all n! are counted, the true one among
    them: ``p = b / n!``. The smallest p is 1 / n!, at the least: n = 3 items cannot give p below 1/6. The
    null hypothesis is that items are exchangeable.

    Parameters
    ----------
    first, second
        Symmetric, shape (n, n), n >= 3; the diagonals play no part.
    rng
        Source of the relabelings.
    n_permutations
        Number m of random relabelings, if not all are counted.
    tail
        ``"greater"``: a correlation as high; ``"two-sided"``: of as large absolute value.

    Raises
    ------
    InputError
        The matrices are not square, symmetric, finite and of one size, or one is constant.
    """
    if tail not in _TAILS:
        raise InputError(f"A tail named {tail}.", f"one of {', '.join(_TAILS)}")
    n = _check_pair(first, second)
    upper = np.triu_indices(n, 1)
    weights = _standardised(first[upper])
    values = np.asarray(second, dtype=np.float64)
    scaled = np.zeros((n, n))
    scaled[upper] = _standardised(values[upper])
    scaled += scaled.T  # relabelling changes neither mean nor norm of the triangle
    observed = float(weights @ scaled[upper])
    extreme = abs(observed) if tail == TWO_SIDED else observed
    exact = factorial(n) <= max(EXACT_UP_TO, n_permutations + 1)
    orders = permutations(range(n))
    reached, left = 0, factorial(n) if exact else n_permutations
    while left:
        size = min(_BATCH, left)
        if exact:
            batch = np.array(list(islice(orders, size)))
        else:
            batch = rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
        r = scaled[batch[:, upper[0]], batch[:, upper[1]]] @ weights
        reached += int(np.count_nonzero(reaches(np.abs(r) if tail == TWO_SIDED else r, extreme)))
        left -= size
    if exact:
        total = factorial(n)
        return Mantel(observed, reached / total, total, True, 1 / total)
    smallest = max(1 / (n_permutations + 1), 1 / factorial(n))
    return Mantel(observed, (reached + 1) / (n_permutations + 1), n_permutations, False, smallest)


def embed(
    points: npt.NDArray, seed: int, *, n_neighbors: int = N_NEIGHBORS, min_dist: float = MIN_DIST
) -> Floats:
    """Embed rows in two dimensions by UMAP (McInnes et al. 2018, arXiv:1802.03426).

    Rows are positions in mm (spatial) or changes of the classes' probabilities at a position (functional).
    One thread and a seed: the same rows give the same embedding.

    Parameters
    ----------
    points
        Shape (n, n_features), n >= 4, finite.
    seed
        Seed of the layout, at least 0.
    n_neighbors
        Size of the neighbourhoods; n - 1 where there are fewer points.
    min_dist
        Smallest distance of neighbours in the embedding.

    Returns
    -------
    array, shape (n, 2)

    Raises
    ------
    InputError
        There are fewer than 4 rows, or values that are not finite.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.ndim != 2 or len(points) < 4 or not np.isfinite(points).all():
        raise InputError(
            f"Points of shape {points.shape}"
            + ("." if np.isfinite(points).all() else ", some of them not finite."),
            "4 or more rows of finite values",
            "take more of the strongest positions",
        )
    from umap import UMAP

    # A spectral layout needs more points than dimensions; a few are laid out at random (seeded).
    few: dict[str, Any] = {"init": "random"} if len(points) < 10 else {}
    mapper = UMAP(
        n_components=2,
        n_neighbors=min(n_neighbors, len(points) - 1),
        min_dist=min_dist,
        random_state=seed,
        n_jobs=1,
        **few,
    )
    return np.asarray(mapper.fit_transform(points), dtype=np.float64)


def _standardised(values: npt.NDArray) -> Floats:
    """Return values of mean 0 and sum of squares 1."""
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean()
    norm = np.linalg.norm(centred)
    if norm <= 1e-12 * np.abs(values).max() * np.sqrt(len(values)):
        raise InputError("A dissimilarity matrix whose values are all equal.", "values that differ")
    return np.asarray(centred / norm)


def _check_pair(first: npt.NDArray, second: npt.NDArray) -> int:
    n = len(first)
    if first.shape != (n, n) or second.shape != (n, n) or n < 3:
        raise InputError(
            f"Dissimilarity matrices of shapes {first.shape} and {second.shape}.",
            "two square matrices of the same 3 or more items",
        )
    for matrix in (first, second):
        if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-10):
            raise InputError("A dissimilarity matrix that is not symmetric and finite.", "symmetric values")
    return n
