"""Interfaces that look into networks: what filters prefer, and how features tell classes apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_xai.attribution.feature_visualisation import visualise_feature
from bids_xai.attribution.starts import Start
from bids_xai.decoding.design import Design
from bids_xai.decoding.softmax import resolve_device
from bids_xai.decoding.volumes import as_seen
from bids_xai.inference.chunks import save_chunk
from bids_xai.inference.similarity import dissimilarity, mantel
from bids_xai.interfaces.devices import on_own_gpu
from bids_xai.interfaces.explanations import NetworkSpec
from bids_xai.interfaces.network_results import save_tables
from bids_xai.models.checkpoints import load_own_checkpoint
from bids_xai.models.features import penultimate_features
from bids_xai.models.memory import memory_kept
from bids_xai.models.threads import torch_threads

# What the seed of the Mantel test is of, beside those of bids_xai.interfaces.networks.
_MANTEL = 14


class VisualizeFilters(SimpleInterface):
    """Search for the images that filters of the first training prefer.

    :func:`bids_xai.attribution.feature_visualisation.visualise_feature`.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_mask = File(exists=True, mandatory=True, desc="image on the grid of the volumes")
        in_checkpoints = InputMultiObject(File(exists=True), mandatory=True, desc="weights of the trainings")
        filters = traits.List(traits.Str, mandatory=True, desc="LAYER:FILTER")
        random_seed = traits.Int(0, usedefault=True, desc="seed of the image that is started from")
        device = traits.Enum("cpu", "cuda", "auto", usedefault=True, desc="where")
        n_threads = traits.Int(1, usedefault=True, desc="threads")
        use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="tells the scheduler")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="images by filter, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        network, card = load_own_checkpoint(inputs.in_checkpoints[0])
        device = resolve_device(inputs.device)
        # A volume that was scaled to mean 0 has values of both signs.
        bounds = (-3.0, 3.0) if card.input_scaling == "zscore" else (0.0, 1.0)
        images = {}
        with torch_threads(inputs.n_threads), memory_kept():
            for text in inputs.filters:
                layer, _, number = text.rpartition(":")
                start = Start(torch.zeros(1, dtype=torch.int64), "logit", layer, int(number))
                images[text] = visualise_feature(
                    network.to(device),
                    card.shape,
                    start,
                    bounds=bounds,
                    seed=inputs.random_seed,
                    device=device,
                ).image
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "filters.npz", images))
        return runtime


class CompareClasses(SimpleInterface):
    """Compare the dissimilarities of the classes in the brain and in the networks.

    Of the brain 1 - correlation of the mean volumes inside the mask, of networks that of the mean features
    before the last layer, in the held-out samples of each fold and averaged over folds; a Mantel test.
    """

    class _InputSpec(NetworkSpec):
        random_seed = traits.Int(0, usedefault=True, desc="seed")

    class _OutputSpec(TraitedSpec):
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        design = Design.load(inputs.in_design)
        volumes = np.load(inputs.in_data, mmap_mode="r")
        inside = np.asarray(nb.load(inputs.in_mask).dataobj) > 0
        codes = range(len(design.classes))
        brain = dissimilarity(
            np.stack([volumes[design.labels == code][:, inside].mean(axis=0) for code in codes])
        )
        matrices = []
        with torch_threads(inputs.n_threads), memory_kept():
            for place, fold in enumerate(design.folds):
                labels = design.labels[fold.test]
                if len(np.unique(labels)) < len(design.classes):
                    continue
                network, card = load_own_checkpoint(inputs.in_checkpoints[place])
                features = penultimate_features(
                    network,
                    as_seen(np.asarray(volumes[fold.test]), card.input_scaling),
                    batch_size=inputs.batch_size,
                    device=resolve_device(inputs.device),
                )
                matrices.append(
                    dissimilarity(np.stack([features[labels == code].mean(axis=0) for code in codes]))
                )
        tables = {}
        if matrices:
            network_rdm = np.mean(matrices, axis=0)
            result = mantel(brain, network_rdm, np.random.default_rng([inputs.random_seed, _MANTEL]))
            tables = {"rdm": _rdm_table(design, brain, network_rdm), "mantel": pd.DataFrame([vars(result)])}
        self._results["out_tables"] = save_tables(tables, Path(runtime.cwd))
        return runtime


def _rdm_table(design: Design, brain: npt.NDArray, network: npt.NDArray) -> pd.DataFrame:
    rows = [
        {"kind": kind, "class_a": a, "class_b": b, "distance": matrix[i, j]}
        for kind, matrix in (("brain", brain), ("network", network))
        for i, a in enumerate(design.classes)
        for j, b in enumerate(design.classes)
    ]
    return pd.DataFrame(rows)
