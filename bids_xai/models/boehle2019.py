"""The network of Böhle et al. 2019 for Alzheimer's disease."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from bids_xai.models.layers import features_shape

FILTERS = (8, 16, 32, 64)
POOLS = (2, 3, 2, 3)


def boehle2019(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.4) -> nn.Sequential:
    """Build four blocks of convolution, batch normalisation, ReLU and max-pooling, and two dense layers.

    Filters of 3 x 3 x 3 without padding, 8, 16, 32 and 64 of them; pooling windows of 2, 3, 2 and 3 voxels;
    then 128 units with ReLU, and one unit per class. Dropout before each dense layer.

    Parameters
    ----------
    shape
        Voxels per axis: 193 x 229 x 193 (1 mm) in the paper, which makes 5120 inputs of the first dense layer
        and 728 898 parameters.
    n_classes
        Output units: the logits of the classes, shape (n, n_classes).
    dropout
        Probability that a value is dropped.

    Raises
    ------
    InputError
        A volume too small.

    Source: Böhle et al. 2019, section 2.2; padding and the number of parameters from its code.
    """
    blocks, before = [], 1
    for filters, pool in zip(FILTERS, POOLS, strict=True):
        blocks.append(
            nn.Sequential(
                nn.Conv3d(before, filters, 3), nn.BatchNorm3d(filters), nn.ReLU(), nn.MaxPool3d(pool)
            )
        )
        before = filters
    features = nn.Sequential(*blocks)
    n_inputs = before * math.prod(features_shape(features, shape, "boehle2019"))
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(n_inputs, 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, n_classes),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))
