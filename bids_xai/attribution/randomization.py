"""Model-parameter randomisation: whether a heatmap depends on what the network learnt.

Parameters of layers are drawn anew and the explanation is computed again. A method whose maps stay the same
shows edges of the image, not what the network does.

Source: Adebayo et al. 2018, arXiv:1810.03292, section 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, stats
from torch import nn

from bids_xai.errors import InputError

Explain = Callable[[nn.Module], npt.NDArray]


@dataclass(frozen=True)
class Similarity:
    """How alike the maps are after a layer was drawn anew: means over the volumes.

    Parameters
    ----------
    layer
        Name of the layer; in cascading mode all layers above it were drawn anew too.
    spearman, spearman_abs
        Rank correlation of the maps, and of their absolute values, over voxels.
    ssim
        Structural similarity of the maps, each scaled to its largest absolute value.
    """

    layer: str
    spearman: float
    spearman_abs: float
    ssim: float


def randomization_test(
    network: nn.Module,
    explain_fn: Explain,
    *,
    seed: int,
    mode: Literal["cascading", "independent"] = "cascading",
    mask: npt.NDArray[np.bool_] | None = None,
) -> list[Similarity]:
    """Return how alike heatmaps are before and after layers are drawn anew, from the top layer down.

    Parameters
    ----------
    network
        Is left as it is: a copy is changed.
    explain_fn
        Takes a network, returns its heatmaps, shape (n, x, y, z).
    seed
        Seed of the new parameters.
    mode
        ``"cascading"``: each layer with all above it. ``"independent"``: each layer alone.
    mask
        Brain, bool, shape (x, y, z): correlations over its voxels, and structural similarity averaged over
        them. None: all voxels.

    Returns
    -------
    One record per layer that has parameters, the last first. NaN where a map is the same everywhere.

    Raises
    ------
    InputError
        An unknown mode; a network without parameters.
    """
    if mode not in ("cascading", "independent"):
        raise InputError(f"Unknown mode {mode!r} of randomisation.", "cascading or independent")
    names = [name for name, module in network.named_modules() if _own_parameters(module)][::-1]
    if not names:
        raise InputError("A network without parameters.", "layers that can be drawn anew")
    before = np.asarray(explain_fn(network), np.float64)
    generator = torch.Generator().manual_seed(seed)
    changed = copy.deepcopy(network)
    records = []
    for name in names:
        if mode == "independent":
            changed = copy.deepcopy(network)
        draw_anew(changed.get_submodule(name), generator)
        after = np.asarray(explain_fn(changed), np.float64)
        records.append(_similarity(name, before, after, mask))
    return records


def draw_anew(layer: nn.Module, generator: torch.Generator) -> None:
    """Replace a layer's own parameters with first values, in place.

    Weights of two axes or more: uniform in ±1 / sqrt(inputs of a unit); the bias beside them likewise, as
    torch does for dense layers and convolutions. Normalisation: scale and running variance uniform in
    0.5 .. 1.5, shift and running mean uniform in ±0.5: ones and zeros could be what the layer had.
    """
    weight = getattr(layer, "weight", None)
    bound = 0.5
    if weight is not None and weight.ndim > 1:
        bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
    tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    with torch.no_grad():
        for name, values in tensors:
            if not values.is_floating_point():
                continue
            drawn = torch.rand(values.shape, generator=generator, dtype=torch.float64)
            scale = values.ndim < 2 and name in ("weight", "running_var")
            values.copy_(drawn + 0.5 if scale else bound * (2 * drawn - 1))


def ssim(
    first: npt.NDArray, second: npt.NDArray, *, window: int = 7, span: float = 2.0
) -> npt.NDArray[np.float64]:
    """Return the structural similarity of two volumes around every voxel, shape (x, y, z).

    ``(2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2))`` with means m, variances
    and covariance s over a cube (equal weights, sample covariance, edges mirrored), ``C1 = (.01 span)^2``,
    ``C2 = (.03 span)^2``.

    Parameters
    ----------
    first, second
        Shape (x, y, z).
    window
        Edge of the cube in voxels, odd.
    span
        Range of the values: 2 for -1 .. 1.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, equation 13.
    """
    if first.shape != second.shape or window % 2 == 0 or window < 3:
        raise InputError(
            f"Volumes of shapes {first.shape} and {second.shape}, a window of {window}.",
            "one shape, and an odd window of at least 3",
        )
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def mean(values: npt.NDArray) -> npt.NDArray:
        return ndimage.uniform_filter(values, window, mode="reflect")

    n = window**a.ndim
    mean_a, mean_b = mean(a), mean(b)
    sample = n / (n - 1)
    variance_a, variance_b = sample * (mean(a * a) - mean_a**2), sample * (mean(b * b) - mean_b**2)
    covariance = sample * (mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return above / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))


def _own_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _similarity(
    layer: str, before: npt.NDArray, after: npt.NDArray, mask: npt.NDArray[np.bool_] | None
) -> Similarity:
    within = np.ones(before.shape[1:], bool) if mask is None else mask.astype(bool)
    rows = []
    for a, b in zip(before, after, strict=True):
        plain = _spearman(a[within], b[within])
        absolute = _spearman(np.abs(a[within]), np.abs(b[within]))
        rows.append((plain, absolute, float(ssim(_scaled(a), _scaled(b))[within].mean())))
    means = np.mean(rows, axis=0)
    return Similarity(layer, float(means[0]), float(means[1]), float(means[2]))


def _spearman(first: npt.NDArray, second: npt.NDArray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    ranks = (stats.rankdata(values) for values in (first, second))
    return float(np.corrcoef(*ranks)[0, 1])


def _scaled(values: npt.NDArray) -> npt.NDArray:
    largest = np.abs(values).max()
    return values / largest if largest > 0 else values
