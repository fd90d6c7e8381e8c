"""The network of Eitel et al. 2019 for multiple sclerosis."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from bids_xai.models.layers import features_shape, units

FILTERS = 64


class Eitel2019(nn.Sequential):
    """The network, and its penalties.

    Attributes
    ----------
    penalties
        L2 factor of a parameter by its name: the trainer adds ``factor * (parameter**2).sum()`` to the loss.
    """

    penalties: dict[str, float]


def eitel2019(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, penalty: float = 0.01
) -> Eitel2019:
    """Build four convolutions of 64 filters with ELU, three max-poolings, one sigmoid unit.

    Filters of 3 x 3 x 3 without padding; pooling windows of 3 voxels after the first, second and fourth
    convolution, each followed by dropout of single values (as in Keras).

    Parameters
    ----------
    shape
        Voxels per axis: 96 x 114 x 96 (2 mm) in the paper, which makes 128 inputs of the dense layer and
        333 889 parameters.
    n_classes
        Two: output of shape (n, 1), the logit of the second class. More: (n, n_classes).
    dropout
        Probability that a value is dropped.
    penalty
        L2 factor of the weights of the third and fourth convolution (``penalties`` of the network).

    Raises
    ------
    InputError
        A volume too small.

    Source: Eitel et al. 2019, section 2.4.1; padding, pooling and the number of parameters from its code.
    """

    def pooling() -> list[nn.Module]:
        return [nn.MaxPool3d(3), nn.Dropout(dropout)]

    features = nn.Sequential(
        OrderedDict(
            block1=nn.Sequential(nn.Conv3d(1, FILTERS, 3), nn.ELU(), *pooling()),
            block2=nn.Sequential(nn.Conv3d(FILTERS, FILTERS, 3), nn.ELU(), *pooling()),
            block3=nn.Sequential(nn.Conv3d(FILTERS, FILTERS, 3), nn.ELU()),
            block4=nn.Sequential(nn.Conv3d(FILTERS, FILTERS, 3), nn.ELU(), *pooling()),
        )
    )
    n_inputs = FILTERS * math.prod(features_shape(features, shape, "eitel2019"))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, units(n_classes)))
    network = Eitel2019(OrderedDict(features=features, classifier=classifier))
    network.penalties = {f"features.{block}.0.weight": penalty for block in ("block3", "block4")}
    return network
