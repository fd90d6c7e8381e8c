"""Small p-values from few permutations: a generalised Pareto distribution for the tail of the null."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_xai.errors import InputError

Floats = npt.NDArray[np.float64]

# Knijnenburg et al. 2009: from 10 null values on counting is good enough; 250 exceedances at first, 10 fewer
# after every fit that is refused.
COUNTED_FROM, MOST_EXCEEDANCES, STEP = 10, 250, 10
# Below, neither the shape nor its goodness of fit can be told.
FEWEST_EXCEEDANCES = 20
# 5 % points of A2 by the shape, scale and shape estimated (Choulakian & Stephens 2001, table 2).
_SHAPES = np.array([-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 0.9])
_CRITICAL = np.array([1.321, 1.221, 1.140, 1.074, 1.020, 0.974, 0.935, 0.903, 0.830, 0.771])
_LEAST, _NEARLY_EXPONENTIAL = 1e-9, 1e-6
_TILE_VALUES = 1 << 21


@dataclass(frozen=True)
class Pareto:
    """Generalised Pareto distributions of exceedances, ``P(Y > y) = (1 + shape y / scale)^(-1 / shape)``.

    Estimated as by Zhang and Stephens (2009): on a grid of ``theta = -shape / scale`` with the weights of a
    posterior distribution, whose mean is the estimate.

    Parameters
    ----------
    theta, weights
        Grid and its weights, shape (n_series, n_grid); the weights of a series add up to 1.
    shapes
        Shape that belongs to every ``theta``, shape (n_series, n_grid).
    shape, scale
        The estimates, shape (n_series,).
    n
        Number of exceedances that they rest on.
    """

    theta: Floats
    weights: Floats
    shapes: Floats
    shape: Floats
    scale: Floats
    n: int

    def log_survival(self, y: Floats) -> Floats:
        """Return ``log P(Y > y)`` at the estimate, for y of shape (n, n_series)."""
        return -np.log1p(self.shape * y / self.scale) / self.shape

    def survival(self, y: Floats) -> Floats:
        """Return ``P(Y > y)``, averaged over the posterior, for y of shape (n, n_series).

        ``sum_j w_j (1 + log(1 - theta_j y) / (n shape_j))^(-n)``: given theta, ``log(1 - theta Y)`` over the
        shape is exponential, and its rate has a gamma posterior of shape n. The estimate's own survival is 0
        beyond its end point wherever the shape is negative, as it often is by chance; the average never is.
        """
        out = np.zeros(y.shape)
        for theta, weight, shape in zip(self.theta.T, self.weights.T, self.shapes.T, strict=True):
            # 0 beyond the end point of this grid point.
            with np.errstate(divide="ignore"):
                hazard = np.log(np.maximum(1 - theta * y, 0)) / shape
            out += weight * (1 + hazard / self.n) ** -self.n
        return out


def fit_pareto(y: Floats, *, endless: bool = False) -> Pareto:
    """Fit generalised Pareto distributions (Zhang & Stephens 2009).

    With ``theta_j = 1 / y_(n) + (1 - sqrt(G / (j - 1/2))) / (3 y_(n/4))``, j = 1 ... G = 30 + sqrt(n), the
    shape is ``mean log(1 - theta y)``, the profile log-likelihood ``n (log(-theta / shape) - shape - 1)``,
    and the weights are its exponentials over their sum.

    Parameters
    ----------
    y
        Exceedances, ascending and above 0, shape (n, n_series).
    endless
        Only shapes from 0 on, whose tails have no end: grid points of others become those of the exponential
        distribution, the lightest of these tails.
    """
    n = len(y)
    n_grid = 30 + int(np.sqrt(n))
    spread = 1 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))
    theta = 1 / y[-1][:, None] + spread / (3 * y[int(n / 4 + 0.5) - 1][:, None])
    # At 0, which evenly spaced values can give, the shape is 0 and the formulas are limits.
    theta = np.where(np.abs(theta * y[-1][:, None]) < _LEAST, _LEAST / y[-1][:, None], theta)
    nearest = -_NEARLY_EXPONENTIAL / y[-1]
    if endless:
        theta = np.minimum(theta, nearest[:, None])
    shapes = np.stack([np.log1p(-column * y).mean(axis=0) for column in theta.T], axis=1)
    likelihood = n * (np.log(-theta / shapes) - shapes - 1)
    weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * theta).sum(axis=1)
    mean = np.minimum(mean, nearest) if endless else mean
    shape = np.log1p(-mean * y).mean(axis=0)
    return Pareto(theta, weights, shapes, shape, -shape / mean, n)


def anderson_darling(y: Floats, pareto: Pareto) -> Floats:
    """Return A2, the distance of exceedances from the fit, shape (n_series,).

    ``A2 = -n - sum_i (2i - 1) (log z_i + log(1 - z_(n+1-i))) / n``, z being the fitted distribution function
    at the ascending exceedances y, shape (n, n_series) (Choulakian & Stephens 2001).
    """
    n = len(y)
    log_survival = pareto.log_survival(y)
    log_distribution = np.log(-np.expm1(log_survival))
    odd = 2 * np.arange(1, n + 1)[:, None] - 1
    return np.asarray(-n - (odd * (log_distribution + log_survival[::-1])).sum(axis=0) / n)


def fits(y: Floats, pareto: Pareto) -> npt.NDArray[np.bool_]:
    """Return which series the goodness of fit does not refuse at the level .05, shape (n_series,)."""
    # The points are those of large n, and a little too wide for small.
    return np.asarray(anderson_darling(y, pareto) <= np.interp(pareto.shape, _SHAPES, _CRITICAL))


def exceedances(n_permutations: int, n_kept: int | None = None) -> int:
    """Return from how many of the largest null values the tail is first estimated; 0: from none.

    A tenth of the permutations, at least 50 and at most 250 or a quarter of them, of the ``n_kept`` largest
    all but the last, which is the threshold; 0 where that is fewer than 20.

    Parameters
    ----------
    n_permutations
        Number of null values.
    n_kept
        Number of the largest of them that are known; None: all.
    """
    n = min(max(n_permutations // 10, 50), MOST_EXCEEDANCES, n_permutations // 4)
    n = n if n_kept is None else min(n, n_kept - 1)
    return n if n >= FEWEST_EXCEEDANCES else 0


def check_exceedances(n_permutations: int) -> None:
    """Raise InputError where the tails of the voxels would have too few null values to be fitted."""
    if not exceedances(n_permutations):
        raise InputError(
            f"--tail-fit gpd with {n_permutations} permutations.",
            f"{4 * FEWEST_EXCEEDANCES} permutations or more: a tail is a quarter of them, and at least "
            f"{FEWEST_EXCEEDANCES} values",
            "raise --n-permutations, or leave out --tail-fit",
        )


def tail_p(
    observed: npt.NDArray,
    largest: npt.NDArray,
    n_permutations: int,
    smallest: float = 0.0,
    *,
    endless: bool = False,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return p-values from the tail of the null where counting is too coarse.

    With n null values above a threshold t, ``p = n / m P(Y > observed - t)``, the exceedances' distribution
    being a generalised Pareto's (Knijnenburg et al. 2009; Winkler et al. 2016). t lies midway between two
    null values. Where the goodness of fit refuses it, n is made smaller, down to 20. Unlike there, P is
    averaged over the uncertainty of the estimate (:meth:`Pareto.survival`), so that it is never 0.

    Parameters
    ----------
    observed
        Values on the true labels, shape (n_observed, n_series): all of a column against one null.
    largest
        Largest null values, largest first, shape (k, n_series).
    n_permutations
        Number of null values, m.
    smallest
        Smallest p that the design allows: one over the number of distinct relabelings.
    endless
        Take tails without an end only (:func:`fit_pareto`), and their fit for granted. From a null whose tail
        is as light as a normal one's, p far out are up to 2.5 times too small where the fitted tail may end,
        and too large where it may not.

    Returns
    -------
    p : array, float64, shape (n_observed, n_series)
        nan where 10 null values or more reach the observed one, or none of the fits is good.
    fitted : array, bool, shape (n_series,)
        Which nulls have a fit.
    """
    p, fitted = np.full(observed.shape, np.nan), np.zeros(observed.shape[1], dtype=np.bool_)
    start = exceedances(n_permutations, len(largest))
    if not start:
        return p, fitted
    width = max(_TILE_VALUES // (start + len(observed)), 1)
    for first in range(0, len(fitted), width):
        tile = slice(first, first + width)
        values = np.asarray(largest[: start + 1, tile], dtype=np.float64)
        own = np.asarray(observed[:, tile], np.float64)
        p[:, tile], fitted[tile] = _tail_p(own, values, n_permutations, endless)
    return np.maximum(p, max(smallest, float(np.finfo(np.float32).tiny))), fitted


def _tail_p(observed: Floats, largest: Floats, m: int, endless: bool) -> tuple[Floats, npt.NDArray[np.bool_]]:
    p, fitted = np.full(observed.shape, np.nan), np.zeros(observed.shape[1], dtype=np.bool_)
    for n in range(len(largest) - 1, FEWEST_EXCEEDANCES - 1, -STEP):
        left = np.flatnonzero(~fitted)
        threshold = (largest[n - 1, left] + largest[n, left]) / 2
        y = largest[:n, left][::-1] - threshold
        # Ties at the threshold leave no exceedance: not a continuous tail.
        above = y[0] > 0
        left, threshold, y = left[above], threshold[above], y[:, above]
        if not len(left):
            continue
        pareto = fit_pareto(y, endless=endless)
        p[:, left] = n / m * pareto.survival(np.maximum(observed[:, left] - threshold, 0))
        # The critical values are those of the best shape, which may be another.
        fitted[left] = True if endless else fits(y, pareto)
    p[:, ~fitted] = np.nan
    p[observed <= largest[COUNTED_FROM - 1]] = np.nan
    return p, fitted


def tail_p_map(
    p: npt.NDArray[np.float32],
    observed: npt.NDArray[np.float32],
    top: npt.NDArray[np.float32],
    n_permutations: int,
    smallest: float = 0.0,
    *,
    endless: bool = False,
) -> npt.NDArray[np.float32]:
    """Return counted p-values per voxel, those from fewer than 10 null values by the voxel's own tail.

    Parameters
    ----------
    p, observed
        Counted p-values (:func:`bids_xai.inference.thresholds.p_map`) and what they are of, shape (...).
    top, n_permutations, smallest, endless
        See :func:`tail_p`; ``top`` of shape (k, ...).
    """
    out = p.copy()
    if len(top) <= FEWEST_EXCEEDANCES:
        return out
    flat, of_null, values = out.reshape(-1), top.reshape(len(top), -1), observed.reshape(-1)
    few = np.flatnonzero(flat <= COUNTED_FROM / (n_permutations + 1))
    # What is taken out of the null is a copy: of some voxels at a time.
    size = max(_TILE_VALUES // len(top), 1)
    for start in range(0, len(few), size):
        part = few[start : start + size]
        null = of_null[:, part]
        own, _ = tail_p(values[None, part], null, n_permutations, smallest, endless=endless)
        flat[part] = np.where(np.isnan(own[0]), flat[part], own[0])
    return out


def tail_family_p_map(
    p: npt.NDArray[np.float32],
    observed: npt.NDArray[np.float32],
    maxima: npt.NDArray[np.float32],
    smallest: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Return counted family-wise p-values, those from fewer than 10 null maxima by the tail of the maxima.

    Parameters
    ----------
    p, observed, maxima
        See :func:`bids_xai.inference.thresholds.family_p_map`, which gives p.
    smallest
        See :func:`tail_p`.
    """
    m, shape = len(maxima), (-1, observed.shape[-1])
    out = p.reshape(shape).copy()
    largest = -np.sort(-np.asarray(maxima), axis=0).reshape(m, -1)
    for series, (own, values) in enumerate(zip(out, observed.reshape(shape), strict=True)):
        few = np.flatnonzero(own <= COUNTED_FROM / (m + 1))
        better, _ = tail_p(values[few, None], largest[:, series, None], m, smallest)
        own[few] = np.where(np.isnan(better[:, 0]), own[few], better[:, 0])
    return out.reshape(observed.shape)
