"""One repetition against the same in voxel space, fold by fold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_limits

from bids_xai.attribution import IMPORTANCES, MAP_VALUES, RAW, SHARE
from bids_xai.attribution.runs import Repetition, run_repetitions
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer, TorchTrainer, Trainer
from bids_xai.decoding.softmax import SgdParameters, draw_minibatches, initial_weights
from bids_xai.decoding.splits import Fold
from tests.references import haufe_pattern, output_difference, relevance, sgd_loop, softmax

METHODS = tuple(IMPORTANCES)
PARAMETERS = SgdParameters(learning_rate=0.02, batch_size=12, n_updates=120, l2=0.0)


def data(
    dtype: npt.DTypeLike = np.float64, n_voxels: int = 50, n: int = 48
) -> tuple[npt.NDArray, npt.NDArray]:
    rng = np.random.default_rng(2)
    labels = np.arange(n) % 3
    X = 0.5 * rng.standard_normal((3, n_voxels))[labels] + rng.standard_normal((n, n_voxels))
    return X.astype(dtype), labels


def thirds(n: int) -> list[Fold]:
    group = np.arange(n) // (n // 3)
    return [Fold(f"sub-{g}", np.flatnonzero(group != g), np.flatnonzero(group == g)) for g in range(3)]


def run(
    X: npt.NDArray,
    labels: npt.NDArray,
    *,
    seed: int = 4,
    trainer: Trainer | None = None,
    importance_samples: str = "class",
    methods: tuple[str, ...] = METHODS,
    map_values: str = RAW,
) -> Repetition:
    with threadpool_limits(1, user_api="blas"):
        (repetition,) = run_repetitions(
            X,
            training_basis(X),
            labels[None],
            np.arange(len(X)) % 4,
            thirds(len(X)),
            3,
            seeds=[np.random.SeedSequence([0, 0, seed])],
            parameters=PARAMETERS,
            methods=methods,
            importance_samples=importance_samples,
            map_values=map_values,
            trainer=trainer or CpuTrainer(),
        )
    return repetition


def textbook(
    X: npt.NDArray,
    labels: npt.NDArray,
    folds: list[Fold],
    seed: np.random.SeedSequence,
    importance_samples: str,
    map_values: str = RAW,
) -> tuple[npt.NDArray, npt.NDArray]:
    """Train in voxel space, score and explain fold by fold; return confusion and maps of METHODS."""
    confusion, n_folds = np.zeros((3, 3), np.int64), np.zeros(3)
    totals = np.zeros((len(METHODS), 3, X.shape[1]))
    for fold, own_seed in zip(folds, seed.spawn(len(folds)), strict=True):
        rng = np.random.default_rng(own_seed)
        start = initial_weights(rng, X.shape[1], 3, X.dtype)
        minibatches = draw_minibatches(rng, len(fold.train), PARAMETERS.batch_size, PARAMETERS.n_updates)
        W, bias = sgd_loop(
            X[fold.train], labels[fold.train], minibatches, start, learning_rate=PARAMETERS.learning_rate
        )
        test, true = X[fold.test], labels[fold.test]
        for t, p in zip(true, softmax(test @ W.T + bias).argmax(axis=1), strict=True):
            confusion[t, p] += 1
        members = np.stack([(true == c) | (importance_samples == "all") for c in range(3)])
        present = members.any(axis=1)
        means = np.stack([test[own].mean(axis=0) if own.any() else test[0] * 0 for own in members])
        maps = (
            W,
            haufe_pattern(X[fold.train], W),
            means * W,
            output_difference(test, W, bias, members),
            relevance(test, W, bias, members, "w2"),
            relevance(test, W, bias, members, "z"),
        )
        if map_values == SHARE:
            # Fewer samples than voxels: what every sample has added to the weights is the only solution.
            added = np.linalg.lstsq(X[fold.train].T, (W - start).T, rcond=None)[0]
            norms = np.sqrt((added**2).sum(axis=0))
            slopes = softmax(test @ W.T + bias) * (1 - softmax(test @ W.T + bias))
            slopes = np.stack([slopes[own, c].mean() if own.any() else 1 for c, own in enumerate(members)])
            divisors = {"W": norms, "WX": norms, "OD": norms * slopes, "Haufe": np.ones(3)}
            maps = tuple(
                own / np.where(present, divisors.get(name, np.abs(own).sum(axis=1)), 1)[:, None]
                for name, own in zip(METHODS, maps, strict=True)
            )
        totals += np.stack(maps) * present[:, None]
        n_folds += present
    return confusion, totals / np.maximum(n_folds, 1)[:, None]


@pytest.mark.parametrize("importance_samples", ["class", "all"])
@pytest.mark.parametrize("map_values", MAP_VALUES)
@pytest.mark.parametrize("trainer", [CpuTrainer(), TorchTrainer("cpu")], ids=["compiled", "torch"])
def test_a_repetition_equals_the_textbook(importance_samples: str, map_values: str, trainer: Trainer) -> None:
    X, labels = data()
    # A class without samples in one fold, as permuted labels may leave it: that fold does not count.
    labels = labels.copy()
    labels[:16] = np.arange(16) % 2
    ours = run(X, labels, importance_samples=importance_samples, map_values=map_values, trainer=trainer)
    seed = np.random.SeedSequence([0, 0, 4])
    confusion, maps = textbook(X, labels, thirds(48), seed, importance_samples, map_values)
    np.testing.assert_array_equal(ours.confusions.sum(axis=0), confusion)
    assert ours.maps.dtype == np.float32
    for own, expected in zip(ours.maps, maps, strict=True):
        np.testing.assert_allclose(own, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_the_same_seed_gives_the_same_bits_with_any_threads_and_methods() -> None:
    X, labels = data(np.float32)
    first = run(X, labels)
    for other in (run(X, labels), run(X, labels, trainer=CpuTrainer(3))):
        np.testing.assert_array_equal(first.maps, other.maps)
        np.testing.assert_array_equal(first.confusions, other.confusions)
    fewer = run(X, labels, methods=("OD", "W"))
    np.testing.assert_array_equal(fewer.maps, first.maps[[METHODS.index("OD"), METHODS.index("W")]])


def test_repetitions_differ_by_their_seed() -> None:
    X, labels = data(np.float32)
    assert np.abs(run(X, labels, seed=4).maps[0] - run(X, labels, seed=5).maps[0]).max() > 1e-3


def test_the_labels_in_use_are_the_truth_of_the_confusion() -> None:
    X, labels = data(np.float32)
    assert np.trace(run(X, labels).confusions.sum(axis=0)) > 0.6 * 48
    permuted = np.random.default_rng(0).permutation(labels)
    null = run(X, permuted).confusions.sum(axis=0)
    np.testing.assert_array_equal(null.sum(axis=1), np.bincount(permuted))
    assert np.trace(null) < 0.6 * 48


def test_read_only_mapped_data_is_never_copied_whole(tmp_path: Path) -> None:
    X, labels = data(np.float32, n_voxels=6000, n=300)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    reference = run(mapped, labels)
    np.testing.assert_array_equal(reference.maps, run(X, labels).maps)
    basis = training_basis(mapped)
    tracemalloc.start()
    next(
        run_repetitions(
            mapped,
            basis,
            labels[None],
            np.zeros(300, np.int64),
            thirds(300),
            3,
            seeds=[np.random.SeedSequence(0)],
            parameters=PARAMETERS,
            methods=METHODS,
            trainer=CpuTrainer(),
        )
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A third of the samples is held out at a time, and the fold before is let go after the next is read.
    held_out, small = X.nbytes / 3, 3 * 3 * 6000 * 4
    assert peak < 2 * held_out + 6 * small < X.nbytes
