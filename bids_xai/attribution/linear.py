"""Importance of the inputs of a softmax layer, in closed form, averaged over held-out samples.

Notation: x_sv input, w_vc weight, b_c bias, z_sc = sum_v x_sv w_vc + b_c, p_sc = softmax(z_s)_c, and S_c the
samples that the map of class c averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
import numpy.typing as npt

# Below this share of |x| |w| the sum of x w says nothing but rounding: it is kept away from zero.
_STABILIZER = 1e-6
# Where |x w| stays below, exp(u) - 1 is its series to the 8th power: exact to 1e-11, and vectorised.
_SERIES_REACH = 0.25
_TILE = 512
_LANES = 32


@dataclass(frozen=True)
class Linear:
    """One trained softmax layer on its held-out samples.

    Parameters
    ----------
    weights
        Shape (n_classes, n_voxels).
    bias
        Shape (n_classes,).
    X
        Held-out samples, shape (n_samples, n_voxels).
    logits
        Shape (n_samples, n_classes), bias included.
    members
        Whether a sample is in S_c: bool, shape (n_classes, n_samples).
    patterns
        Haufe patterns on the training samples (:func:`bids_xai.attribution.patterns.pattern_coefficients`),
        shape (n_classes, n_voxels); None where no measure asks for them.
    """

    weights: npt.NDArray
    bias: npt.NDArray
    X: npt.NDArray
    logits: npt.NDArray
    members: npt.NDArray[np.bool_]
    patterns: npt.NDArray | None = None

    @cached_property
    def log_outputs(self) -> npt.NDArray:
        """Logarithm of the softmax outputs p, shape (n_samples, n_classes)."""
        shifted = self.logits - self.logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    @cached_property
    def outputs(self) -> npt.NDArray:
        """Softmax outputs p, shape (n_samples, n_classes)."""
        return np.exp(self.log_outputs)

    @cached_property
    def slopes(self) -> npt.NDArray:
        """Mean over S_c of ``p_sc (1 - p_sc)``, the slope of the output: shape (n_classes,)."""
        return np.asarray((self.shares * (self.outputs * (1 - self.outputs)).T).sum(axis=1), self.X.dtype)

    @cached_property
    def shares(self) -> npt.NDArray:
        """1 / |S_c| for the members of S_c, shape (n_classes, n_samples); 0 for an empty S_c."""
        sizes = np.maximum(self.members.sum(axis=1, keepdims=True), 1)
        return (self.members / sizes).astype(self.X.dtype)


def weights(layer: Linear) -> npt.NDArray:
    """W: ``w_vc`` (Pereira et al. 2009). Returns shape (n_classes, n_voxels)."""
    return layer.weights


def weights_input(layer: Linear) -> npt.NDArray:
    """WX: mean over S_c of ``x_sv w_vc`` (Polyn et al. 2005). Returns shape (n_classes, n_voxels)."""
    return (layer.shares @ layer.X) * layer.weights


def output_difference(layer: Linear) -> npt.NDArray:
    """OD: mean over S_c of ``p_sc - softmax(z_s - x_sv w_v)_c``, the output lost when x_sv is set to zero.

    Closed form of one forward pass per voxel (Gotsopoulos et al. 2018, section 2.8):
    ``softmax(z - u)_c = p_c exp(-u_c) / sum_k p_k exp(-u_k)``. Where ``|u|`` is small, as it is for all but
    very few voxels, the difference is ``p_c (sum_k p_k e_k - e_c) / (1 + sum_k p_k e_k)`` with
    ``e_k = exp(-u_k) - 1``. Returns shape (n_classes, n_voxels), in [-1, 1].
    """
    out = np.zeros_like(layer.weights)
    log_outputs = layer.log_outputs.astype(layer.X.dtype)
    _output_difference(layer.X, layer.weights, log_outputs, layer.shares, out)
    return out


def relevance_w2(layer: Linear) -> npt.NDArray:
    """LRP with the squared-weights rule: ``w_vc^2 / sum_u w_uc^2`` times the mean over S_c of ``p_sc``.

    Montavon et al. (2017), the w^2 rule; it sums to the mean output of the class. Returns shape
    (n_classes, n_voxels).
    """
    squares = layer.weights**2
    mean_output = (layer.shares * layer.outputs.T).sum(axis=1, keepdims=True)
    return np.asarray(squares / squares.sum(axis=1, keepdims=True) * mean_output, dtype=layer.weights.dtype)


def relevance_z(layer: Linear) -> npt.NDArray:
    """LRP with the z rule: mean over S_c of ``x_sv w_vc / (z_sc - b_c) p_sc``.

    Bach et al. (2015), equation 56, without bias; it sums to the mean output of the class. Where
    ``|z_sc - b_c|`` is below 1e-6 |x_s| |w_c| the denominator is moved away from zero by that much, and the
    sum falls short. Returns shape (n_classes, n_voxels).
    """
    sums = layer.logits - layer.bias
    norms = np.linalg.norm(layer.X, axis=1)[:, None] * np.linalg.norm(layer.weights, axis=1)
    floor = _STABILIZER * norms + np.finfo(sums.dtype).tiny
    safe = np.where(np.abs(sums) < floor, sums + np.where(sums < 0, -floor, floor), sums)
    factors = (layer.shares * (layer.outputs / safe).T).astype(layer.X.dtype)
    return (factors @ layer.X) * layer.weights


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _output_difference(X, weights, log_outputs, shares, out):  # type: ignore[no-untyped-def]
    n_classes, n_voxels = weights.shape
    tile = np.empty((n_classes + 1, _TILE), dtype=X.dtype)
    for start in range(0, n_voxels, _TILE):
        stop = min(start + _TILE, n_voxels)
        heaviest = X.dtype.type(0)
        for k in range(n_classes):
            heaviest = max(heaviest, _largest_size(weights[k, start:stop]))
        for s in range(len(X)):
            x = X[s, start:stop]
            if _largest_size(x) * heaviest < _SERIES_REACH:
                _add_small(x, weights, start, log_outputs[s], shares[:, s], tile, out)
            else:
                _add_large(x, weights, start, log_outputs[s], shares[:, s], tile, out)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _largest_size(x):  # type: ignore[no-untyped-def]
    """Return the largest absolute value, by lanes: a single running maximum is not vectorised."""
    lanes = np.zeros(_LANES, dtype=x.dtype)
    whole = len(x) - len(x) % _LANES
    for start in range(0, whole, _LANES):
        part = x[start : start + _LANES]
        for j in range(_LANES):
            size = abs(part[j])
            lanes[j] = size if size > lanes[j] else lanes[j]
    for v in range(whole, len(x)):
        lanes[0] = max(lanes[0], abs(x[v]))
    return lanes.max()


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_small(x, weights, start, log_p, share, tile, out):  # type: ignore[no-untyped-def]
    """Add a sample's differences in terms of e, without cancellation."""
    one = x.dtype.type(1)
    n = len(x)
    stop = start + n
    total = tile[-1, :n]
    total[:] = 0
    for k in range(len(weights)):
        p, w, change = np.exp(log_p[k]), weights[k, start:stop], tile[k, :n]
        for v in range(n):
            change[v] = _expm1_series(-x[v] * w[v])
            total[v] += p * change[v]
    for c in range(len(weights)):
        if share[c] > 0:
            scale, change, own = share[c] * np.exp(log_p[c]), tile[c, :n], out[c, start:stop]
            for v in range(n):
                own[v] += scale * (total[v] - change[v]) / (one + total[v])


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_large(x, weights, start, log_p, share, tile, out):  # type: ignore[no-untyped-def]
    """Add a sample's differences as they are defined, however far the logits move."""
    for v in range(len(x)):
        top = log_p[0] - x[v] * weights[0, start + v]
        for k in range(len(weights)):
            tile[k, v] = log_p[k] - x[v] * weights[k, start + v]
            top = max(top, tile[k, v])
        tile[-1, v] = 0
        for k in range(len(weights)):
            tile[k, v] = np.exp(tile[k, v] - top)
            tile[-1, v] += tile[k, v]
    for c in range(len(weights)):
        if share[c] > 0:
            p = np.exp(log_p[c])
            for v in range(len(x)):
                out[c, start + v] += share[c] * (p - tile[c, v] / tile[-1, v])


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _expm1_series(u):  # type: ignore[no-untyped-def]
    kind = type(u)
    one = kind(1)
    value = one + u * kind(1 / 8)
    value = one + u * kind(1 / 7) * value
    value = one + u * kind(1 / 6) * value
    value = one + u * kind(1 / 5) * value
    value = one + u * kind(1 / 4) * value
    value = one + u * kind(1 / 3) * value
    value = one + u * kind(1 / 2) * value
    return u * value
