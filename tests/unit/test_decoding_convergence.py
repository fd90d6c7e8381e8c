"""What the second half of training gains: the plain loop's loss, and what it says of accuracies."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from bids_xai.attribution.runs import Repetition, run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.convergence import has_converged, late_falls
from bids_xai.decoding.descent import CpuTrainer, Task, TorchTrainer, Trainer
from bids_xai.decoding.softmax import SgdParameters, SoftmaxLayer, draw_minibatches, initial_weights
from bids_xai.decoding.splits import Fold


def loss(W: np.ndarray, bias: np.ndarray, X: np.ndarray, y: np.ndarray, l2: float) -> float:
    """Return the loss of the whole training set, as scikit-learn and a textbook have it."""
    logits = X @ W.T + bias
    outputs = np.exp(logits - logits.max(axis=1, keepdims=True))
    outputs /= outputs.sum(axis=1, keepdims=True)
    return log_loss(y, outputs, labels=range(len(W))) + l2 / 2 * float((W**2).sum())


@pytest.mark.parametrize("shape", [(18, 40), (40, 12)])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trainer", [CpuTrainer(), TorchTrainer("cpu")])
def test_it_is_the_fall_of_the_plain_loss_in_the_second_half(
    shape: tuple[int, int], l2: float, bias: bool, trainer: Trainer
) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    y = rng.integers(0, 3, shape[0])
    basis = training_basis(X)
    folds = [Fold("a", np.arange(5, shape[0]), np.arange(5)), Fold("b", np.arange(9), np.arange(9, shape[0]))]
    W0 = np.stack([initial_weights(rng, shape[1], 3, np.float64) for _ in folds])
    Z0 = W0 @ X.T
    drawn = [draw_minibatches(rng, len(fold.train), 5, 31) for fold in folds]

    def trained(n_updates: int) -> tuple[list[SoftmaxLayer], list[np.ndarray]]:
        parameters = SgdParameters(learning_rate=0.02, n_updates=n_updates, batch_size=5, l2=l2, bias=bias)
        tasks = [
            Task(z, y, fold.train, lambda own=own: own[:n_updates])
            for z, fold, own in zip(Z0, folds, drawn, strict=True)
        ]
        layers = trainer(basis, tasks, parameters)
        weights = [
            layer.factor * own + (layer.coefficients @ X if basis.dual else layer.coefficients)
            for layer, own in zip(layers, W0, strict=True)
        ]
        return layers, weights

    (layers, after), (halves, before) = trained(31), trained(15)
    found = late_falls(basis, y, folds, layers, W0, Z0, l2)
    for number, fold in enumerate(folds):
        own = X[fold.train], y[fold.train], l2
        fall = loss(before[number], halves[number].bias, *own) - loss(
            after[number], layers[number].bias, *own
        )
        assert found[number] == pytest.approx(fall / np.log(3), rel=1e-6)


def small_mask(n_updates: int, n_voxels: int = 20) -> tuple[np.ndarray, float]:
    """Return what is left to be learnt and the accuracy in voxels that vary together, as in a small mask."""
    rng = np.random.default_rng(1)
    labels = np.arange(240) % 4
    pattern = rng.standard_normal((4, n_voxels))
    shared = rng.standard_normal((len(labels), 2)) @ rng.standard_normal((2, n_voxels))
    X = 3 * shared + 0.12 * pattern[labels] + 0.25 * rng.standard_normal((len(labels), n_voxels))
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    rows = np.arange(len(labels))
    folds = [Fold(str(k), rows[rows // 60 != k], rows[rows // 60 == k]) for k in range(4)]
    (result,) = run(X, labels, folds, n_updates)
    return result.falls, result.confusions[0].trace() / len(labels)


def run(
    X: np.ndarray, labels: np.ndarray, folds: list[Fold], n_updates: int, **more: int
) -> list[Repetition]:
    return list(
        run_repetitions(
            X, training_basis(X), np.stack([labels] * more.get("n", 1)), np.zeros_like(labels), folds, 4,
            seeds=[np.random.SeedSequence(number) for number in range(more.get("n", 1))],
            parameters=SgdParameters(0.005, n_updates=n_updates, l2=0.0), methods=[], trainer=CpuTrainer(),
            weights_at_once=more.get("weights_at_once", 1 << 26),
        )
    )  # fmt: skip


def test_a_small_mask_that_more_updates_classify_better_is_said_not_to_have_converged() -> None:
    early, accuracy = small_mask(15_000)
    _, better = small_mask(60_000)
    assert better > accuracy + 0.05
    assert not has_converged(early).any()
    # Where little is to be learnt, it soon is.
    few, _ = small_mask(30_000, n_voxels=2)
    assert has_converged(few).all()


def test_many_voxels_converge_in_the_default_number_of_updates() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 4
    X = rng.standard_normal((48, 2000)).astype(np.float32)
    rows = np.arange(48)
    folds = [Fold(str(k), rows[rows // 24 != k], rows[rows // 24 == k]) for k in range(2)]
    (result,) = run(X, labels, folds, 10_000)
    assert has_converged(result.falls).all()


def test_it_is_the_same_however_many_are_trained_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 4
    X = rng.standard_normal((24, 60)).astype(np.float32)
    folds = [Fold("a", np.arange(12), np.arange(12, 24)), Fold("b", np.arange(12, 24), np.arange(12))]
    together = run(X, labels, folds, 50, n=4)
    alone = run(X, labels, folds, 50, n=4, weights_at_once=1)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.falls, other.falls)
        np.testing.assert_array_equal(one.placements, other.placements)


def test_what_diverged_has_not_converged() -> None:
    assert has_converged(np.array([0.001, np.inf, np.nan, 0.2])).tolist() == [True, False, False, False]
