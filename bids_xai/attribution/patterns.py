"""Activation patterns of a linear classifier: where the signal is that its weights read out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bids_xai.attribution.linear import Linear

# Directions of the logits with less than this share of the largest variance are rounding.
_SMALLEST_VARIANCE = 1e-10


def haufe_pattern(layer: Linear) -> npt.NDArray:
    """Haufe pattern: ``A = Cov(X) W Cov(z)^+ sd(z)``, of the samples that the layer was trained on.

    Haufe et al. (2014), equation 6. Of two voxels that share noise, one with and one without signal, both
    get weight, for one cancels the noise of the other; the pattern is zero in the voxel without signal.
    :func:`pattern_coefficients` says how W, z and sd(z) are taken. Returns shape (n_classes, n_voxels), in
    units of the input per standard deviation of the logits; the sum over the classes is zero.

    Raises
    ------
    ValueError
        The layer came without :attr:`Linear.patterns <bids_xai.attribution.linear.Linear>`.
    """
    if layer.patterns is None:
        raise ValueError("the patterns of a layer need its training samples: give Linear its patterns")
    return layer.patterns


def pattern_coefficients(logits: npt.NDArray) -> npt.NDArray:
    """Return M such that the Haufe pattern of a softmax layer is ``A' = M X``, X being its training samples.

    Adding one vector to the weights of every class changes no output of a softmax, so that W and z mean
    their differences from the mean over the classes. Then Cov(z) has no inverse, and its pseudo-inverse
    stands for it (Haufe et al. 2014, equation 6, with n_classes - 1 factors)::

        A = Cov(X) W Cov(z)^+ sd(z) = Cov(X, z) Cov(z)^+ sd(z) = X' Z (Z' Z)^+ sd(z)
        M = sd(z) (Z' Z)^+ Z',    sd(z)^2 = trace(Cov(z)) / (n_classes - 1)

    Z being the logits centred over classes and samples. That is the least-squares regression of every voxel
    on the logits, and no matrix of voxels by voxels is formed. With two classes, the pattern of a class is
    ``Cov(x, s) / sd(s) / sqrt(2)``, s being its logit minus the other.

    Equation 6 leaves the scale of the factors open; here their variance is one. Patterns per unit of the
    logit would be largest for classifiers with small logits, which are those of permuted labels, and
    informative voxels would not pass a permutation test.

    Parameters
    ----------
    logits
        Logits of the training samples, with or without bias, shape (n_train, n_classes).

    Returns
    -------
    array, shape (n_classes, n_train), in the type of the logits
    """
    Z = logits.astype(np.float64)
    Z -= Z.mean(axis=1, keepdims=True)
    Z -= Z.mean(axis=0)
    products = Z.T @ Z
    scale = np.sqrt(np.trace(products) / ((len(Z) - 1) * (Z.shape[1] - 1)))
    inverse = np.linalg.pinv(products, rcond=_SMALLEST_VARIANCE, hermitian=True)
    coefficients: npt.NDArray = (scale * inverse @ Z.T).astype(logits.dtype)
    return coefficients
