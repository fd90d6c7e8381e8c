"""Deletion curves: the class's probability as the most relevant voxels are replaced, in steps.

The faster it falls, compared with voxels replaced in random order, the more the network depends on what the
heatmap marks.

Source: Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820 (region perturbation); Petsiuk et al. 2018,
arXiv:1806.07421 ("deletion").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.occlusion import Baseline, replacement
from bids_xai.attribution.starts import Start
from bids_xai.attribution.steps import triple
from bids_xai.errors import InputError

Order = Literal["descending", "ascending", "random"]
FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def deletion_curve(
    network: nn.Module,
    x: Tensor,
    start: Start,
    relevance: npt.NDArray | Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    order: Order = "descending",
    block: int | tuple[int, int, int] = 1,
    baseline: Baseline = "zero",
    reference: Tensor | None = None,
    seed: int = 0,
    mask: npt.NDArray | Tensor | None = None,
) -> npt.NDArray[np.float64]:
    """Return what is explained after fractions of the voxels were replaced, shape (n, n_fractions).

    Parameters
    ----------
    network, x, start
        Network; volumes, shape (n, 1, x, y, z); what is followed: for a curve of probabilities, a start of
        kind ``"probability"``.
    relevance
        Heatmaps, shape (n, x, y, z).
    fractions
        Shares of the blocks that are replaced, in 0 .. 1, not falling; ``round(fraction n_blocks)`` blocks.
    order
        ``"descending"``: the most relevant blocks first; ``"ascending"``; ``"random"``: the relevance is not
        read. Ties are ordered by place.
    block
        Size of the cubes that are replaced together, by their mean relevance; those at the end of an axis are
        cut off there.
    baseline, reference, seed
        What replaces the voxels (:func:`bids_xai.attribution.occlusion.replacement`); ``seed`` also draws the
        random order, another for every volume.
    mask
        Brain, bool, shape (x, y, z): only its voxels count and are replaced. None: all voxels.

    Raises
    ------
    InputError
        Fractions that fall or lie outside 0 .. 1, an unknown order, shapes that do not fit, an empty mask.
    """
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or len(shares) == 0 or shares[0] < 0 or shares[-1] > 1 or (np.diff(shares) < 0).any():
        raise InputError(f"Fractions {list(fractions)} of a deletion curve.", "rising numbers in 0 .. 1")
    if order not in ("descending", "ascending", "random"):
        raise InputError(f"Unknown order {order!r} of a deletion curve.", "descending, ascending or random")
    R = torch.as_tensor(relevance).detach().cpu().to(torch.float64)
    shape = tuple(x.shape[2:])
    within = torch.ones(shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask).cpu().bool()
    if tuple(R.shape) != (len(x), *shape) or tuple(within.shape) != shape or not within.any():
        raise InputError(
            f"Relevance of shape {tuple(R.shape)} and a mask of {int(within.sum())} voxels of shape"
            f" {tuple(within.shape)}.",
            f"shapes {(len(x), *shape)} and {shape}, and a mask that is not empty",
        )
    blocks = _blocks(within, triple(block))
    filling = replacement(x, baseline, seed=seed, reference=reference)
    curve = np.empty((len(x), len(shares)))
    with evaluating(network), torch.no_grad():
        ranks = torch.stack([_ranks(R[i], blocks, order, seed, i) for i in range(len(x))]).to(x.device)
        n_blocks = int(blocks.max()) + 1
        for column, share in enumerate(shares):
            gone = (ranks >= 0) & (ranks < round(float(share) * n_blocks))
            curve[:, column] = start.scores(network, torch.where(gone[:, None], filling, x)).cpu().numpy()
    return curve


def area_over_curve(curve: npt.NDArray, fractions: Sequence[float] = FRACTIONS) -> npt.NDArray[np.float64]:
    """Return the mean loss along deletion curves, shape (n,): ``integral of curve(first) - curve(q) dq``.

    The integral over the fractions q (trapezoids) is divided by their range, so that it is in units of the
    curve; above that of random order where the heatmap marks what the network uses.

    Source: Samek et al. 2017, equation 12 (there the mean over equal steps).
    """
    q = np.asarray(fractions, np.float64)
    if curve.shape[1] != len(q) or len(q) < 2 or q[-1] <= q[0]:
        raise InputError(
            f"A curve of {curve.shape[1]} points at {len(q)} fractions.", "two or more rising fractions"
        )
    loss = curve[:, :1] - curve
    return ((loss[:, 1:] + loss[:, :-1]) / 2 * np.diff(q)).sum(axis=1) / (q[-1] - q[0])


def _blocks(within: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the block of every voxel, numbered without gaps, -1 outside; shape (x, y, z)."""
    places = [torch.arange(n) // step for n, step in zip(within.shape, size, strict=True)]
    grid = [int(place[-1]) + 1 for place in places]
    codes = (places[0][:, None, None] * grid[1] + places[1][:, None]) * grid[2] + places[2]
    blocks = torch.full(tuple(within.shape), -1, dtype=torch.int64)
    blocks[within] = codes[within].unique(return_inverse=True)[1]
    return blocks


def _ranks(relevance: Tensor, blocks: Tensor, order: Order, seed: int, index: int) -> Tensor:
    """Return when the block of every voxel is replaced, 0 first, -1 never; shape (x, y, z)."""
    inside = blocks >= 0
    n_blocks = int(blocks.max()) + 1
    if order == "random":
        rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        places = torch.from_numpy(rng.permutation(n_blocks))
    else:
        codes = blocks[inside]
        sums = torch.zeros(n_blocks, dtype=torch.float64).index_add_(0, codes, relevance[inside])
        means = sums / torch.bincount(codes, minlength=n_blocks)
        places = means.argsort(descending=order == "descending", stable=True)
    ranks = torch.empty(n_blocks, dtype=torch.int64)
    ranks[places] = torch.arange(n_blocks)
    result = torch.full_like(blocks, -1)
    result[inside] = ranks[blocks[inside]]
    return result
