"""Interfaces that ask whether explanations and features can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from nipype.interfaces.base import (
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from torch import nn

from bids_xai.attribution.deletion import Order, area_over_curve, deletion_curve
from bids_xai.attribution.explain import Explanation, explain, parse_explanation
from bids_xai.attribution.heatmaps import explained_classes
from bids_xai.attribution.randomization import randomization_test
from bids_xai.attribution.starts import Start
from bids_xai.decoding.design import Design
from bids_xai.decoding.softmax import resolve_device
from bids_xai.interfaces.devices import on_own_gpu
from bids_xai.interfaces.explanations import (
    Chosen,
    ExplainSpec,
    chosen_of_fold,
    explained,
    regions_of,
)
from bids_xai.interfaces.network_results import save_tables
from bids_xai.models.checkpoints import load_own_checkpoint
from bids_xai.models.memory import memory_kept
from bids_xai.models.threads import torch_threads

# A test of parameters needs few samples: each layer of each sample is explained again.
_MOST_SAMPLES = 2
_FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
# Occlusion takes as many forwards as there are positions, anew for every layer: one sample, of so many
# positions along an axis at most.
_BY_OUTPUT = ("occlusion", "region-occlusion")
_MOST_POSITIONS = 24
_MODE: Literal["cascading"] = "cascading"


@dataclass(frozen=True)
class _Subjects:
    """Samples that are explained, the class of each, and where."""

    chosen: Chosen
    targets: npt.NDArray[np.int64]
    mask: nb.Nifti1Image
    regions: npt.NDArray[np.int32] | None

    def best(self) -> _Subjects:
        """Return the sample alone whose true class is the most probable."""
        own = self.chosen.best(1)
        (place,) = np.flatnonzero(self.chosen.samples == own.samples[0])
        return _Subjects(own, self.targets[place : place + 1], self.mask, self.regions)


def coarse(explanation: Explanation, shape: Sequence[int]) -> Explanation:
    """Return occlusion with boxes side by side, not more than 24 along an axis; others as they are."""
    if explanation.name != "occlusion":
        return explanation
    options = dict(explanation.options)
    box = options.get("box", (2, 2, 2))
    edge = max(*(box if isinstance(box, tuple) else (int(box),)), -(-max(shape) // _MOST_POSITIONS))
    sizes = tuple(min(edge, size) for size in shape)
    given = {**options, "box": sizes, "stride": edge}
    return Explanation("occlusion", tuple(given.items()))


class TrustNetwork(SimpleInterface):
    """Randomise the parameters of a network, and delete voxels in the order of their relevance.

    Of the first training of the first fold and the two of its held-out samples that are classified best:
    :func:`bids_xai.attribution.randomization.randomization_test` and
    :func:`bids_xai.attribution.deletion.deletion_curve` of every explanation, from the last layer down in
    cascade. Under occlusion parameters are randomised for the best sample alone, with boxes side by side that
    are as large as it takes.
    """

    class _InputSpec(ExplainSpec):
        random_seed = traits.Int(0, usedefault=True, desc="seed")

    class _OutputSpec(TraitedSpec):
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        design = Design.load(inputs.in_design)
        mask = nb.load(inputs.in_mask)
        network, _ = load_own_checkpoint(inputs.in_checkpoints[0])
        chosen = chosen_of_fold(inputs, design, fold=0, runs=[0]).best(_MOST_SAMPLES)
        if not len(chosen.samples):
            self._results["out_tables"] = {}
            return runtime
        targets = explained_classes(
            explained(inputs.explain_class, design.classes), chosen.true, chosen.predicted[0]
        )
        regions = regions_of(inputs.atlas, mask)
        subjects = _Subjects(chosen, targets, mask, regions)
        randomized, deleted = [], []
        with torch_threads(inputs.n_threads), memory_kept():
            for explanation in [parse_explanation(text) for text in inputs.explain]:
                randomized += self._randomized(network, subjects, explanation)
                maps = self._maps(network, subjects, explanation)
                deleted.append(self._deletion(network, chosen, targets, maps, explanation.label, mask))
        tables = {"randomization": pd.DataFrame(randomized), **_deletion_tables(deleted)}
        self._results["out_tables"] = save_tables(tables, Path(runtime.cwd))
        return runtime

    def _maps(
        self, network: nn.Module, subjects: _Subjects, explanation: Explanation
    ) -> npt.NDArray[np.float32]:
        inputs = self.inputs
        return explain(
            network,
            subjects.chosen.volumes,
            subjects.targets,
            explanation,
            kind=inputs.explain_start,
            batch_size=inputs.batch_size,
            device=resolve_device(inputs.device),
            regions=subjects.regions,
            mask=np.asarray(subjects.mask.dataobj) > 0,
            layer=inputs.explain_layer if isdefined(inputs.explain_layer) else None,
            filter=inputs.explain_filter,
        )

    def _randomized(
        self, network: nn.Module, subjects: _Subjects, explanation: Explanation
    ) -> list[dict[str, Any]]:
        used = explanation
        if explanation.name in _BY_OUTPUT:
            subjects, used = subjects.best(), coarse(explanation, subjects.mask.shape)
        found = randomization_test(
            network,
            lambda own: self._maps(own, subjects, used),
            seed=self.inputs.random_seed,
            mode=_MODE,
            mask=np.asarray(subjects.mask.dataobj) > 0,
        )
        return [
            {"method": explanation.label, "mode": _MODE, "depth": depth, **vars(record)}
            for depth, record in enumerate(found, start=1)
        ]

    def _deletion(
        self,
        network: nn.Module,
        chosen: Chosen,
        targets: npt.NDArray[np.int64],
        maps: npt.NDArray[np.float32],
        label: str,
        mask: nb.Nifti1Image,
    ) -> dict[str, npt.NDArray]:
        """Return the curves of a method and of voxels at random, each (n, n_fractions)."""
        inputs = self.inputs
        device = resolve_device(inputs.device)
        inside = torch.from_numpy(np.asarray(mask.dataobj) > 0).to(device)
        x = torch.from_numpy(chosen.volumes).to(device)[:, None]
        start = Start(torch.from_numpy(targets), "probability")
        orders: list[tuple[str, Order]] = [(label, "descending"), ("random", "random")]
        return {
            name: deletion_curve(
                network.to(device).eval(), x, start, torch.from_numpy(maps).to(device),
                fractions=_FRACTIONS, order=order, seed=inputs.random_seed, mask=inside,
            )
            for name, order in orders
        }  # fmt: skip


def _deletion_tables(curves: list[dict[str, npt.NDArray]]) -> dict[str, pd.DataFrame]:
    rows, areas = [], []
    # The random order is the same for all methods.
    for name, values in {name: own for found in curves for name, own in found.items()}.items():
        mean = values.mean(axis=0)
        error = (
            values.std(axis=0, ddof=1) / np.sqrt(len(values))
            if len(values) > 1
            else np.full(len(mean), np.nan)
        )
        rows.append(
            pd.DataFrame({"method": name, "order": "random" if name == "random" else "descending",
                          "fraction": _FRACTIONS, "probability": mean, "se": error})
        )  # fmt: skip
        areas.append({"method": name, "area_over_curve": float(area_over_curve(values, _FRACTIONS).mean())})
    return {"deletion": pd.concat(rows, ignore_index=True), "area": pd.DataFrame(areas)}
