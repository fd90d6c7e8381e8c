"""Slow textbook versions that the fast code is tested against: plain loops, one sample or voxel at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from bids_xai.models.patches import Split


def sgd_loop(
    X: npt.NDArray,
    labels: npt.NDArray[np.int64],
    minibatches: npt.NDArray,
    start: npt.NDArray,
    *,
    learning_rate: float,
    l2: float = 0.0,
    clip: float = 0.0,
    with_bias: bool = True,
) -> tuple[npt.NDArray, npt.NDArray]:
    """Train a softmax layer in voxel space by stochastic gradient descent on the mean cross-entropy.

    ``X`` and ``labels`` hold the training samples, ``minibatches`` their numbers, and ``start`` the initial
    weights (n_classes, n_voxels). Returns weights and bias, in the type of X.
    """
    data = torch.from_numpy(X)
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), len(start)).to(data.dtype)
    W = torch.from_numpy(start).to(data.dtype).clone()
    bias = torch.zeros(len(start), dtype=data.dtype)
    # Products this small only lose time to threads.
    with threadpool_limits(1):
        for chosen in torch.from_numpy(np.asarray(minibatches, dtype=np.int64)):
            x = data[chosen]
            outputs = torch.softmax(x @ W.T + bias, dim=1)
            if clip:
                outputs = outputs.clamp(clip, 1 - clip)
            error = (outputs - targets[chosen]) / len(chosen)
            W -= learning_rate * (error.T @ x + l2 * W)
            if with_bias:
                bias -= learning_rate * error.sum(dim=0)
    return W.numpy(), bias.numpy()


def autograd_loop(
    X: npt.NDArray,
    labels: npt.NDArray[np.int64],
    minibatches: npt.NDArray,
    start: npt.NDArray,
    *,
    learning_rate: float,
    l2: float = 0.0,
) -> tuple[npt.NDArray, npt.NDArray]:
    """Train the same with torch's own layer, loss, gradient and optimizer."""
    data, targets = torch.from_numpy(X), torch.from_numpy(labels)
    layer = torch.nn.Linear(X.shape[1], len(start), dtype=data.dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(start))
        layer.bias.zero_()
    groups = [{"params": [layer.weight], "weight_decay": l2}, {"params": [layer.bias]}]
    optimizer = torch.optim.SGD(groups, lr=learning_rate)
    for chosen in torch.from_numpy(np.asarray(minibatches, dtype=np.int64)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(data[chosen]), targets[chosen]).backward()
        optimizer.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def softmax(logits: npt.NDArray) -> npt.NDArray:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def output_difference(
    X: npt.NDArray, weights: npt.NDArray, bias: npt.NDArray, members: npt.NDArray[np.bool_]
) -> npt.NDArray:
    """OD with one forward pass per voxel: the output of the class, minus that without the voxel."""
    full = softmax(X @ weights.T + bias)
    out = np.zeros_like(weights)
    for voxel in range(X.shape[1]):
        without = X.copy()
        without[:, voxel] = 0
        difference = full - softmax(without @ weights.T + bias)
        for c, own in enumerate(members):
            out[c, voxel] = difference[own, c].mean() if own.any() else 0
    return out


def relevance(
    X: npt.NDArray, weights: npt.NDArray, bias: npt.NDArray, members: npt.NDArray[np.bool_], rule: str
) -> npt.NDArray:
    """LRP one sample at a time: the output of the class is shared out among the voxels.

    ``rule`` is ``"w2"`` (shares ``w_v^2``; Montavon et al. 2017) or ``"z"`` (shares ``x_v w_v``; Bach et al.
    2015, equation 56).
    """
    out = np.zeros_like(weights)
    for c, own in enumerate(members):
        maps = []
        for x in X[own]:
            output = softmax(weights @ x + bias)[c]
            share = weights[c] ** 2 if rule == "w2" else x * weights[c]
            maps.append(share / share.sum() * output)
        out[c] = np.mean(maps, axis=0) if maps else 0
    return out


def haufe_pattern(X: npt.NDArray, weights: npt.NDArray) -> npt.NDArray:
    """Haufe et al. (2014), equation 6, with the covariance of all voxels, for logits of unit variance.

    ``X`` holds the training samples, ``weights`` has shape (n_classes, n_voxels), and so has the result.
    Weights and logits are centred over the classes, as a softmax depends on their differences only.
    """
    W = (weights - weights.mean(axis=0)).T
    covariance = np.cov(X, rowvar=False).reshape(X.shape[1], X.shape[1])
    W = W / np.sqrt(np.trace(W.T @ covariance @ W) / (len(weights) - 1))
    return (covariance @ W @ np.linalg.pinv(W.T @ covariance @ W, rcond=1e-8)).T


def receptive_fields(
    network: torch.nn.Module, features: torch.nn.Module, x: torch.Tensor, cells: list[tuple[int, ...]]
) -> list[list[tuple[int, int]]]:
    """Measure what single cells of a layer see: (first, last) voxel along every axis, from gradients.

    The leaves up to ``features`` run one after the other, those with windows alone: convolutions with
    weights of 1 (a channel for every patch), poolings that average. A cell is (patch, i, j, k).
    """
    patches, inputs = 1, x.detach().requires_grad_()
    y = inputs
    for module in network.modules():
        if isinstance(module, Split):
            patches, y = module.n_patches, module(y)
        elif isinstance(module, torch.nn.Conv3d):
            ones = torch.ones((patches, 1, *module.kernel_size), dtype=x.dtype)
            y = torch.nn.functional.conv3d(
                y, ones, None, module.stride, module.padding, module.dilation, patches
            )
        elif isinstance(module, (torch.nn.MaxPool3d, torch.nn.AvgPool3d)):
            y = torch.nn.functional.avg_pool3d(y, module.kernel_size, module.stride, module.padding)
        if module is features:
            break
    fields = []
    for cell in cells:
        (seen,) = torch.autograd.grad(y[(0, *cell)], inputs, retain_graph=True)
        places = seen[0, 0].nonzero()
        fields.append(list(zip(places.amin(dim=0).tolist(), places.amax(dim=0).tolist(), strict=True)))
    return fields
