"""Interfaces that explain trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from torch import nn

from bids_xai.atlases.regions import labels_on_grid
from bids_xai.atlases.sources import load_atlas
from bids_xai.attribution import MAP_VALUES
from bids_xai.attribution.explain import parse_explanation
from bids_xai.attribution.heatmaps import chosen_samples
from bids_xai.attribution.held_out import HeldOut, explain_fold
from bids_xai.decoding.design import Design
from bids_xai.decoding.softmax import resolve_device
from bids_xai.decoding.volumes import as_seen
from bids_xai.images.masking import unmask
from bids_xai.inference.chunks import save_chunk
from bids_xai.interfaces.devices import on_own_gpu
from bids_xai.models.checkpoints import load_card, load_own_checkpoint
from bids_xai.models.memory import memory_kept
from bids_xai.models.threads import torch_threads
from bids_xai.tables import read_frame


class NetworkSpec(BaseInterfaceInputSpec):
    """Volumes and the networks that were trained on them."""

    in_data = File(exists=True, mandatory=True, desc="float32 volumes, .npy")
    in_design = File(exists=True, mandatory=True, desc="design, .json")
    in_mask = File(exists=True, mandatory=True, desc="voxels that heatmaps are kept in")
    in_checkpoints = InputMultiObject(
        File(exists=True), mandatory=True, desc="weights of all trainings, fold by fold of run by run"
    )
    batch_size = traits.Int(4, usedefault=True, desc="volumes at once")
    device = traits.Enum("cpu", "cuda", "auto", usedefault=True, desc="where")
    n_threads = traits.Int(1, usedefault=True, desc="threads")
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="tells the scheduler")


class ExplainSpec(NetworkSpec):
    """What explaining takes besides: what the networks said, and how they are explained."""

    in_predictions = InputMultiObject(File(exists=True), mandatory=True, desc="TSV files, in the same order")
    explain = traits.List(traits.Str, mandatory=True, desc="explanations, with their options")
    explain_class = traits.Str(desc="class, 'true' or 'predicted'; absent: what suits the classes")
    explain_start = traits.Enum("logit", "probability", usedefault=True, desc="output that is explained")
    explain_layer = traits.Str(desc="inner layer whose filter is explained; absent: a class")
    explain_filter = traits.Int(0, usedefault=True, desc="number of the filter")
    explain_samples = traits.Int(desc="samples of every class and fold at most; absent: all")
    explain_above = traits.Float(0.0, usedefault=True, desc="smallest probability of the true class")
    atlas = traits.Str(desc="atlas of region occlusion")


@dataclass(frozen=True)
class Chosen:
    """The held-out samples of a fold that are explained.

    Parameters
    ----------
    samples
        Numbers of the samples, shape (k,).
    volumes
        As the network sees them, float32 (k, x, y, z).
    true
        Their classes in use, shape (k,).
    probabilities
        Of the classes, mean over the trainings, shape (k, n_classes).
    predicted
        What every training said, shape (n_runs, k).
    """

    samples: npt.NDArray[np.int64]
    volumes: npt.NDArray[np.float32]
    true: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]

    def best(self, most: int) -> Chosen:
        """Return those whose true class is the most probable, at most so many, in their order."""
        own = self.probabilities[np.arange(len(self.true)), self.true]
        kept = np.sort(np.argsort(-own, kind="stable")[:most])
        return Chosen(
            self.samples[kept],
            self.volumes[kept],
            self.true[kept],
            self.probabilities[kept],
            self.predicted[:, kept],
        )


def chosen_of_fold(inputs: Any, design: Design, *, fold: int, runs: list[int]) -> Chosen:
    """Return the samples of a fold that are explained, for the inputs of an :class:`ExplainSpec`."""
    places = [run * len(design.folds) + fold for run in runs]
    predictions = [read_frame(Path(inputs.in_predictions[place])) for place in places]
    columns = [f"probability_{name}" for name in design.classes]
    probabilities = np.stack([table[columns].to_numpy() for table in predictions])
    codes = {name: code for code, name in enumerate(design.classes)}
    true = np.array([codes[name] for name in predictions[0]["true"].astype(str)], np.int64)
    mean = probabilities.mean(axis=0)
    chosen = chosen_samples(
        true,
        mean,
        most=inputs.explain_samples if isdefined(inputs.explain_samples) else None,
        above=inputs.explain_above,
    )
    samples = predictions[0]["sample"].to_numpy(np.int64)[chosen]
    card = load_card(inputs.in_checkpoints[places[0]])
    volumes = np.load(inputs.in_data, mmap_mode="r")
    return Chosen(
        samples=samples,
        volumes=as_seen(np.asarray(volumes[samples]), card.input_scaling),
        true=true[chosen],
        probabilities=mean[chosen],
        predicted=probabilities.argmax(axis=2)[:, chosen],
    )


class TestedSpec(ExplainSpec):
    """What averaging heatmaps takes besides."""

    map_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what heatmaps are tested as")


class _Explain(SimpleInterface):
    """What explaining the folds of true and of permuted labels have in common."""

    def _explain(
        self, fold: int, runs: list[int], *, keep: bool, shown_values: str | None = None
    ) -> dict[str, npt.NDArray]:
        inputs = self.inputs
        design = Design.load(inputs.in_design)
        mask = nb.load(inputs.in_mask)
        chosen = chosen_of_fold(inputs, design, fold=fold, runs=runs)
        held_out = HeldOut(
            volumes=chosen.volumes,
            true=chosen.true,
            predicted=chosen.predicted,
            n_classes=len(design.classes),
        )
        with torch_threads(inputs.n_threads), memory_kept():
            result = explain_fold(
                [partial(_load, inputs.in_checkpoints[run * len(design.folds) + fold]) for run in runs],
                held_out,
                [parse_explanation(text) for text in inputs.explain],
                np.asarray(mask.dataobj) > 0,
                of_class=explained(inputs.explain_class, design.classes),
                kind=inputs.explain_start,
                batch_size=inputs.batch_size,
                device=resolve_device(inputs.device),
                regions=regions_of(inputs.atlas, mask),
                keep=keep,
                layer=inputs.explain_layer if isdefined(inputs.explain_layer) else None,
                filter=inputs.explain_filter,
                map_values=inputs.map_values,
                shown_values=shown_values or inputs.map_values,
            )
        return {**result.arrays(), "samples": chosen.samples, "probabilities": chosen.probabilities}


class ExplainFold(_Explain):
    """Explain the held-out samples of a fold by all trainings on the true labels."""

    class _InputSpec(TestedSpec):
        fold = traits.Int(mandatory=True, desc="number of the fold")
        shown_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what heatmaps are shown as")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="heatmaps and their sums by group, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        n_folds = len(Design.load(self.inputs.in_design).folds)
        runs = list(range(len(self.inputs.in_checkpoints) // n_folds))
        arrays = self._explain(self.inputs.fold, runs, keep=True, shown_values=self.inputs.shown_values)
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "heatmaps.npz", arrays))
        return runtime


class ExplainPermutation(_Explain):
    """Explain what the networks of one permutation left out: mean heatmap of every class."""

    class _InputSpec(TestedSpec):
        run = traits.Int(mandatory=True, desc="number of the permutation")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="mean heatmaps (n_methods, n_classes, n_voxels), .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        design = Design.load(self.inputs.in_design)
        n_classes = len(design.classes)
        total: Any = 0
        counts = np.zeros(n_classes, dtype=np.int64)
        silent: Any = 0
        for fold in range(len(design.folds)):
            arrays = self._explain(fold, [self.inputs.run], keep=False)
            total = total + arrays["tested"][0]
            counts += arrays["counts"][0, :n_classes]
            silent = silent + arrays["silent"][0].sum(axis=1)
        mean = total / np.maximum(counts, 1)[None, :, None]
        arrays = {"mean": mean.astype(np.float32), "counts": counts, "silent": silent}
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "permutation.npz", arrays))
        return runtime


def explained(of_class: Any, classes: tuple[str, ...]) -> int | str:
    """Return what :func:`bids_xai.attribution.heatmaps.explained_classes` takes: a code or a word."""
    if not isdefined(of_class) or of_class is None:
        return 1 if len(classes) == 2 else "true"
    return of_class if of_class in ("true", "predicted") else classes.index(of_class)


def _load(path: str) -> nn.Module:
    return load_own_checkpoint(path)[0]


def regions_of(name: Any, mask: nb.Nifti1Image) -> npt.NDArray[np.int32] | None:
    """Return the labels of an atlas on the grid of a mask, 0 outside it; None for an undefined trait."""
    if not isdefined(name):
        return None
    labels = labels_on_grid(load_atlas(name), mask)
    return np.asarray(unmask(labels, mask).dataobj).astype(np.int32)
