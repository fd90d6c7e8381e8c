"""The compiled loops of patch-individual filters in training: products, and their gradients.

A patch of one volume is copied to a small array, zeros around it and past the end of the map. For every row
of positions along x, the voxels under it (all of x, the kernel's own along y and z) are then laid end to end,
a plane for each x (:func:`_lay_row`): the window of a position is one run, and that of the next starts a
plane later. Filters are laid out as windows are. All sums are over such runs, for several positions and
filters at once, so that what is loaded once serves several products.

A plane's length is rounded up to whole vectors, with zeros. ``fastmath`` lets sums be taken in vector order,
the same every time; what is not finite stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Elements of the longest vector.
_VECTOR = 16
# Positions that are treated at once: written out below.
_POSITIONS = 6


def _compiled(function: Callable[..., Any]) -> Any:
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # There is no folder to keep compiled code in: this process compiles for itself.
        return numba.njit(**options)(function)


@_compiled
def outputs(x, corners, patch, padding, kernel, weight, bias, y, first, stop):  # type: ignore[no-untyped-def]
    """Write what the filters of patches [first, stop) give.

    Parameters
    ----------
    x
        Maps, channels last, shape (n, x, y, z * c).
    corners, patch, padding, kernel
        First voxels of the patches, shape (patches, 3), and voxels of a patch; zeros around it; voxels of a
        filter.
    weight, bias
        Shapes (patches, filters, c, kx * ky * kz) and (patches, filters).
    y
        Takes the outputs, shape (n, patches, filters, ox, oy, oz).
    first, stop
        Patches to treat.
    """
    n, channels, ox, run = len(x), weight.shape[2], y.shape[3], kernel[2] * weight.shape[2]
    own, rows, starts = _space(x, channels, patch, padding, kernel, ox)
    plane, windows = rows.shape[2], rows.reshape(-1)
    filters = _zeros(_whole(weight.shape[1], 2), kernel[0] * plane, x.dtype)
    found = np.zeros((len(starts), len(filters)), x.dtype)
    for p in range(first, stop):
        _lay_filters(weight[p], kernel, plane, filters)
        for v in range(0, n, len(own)):
            held = min(len(own), n - v)
            for i in range(held):
                _cut(x[v + i], corners[p], patch, padding, channels, own[i])
            for iy in range(y.shape[4]):
                for iz in range(y.shape[5]):
                    for i in range(held):
                        _lay_row(own[i], iy, iz * channels, kernel[1], run, rows[i])
                    for s in range(0, held * ox, _POSITIONS):
                        _multiply(windows, starts[s:], filters, found[s:])
                    _write(found, bias[p], y[v : v + held, p, :, :, iy, iz])


@_compiled
def gradient_of_maps(towards, corners, patch, padding, kernel, weight, added, out, first, stop):  # type: ignore[no-untyped-def]
    """Write the gradient of the maps, in the voxels of patches [first, stop).

    Parameters
    ----------
    towards
        Gradient of the outputs, shape (n, patches, filters, ox, oy, oz).
    corners, patch, padding, kernel, weight, first, stop
        As in :func:`outputs`. No two of these patches share a voxel.
    added
        Whether it is added to what is there.
    out
        Takes it, channels last, shape (n, x, y, z * c).
    """
    n, channels, ox, run = len(out), weight.shape[2], towards.shape[3], kernel[2] * weight.shape[2]
    own, rows, starts = _space(out, channels, patch, padding, kernel, ox)
    plane, windows = rows.shape[2], rows.reshape(-1)
    filters = _zeros(_whole(weight.shape[1], 2), kernel[0] * plane, out.dtype)
    factors = np.zeros((len(starts), len(filters)), out.dtype)
    for p in range(first, stop):
        _lay_filters(weight[p], kernel, plane, filters)
        for v in range(0, n, len(own)):
            held = min(len(own), n - v)
            own[:] = 0
            for iy in range(towards.shape[4]):
                for iz in range(towards.shape[5]):
                    rows[:] = 0
                    _read(towards[v : v + held, p, :, :, iy, iz], factors)
                    _add_filters(filters, factors, windows, starts[: held * ox])
                    for i in range(held):
                        _return_row(rows[i], iy, iz * channels, kernel[1], run, own[i])
            for i in range(held):
                _put(own[i], corners[p], patch, padding, channels, added, out[v + i])


@_compiled
def gradient_of_filters(x, towards, corners, patch, padding, kernel, out, bias, first, stop):  # type: ignore[no-untyped-def]
    """Write the gradients of filters and biases of patches [first, stop).

    Parameters
    ----------
    x, towards, corners, patch, padding, kernel, first, stop
        As in :func:`outputs` and :func:`gradient_of_maps`.
    out, bias
        Take them, shapes (patches, filters, c, kx * ky * kz) and (patches, filters).
    """
    n, channels, ox, run = len(x), out.shape[2], towards.shape[3], kernel[2] * out.shape[2]
    own, rows, starts = _space(x, channels, patch, padding, kernel, ox)
    plane, windows = rows.shape[2], rows.reshape(-1)
    sums = _zeros(_whole(out.shape[1], 2), kernel[0] * plane, x.dtype)
    factors = np.zeros((len(starts), len(sums)), x.dtype)
    for p in range(first, stop):
        sums[:] = 0
        bias[p] = 0
        for v in range(0, n, len(own)):
            held = min(len(own), n - v)
            factors[held * ox :] = 0
            for i in range(held):
                _cut(x[v + i], corners[p], patch, padding, channels, own[i])
            for iy in range(towards.shape[4]):
                for iz in range(towards.shape[5]):
                    _read(towards[v : v + held, p, :, :, iy, iz], factors)
                    for s in range(held * ox):
                        for f in range(out.shape[1]):
                            bias[p, f] += factors[s, f]
                    for i in range(held):
                        _lay_row(own[i], iy, iz * channels, kernel[1], run, rows[i])
                    for s in range(0, held * ox, _POSITIONS):
                        _add_windows(windows, starts[s:], factors[s:], sums)
        _return_filters(sums, kernel, plane, out[p])


@_compiled
def channels_to_last(x, out, first, stop):  # type: ignore[no-untyped-def]
    """Copy volumes [first, stop) of x, shape (n, c, voxels), to ``out``, shape (n, voxels, c)."""
    for v in range(first, stop):
        for i in range(x.shape[2]):
            for c in range(x.shape[1]):
                out[v, i, c] = x[v, c, i]


@_compiled
def channels_to_first(x, out, first, stop):  # type: ignore[no-untyped-def]
    """Copy volumes [first, stop) of x, shape (n, voxels, c), to ``out``, shape (n, c, voxels)."""
    for v in range(first, stop):
        # So many voxels stay in the first cache while channels go by.
        for begin in range(0, x.shape[1], 128):
            here = x[v, begin : begin + 128]
            for c in range(x.shape[2]):
                there = out[v, c, begin : begin + 128]
                for i in range(len(there)):
                    there[i] = here[i, c]


@_compiled
def _whole(n, block):  # type: ignore[no-untyped-def]
    return -(-n // block) * block


@_compiled
def _zeros(n, size, dtype):  # type: ignore[no-untyped-def]
    """Return n rows of zeros from the start of a line of the cache: loads across two take twice as long."""
    room = np.zeros(n * size + _VECTOR, dtype)
    begin = (-room.ctypes.data % 64) // room.itemsize
    return room[begin : begin + n * size].reshape((n, size))


@_compiled
def _space(x, channels, patch, padding, kernel, ox):  # type: ignore[no-untyped-def]
    """Return room for patches of some volumes, for a row of positions of each, and where windows start.

    There are enough volumes for a block of positions. Past the last position, its window is repeated.
    """
    px, py, pz = patch[0] + 2 * padding[0], patch[1] + 2 * padding[1], patch[2] + 2 * padding[2]
    volumes = -(-_POSITIONS // ox)
    plane = _whole(kernel[1] * kernel[2] * channels, _VECTOR)
    own = _zeros(volumes, px * py * pz * channels, x.dtype).reshape((volumes, px, py, pz * channels))
    rows = _zeros(volumes, px * plane, x.dtype).reshape((volumes, px, plane))
    starts = np.zeros(_whole(volumes * ox, _POSITIONS), np.int64)
    for s in range(len(starts)):
        position = min(s, volumes * ox - 1)
        starts[s] = (position // ox * px + position % ox) * plane
    return own, rows, starts


@_compiled
def _lay_filters(weight, kernel, plane, out):  # type: ignore[no-untyped-def]
    """Lay filters (filters, c, kx * ky * kz) out as windows are."""
    channels, area = weight.shape[1], kernel[1] * kernel[2]
    for f in range(len(weight)):
        for k in range(weight.shape[2]):
            begin = k // area * plane + k % area * channels
            there = out[f, begin : begin + channels]
            for c in range(channels):
                there[c] = weight[f, c, k]


@_compiled
def _return_filters(sums, kernel, plane, out):  # type: ignore[no-untyped-def]
    """Undo :func:`_lay_filters`."""
    channels, area = out.shape[1], kernel[1] * kernel[2]
    for f in range(len(out)):
        for k in range(out.shape[2]):
            begin = k // area * plane + k % area * channels
            there = sums[f, begin : begin + channels]
            for c in range(channels):
                out[f, c, k] = there[c]


@_compiled
def _inside(x, corner, patch, channels):  # type: ignore[no-untyped-def]
    """Return the voxels along x and y, and the values along z, of a patch that lie within the map."""
    nx, ny = min(patch[0], x.shape[0] - corner[0]), min(patch[1], x.shape[1] - corner[1])
    return nx, ny, min(patch[2] * channels, x.shape[2] - corner[2] * channels)


@_compiled
def _cut(x, corner, patch, padding, channels, out):  # type: ignore[no-untyped-def]
    """Copy a patch of one volume, with zeros for what lies past the end of the map."""
    nx, ny, run = _inside(x, corner, patch, channels)
    if nx < patch[0] or ny < patch[1] or run < patch[2] * channels:
        out[:] = 0
    for i in range(nx):
        for j in range(ny):
            here = x[corner[0] + i, corner[1] + j, corner[2] * channels :]
            there = out[padding[0] + i, padding[1] + j, padding[2] * channels :]
            for c in range(run):
                there[c] = here[c]


@_compiled
def _put(own, corner, patch, padding, channels, added, x):  # type: ignore[no-untyped-def]
    """Write what a patch has for the voxels that it covers, or add it there."""
    nx, ny, run = _inside(x, corner, patch, channels)
    for i in range(nx):
        for j in range(ny):
            here = own[padding[0] + i, padding[1] + j, padding[2] * channels :]
            there = x[corner[0] + i, corner[1] + j, corner[2] * channels :]
            if added:
                for c in range(run):
                    there[c] += here[c]
            else:
                for c in range(run):
                    there[c] = here[c]


@_compiled
def _lay_row(own, iy, begin, ky, run, out):  # type: ignore[no-untyped-def]
    """Lay the voxels under a row of positions end to end: for every x, a run along z for each of ky."""
    for i in range(len(own)):
        for j in range(ky):
            here = own[i, iy + j, begin : begin + run]
            there = out[i, j * run : (j + 1) * run]
            for c in range(run):
                there[c] = here[c]


@_compiled
def _return_row(rows, iy, begin, ky, run, own):  # type: ignore[no-untyped-def]
    """Add to a patch what a row of positions has for it: the transpose of :func:`_lay_row`."""
    for i in range(len(own)):
        for j in range(ky):
            here = rows[i, j * run : (j + 1) * run]
            there = own[i, iy + j, begin : begin + run]
            for c in range(run):
                there[c] += here[c]


@_compiled
def _write(found, bias, y):  # type: ignore[no-untyped-def]
    """Write what was found at the positions of some volumes, and the biases, to y (n, filters, ox)."""
    n, n_filters, ox = y.shape
    for i in range(n):
        for f in range(n_filters):
            for ix in range(ox):
                y[i, f, ix] = found[i * ox + ix, f] + bias[f]


@_compiled
def _read(towards, factors):  # type: ignore[no-untyped-def]
    """Lay gradients of the outputs (n, filters, ox) out by positions: the transpose of :func:`_write`."""
    n, n_filters, ox = towards.shape
    for i in range(n):
        for f in range(n_filters):
            for ix in range(ox):
                factors[i * ox + ix, f] = towards[i, f, ix]


@_compiled
def _multiply(windows, starts, filters, out):  # type: ignore[no-untyped-def]
    """Write the products of six windows with all filters, two at once."""
    n = filters.shape[1]
    w0, w1 = windows[starts[0] : starts[0] + n], windows[starts[1] : starts[1] + n]
    w2, w3 = windows[starts[2] : starts[2] + n], windows[starts[3] : starts[3] + n]
    w4, w5 = windows[starts[4] : starts[4] + n], windows[starts[5] : starts[5] + n]
    zero = windows.dtype.type(0)
    for f in range(0, len(filters), 2):
        k0, k1 = filters[f], filters[f + 1]
        z00, z01, z10, z11, z20, z21 = zero, zero, zero, zero, zero, zero
        z30, z31, z40, z41, z50, z51 = zero, zero, zero, zero, zero, zero
        for j in range(n):
            y0, y1 = k0[j], k1[j]
            z00 += w0[j] * y0
            z01 += w0[j] * y1
            z10 += w1[j] * y0
            z11 += w1[j] * y1
            z20 += w2[j] * y0
            z21 += w2[j] * y1
            z30 += w3[j] * y0
            z31 += w3[j] * y1
            z40 += w4[j] * y0
            z41 += w4[j] * y1
            z50 += w5[j] * y0
            z51 += w5[j] * y1
        out[0, f], out[1, f], out[2, f], out[3, f], out[4, f], out[5, f] = z00, z10, z20, z30, z40, z50
        g = f + 1
        out[0, g], out[1, g], out[2, g], out[3, g], out[4, g], out[5, g] = z01, z11, z21, z31, z41, z51


@_compiled
def _add_windows(windows, starts, factors, sums):  # type: ignore[no-untyped-def]
    """Add six windows, times their factors, to the sums of all filters, two at once."""
    n = sums.shape[1]
    w0, w1 = windows[starts[0] : starts[0] + n], windows[starts[1] : starts[1] + n]
    w2, w3 = windows[starts[2] : starts[2] + n], windows[starts[3] : starts[3] + n]
    w4, w5 = windows[starts[4] : starts[4] + n], windows[starts[5] : starts[5] + n]
    for f in range(0, len(sums), 2):
        d0, d1 = sums[f], sums[f + 1]
        a0, a1, a2 = factors[0, f], factors[1, f], factors[2, f]
        a3, a4, a5 = factors[3, f], factors[4, f], factors[5, f]
        b0, b1, b2 = factors[0, f + 1], factors[1, f + 1], factors[2, f + 1]
        b3, b4, b5 = factors[3, f + 1], factors[4, f + 1], factors[5, f + 1]
        for j in range(n):
            x0, x1, x2, x3, x4, x5 = w0[j], w1[j], w2[j], w3[j], w4[j], w5[j]
            d0[j] += x0 * a0 + x1 * a1 + x2 * a2 + x3 * a3 + x4 * a4 + x5 * a5
            d1[j] += x0 * b0 + x1 * b1 + x2 * b2 + x3 * b3 + x4 * b4 + x5 * b5


@_compiled
def _add_filters(filters, factors, windows, starts):  # type: ignore[no-untyped-def]
    """Add filters, times factors, to the windows of some positions: two, four, six or eight at once."""
    for f in range(0, len(filters), 8):
        left = len(filters) - f
        if left == 2:
            _add_two(filters, f, factors, windows, starts)
        elif left == 4:
            _add_four(filters, f, factors, windows, starts)
        elif left == 6:
            _add_six(filters, f, factors, windows, starts)
        else:
            _add_eight(filters, f, factors, windows, starts)


@_compiled
def _add_two(filters, f, factors, windows, starts):  # type: ignore[no-untyped-def]
    k0, k1 = filters[f], filters[f + 1]
    for s in range(len(starts)):
        a0, a1 = factors[s, f], factors[s, f + 1]
        out = windows[starts[s] : starts[s] + filters.shape[1]]
        for j in range(len(out)):
            out[j] += a0 * k0[j] + a1 * k1[j]


@_compiled
def _add_four(filters, f, factors, windows, starts):  # type: ignore[no-untyped-def]
    k0, k1, k2, k3 = filters[f], filters[f + 1], filters[f + 2], filters[f + 3]
    for s in range(len(starts)):
        a0, a1, a2, a3 = factors[s, f], factors[s, f + 1], factors[s, f + 2], factors[s, f + 3]
        out = windows[starts[s] : starts[s] + filters.shape[1]]
        for j in range(len(out)):
            out[j] += a0 * k0[j] + a1 * k1[j] + a2 * k2[j] + a3 * k3[j]


@_compiled
def _add_six(filters, f, factors, windows, starts):  # type: ignore[no-untyped-def]
    k0, k1, k2 = filters[f], filters[f + 1], filters[f + 2]
    k3, k4, k5 = filters[f + 3], filters[f + 4], filters[f + 5]
    for s in range(len(starts)):
        a0, a1, a2, a3 = factors[s, f], factors[s, f + 1], factors[s, f + 2], factors[s, f + 3]
        a4, a5 = factors[s, f + 4], factors[s, f + 5]
        out = windows[starts[s] : starts[s] + filters.shape[1]]
        for j in range(len(out)):
            half = a0 * k0[j] + a1 * k1[j] + a2 * k2[j]
            out[j] += half + a3 * k3[j] + a4 * k4[j] + a5 * k5[j]


@_compiled
def _add_eight(filters, f, factors, windows, starts):  # type: ignore[no-untyped-def]
    k0, k1, k2, k3 = filters[f], filters[f + 1], filters[f + 2], filters[f + 3]
    k4, k5, k6, k7 = filters[f + 4], filters[f + 5], filters[f + 6], filters[f + 7]
    for s in range(len(starts)):
        a0, a1, a2, a3 = factors[s, f], factors[s, f + 1], factors[s, f + 2], factors[s, f + 3]
        a4, a5, a6, a7 = factors[s, f + 4], factors[s, f + 5], factors[s, f + 6], factors[s, f + 7]
        out = windows[starts[s] : starts[s] + filters.shape[1]]
        for j in range(len(out)):
            half = a0 * k0[j] + a1 * k1[j] + a2 * k2[j] + a3 * k3[j]
            out[j] += half + a4 * k4[j] + a5 * k5[j] + a6 * k6[j] + a7 * k7[j]
