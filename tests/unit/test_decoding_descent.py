"""Training many folds: the torch path equals the compiled one, threads change nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from bids_xai.decoding import softmax
from bids_xai.decoding.descent import CpuTrainer, TorchTrainer, trainer
from bids_xai.decoding.softmax import SgdParameters, draw_minibatches, gram_matrix, train
from bids_xai.errors import InputError

N, N_CLASSES = 60, 3


def folds(dtype, sizes, batch_size=9, n_updates=400):
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.arange(N) % N_CLASSES)
    X = (rng.normal(0, 0.3, (N_CLASSES, 150))[labels] + rng.normal(size=(N, 150))).astype(dtype)
    Z0 = rng.normal(0, 0.5, (len(sizes), N_CLASSES, N)).astype(dtype)
    samples = [np.sort(rng.permutation(N)[:size]) for size in sizes]
    minibatches = [draw_minibatches(rng, size, batch_size, n_updates) for size in sizes]
    return gram_matrix(X), Z0, labels, samples, minibatches


@pytest.mark.parametrize("l2", [0.0, 0.5, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_torch_equals_compiled(l2, dtype, tolerance):
    # The smallest fold has fewer samples than a minibatch: its minibatches have a size of their own.
    arguments = folds(dtype, sizes=(50, 7, 55, 20))
    parameters = SgdParameters(0.005, 9, 400, l2)
    compiled = CpuTrainer()(*arguments, parameters)
    with threadpool_limits(1):
        batched = TorchTrainer("cpu")(*arguments, parameters)
    assert len(batched) == 4
    for one, other in zip(compiled, batched, strict=True):
        scale = np.abs(one.coefficients).max()
        assert other.coefficients.dtype == dtype
        assert other.factor == pytest.approx(one.factor, rel=1e-9)
        np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=0, atol=tolerance * scale)
        np.testing.assert_allclose(other.bias, one.bias, rtol=0, atol=tolerance * np.abs(one.bias).max())


def test_threads_do_not_change_a_bit():
    arguments = folds(np.float32, sizes=(50, 7, 55, 20, 50))
    K, Z0, labels, samples, minibatches = arguments
    alone = [
        train(K, Z0[fold], labels, samples[fold], minibatches[fold], SgdParameters()) for fold in range(5)
    ]
    for n_threads in (1, 2, 8):
        for one, other in zip(alone, CpuTrainer(n_threads)(*arguments, SgdParameters()), strict=True):
            np.testing.assert_array_equal(one.coefficients, other.coefficients)
            np.testing.assert_array_equal(one.bias, other.bias)
            assert one.factor == other.factor


def test_trainer_by_device(monkeypatch):
    own = trainer("cpu", 3)
    assert isinstance(own, CpuTrainer)
    assert own.n_threads == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(trainer("auto"), CpuTrainer)
    with pytest.raises(InputError, match="cuda"):
        trainer("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(softmax, "_GPU_DEVICES", (os.devnull,))
    assert isinstance(trainer("auto"), TorchTrainer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_compiled():
    arguments = folds(np.float32, sizes=(50, 40))
    for one, other in zip(
        CpuTrainer()(*arguments, SgdParameters()), trainer("cuda")(*arguments, SgdParameters()), strict=True
    ):
        scale = np.abs(one.coefficients).max()
        np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=0, atol=1e-5 * scale)
