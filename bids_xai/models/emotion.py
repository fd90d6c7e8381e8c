"""The network on single BOLD volumes of the project that decodes emotions in the studyforrest data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from bids_xai.errors import InputError
from bids_xai.models.layers import features_shape
from bids_xai.registry import nearest_name

STEM = 32
WIDTHS = ((64, 64), (128, 128), (256, 256), (512, 256))
VARIANTS: dict[str, type[nn.Module]] = {"paper": nn.ReLU, "code": nn.ReLU6}


def emotion(
    shape: Sequence[int], n_classes: int = 5, *, variant: str = "paper", dropout: float = 0.3
) -> nn.Sequential:
    """Build a convolution, four depthwise-separable blocks, global average pooling, a dense layer.

    The first convolution has 32 filters of 3 x 3 x 3. A block is a 1 x 1 x 1 convolution to 64, 128, 256 and
    512 channels (twice its input), a depthwise 3 x 3 x 3 convolution of stride 2, and a 1 x 1 x 1 convolution
    to 64, 128, 256 and 256 channels; batch normalisation after each, the rectifier after the first two, no
    biases. The table of the paper gives the last block 512 output channels, but its parameters (131 072 for
    the last convolution, 1285 for the dense layer, 424 549 in all) are those of 256, as in the code.

    Parameters
    ----------
    shape
        Voxels per axis; 64 x 64 x 64 in the paper.
    n_classes
        Output units: logits of shape (n, n_classes).
    variant
        ``"paper"``: ReLU (the paper names none). ``"code"``: ReLU6.
    dropout
        Probability that a value before the dense layer is dropped.

    Raises
    ------
    InputError
        Another variant; a volume that is no volume.

    Source: "Use of Occlusion Methods on 4D Convolutional Neural Networks to Find Neural Representations of
    Perceived Emotions in fMRI Recordings", figure 1.
    """
    if variant not in VARIANTS:
        raise InputError(
            f"Unknown variant {variant!r} of emotion.",
            f"one of {', '.join(VARIANTS)}",
            nearest_name(variant, VARIANTS),
        )
    rectifier = VARIANTS[variant]
    stem = nn.Sequential(nn.Conv3d(1, STEM, 3, padding=1, bias=False), nn.BatchNorm3d(STEM), rectifier())
    blocks, before = [stem], STEM
    for hidden, filters in WIDTHS:
        blocks.append(_block(before, hidden, filters, rectifier))
        before = filters
    features = nn.Sequential(*blocks)
    features_shape(features, shape, "emotion")
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(before, n_classes)
    )
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def _block(before: int, hidden: int, filters: int, rectifier: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, hidden, 1, bias=False),
        nn.BatchNorm3d(hidden),
        rectifier(),
        nn.Conv3d(hidden, hidden, 3, stride=2, padding=1, groups=hidden, bias=False),
        nn.BatchNorm3d(hidden),
        rectifier(),
        nn.Conv3d(hidden, filters, 1, bias=False),
        nn.BatchNorm3d(filters),
    )
