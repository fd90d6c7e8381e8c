"""One repetition: every fold trained once from its own start, scored and explained on what it left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_xai.attribution import IMPORTANCES
from bids_xai.attribution.linear import Linear
from bids_xai.decoding.descent import Trainer
from bids_xai.decoding.scores import confusion_counts
from bids_xai.decoding.softmax import SgdParameters, draw_minibatches, initial_weights
from bids_xai.decoding.splits import Fold


@dataclass(frozen=True)
class Repetition:
    """What one repetition gives.

    Parameters
    ----------
    confusion
        Counts over all held-out samples, shape (n_classes, n_classes); rows are the labels in use.
    maps
        Importance, shape (n_methods, n_classes, n_voxels): mean over the held-out samples of a fold, then
        over the folds that have samples to average.
    """

    confusion: npt.NDArray[np.int64]
    maps: npt.NDArray[np.float32]


def run_repetition(
    X: npt.NDArray[np.float32],
    K: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    folds: Sequence[Fold],
    n_classes: int,
    *,
    seed: np.random.SeedSequence,
    parameters: SgdParameters,
    methods: Sequence[str],
    importance_samples: str = "class",
    trainer: Trainer,
) -> Repetition:
    """Train, score and explain all folds once (Gotsopoulos et al. 2018, sections 2.7 and 2.8).

    Parameters
    ----------
    X
        Samples, shape (n_samples, n_voxels); may be memory-mapped.
    K
        Their Gram matrix (:func:`bids_xai.decoding.softmax.gram_matrix`).
    labels
        Classes of the samples, shape (n_samples,): the true ones, or permuted ones.
    folds
        Training and test samples.
    n_classes
        Number of classes.
    seed
        Source of the initial weights and minibatches; every fold has its own.
    parameters
        Of the training.
    methods
        Names in :data:`bids_xai.attribution.IMPORTANCES`.
    importance_samples
        ``"class"``: the map of a class averages the held-out samples of that class; ``"all"``: all of them.
    trainer
        Trains the folds, on the processor or the GPU (:func:`bids_xai.decoding.descent.trainer`).
    """
    measures = [IMPORTANCES[name].load() for name in methods]
    seeds = seed.spawn(len(folds))
    generators = [np.random.default_rng(own) for own in seeds]
    W = np.concatenate([initial_weights(rng, X.shape[1], n_classes, X.dtype) for rng in generators])
    Z0 = (W @ X.T).reshape(len(folds), n_classes, -1)
    minibatches = [
        draw_minibatches(rng, len(fold.train), parameters.batch_size, parameters.n_updates)
        for rng, fold in zip(generators, folds, strict=True)
    ]
    models = trainer(K, Z0, labels, [fold.train for fold in folds], minibatches, parameters)
    W = W.reshape(len(folds), n_classes, -1)
    W *= np.array([model.factor for model in models], dtype=X.dtype)[:, None, None]
    W += (np.concatenate([model.coefficients for model in models]) @ X).reshape(W.shape)

    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    average = _FoldAverage(len(methods), n_classes, X.shape[1])
    for number, (fold, model) in enumerate(zip(folds, models, strict=True)):
        logits = model.logits(K, Z0[number], fold.test)
        own = labels[fold.test]
        confusion += confusion_counts(own, logits.argmax(axis=1), n_classes)
        members = own == np.arange(n_classes)[:, None]
        if importance_samples == "all":
            members = np.ones_like(members)
        layer = Linear(W[number], model.bias, np.ascontiguousarray(X[fold.test]), logits, members)
        average.add(layer, measures)
    return Repetition(confusion, average.result())


class _FoldAverage:
    """Mean over folds of a class's maps; a fold without samples of the class does not count for it."""

    def __init__(self, n_methods: int, n_classes: int, n_voxels: int) -> None:
        self.total = np.zeros((n_methods, n_classes, n_voxels), dtype=np.float32)
        self.counts = np.zeros(n_classes, dtype=np.int64)

    def add(self, layer: Linear, measures: Sequence[Callable[[Linear], npt.NDArray]]) -> None:
        present = layer.members.any(axis=1)
        self.counts += present
        for number, measure in enumerate(measures):
            self.total[number, present] += measure(layer)[present]

    def result(self) -> npt.NDArray[np.float32]:
        self.total /= np.maximum(self.counts, 1)[:, None].astype(np.float32)
        return self.total
