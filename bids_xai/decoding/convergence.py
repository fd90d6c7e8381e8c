"""Whether training has converged: how much the second half of its updates has lowered the training loss.

The loss is what training descends,

    L(W) = mean over the training samples of -log softmax(W x + b)_class + l2 / 2 |W|^2.

A gradient would not tell: that of single minibatches keeps weights moving around the best ones, where the
gradient of all samples is no smaller than on the way there. What half of the training has gained, as a share
of ``log(n_classes)``, the loss of a layer that knows nothing, says what as many updates again may gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.basis import Basis
from bids_xai.decoding.softmax import SoftmaxLayer
from bids_xai.decoding.splits import Fold

# In voxels of Haxby et al. (2001) after 10 000 updates: 530 of a slice .015, where a linear SVC does as well;
# 129 of 25 mm .08, where ten times as many updates still gain .04.
CONVERGED = 0.02
# Share of trainings that may be unfinished before it is said.
_SOME = 0.05


def late_falls(
    basis: Basis,
    labels: npt.NDArray[np.int64],
    folds: Sequence[Fold],
    layers: Sequence[SoftmaxLayer],
    initial: npt.NDArray,
    Z0: npt.NDArray,
    l2: float,
) -> npt.NDArray[np.float64]:
    """Return how much the second half of the training has lowered the loss, relative to log(n_classes).

    Parameters
    ----------
    basis
        What the layers were trained with.
    labels
        Classes of all samples, shape (n_samples,).
    folds, layers
        Training samples, and what they were trained to.
    initial
        Initial weights, shape (n_folds, n_classes, n_voxels); only read where there is l2.
    Z0
        Their logits for all samples without bias, shape (n_folds, n_classes, n_samples).
    l2
        Weight decay.

    Returns
    -------
    array, float64, shape (n_folds,)
        :data:`CONVERGED` (2 %) or less: converged. Not finite: the training diverged.
    """
    halfway = [layer.halfway or layer for layer in layers]
    before, after = (_losses(basis, labels, folds, own, initial, Z0, l2) for own in (halfway, layers))
    return np.asarray((before - after) / np.log(Z0.shape[1]))


def has_converged(falls: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which trainings have converged (:func:`late_falls`)."""
    return np.asarray(np.isfinite(falls) & (falls <= CONVERGED))


def convergence_warning(falls: npt.NDArray[np.float64]) -> list[str]:
    """Return what is to be known of trainings that have not converged; empty if few or none are known."""
    if not falls.size or (share := 1 - has_converged(falls).mean()) <= _SOME:
        return []
    return [
        f"{100 * share:.0f} % of the trainings on the true labels had not converged: the second half of "
        f"their updates still lowered the training loss, by {100 * np.median(falls):.2g} % (median) of that "
        f"of a layer that knows nothing (up to {100 * CONVERGED:g} % counts as converged). Accuracy and maps "
        "may be those of a classifier half trained: raise --n-updates, or --learning-rate if it is small for "
        "these samples."
    ]


def _losses(
    basis: Basis,
    labels: npt.NDArray[np.int64],
    folds: Sequence[Fold],
    layers: Sequence[SoftmaxLayer],
    initial: npt.NDArray,
    Z0: npt.NDArray,
    l2: float,
) -> npt.NDArray[np.float64]:
    coefficients = np.concatenate([layer.coefficients for layer in layers])
    products = basis.product(coefficients).reshape(Z0.shape)
    losses = []
    for number, (layer, fold) in enumerate(zip(layers, folds, strict=True)):
        plain = products[number].astype(np.float64) + layer.factor * Z0[number]
        z = (plain + layer.bias[:, None].astype(np.float64))[:, fold.train]
        top = z.max(axis=0)
        logs = np.log(np.exp(z - top).sum(axis=0)) + top
        loss = float(np.mean(logs - z[labels[fold.train], np.arange(len(fold.train))]))
        if l2:
            loss += l2 / 2 * _squared_norm(basis, layer, products[number], plain, initial[number])
        losses.append(loss)
    return np.array(losses)


def _squared_norm(
    basis: Basis, layer: SoftmaxLayer, product: npt.NDArray, plain: npt.NDArray, initial: npt.NDArray
) -> float:
    """Return ``|W|^2``: of ``W = s W0 + A X`` it is ``sum of A * (2 X W' - A K) + s^2 |W0|^2``."""
    if not basis.dual:
        return float(((layer.factor * initial + layer.coefficients).astype(np.float64) ** 2).sum())
    own = (layer.coefficients.astype(np.float64) * (2 * plain - product)).sum()
    return float(own + layer.factor**2 * np.einsum("ij,ij->", initial, initial, dtype=np.float64))
