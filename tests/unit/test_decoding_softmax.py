"""Training in Gram space against a plain torch loop; the Gram matrix; minibatches; initial weights."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from bids_xai.decoding import softmax
from bids_xai.decoding.basis import Basis, aligned, gram_matrix, training_basis
from bids_xai.decoding.descent import CpuTrainer, Task, TorchTrainer
from bids_xai.decoding.kernels import descend
from bids_xai.decoding.softmax import (
    SgdParameters,
    draw_minibatches,
    initial_weights,
    resolve_device,
    train,
)
from bids_xai.errors import InputError
from tests.references import autograd_loop, sgd_loop
from tests.references import softmax as outputs_of

N, VOXELS = 90, 260
# Decay factors per update of 1, .999, .5 (0.5^2100 is no number in float32 or float64), 0 and -.5.
L2 = (0.0, 0.2, 100.0, 200.0, 300.0)


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def problem(n_classes, n=N, n_voxels=VOXELS):
    rng = np.random.default_rng(n_classes)
    labels = rng.permutation(np.arange(n) % n_classes)
    patterns = rng.normal(0, 0.3, (n_classes, n_voxels))
    X = (patterns[labels] + rng.normal(size=(n, n_voxels))).astype(np.float32)
    return X, labels, initial_weights(rng, n_voxels, n_classes), rng


def gram_weights(X, labels, W0, samples, minibatches, parameters):
    basis = training_basis(X)
    task = Task(W0 @ X.T, labels, samples, lambda: minibatches)
    (layer,) = CpuTrainer()(basis, [task], parameters)
    return layer.factor * W0 + (layer.coefficients @ X if basis.dual else layer.coefficients), layer


def largest_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("n_voxels", [VOXELS, 33], ids=["Gram space", "more samples than voxels"])
@pytest.mark.parametrize("n_classes", [2, slow(3), 5, slow(8)])
@pytest.mark.parametrize("n_train", [40, 80], ids=["own Gram matrix", "whole Gram matrix"])
@pytest.mark.parametrize("l2", [L2[0], slow(L2[1]), L2[2]])
def test_gram_space_is_the_primal_loop(n_voxels, n_classes, n_train, l2):
    X, labels, W0, rng = problem(n_classes, n_voxels=n_voxels)
    samples = np.sort(rng.permutation(N)[:n_train])
    minibatches = draw_minibatches(rng, n_train, 7, 2100)
    parameters = SgdParameters(0.005, 7, 2100, l2)
    exact, bias = sgd_loop(
        X[samples].astype(np.float64), labels[samples], minibatches, W0, learning_rate=0.005, l2=l2
    )
    for dtype, tolerance in ((np.float32, 3e-5), (np.float64, 1e-9)):
        W, model = gram_weights(X.astype(dtype), labels, W0.astype(dtype), samples, minibatches, parameters)
        assert W.dtype == model.coefficients.dtype == model.bias.dtype == dtype
        assert model.coefficients.shape == (n_classes, min(N, n_voxels))
        assert largest_error(W, exact) < tolerance
        assert largest_error(model.bias, bias) < tolerance
        if n_voxels == VOXELS:
            left_out = np.setdiff1d(np.arange(N), samples)
            assert not model.coefficients[:, left_out].any()


@pytest.mark.parametrize("n_voxels", [VOXELS, 33], ids=["Gram space", "more samples than voxels"])
@pytest.mark.parametrize("batch_size", [1, slow(20), slow(90)])
@pytest.mark.parametrize(
    "options",
    [{}, {"l2": 0.3}, {"clip": 0.01}, {"bias": False}, {"l2": 0.3, "clip": 0.2, "bias": False}],
    ids=str,
)
def test_ten_thousand_updates_with_every_option_are_those_of_the_primal_loop(n_voxels, batch_size, options):
    n_updates = 10_000 if batch_size == 20 and len(options) != 1 else 2000
    X, labels, W0, rng = problem(5, n_voxels=n_voxels)
    minibatches = draw_minibatches(rng, N, batch_size, n_updates)
    parameters = SgdParameters(0.005, batch_size, n_updates, **{"l2": 0.0, **options})
    exact, bias = sgd_loop(
        X.astype(np.float64), labels, minibatches, W0, learning_rate=0.005, l2=parameters.l2,
        clip=parameters.clip, with_bias=parameters.bias,
    )  # fmt: skip
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-9)):
        W, model = gram_weights(
            X.astype(dtype), labels, W0.astype(dtype), np.arange(N), minibatches, parameters
        )
        assert largest_error(W, exact) < tolerance
        np.testing.assert_allclose(model.bias, bias, rtol=0, atol=tolerance * max(np.abs(bias).max(), 1e-9))


def test_the_bias_starts_at_zero_and_stays_there_without():
    X, labels, W0, rng = problem(3)
    minibatches = draw_minibatches(rng, N, 7, 50)
    _, model = gram_weights(X, labels, W0, np.arange(N), minibatches, SgdParameters(bias=False))
    assert not model.bias.any()


@pytest.mark.parametrize("l2", L2[3:])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decay_to_nothing_or_below_in_one_update(l2, dtype):
    X, labels, W0, rng = problem(3)
    minibatches = draw_minibatches(rng, N, 6, 301)
    exact, _ = sgd_loop(X.astype(np.float64), labels, minibatches, W0, learning_rate=0.005, l2=l2)
    W, _ = gram_weights(
        X.astype(dtype), labels, W0.astype(dtype), np.arange(N), minibatches, SgdParameters(0.005, l2=l2)
    )
    assert largest_error(W, exact) < (1e-5 if dtype == np.float32 else 1e-9)


def test_gram_space_is_the_float32_loop_too():
    X, labels, W0, rng = problem(5)
    minibatches = draw_minibatches(rng, N, 20, 2000)
    primal, _ = sgd_loop(X, labels, minibatches, W0, learning_rate=0.005)
    W, _ = gram_weights(X, labels, W0, np.arange(N), minibatches, SgdParameters(0.005, l2=0.0))
    assert largest_error(W, primal) < 1e-5


@pytest.mark.parametrize("l2", [0.0, 3.0])
def test_gram_space_is_what_torch_trains(l2):
    X, labels, W0, rng = problem(5)
    minibatches = draw_minibatches(rng, N, 20, 100)
    with threadpool_limits(1):
        exact, bias = autograd_loop(X.astype(np.float64), labels, minibatches, W0, learning_rate=0.005, l2=l2)
    W, model = gram_weights(
        X.astype(np.float64),
        labels,
        W0.astype(np.float64),
        np.arange(N),
        minibatches,
        SgdParameters(0.005, l2=l2),
    )
    assert largest_error(W, exact) < 1e-12
    assert largest_error(model.bias, bias) < 1e-12


def test_whole_training_set_as_minibatch_is_gradient_descent():
    X, labels, W0, rng = problem(3, n=10)
    minibatches = draw_minibatches(rng, 10, 20, 100)
    assert minibatches.shape == (100, 10)
    exact, _ = sgd_loop(X.astype(np.float64), labels, minibatches, W0, learning_rate=0.005)
    W, _ = gram_weights(X, labels, W0, np.arange(10), minibatches, SgdParameters(0.005, l2=0.0))
    assert largest_error(W, exact) < 1e-5


def test_training_needs_no_writable_input_and_leaves_it_alone():
    X, labels, W0, rng = problem(3)
    basis, Z0 = training_basis(X), W0 @ X.T
    minibatches = draw_minibatches(rng, 60, 5, 50)
    before = basis.rows.copy(), Z0.copy(), labels.copy(), minibatches.copy()
    first = train(basis, Z0, labels, minibatches, SgdParameters(0.005, l2=0.1))
    for array, copy in zip((basis.rows, Z0, labels, minibatches), before, strict=True):
        np.testing.assert_array_equal(array, copy)
        array.flags.writeable = False
    again = train(basis, Z0, labels, minibatches, SgdParameters(0.005, l2=0.1))
    np.testing.assert_array_equal(first.coefficients, again.coefficients)


@pytest.mark.parametrize("n_voxels", [VOXELS, 33])
def test_logits_are_those_of_the_weights(n_voxels):
    X, labels, W0, rng = problem(4, n_voxels=n_voxels)
    samples, held_out = np.arange(60), np.arange(60, N)
    minibatches = draw_minibatches(rng, 60, 7, 400)
    W, model = gram_weights(X, labels, W0, samples, minibatches, SgdParameters(0.005, l2=1.0))
    logits = (model.factor * W0 @ X.T + training_basis(X).product(model.coefficients))[:, held_out].T
    logits = logits + model.bias
    np.testing.assert_allclose(logits, X[held_out] @ W.T + model.bias, atol=1e-4 * np.abs(logits).max())
    assert n_voxels != VOXELS or (logits.argmax(axis=1) == labels[held_out]).mean() > 0.6


def test_samples_that_decayed_to_nothing_are_left_at_zero_not_denormal():
    X, labels, W0, rng = problem(3)
    minibatches = draw_minibatches(rng, N, 2, 3000)
    model = train(training_basis(X), W0 @ X.T, labels, minibatches, SgdParameters(0.005, l2=100.0))
    sizes = np.abs(model.coefficients[model.coefficients != 0])
    assert 0 < len(sizes) < model.coefficients.size
    assert sizes.min() > np.finfo(np.float32).tiny


@given(st.integers(0, 2**32 - 1), st.floats(0, 900))
@settings(max_examples=60, deadline=None)
def test_outputs_of_one_update_are_the_softmax_however_large_the_logits(seed, scale):
    rng = np.random.default_rng(seed)
    Z0 = rng.uniform(-scale, scale, (7, 3))
    A, start = np.zeros((4, 8)), (1.0, 1.0, np.zeros(3))
    minibatches = np.arange(7, dtype=np.int32)[None]
    labels = np.zeros(7, np.int64)
    descend(np.zeros((7, 8)), True, A, A, Z0, labels, minibatches, 7.0, 0.0, 0.0, False, start)
    outputs = np.exp(Z0 - Z0.max(axis=1, keepdims=True))
    outputs /= outputs.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(A[:2, :7].T, [1, 0] - outputs[:, :2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(30, 70), (30, 31), (31, 30), (70, 3)])
def test_a_basis_is_the_gram_matrix_unless_samples_outnumber_voxels(tmp_path, shape):
    X = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    basis = training_basis(X)
    assert basis.dual == (shape[0] <= shape[1])
    assert basis.width == min(shape)
    np.testing.assert_array_equal(basis.rows[:, : basis.width], gram_matrix(X) if basis.dual else X)
    basis.save(tmp_path / "basis.npy")
    for own in (basis, Basis.load(tmp_path / "basis.npy", shape), basis.restricted(np.arange(shape[0]))):
        assert (own.width, own.dual) == (basis.width, basis.dual)
        np.testing.assert_array_equal(own.rows, basis.rows)
        assert own.rows.strides[0] % 64 == own.rows.ctypes.data % 64 == 0
        assert not own.rows[:, own.width :].any()


@pytest.mark.parametrize("width", [1, 15, 16, 17])
def test_aligned_copies_are_padded_with_zeros(width):
    values = np.random.default_rng(0).standard_normal((5, width)).astype(np.float32)
    copy = aligned(values)
    assert copy.shape == (5, 16 if width < 17 else 32)
    np.testing.assert_array_equal(copy[:, :width], values)
    assert not copy[:, width:].any()


@pytest.mark.parametrize("block", [1, 7, 260, 4096])
def test_gram_matrix(block):
    X, *_ = problem(3)
    K = gram_matrix(X, block=block)
    exact = X.astype(np.float64) @ X.T.astype(np.float64)
    assert K.dtype == np.float32
    assert largest_error(K, exact) < 1e-6
    np.testing.assert_array_equal(K, K.T)


def test_gram_matrix_of_a_file(tmp_path):
    X, *_ = problem(3)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(gram_matrix(mapped, block=50), gram_matrix(X, block=50))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_minibatches_are_subsets(n_train, batch_size, seed):
    drawn = draw_minibatches(np.random.default_rng(seed), n_train, batch_size, 25)
    assert drawn.dtype == np.int32
    assert drawn.shape == (25, min(batch_size, n_train))
    assert drawn.min() >= 0
    assert drawn.max() < n_train
    assert all(len(set(row)) == len(row) for row in drawn.tolist())
    again = draw_minibatches(np.random.default_rng(seed), n_train, batch_size, 25)
    np.testing.assert_array_equal(drawn, again)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_minibatches_are_uniform_over_subsets(seed):
    drawn = np.sort(draw_minibatches(np.random.default_rng(seed), 6, 3, 20_000), axis=1)
    _, counts = np.unique(drawn @ [36, 6, 1], return_counts=True)
    assert len(counts) == 20
    assert stats.chisquare(counts).pvalue > 1e-4


def test_minibatches_are_uniform_over_samples():
    drawn = draw_minibatches(np.random.default_rng(0), 50, 20, 20_000)
    counts = np.bincount(drawn.ravel(), minlength=50)
    # Without replacement the counts vary less than a multinomial's: by 1 - 20 / 50.
    assert stats.chi2(49).sf(((counts - 8000) ** 2 / 8000).sum() / (1 - 20 / 50)) > 1e-4
    follows = (drawn[1:, :, None] == drawn[:-1, None, :]).any(axis=2).mean()
    assert follows == pytest.approx(20 / 50, abs=0.005)


def test_initial_weights():
    W0 = initial_weights(np.random.default_rng(0), 40_000, 4)
    assert W0.shape == (4, 40_000)
    assert W0.dtype == np.float32
    assert W0.std() == pytest.approx(np.sqrt(2 / 40_004), rel=0.01)
    assert abs(W0.mean()) < 5 * W0.std() / 400
    wide = initial_weights(np.random.default_rng(0), 40_000, 4, np.float64)
    np.testing.assert_array_equal(W0, wide)


def test_device(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(softmax, "_GPU_DEVICES", (os.devnull,))
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"


@pytest.mark.parametrize("n_voxels", [VOXELS, 33], ids=["Gram space", "more samples than voxels"])
@pytest.mark.parametrize(("l2", "clip"), [(0.0, 0.0), (0.3, 0.0), (100.0, 0.0), (0.3, 0.1)])
def test_norms_are_those_of_what_every_sample_has_added(n_voxels, l2, clip):
    X, labels, W0, rng = problem(3, n_voxels=n_voxels)
    X, W0 = X.astype(np.float64), W0.astype(np.float64)
    minibatches = draw_minibatches(rng, N, 7, 2100)
    # One update after the other, for every sample.
    W, bias, added = W0.copy(), np.zeros(3), np.zeros((3, N))
    for batch in minibatches:
        outputs = outputs_of(X[batch] @ W.T + bias)
        outputs = outputs.clip(clip, 1 - clip) if clip else outputs
        errors = (np.eye(3)[labels[batch]] - outputs).T * 0.005 / 7
        W, added = W * (1 - 0.005 * l2) + errors @ X[batch], added * (1 - 0.005 * l2)
        added[:, batch] += errors
        bias += errors.sum(axis=1)
    task = Task(W0 @ X.T, labels, np.arange(N), lambda: minibatches)
    for trainer in (CpuTrainer(), TorchTrainer("cpu")):
        (layer,) = trainer(training_basis(X), [task], SgdParameters(0.005, 7, 2100, l2=l2, clip=clip))
        np.testing.assert_allclose(layer.norms, np.linalg.norm(added, axis=1), rtol=1e-9)


@pytest.mark.parametrize("n_voxels", [VOXELS, 33], ids=["Gram space", "more samples than voxels"])
def test_learning_rate_and_decay_come_from_the_samples(n_voxels):
    X = problem(3, n_voxels=n_voxels)[0] + np.float32(0.5)
    own = SgdParameters().of(training_basis(X))
    variance, length = X.var(axis=0, dtype=np.float64).sum(), (X.astype(np.float64) ** 2).sum(axis=1).mean()
    assert own.l2 == pytest.approx(variance / (2 * N), rel=1e-5)
    assert own.learning_rate == pytest.approx(4 / length, rel=1e-5)
    # Samples in other units: the same logits, and weights in the inverse unit.
    other = SgdParameters().of(training_basis(X * np.float32(10)))
    assert (other.l2, other.learning_rate) == pytest.approx((own.l2 * 100, own.learning_rate / 100), rel=1e-5)
    # What is given stays; a strong decay slows the updates down, so that many of them enter the weights.
    given = SgdParameters(learning_rate=0.01).of(training_basis(X))
    assert (given.learning_rate, given.l2) == (0.01, own.l2)
    strong = SgdParameters(l2=1e4).of(training_basis(X))
    assert strong.learning_rate == pytest.approx(2 / (N * 1e4))
    assert SgdParameters(l2=0.0).of(training_basis(X)).learning_rate == own.learning_rate


def test_a_decay_that_takes_away_more_than_there_is_is_refused():
    X = problem(3)[0] * np.float32(100)
    with pytest.raises(InputError, match="a product below 1"):
        SgdParameters(learning_rate=0.5).of(training_basis(X))


@pytest.mark.parametrize("n_voxels", [60, 600, 6000])
def test_default_training_converges(n_voxels):
    X, labels, W0, rng = problem(3, n_voxels=n_voxels)
    basis = training_basis(X)
    updates = draw_minibatches(rng, N, 20, 10_000)
    W, layer = gram_weights(X, labels, W0, np.arange(N), updates, SgdParameters())
    own = SgdParameters().of(basis)
    assert layer.factor < 1e-6

    def loss(flat):
        """Return cross-entropy with the decay, and its gradient, for weights and biases in one vector."""
        weights, bias = flat[: W.size].reshape(W.shape), flat[W.size :]
        outputs = outputs_of(X @ weights.T + bias)
        errors = (outputs - np.eye(3)[labels]) / N
        value = -np.log(outputs[np.arange(N), labels]).mean() + own.l2 / 2 * (weights**2).sum()
        return value, np.concatenate([(errors.T @ X + own.l2 * weights).ravel(), errors.sum(axis=0)])

    reached = loss(np.concatenate([W.ravel(), layer.bias]).astype(np.float64))[0]
    least = optimize.minimize(loss, np.zeros(W.size + 3), jac=True, method="L-BFGS-B").fun
    # What is left is the noise of minibatches: it is below what counts as not converged.
    assert least - 1e-9 < reached < least + 0.02 * np.log(3)
