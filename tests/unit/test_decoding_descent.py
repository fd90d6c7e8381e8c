"""Training many folds: the torch path equals the compiled one, threads change nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from bids_xai.decoding import descent, softmax
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import CpuTrainer, Task, TorchTrainer, trainer
from bids_xai.decoding.softmax import SgdParameters, draw_minibatches
from bids_xai.errors import InputError

N, N_CLASSES = 60, 3


def problem(dtype, sizes, *, n_voxels=150, batch_size=9, n_updates=400):
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.arange(N) % N_CLASSES)
    X = (rng.normal(0, 0.3, (N_CLASSES, n_voxels))[labels] + rng.normal(size=(N, n_voxels))).astype(dtype)
    folds = {size: np.sort(rng.permutation(N)[:size]) for size in sizes}
    tasks = []
    for size in sizes:
        minibatches = draw_minibatches(rng, size, batch_size, n_updates)
        Z0 = rng.normal(0, 0.5, (N_CLASSES, N)).astype(dtype)
        # As in permutations, every layer has labels of its own.
        tasks.append(Task(Z0, rng.permutation(labels), folds[size], lambda own=minibatches: own))
    return training_basis(X), tasks


@pytest.mark.parametrize(
    "options", [{}, {"l2": 0.5}, {"l2": 100.0}, {"clip": 0.05}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("n_voxels", [150, 20], ids=["Gram space", "more samples than voxels"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-11)])
def test_torch_equals_compiled(options, n_voxels, dtype, tolerance):
    # The smallest fold has fewer samples than a minibatch: its minibatches have a size of their own.
    basis, tasks = problem(dtype, (50, 7, 55, 20), n_voxels=n_voxels)
    parameters = SgdParameters(0.005, 9, 400, **{"l2": 0.0, **options})
    compiled = CpuTrainer()(basis, tasks, parameters)
    with threadpool_limits(1):
        batched = TorchTrainer("cpu")(basis, tasks, parameters)
    assert len(batched) == 4
    for one, other in zip(compiled, batched, strict=True):
        scale = np.abs(one.coefficients).max()
        assert other.coefficients.dtype == dtype
        assert other.factor == pytest.approx(one.factor, rel=1e-9)
        np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=0, atol=tolerance * scale)
        bias = np.abs(one.bias).max()
        np.testing.assert_allclose(other.bias, one.bias, rtol=0, atol=tolerance * bias)


def test_layers_side_by_side_are_those_alone(monkeypatch):
    basis, tasks = problem(np.float64, (50, 50, 50, 20, 50))
    together = TorchTrainer("cpu")(basis, tasks, SgdParameters())
    monkeypatch.setattr(descent, "_VALUES_AT_ONCE", 1)
    for one, other in zip(together, TorchTrainer("cpu")(basis, tasks, SgdParameters()), strict=True):
        np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=0, atol=1e-12)


def test_threads_do_not_change_a_bit():
    basis, tasks = problem(np.float32, (50, 7, 55, 20, 50))
    alone = [CpuTrainer()(basis, [task], SgdParameters())[0] for task in tasks]
    for n_threads in (1, 2, 8):
        for one, other in zip(alone, CpuTrainer(n_threads)(basis, tasks, SgdParameters()), strict=True):
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
@pytest.mark.parametrize("n_voxels", [150, 20])
def test_gpu_equals_compiled(n_voxels):
    basis, tasks = problem(np.float32, (50, 40), n_voxels=n_voxels)
    compiled = CpuTrainer()(basis, tasks, SgdParameters())
    for one, other in zip(compiled, trainer("cuda")(basis, tasks, SgdParameters()), strict=True):
        scale = np.abs(one.coefficients).max()
        np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=0, atol=1e-5 * scale)
