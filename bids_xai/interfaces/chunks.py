"""Interfaces that train in chunks and merge what the chunks give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from threadpoolctl import threadpool_limits

from bids_xai.attribution import MAP_VALUES
from bids_xai.attribution.runs import WEIGHTS_AT_ONCE, Repetition, run_repetitions
from bids_xai.decoding.basis import Basis, training_basis
from bids_xai.decoding.descent import trainer
from bids_xai.decoding.design import Design
from bids_xai.decoding.scores import accuracy
from bids_xai.decoding.splits import Fold
from bids_xai.inference.chunks import concatenate_chunks, load_chunk, save_chunk, smallest_integers
from bids_xai.inference.ledger import Keeper, Ledger
from bids_xai.inference.null import NullAccumulator, kept_values, ledger_thresholds
from bids_xai.inference.permutation import permute_design
from bids_xai.inference.reproducibility import ExceedanceCounter
from bids_xai.inference.sequential import stopped_at
from bids_xai.interfaces.devices import on_own_gpu
from bids_xai.models import MODELS

# Order of the stages in the seeds; appended to, never changed.
STAGES = ("real", "null", "null2")


class _StageSpec(BaseInterfaceInputSpec):
    """What decides the result of a stage: the ledger starts anew when any of it changes."""

    in_data = File(exists=True, mandatory=True, desc="float32 samples, .npy")
    in_gram = File(exists=True, mandatory=True, desc="what they are trained with, .npy (decoding.basis)")
    in_design = File(exists=True, mandatory=True, desc="design, .json")
    in_thresholds = File(exists=True, desc="thresholds, .npy; mandatory but for stage null")
    stage = traits.Enum(*STAGES, mandatory=True, desc="true labels, permuted labels, or the second set")
    model = traits.Str("softmax", usedefault=True, desc="name of the classifier")
    training = traits.Dict(desc="parameters of the classifier")
    precision = traits.Enum("single", "double", usedefault=True, desc="numbers of training and importance")
    importance = traits.List(traits.Str, mandatory=True, desc="measures of importance; none: only scores")
    importance_samples = traits.Enum("class", "all", usedefault=True, desc="samples that a map averages")
    map_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what maps are compared as")
    permute = traits.Str("subject", usedefault=True, desc="exchangeability of the labels")
    random_seed = traits.Int(0, usedefault=True, desc="seed")
    alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")
    tail = traits.Enum("greater", "two-sided", usedefault=True, desc="what counts as important")
    n_permutations = traits.Int(mandatory=True, desc="null repetitions of all chunks together, at most")
    device = traits.Enum("cpu", "cuda", "auto", usedefault=True, desc="where to train")
    chunk_size = traits.Int(mandatory=True, desc="repetitions of a chunk; the last may have fewer")


class OpenLedger(SimpleInterface):
    """Make the empty ledger that the chunks of a stage fill (:class:`bids_xai.inference.ledger.Ledger`).

    It has the inputs of the chunks, so that both are computed again when one of them changes; and a name
    that no other ledger has, so that the chunks of an earlier one never count for it.
    """

    class _InputSpec(_StageSpec):
        n_repetitions = traits.Int(mandatory=True, desc="repetitions of all chunks together, at most")

    class _OutputSpec(TraitedSpec):
        out_ledger = traits.Str(desc="folder of the ledger")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        n_voxels = np.load(inputs.in_data, mmap_mode="r").shape[1]
        # A value's thresholded counts are int32, its sum two int64 numbers.
        is_null = inputs.stage == "null"
        kept = 4 * kept_values(inputs.n_permutations, inputs.alpha) if is_null else 4 * len(inputs.alpha) + 16
        ledger = Ledger.create(
            Path(runtime.cwd),
            (len(inputs.importance), len(Design.load(inputs.in_design).classes), n_voxels),
            n_runs=inputs.n_repetitions,
            chunk_size=inputs.chunk_size,
            value_bytes=kept,
        )
        self._results["out_ledger"] = str(ledger.folder)
        return runtime


class RunChunk(SimpleInterface):
    """Train, score and explain some repetitions, and merge their maps into the ledger of the stage.

    Repetition i of a stage draws from ``SeedSequence([seed, stage, i])``, so that a result does not depend
    on the chunk, the process or the order it is computed in.
    """

    class _InputSpec(_StageSpec):
        in_ledger = traits.Str(desc="folder of the ledger; mandatory where there are measures of importance")
        start = traits.Int(mandatory=True, desc="first repetition")
        stop = traits.Int(mandatory=True, desc="repetition after the last")
        limit = traits.Int(desc="repetitions from here on are not needed; absent: all are")
        n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads of this chunk")
        use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="tells the scheduler")
        weights_at_once = traits.Int(
            WEIGHTS_AT_ONCE, usedefault=True, nohash=True, desc="weights in memory at once"
        )

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="what is kept of single repetitions, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        X = np.load(inputs.in_data, mmap_mode="r")
        design = Design.load(inputs.in_design)
        shape = (len(inputs.importance), len(design.classes), X.shape[1])
        keeper = self._keeper(shape)
        confusions, placed, falls = [], [], []
        # One BLAS thread: the same bits whatever the number of processors.
        with threadpool_limits(1, user_api="blas"):
            for result in self._repetitions(X, design):
                if keeper is not None:
                    keeper.update(result.maps)
                confusions.append(result.confusions)
                placed.append(result.placements)
                falls.append(result.falls)
        arrays = {} if keeper is None else keeper.run_arrays()
        if keeper is not None and confusions:
            Ledger.open(inputs.in_ledger).add(inputs.start, keeper.merged)
        people = int(design.subjects.max()) + 1
        counts = np.array(confusions, dtype=np.int64).reshape(-1, people, shape[1], shape[1])
        arrays["confusions"] = smallest_integers(counts)
        of_people = np.array(placed, dtype=np.float64).reshape(-1, people, shape[1], 4)
        # Intervals are of the true labels: of the others the sums over people suffice.
        arrays["placements"] = of_people if inputs.stage == "real" else of_people.sum(axis=1, keepdims=True)
        arrays["falls"] = np.array(falls, dtype=np.float64).reshape(-1, len(design.folds))
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "chunk.npz", arrays))
        return runtime

    def _repetitions(self, X: npt.NDArray, design: Design) -> Iterator[Repetition]:
        inputs = self.inputs
        if isdefined(inputs.limit) and inputs.start >= inputs.limit:
            return iter(())
        labels, folds, seeds = self._draw(design)
        basis = Basis.load(inputs.in_gram, X.shape)
        if inputs.precision == "double":
            X = X.astype(np.float64)
            basis = training_basis(X)
        return run_repetitions(
            X,
            basis,
            labels,
            design.subjects,
            folds,
            len(design.classes),
            seeds=seeds,
            parameters=MODELS[inputs.model].load()(**(inputs.training if isdefined(inputs.training) else {})),
            methods=inputs.importance,
            importance_samples=inputs.importance_samples,
            map_values=inputs.map_values,
            trainer=trainer(inputs.device, inputs.n_threads),
            weights_at_once=inputs.weights_at_once,
        )

    def _draw(
        self, design: Design
    ) -> tuple[npt.NDArray[np.int64], list[tuple[Fold, ...]], list[np.random.SeedSequence]]:
        """Return labels and folds of every repetition, and the seeds of its trainings."""
        inputs = self.inputs
        drawn, seeds = [], []
        for index in range(inputs.start, inputs.stop):
            seed = np.random.SeedSequence([inputs.random_seed, STAGES.index(inputs.stage), index])
            of_labels, of_training = seed.spawn(2)
            seeds.append(of_training)
            drawn.append(
                (design.labels, design.folds)
                if inputs.stage == "real"
                else permute_design(design, inputs.permute, np.random.default_rng(of_labels))
            )
        return np.stack([labels for labels, _ in drawn]), [folds for _, folds in drawn], seeds

    def _keeper(self, shape: tuple[int, int, int]) -> Keeper | None:
        inputs = self.inputs
        if not inputs.importance:
            return None
        if inputs.stage == "null":
            return NullAccumulator(
                inputs.n_permutations, inputs.alpha, shape, inputs.tail, n_runs=inputs.stop - inputs.start
            )
        return ExceedanceCounter(np.load(inputs.in_thresholds), inputs.tail)


class StopPermuting(SimpleInterface):
    """Say after a round of permutations whether the next is needed.

    :func:`bids_xai.inference.sequential.stopped_at` of the mean accuracy on the true labels.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_real = File(exists=True, mandatory=True, desc="scores on the true labels, .npz")
        in_before = File(exists=True, desc="null chunks of earlier rounds, .npz")
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="null chunks of this round")
        exceedances = traits.Int(mandatory=True, desc="null accuracies that reach the true one: enough")
        n_permutations = traits.Int(mandatory=True, desc="permutations of all rounds together")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="null chunks of the rounds so far, .npz")
        limit = traits.Int(desc="permutations that are needed: those so far, or all")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        earlier = [inputs.in_before] if isdefined(inputs.in_before) else []
        arrays = concatenate_chunks([*earlier, *inputs.in_files])
        real = accuracy(load_chunk(inputs.in_real)["confusions"].sum(axis=1)).mean()
        null = accuracy(arrays["confusions"].sum(axis=1))
        stop = stopped_at(float(real), null, inputs.exceedances)
        self._results.update(
            out_file=str(save_chunk(Path(runtime.cwd) / "null.npz", arrays)),
            limit=inputs.n_permutations if stop is None else len(null),
        )
        return runtime


class MergeNull(SimpleInterface):
    """Put the null chunks together and derive the thresholds of every voxel."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="null chunks, in order")
        in_ledger = traits.Str(mandatory=True, desc="ledger of the null stage")
        alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")

    class _OutputSpec(TraitedSpec):
        out_thresholds = File(exists=True, desc="float32 (n_alphas, n_methods, n_classes, n_voxels), .npy")
        out_file = File(exists=True, desc="maxima and confusions of all null repetitions, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        arrays = concatenate_chunks(inputs.in_files)
        thresholds = ledger_thresholds(Ledger.open(inputs.in_ledger), len(arrays["confusions"]), inputs.alpha)
        np.save(folder / "thresholds.npy", thresholds)
        self._results.update(
            out_thresholds=str(folder / "thresholds.npy"),
            out_file=str(save_chunk(folder / "null.npz", arrays)),
        )
        return runtime


class MergeRuns(SimpleInterface):
    """Put the chunks of a stage together whose runs were compared with thresholds."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="chunks, in order")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="confusions of all repetitions, .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        arrays = concatenate_chunks(self.inputs.in_files)
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "merged.npz", arrays))
        return runtime
