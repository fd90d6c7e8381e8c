"""One repetition: every fold trained once from its own start, scored and explained on what it left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from bids_xai.attribution import IMPORTANCES, NORM, SHARE, SLOPE, SUM
from bids_xai.attribution.linear import Linear
from bids_xai.attribution.patterns import haufe_pattern, pattern_coefficients
from bids_xai.attribution.shares import as_shares, is_shared
from bids_xai.decoding.basis import Basis
from bids_xai.decoding.convergence import late_falls
from bids_xai.decoding.descent import Task, Trainer, parts, threads
from bids_xai.decoding.held_out_scores import placements
from bids_xai.decoding.scores import confusion_counts
from bids_xai.decoding.softmax import SgdParameters, SoftmaxLayer, draw_minibatches, initial_weights
from bids_xai.decoding.splits import Fold
from bids_xai.registry import Attribution

# Initial weights in memory at once (float32: 256 MB), whatever the number of repetitions.
WEIGHTS_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Repetition:
    """What one repetition gives.

    Parameters
    ----------
    confusions
        Counts over the held-out samples of every person, shape (n_subjects, n_classes, n_classes); rows
        are the labels in use.
    placements
        What the areas under the ROC curves are means of, shape (n_subjects, n_classes, 4)
        (:func:`bids_xai.decoding.held_out_scores.placements`).
    falls
        How much the second half of every training has lowered its loss, shape (n_folds,)
        (:func:`bids_xai.decoding.convergence.late_falls`).
    maps
        Importance, shape (n_methods, n_classes, n_voxels): mean over the held-out samples of a fold, then
        over the folds that have samples to average.
    """

    confusions: npt.NDArray[np.int64]
    placements: npt.NDArray[np.float64]
    falls: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float32]


def run_repetitions(
    X: npt.NDArray,
    basis: Basis,
    labels: npt.NDArray[np.int64],
    subjects: npt.NDArray[np.int64],
    folds: Sequence[Fold] | Sequence[Sequence[Fold]],
    n_classes: int,
    *,
    seeds: Sequence[np.random.SeedSequence],
    parameters: SgdParameters,
    methods: Sequence[str],
    importance_samples: str = "class",
    map_values: str = SHARE,
    trainer: Trainer,
    weights_at_once: int = WEIGHTS_AT_ONCE,
) -> Iterator[Repetition]:
    """Train all folds of some repetitions, then score and explain one repetition after the other.

    Gotsopoulos et al. (2018), sections 2.7 and 2.8. What a repetition gives does not depend on the others.

    Parameters
    ----------
    X
        Samples, shape (n_samples, n_voxels); may be memory-mapped. float64 trains and explains in float64.
    basis
        What they are trained with (:func:`bids_xai.decoding.basis.training_basis`).
    labels
        Classes of the samples in every repetition, shape (n_repetitions, n_samples): true or permuted.
    subjects
        Person of every sample, codes from 0 without gaps, shape (n_samples,).
    folds
        Training and test samples: of all repetitions, or of each, which all have as many folds.
    n_classes
        Number of classes.
    seeds
        Source of the initial weights and minibatches of every repetition; every fold has its own.
    parameters
        Of the training.
    methods
        Names in :data:`bids_xai.attribution.IMPORTANCES`.
    importance_samples
        ``"class"``: the map of a class averages the held-out samples of that class; ``"all"``: all of them.
    map_values
        Name in :data:`bids_xai.attribution.MAP_VALUES`: whether the maps of a fold whose scale has no meaning
        are divided, as their method says (:attr:`bids_xai.registry.Attribution.divisor`).
    trainer
        Trains the folds, on the processor or the GPU (:func:`bids_xai.decoding.descent.trainer`).
    weights_at_once
        Weights of all repetitions that are trained together, at least those of one.
    """
    measures = [_Measure.of(IMPORTANCES[name], map_values) for name in methods]
    parameters = parameters.of(basis)
    shared = [own for own in folds if isinstance(own, Fold)]
    of_each = [own for own in folds if not isinstance(own, Fold)] or [shared] * len(labels)
    n_folds = len(of_each[0])
    at_once = max(weights_at_once // (n_folds * n_classes * X.shape[1]), 1)
    for start in range(0, len(labels), at_once):
        group = slice(start, start + at_once)
        with threads(trainer.n_threads) as run:
            begun = list(run(partial(_begin, X, n_folds, n_classes), seeds[group]))
            tasks = [
                Task(Z0, own, fold.train, _minibatches(rng, len(fold.train), parameters))
                for repetition, own, parted in zip(begun, labels[group], of_each[group], strict=True)
                for fold, Z0, rng in zip(parted, repetition.Z0, repetition.generators, strict=True)
            ]
            layers = trainer(basis, tasks, parameters)
            explain = partial(_explain, X, basis, subjects, measures, importance_samples, parameters)
            yield from run(explain, of_each[group], labels[group], begun, parts(layers, n_folds))


@dataclass(frozen=True)
class _Measure:
    """A measure of importance, and what its maps are divided by, if by anything."""

    function: Callable[[Linear], npt.NDArray]
    divisor: str | None

    @classmethod
    def of(cls, method: Attribution, map_values: str) -> _Measure:
        """Return the measure of a method whose maps are compared as ``map_values`` says."""
        return cls(method.load(), method.divisor if is_shared(method, map_values) else None)

    def __call__(self, layer: Linear, norms: npt.NDArray) -> npt.NDArray:
        """Return the maps of a layer, shape (n_classes, n_voxels)."""
        maps = self.function(layer)
        if self.divisor in (NORM, SLOPE):
            size = norms if self.divisor == NORM else norms * layer.slopes
            # Where no sample has added anything, the weights are those of the start, and say nothing.
            return np.divide(maps, size[:, None], out=np.zeros_like(maps), where=size[:, None] > 0)
        return as_shares(maps) if self.divisor == SUM else maps


@dataclass(frozen=True)
class _Beginning:
    """Initial weights (n_folds, n_classes, n_voxels), their logits, and what draws the minibatches."""

    W: npt.NDArray
    Z0: npt.NDArray
    generators: list[np.random.Generator]


def _begin(X: npt.NDArray, n_folds: int, n_classes: int, seed: np.random.SeedSequence) -> _Beginning:
    generators = [np.random.default_rng(own) for own in seed.spawn(n_folds)]
    W = np.stack([initial_weights(rng, X.shape[1], n_classes, X.dtype) for rng in generators])
    Z0 = (W.reshape(-1, X.shape[1]) @ X.T).reshape(n_folds, n_classes, -1)
    return _Beginning(W, Z0, generators)


def _minibatches(
    rng: np.random.Generator, n_train: int, parameters: SgdParameters
) -> Callable[[], npt.NDArray[np.int32]]:
    return partial(draw_minibatches, rng, n_train, parameters.batch_size, parameters.n_updates)


def _explain(
    X: npt.NDArray,
    basis: Basis,
    subjects: npt.NDArray[np.int64],
    measures: Sequence[_Measure],
    importance_samples: str,
    parameters: SgdParameters,
    folds: Sequence[Fold],
    labels: npt.NDArray[np.int64],
    beginning: _Beginning,
    layers: Sequence[SoftmaxLayer],
) -> Repetition:
    n_classes, n_voxels = beginning.W.shape[1:]
    factors = np.array([layer.factor for layer in layers], dtype=X.dtype)[:, None, None]
    coefficients = np.concatenate([layer.coefficients for layer in layers])
    biases = np.stack([layer.bias for layer in layers])[:, :, None]
    logits = basis.product(coefficients).reshape(beginning.Z0.shape) + factors * beginning.Z0 + biases
    predicted = [logits[number][:, fold.test].argmax(axis=0) for number, fold in enumerate(folds)]
    tested = np.concatenate([fold.test for fold in folds])
    confusions = confusion_counts(
        labels[tested], np.concatenate(predicted), n_classes, subjects[tested], int(subjects.max()) + 1
    )
    placed = placements(
        labels, [np.asarray(logits[i][:, own.test].T) for i, own in enumerate(folds)], subjects, folds
    )
    falls = late_falls(basis, labels, folds, layers, beginning.W, beginning.Z0, parameters.decay)
    average = _FoldAverage(len(measures), n_classes, n_voxels)
    if not measures:
        return Repetition(confusions, placed, falls, average.result())

    W = beginning.W
    W *= factors
    W += (coefficients @ X if basis.dual else coefficients).reshape(W.shape)
    patterns = _patterns(X, folds, logits) if any(own.function is haufe_pattern for own in measures) else None
    for number, fold in enumerate(folds):
        members = labels[fold.test] == np.arange(n_classes)[:, None]
        if importance_samples == "all":
            members = np.ones_like(members)
        layer = Linear(
            weights=W[number],
            bias=layers[number].bias,
            X=np.ascontiguousarray(X[fold.test]),
            logits=logits[number][:, fold.test].T,
            members=members,
            patterns=None if patterns is None else patterns[number],
        )
        average.add(layer, layers[number].norms, measures)
    return Repetition(confusions, placed, falls, average.result())


def _patterns(X: npt.NDArray, folds: Sequence[Fold], logits: npt.NDArray) -> npt.NDArray:
    """Return the Haufe patterns of all folds in one product, shape (n_folds, n_classes, n_voxels)."""
    coefficients = np.zeros_like(logits)
    for own, z, fold in zip(coefficients, logits, folds, strict=True):
        own[:, fold.train] = pattern_coefficients(z[:, fold.train].T)
    return (coefficients.reshape(-1, len(X)) @ X).reshape(*logits.shape[:2], -1)


class _FoldAverage:
    """Mean over folds of a class's maps; a fold without samples of the class does not count for it."""

    def __init__(self, n_methods: int, n_classes: int, n_voxels: int) -> None:
        self.total = np.zeros((n_methods, n_classes, n_voxels), dtype=np.float32)
        self.counts = np.zeros(n_classes, dtype=np.int64)

    def add(self, layer: Linear, norms: npt.NDArray, measures: Sequence[_Measure]) -> None:
        present = layer.members.any(axis=1)
        self.counts += present
        for number, measure in enumerate(measures):
            self.total[number, present] += measure(layer, norms)[present]

    def result(self) -> npt.NDArray[np.float32]:
        self.total /= np.maximum(self.counts, 1)[:, None].astype(np.float32)
        return self.total
