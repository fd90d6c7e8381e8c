"""Heatmaps of what a fold leaves out, of all trainings of the fold: by sample, and summed by group.

A heatmap is taken as it is or as a share (:mod:`bids_xai.attribution.shares`), sample by sample and training
by training: no participant and no training weighs more because its output is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bids_xai.attribution import EXPLANATIONS, SHARE
from bids_xai.attribution.explain import Explanation, explain
from bids_xai.attribution.heatmaps import Codes, explained_classes, group_members, group_sums
from bids_xai.attribution.shares import as_shares, is_shared, magnitudes, silent
from bids_xai.attribution.starts import Start


@dataclass(frozen=True)
class HeldOut:
    """The samples of a fold that are explained.

    Parameters
    ----------
    volumes
        As the network sees them, shape (k, x, y, z).
    true
        Their classes, shape (k,).
    predicted
        What every training said of them, shape (n_runs, k).
    n_classes
        Number of classes.
    """

    volumes: npt.NDArray[np.float32]
    true: Codes
    predicted: Codes
    n_classes: int


@dataclass(frozen=True)
class FoldHeatmaps:
    """What the trainings of a fold used.

    Parameters
    ----------
    heatmaps
        Mean over the trainings as they are shown, float32 (n_methods, k, n_voxels).
    sums
        Sum over the samples of a group as they are shown, float32 (n_runs, n_methods, n_groups, n_voxels).
    tested
        Sum over the samples of a class as they are tested, float32 (n_runs, n_methods, n_classes, n_voxels).
    counts
        Samples of a group, int64 (n_runs, n_groups); the first groups are the classes.
    totals
        Sum of the heatmap as it is over the voxels that are kept, float64 (n_runs, n_methods, k).
    silent
        Whether the heatmap is 0 in all of them, bool (n_runs, n_methods, k).
    residuals
        ``|sum of the heatmap - output| / |output|``, float64 (n_runs, n_methods, k); nan where a method does
        not decompose the output.
    outside
        Share of the absolute relevance that lies outside the mask, float64 (n_runs, n_methods, k).
    """

    heatmaps: npt.NDArray[np.float32]
    sums: npt.NDArray[np.float32]
    tested: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.float64]
    silent: npt.NDArray[np.bool_]
    residuals: npt.NDArray[np.float64]
    outside: npt.NDArray[np.float64]

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return everything by name."""
        return dict(vars(self))


def explain_fold(
    networks: Sequence[Callable[[], nn.Module]],
    held_out: HeldOut,
    explanations: Sequence[Explanation],
    inside: npt.NDArray[np.bool_],
    *,
    of_class: int | str,
    kind: str = "logit",
    batch_size: int = 4,
    device: str = "cpu",
    regions: npt.NDArray[np.int32] | None = None,
    keep: bool = True,
    layer: str | None = None,
    filter: int = 0,  # noqa: A002
    map_values: str = SHARE,
    shown_values: str = SHARE,
) -> FoldHeatmaps:
    """Explain the held-out samples of a fold by every training of it.

    Parameters
    ----------
    networks
        What loads the network of every training.
    held_out
        The samples.
    explanations
        How they are explained.
    inside
        Voxels that are kept, shape (x, y, z).
    of_class, kind
        Class whose output is explained (:func:`bids_xai.attribution.heatmaps.explained_classes`), and which
        output (:class:`bids_xai.attribution.starts.Start`).
    batch_size, device
        Volumes at once, and where.
    regions
        Labels of an atlas on the grid, shape (x, y, z), for region occlusion.
    keep
        Keep the heatmaps of single samples; else their array is empty.
    layer, filter
        Explain a filter of an inner layer instead of a class.
    map_values, shown_values
        What heatmaps are tested as, and shown as (:data:`bids_xai.attribution.MAP_VALUES`).
    """
    n_runs, n_methods, k = len(networks), len(explanations), len(held_out.volumes)
    n_voxels = int(inside.sum())
    members = [group_members(held_out.true, own, held_out.n_classes) for own in held_out.predicted]
    n_groups, n_classes = members[0].shape[0], held_out.n_classes
    result = FoldHeatmaps(
        heatmaps=np.zeros((n_methods, k if keep else 0, n_voxels), dtype=np.float32),
        sums=np.zeros((n_runs, n_methods, n_groups, n_voxels), dtype=np.float32),
        tested=np.zeros((n_runs, n_methods, n_classes, n_voxels), dtype=np.float32),
        counts=np.array([own.sum(axis=1) for own in members], dtype=np.int64),
        totals=np.zeros((n_runs, n_methods, k)),
        silent=np.zeros((n_runs, n_methods, k), dtype=bool),
        residuals=np.full((n_runs, n_methods, k), np.nan),
        outside=np.zeros((n_runs, n_methods, k)),
    )
    for run, load in enumerate(networks):
        network = load()
        targets = explained_classes(of_class, held_out.true, held_out.predicted[run])
        origin = Start(torch.from_numpy(targets), kind, layer, filter)
        scores = output_scores(network, held_out.volumes, origin, batch_size, device)
        for number, explanation in enumerate(explanations):
            method = EXPLANATIONS[explanation.name]
            maps = explain(
                network,
                held_out.volumes,
                targets,
                explanation,
                kind=kind,
                batch_size=batch_size,
                device=device,
                regions=regions,
                mask=inside,
                layer=layer,
                filter=filter,
            )
            if method.sums_to_output:
                total = maps.sum(axis=(1, 2, 3), dtype=np.float64)
                result.residuals[run, number] = np.abs(total - scores) / np.maximum(np.abs(scores), 1e-12)
            magnitude = np.abs(maps).sum(axis=(1, 2, 3), dtype=np.float64)
            kept = maps[:, inside]
            within = np.abs(kept).sum(axis=1, dtype=np.float64)
            result.outside[run, number] = 1 - np.divide(
                within, magnitude, out=np.ones_like(within), where=magnitude > 0
            )
            result.totals[run, number] = kept.sum(axis=1, dtype=np.float64)
            result.silent[run, number] = silent(kept)
            shown = as_shares(kept) if is_shared(method, shown_values) else kept
            tested = magnitudes(kept) if is_shared(method, map_values) else kept
            result.sums[run, number] = group_sums(shown, members[run])
            result.tested[run, number] = group_sums(tested, members[run][:n_classes])
            if keep:
                result.heatmaps[number] += shown / np.float32(n_runs)
    return result


def output_scores(
    network: nn.Module, volumes: npt.NDArray[np.float32], origin: Start, batch_size: int, device: str
) -> npt.NDArray[np.float64]:
    """Return what is explained of every volume, shape (k,)."""
    network = network.to(device).eval()
    scores: list[Any] = []
    with torch.no_grad():
        for first in range(0, len(volumes), batch_size):
            part = slice(first, first + batch_size)
            x = torch.from_numpy(np.ascontiguousarray(volumes[part])).to(device)
            scores.append(origin.part(part).scores(network, x[:, None]).double().cpu().numpy())
    return np.concatenate(scores) if scores else np.empty(0)
