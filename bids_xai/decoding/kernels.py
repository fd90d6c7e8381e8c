"""The compiled loops of training: products of rows, errors of a softmax layer, updates.

Everything is compiled once per type and kept on disk. ``fastmath`` lets sums be taken in vector order, the
same every time. Whether a training diverged is checked where its maps are used.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# A decay factor is folded into the coefficients before it underflows.
_SMALLEST_FACTOR = 1e-6
_SMALLEST_COEFFICIENT = 1e-30
_LOWEST = -700.0
# Columns whose coefficients of four classes stay in the first cache while a minibatch goes by.
_COLUMNS = 1024
_COMPILED: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": True}


@numba.njit(cache=True, nogil=True)
def floyd(draws, n):  # type: ignore[no-untyped-def]
    """Turn uniform numbers of [0, 1) into uniform subsets of ``range(n)``, row by row (Bentley, Floyd 1987).

    The j-th draw picks one of the first n - size + j + 1 numbers; one that is taken gives way to the last.
    """
    n_updates, size = draws.shape
    out = np.empty(draws.shape, dtype=np.int32)
    taken_by = np.full(n, -1, dtype=np.int32)
    for u in range(n_updates):
        for j in range(size):
            last = n - size + j
            candidate = int(draws[u, j] * (last + 1))
            if taken_by[candidate] == u:
                candidate = last
            taken_by[candidate] = u
            out[u, j] = candidate
    return out


@numba.njit(**_COMPILED)
def descend(rows, dual, A, added, Z0, labels, minibatches, learning_rate, l2, clip, with_bias, state):  # type: ignore[no-untyped-def]
    """Train one softmax layer; ``A``, all zero at first, takes its coefficients.

    Parameters
    ----------
    rows
        Rows whose products with A are logits, shape (n, width): of the Gram matrix, or the samples.
    dual
        Whether the rows are those of the Gram matrix: an update then adds errors to A, else rows.
    A
        Shape (4 m, width): one row for each class that is trained, and zeros; may be wider in type than rows.
    added
        What every row has added to A, in units of itself, shape (4 m, n), zero at first: A itself, or where
        rows are samples another array.
    Z0
        Logits of the initial weights, shape (n, n_classes).
    labels, minibatches
        Classes of the rows, shape (n,), and numbers of rows, shape (n_updates, batch).
    learning_rate, l2, clip, with_bias
        :class:`bids_xai.decoding.softmax.SgdParameters`.
    state
        What was returned for the minibatches before; of the first ``(1.0, 1.0, zeros)``.

    Returns
    -------
    factor, factor_0 : float
        What A (with ``added``) and the initial weights are to be multiplied by.
    bias : array, float64, shape (n_classes,)
    """
    n_classes = Z0.shape[1]
    n_updates, size = minibatches.shape
    width = rows.shape[1]
    n_trained = n_classes if clip > 0 else n_classes - 1
    products = np.zeros((A.shape[0], size + 3), dtype=A.dtype)
    errors = np.zeros((n_classes, size))
    work = np.zeros((2, size))
    step, decay = learning_rate / size, 1.0 - learning_rate * l2
    factor, factor_0, bias = state[0], state[1], state[2].copy()
    for u in range(n_updates):
        minibatch = minibatches[u]
        products[:] = 0
        for start in range(0, width, _COLUMNS):
            stop = min(start + _COLUMNS, width)
            for s in range(0, size, 4):
                for c in range(0, n_trained, 4):
                    _add_sixteen_products(rows, minibatch, A, start, stop, s, c, products)
        _logits(products, factor, Z0, factor_0, bias, minibatch, n_trained, errors)
        _errors(errors, labels, minibatch, clip, work)
        factor *= decay
        factor_0 *= decay
        if abs(factor) < _SMALLEST_FACTOR:
            _rescale(A, factor)
            if not dual:
                _rescale(added, factor)
            factor = 1.0
        if dual:
            _add_errors(errors, minibatch, step / factor, n_trained, A)
        else:
            _add_rows(rows, errors, minibatch, step / factor, n_trained, A)
            _add_errors(errors, minibatch, step / factor, n_trained, added)
        if with_bias:
            for c in range(n_classes):
                bias[c] += step * errors[c].sum()
    return factor, factor_0, bias


@numba.njit(inline="always", **_COMPILED)
def _logits(products, factor, Z0, factor_0, bias, minibatch, n_trained, out):  # type: ignore[no-untyped-def]
    """Write the logits (n_classes, batch); an untrained class has minus the products of the others."""
    n_classes, size = out.shape
    if n_trained < n_classes:
        out[n_trained] = 0
    for c in range(n_trained):
        for s in range(size):
            out[c, s] = factor * products[c, s]
        if n_trained < n_classes:
            for s in range(size):
                out[n_trained, s] -= out[c, s]
    for s in range(size):
        start = Z0[minibatch[s]]
        for c in range(n_classes):
            out[c, s] += factor_0 * start[c] + bias[c]


@numba.njit(inline="always", **_COMPILED)
def _errors(logits, labels, minibatch, clip, work):  # type: ignore[no-untyped-def]
    """Turn logits (n_classes, batch) into errors: target minus softmax output."""
    top, total = work[0], work[1]
    n_classes, size = logits.shape
    top[:] = logits[0]
    for c in range(1, n_classes):
        for s in range(size):
            top[s] = max(top[s], logits[c, s])
    total[:] = 0
    for c in range(n_classes):
        for s in range(size):
            logits[c, s] = _exponential(logits[c, s] - top[s])
            total[s] += logits[c, s]
    for c in range(n_classes):
        for s in range(size):
            output = logits[c, s] / total[s]
            if clip > 0:
                output = min(max(output, clip), 1.0 - clip)
            logits[c, s] = -output
    for s in range(size):
        logits[labels[minibatch[s]], s] += 1.0


@numba.njit(inline="always", **_COMPILED)
def _exponential(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0 to 1e-13, in a form that vectorises: the series of x / 1024, squared ten times."""
    y = max(x, _LOWEST) / 1024.0
    value = 1.0 + y * (1 / 10)
    value = 1.0 + y * (1 / 9) * value
    value = 1.0 + y * (1 / 8) * value
    value = 1.0 + y * (1 / 7) * value
    value = 1.0 + y * (1 / 6) * value
    value = 1.0 + y * (1 / 5) * value
    value = 1.0 + y * (1 / 4) * value
    value = 1.0 + y * (1 / 3) * value
    value = 1.0 + y * (1 / 2) * value
    value = 1.0 + y * value
    for _ in range(10):
        value *= value
    return value


@numba.njit(inline="always", **_COMPILED)
def _add_errors(errors, minibatch, growth, n_trained, A):  # type: ignore[no-untyped-def]
    for c in range(n_trained):
        own = A[c]
        for s in range(len(minibatch)):
            own[minibatch[s]] += A.dtype.type(growth * errors[c, s])


@numba.njit(inline="always", **_COMPILED)
def _add_rows(rows, errors, minibatch, growth, n_trained, A):  # type: ignore[no-untyped-def]
    kind = A.dtype.type
    for s in range(0, len(minibatch), 4):
        # Beyond the last sample: any row, times zero.
        left = len(minibatch) - s
        r0, r1 = rows[minibatch[s]], rows[minibatch[s + min(1, left - 1)]]
        r2, r3 = rows[minibatch[s + min(2, left - 1)]], rows[minibatch[s + min(3, left - 1)]]
        for c in range(n_trained):
            own = A[c]
            e0 = kind(growth * errors[c, s])
            e1 = kind(growth * errors[c, s + 1]) if left > 1 else kind(0)
            e2 = kind(growth * errors[c, s + 2]) if left > 2 else kind(0)
            e3 = kind(growth * errors[c, s + 3]) if left > 3 else kind(0)
            for j in range(len(own)):
                own[j] += r0[j] * e0 + r1[j] * e1 + r2[j] * e2 + r3[j] * e3


@numba.njit(**_COMPILED)
def _rescale(A, factor):  # type: ignore[no-untyped-def]
    """Multiply A by a factor; what has decayed to nothing becomes 0, for denormal numbers are slow."""
    for c in range(A.shape[0]):
        for i in range(A.shape[1]):
            value = A.dtype.type(A[c, i] * factor)
            A[c, i] = value if abs(value) > _SMALLEST_COEFFICIENT else A.dtype.type(0)


@numba.njit(inline="always", **_COMPILED)
def _add_sixteen_products(rows, minibatch, A, start, stop, s, c, out):  # type: ignore[no-untyped-def]
    """Add the products of rows c to c + 3 of A with samples s to s + 3 of the minibatch, over some columns.

    What is loaded once serves several products. Beyond the last sample its product is repeated.
    """
    last = len(minibatch) - 1
    k0, k1 = rows[minibatch[s], start:stop], rows[minibatch[min(s + 1, last)], start:stop]
    k2, k3 = rows[minibatch[min(s + 2, last)], start:stop], rows[minibatch[min(s + 3, last)], start:stop]
    a0, a1, a2, a3 = A[c, start:stop], A[c + 1, start:stop], A[c + 2, start:stop], A[c + 3, start:stop]
    zero = A.dtype.type(0)
    z00, z01, z02, z03 = zero, zero, zero, zero
    z10, z11, z12, z13 = zero, zero, zero, zero
    z20, z21, z22, z23 = zero, zero, zero, zero
    z30, z31, z32, z33 = zero, zero, zero, zero
    for j in range(stop - start):
        x0, x1, x2, x3 = k0[j], k1[j], k2[j], k3[j]
        y0, y1, y2, y3 = a0[j], a1[j], a2[j], a3[j]
        z00 += x0 * y0
        z01 += x0 * y1
        z02 += x0 * y2
        z03 += x0 * y3
        z10 += x1 * y0
        z11 += x1 * y1
        z12 += x1 * y2
        z13 += x1 * y3
        z20 += x2 * y0
        z21 += x2 * y1
        z22 += x2 * y2
        z23 += x2 * y3
        z30 += x3 * y0
        z31 += x3 * y1
        z32 += x3 * y2
        z33 += x3 * y3
    for j, (z0, z1, z2, z3) in enumerate(
        ((z00, z10, z20, z30), (z01, z11, z21, z31), (z02, z12, z22, z32), (z03, z13, z23, z33))
    ):
        out[c + j, s] += z0
        out[c + j, s + 1] += z1
        out[c + j, s + 2] += z2
        out[c + j, s + 3] += z3
