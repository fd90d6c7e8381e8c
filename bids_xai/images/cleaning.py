"""Cleaning of a run's time series: trend, slow drift, confounds, scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from bids_xai.errors import InputError

_TILE = 8192
# What a voxel's standard deviation must exceed, relative to its root mean square, to be signal
# and not rounding.
_ROUNDING = 1e-6
_FSL_WINDOW_SIGMAS = 3


def clean_run(
    data: npt.NDArray,
    tr: float,
    *,
    detrend: bool = True,
    high_pass: float | None = None,
    high_pass_sigma: float | None = None,
    confounds: npt.NDArray | None = None,
    standardize: bool = True,
    kept: npt.NDArray[np.bool_] | None = None,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Clean the voxels of one run.

    In this order: ``high_pass_sigma`` on data and confounds; then one regression of the linear trend,
    the discrete cosines below ``high_pass`` and the confounds, orthogonal to each other as in
    :func:`nilearn.signal.clean` (Lindquist et al. 2019); then ``(x - mean) / sd`` with n - 1 in the
    denominator of the variance. Voxels without variation, before or after, are 0.

    Parameters
    ----------
    data
        Shape (n_volumes, n_voxels).
    tr
        Repetition time in seconds.
    detrend
        Remove the straight line.
    high_pass
        Cut-off in Hz of the discrete cosines; None or 0 for none.
    high_pass_sigma
        Sigma in volumes of the Gaussian-weighted line fit of ``fslmaths -bptf SIGMA -1``; None for none.
    confounds
        Shape (n_volumes, n_confounds). A value that is not finite in the first row (fMRIPrep's ``n/a`` of
        derivatives and framewise displacement, which need a volume before) counts as 0.
    standardize
        Scale to zero mean and unit variance; else the residual keeps its units.
    kept
        (n_volumes,) bool: volumes that count. The others weigh nothing in any fit, mean or variance
        (censoring; Power et al. 2014, doi:10.1016/j.neuroimage.2013.08.048), and are 0 in the result. None:
        all count.
    out
        Array for the result, which may be ``data``; None: a new one.

    Returns
    -------
    array, float32, shape (n_volumes, n_voxels)

    Raises
    ------
    InputError
        If both high-pass filters are asked for, the confounds have another length than the run or are
        not finite after the first row, or nothing would be left of the run.
    """
    if high_pass and high_pass_sigma:
        raise InputError(
            f"Two high-pass filters: {high_pass:g} Hz and a sigma of {high_pass_sigma:g} volumes.",
            "one of them",
            "leave out --high-pass or --high-pass-sigma",
        )
    n_volumes = data.shape[0]
    kept = np.ones(n_volumes, dtype=bool) if kept is None else kept
    nuisance = None
    # A wildcard may match no column of a run.
    if confounds is not None and confounds.shape[1:] != (0,):
        nuisance = finite_confounds(confounds, n_volumes)
    residual_maker = None
    if high_pass_sigma:
        residual_maker = np.eye(n_volumes) - line_smoother(n_volumes, high_pass_sigma, kept)
        nuisance = None if nuisance is None else residual_maker @ nuisance
    _check_degrees_of_freedom(n_volumes, tr, high_pass, nuisance, int(kept.sum()))
    basis = None if kept.all() else _censored_basis(kept, tr, detrend, high_pass or None, nuisance)
    out = np.empty(data.shape, dtype=np.float32) if out is None else out
    # One BLAS thread: the same bits whatever the number of processors.
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, data.shape[1], _TILE):
            tile = np.array(data[:, start : start + _TILE], dtype=np.float64)
            scale = np.sqrt((tile[kept] ** 2).mean(axis=0))
            if residual_maker is not None:
                tile = residual_maker @ tile
            if basis is None:
                tile = _regress(tile, tr, detrend, high_pass or None, nuisance)
                out[:, start : start + _TILE] = _scaled(tile, scale, standardize)
                continue
            tile = tile[kept]
            tile -= basis @ (basis.T @ tile)
            out[:, start : start + _TILE] = 0
            out[kept, start : start + _TILE] = _scaled(tile, scale, standardize)
    return out


def _censored_basis(
    kept: npt.NDArray[np.bool_],
    tr: float,
    detrend: bool,
    high_pass: float | None,
    confounds: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """Return an orthonormal basis of what is removed, in the volumes that count.

    One regression on trend, cosines and confounds is what :func:`nilearn.signal.clean` does in steps: there,
    volumes that are left out shift the trend.

    Returns
    -------
    array, float64, shape (n_kept, n_columns)
    """
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    n_volumes = len(kept)
    columns = []
    if detrend:
        columns.append(np.linspace(-1.0, 1.0, n_volumes)[:, None])
    if high_pass:
        columns.append(create_cosine_drift(high_pass, np.arange(n_volumes) * tr))
    if confounds is not None:
        columns.append(confounds)
    if not columns:
        return np.zeros((int(kept.sum()), 0))
    design = np.column_stack(columns)[kept]
    # The mean goes with the trend, and stays without it.
    design = np.column_stack([np.ones(len(design)), design]) if detrend else design - design.mean(axis=0)
    design /= np.maximum(np.sqrt(np.square(design).sum(axis=0)), np.finfo(float).tiny)
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(left[:, sizes > sizes[0] * len(design) * np.finfo(float).eps])


def _regress(
    tile: npt.NDArray[np.float64],
    tr: float,
    detrend: bool,
    high_pass: float | None,
    confounds: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    from nilearn.signal import clean

    if not detrend and not high_pass and confounds is None:
        return tile
    return np.asarray(
        clean(
            tile,
            detrend=detrend,
            standardize=None,
            confounds=confounds,
            standardize_confounds=True,
            filter="cosine" if high_pass else False,
            high_pass=high_pass,
            t_r=tr,
        )
    )


def _scaled(
    tile: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], standardize: bool
) -> npt.NDArray[np.float64]:
    sd = tile.std(axis=0, ddof=1)
    constant = sd <= _ROUNDING * scale
    if standardize:
        tile = (tile - tile.mean(axis=0)) / np.where(constant, 1.0, sd)
    tile[:, constant] = 0.0
    return tile


def line_smoother(
    n_volumes: int, sigma: float, kept: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """Return the matrix S whose product ``S @ x`` is the Gaussian-weighted running line fit of ``x``.

    Row t holds the fitted value at t of the line through the volumes u with weights
    ``w = exp(-(u - t)^2 / (2 sigma^2))``, ``|u - t| <= int(3 sigma)``:
    ``S[t, u] = w (C - A (u - t)) / (N C - A^2)`` with ``N = sum w``, ``A = sum w (u - t)``,
    ``C = sum w (u - t)^2``. ``x - S x`` is ``fslmaths -bptf sigma -1`` but for the constant that FSL adds
    back. A straight line is fitted exactly, also at the ends of the run.

    Parameters
    ----------
    n_volumes
        Length of the run.
    sigma
        Width in volumes.
    kept
        (n_volumes,) bool: the others have no weight. None: all have theirs.

    Returns
    -------
    array, float64, shape (n_volumes, n_volumes)
        Rows sum to one.
    """
    lag = np.arange(n_volumes)[None, :] - np.arange(n_volumes)[:, None].astype(np.float64)
    reach = max(int(_FSL_WINDOW_SIGMAS * sigma), 1)
    weight = np.where(np.abs(lag) <= reach, np.exp(-0.5 * (lag / sigma) ** 2), 0.0)
    if kept is not None:
        weight[:, ~kept] = 0.0
    n = weight.sum(axis=1, keepdims=True)
    a = (weight * lag).sum(axis=1, keepdims=True)
    c = (weight * lag**2).sum(axis=1, keepdims=True)
    spread = n * c - a**2
    # Where one volume alone has weight there is no line: its value is the fit; where none has, there is none.
    alone = spread <= np.finfo(float).eps * n**2 * max(sigma, 1.0) ** 2
    line = weight * (c - a * lag) / np.where(alone, 1.0, spread)
    return np.asarray(np.where(alone, weight / np.where(n > 0, n, 1.0), line))


def finite_confounds(confounds: npt.NDArray, n_volumes: int) -> npt.NDArray[np.float64]:
    """Return confounds as float64 (n_volumes, n_confounds) with a missing first row filled by 0.

    Raises
    ------
    InputError
        If the length differs from the run's, or a later value is not finite.
    """
    filled = np.array(confounds, dtype=np.float64)
    filled = filled[:, None] if filled.ndim == 1 else filled
    if filled.shape[0] != n_volumes:
        raise InputError(
            f"Confounds of {filled.shape[0]} rows for a run of {n_volumes} volumes.",
            "one row per volume",
            "check that the confounds file belongs to the image",
        )
    filled[0, ~np.isfinite(filled[0])] = 0.0
    bad = np.argwhere(~np.isfinite(filled))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"The confound in column {column} has no finite value at volume {row} (counted from 0).",
            "missing values in the first row only",
            "choose other columns with --confounds",
        )
    return filled


def count_cosines(n_volumes: int, tr: float, high_pass: float | None) -> int:
    """Return how many discrete cosines lie below a cut-off: ``floor(2 n tr f)``, 0 for a run under 1 / 2f s.

    Parameters
    ----------
    n_volumes
        Length of the run.
    tr
        Repetition time in seconds.
    high_pass
        Cut-off in Hz; None or 0 for none.
    """
    return int(np.floor(2 * n_volumes * tr * high_pass)) if high_pass else 0


def _check_degrees_of_freedom(
    n_volumes: int, tr: float, high_pass: float | None, confounds: npt.NDArray | None, n_kept: int
) -> None:
    n_cosines = count_cosines(n_volumes, tr, high_pass)
    n_confounds = 0 if confounds is None else confounds.shape[1]
    if n_kept - 2 - n_cosines - n_confounds < 1:
        left = "" if n_kept == n_volumes else f", of which {n_kept} are not left out,"
        raise InputError(
            f"A run of {n_volumes} volumes{left} with {n_cosines} drift terms and {n_confounds} confounds.",
            "more volumes than regressors",
            "lower --high-pass, or regress out fewer --confounds",
        )
