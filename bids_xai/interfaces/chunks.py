"""Interfaces that train in chunks and merge what the chunks give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from threadpoolctl import threadpool_limits

from bids_xai.attribution.runs import run_repetition
from bids_xai.decoding.descent import trainer
from bids_xai.decoding.design import Design
from bids_xai.inference.chunks import add_chunks, allocate, load_chunk, save_chunk
from bids_xai.inference.null import NullAccumulator, kept_values, merge_top
from bids_xai.inference.permutation import permute_labels
from bids_xai.inference.reproducibility import ExceedanceCounter
from bids_xai.inference.thresholds import voxel_thresholds
from bids_xai.models import MODELS

# Order of the stages in the seeds; appended to, never changed.
STAGES = ("real", "null", "null2")


class RunChunk(SimpleInterface):
    """Train, score and explain some repetitions, and keep sums, counts or largest values of their maps.

    Repetition i of a stage draws from ``SeedSequence([seed, stage, i])``, so that a result does not depend
    on the chunk, the process or the order it is computed in.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_data = File(exists=True, mandatory=True, desc="float32 samples, .npy")
        in_gram = File(exists=True, mandatory=True, desc="their Gram matrix, .npy")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_thresholds = File(exists=True, desc="thresholds, .npy; mandatory but for stage null")
        stage = traits.Enum(*STAGES, mandatory=True, desc="true labels, permuted labels, or the second set")
        start = traits.Int(mandatory=True, desc="first repetition")
        stop = traits.Int(mandatory=True, desc="repetition after the last")
        model = traits.Str("softmax", usedefault=True, desc="name of the classifier")
        training = traits.Dict(desc="parameters of the classifier")
        importance = traits.List(traits.Str, mandatory=True, desc="measures of importance")
        importance_samples = traits.Enum("class", "all", usedefault=True, desc="samples that a map averages")
        permute = traits.Str("subject", usedefault=True, desc="exchangeability of the labels")
        random_seed = traits.Int(0, usedefault=True, desc="seed")
        alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")
        tail = traits.Enum("greater", "two-sided", usedefault=True, desc="what counts as important")
        n_permutations = traits.Int(mandatory=True, desc="null repetitions of all chunks together")
        device = traits.Enum("cpu", "cuda", "auto", usedefault=True, desc="where to train")
        n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads of this chunk")
        use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="tells the scheduler")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="arrays of the chunk, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        X = np.load(inputs.in_data, mmap_mode="r")
        K = np.load(inputs.in_gram)
        design = Design.load(inputs.in_design)
        parameters = MODELS[inputs.model].load()(**(inputs.training if isdefined(inputs.training) else {}))
        train_folds = trainer(inputs.device, inputs.n_threads)
        keeper = self._keeper((len(inputs.importance), len(design.classes), X.shape[1]))
        confusions = []
        # One BLAS thread: the same bits whatever the number of processors.
        with threadpool_limits(1, user_api="blas"):
            for index in range(inputs.start, inputs.stop):
                seed = np.random.SeedSequence([inputs.random_seed, STAGES.index(inputs.stage), index])
                (of_labels, of_training) = seed.spawn(2)
                labels = design.labels
                if inputs.stage != "real":
                    labels = permute_labels(
                        design.labels,
                        inputs.permute,
                        design.subjects,
                        design.runs,
                        design.events,
                        np.random.default_rng(of_labels),
                        design.left_out,
                    )
                result = run_repetition(
                    X,
                    K,
                    labels,
                    design.folds,
                    len(design.classes),
                    seed=of_training,
                    parameters=parameters,
                    methods=inputs.importance,
                    importance_samples=inputs.importance_samples,
                    trainer=train_folds,
                )
                keeper.update(result.maps)
                confusions.append(result.confusion)
        arrays = {**keeper.arrays(), "confusions": np.stack(confusions)}
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "chunk.npz", arrays))
        return runtime

    def _keeper(self, shape: tuple[int, int, int]) -> NullAccumulator | ExceedanceCounter:
        if self.inputs.stage == "null":
            return NullAccumulator(self.inputs.n_permutations, self.inputs.alpha, shape, self.inputs.tail)
        return ExceedanceCounter(np.load(self.inputs.in_thresholds), self.inputs.tail)


class MergeNull(SimpleInterface):
    """Merge the null chunks and derive the thresholds of every voxel."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="null chunks, in order")
        alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")
        n_permutations = traits.Int(mandatory=True, desc="null repetitions of all chunks together")

    class _OutputSpec(TraitedSpec):
        out_thresholds = File(exists=True, desc="float32 (n_alphas, n_methods, n_classes, n_voxels), .npy")
        out_top = File(exists=True, desc="float32 largest values (k, n_methods, n_classes, n_voxels), .npy")
        out_file = File(exists=True, desc="maxima and confusions of all null repetitions, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        chunks = [load_chunk(path) for path in inputs.in_files]
        k = kept_values(inputs.n_permutations, inputs.alpha)
        top = allocate(folder / "top.npy", (k, *chunks[0]["top"].shape[1:]))
        merge_top([chunk["top"] for chunk in chunks], top)
        np.save(folder / "thresholds.npy", voxel_thresholds(top, inputs.n_permutations, inputs.alpha))
        arrays = {
            name: np.concatenate([chunk[name] for chunk in chunks]) for name in ("maxima", "confusions")
        }
        self._results.update(
            out_thresholds=str(folder / "thresholds.npy"),
            out_top=str(folder / "top.npy"),
            out_file=str(save_chunk(folder / "null.npz", arrays)),
        )
        return runtime


class MergeRuns(SimpleInterface):
    """Add up the chunks of a stage whose runs were compared with thresholds."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="chunks, in order")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="counts, total and confusions, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        chunks = [load_chunk(path) for path in self.inputs.in_files]
        arrays = add_chunks(chunks, ("counts", "total"))
        arrays["confusions"] = np.concatenate([chunk["confusions"] for chunk in chunks])
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "merged.npz", arrays))
        return runtime
