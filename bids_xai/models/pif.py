"""The networks of Eitel et al. 2021: baselines, and their like with patch-individual filters.

A block is a convolution of 3 x 3 x 3 without padding, ELU, and for some a max-pooling with dropout of whole
feature maps. Two dense layers with ELU between end in one sigmoid unit where there are two classes. At the
sizes of the images in the paper (96 x 114 x 96 of ADNI and multiple sclerosis, 182 x 218 x 182 of the UK
Biobank) the first dense layer has the inputs that are published, and it has as many as needed at others.

The networks with patch-individual filters end in patches of 5 x 5 x 5, filters of 3 x 3 x 3 and a second set
of patches. What comes before follows the authors' code, which also moves some poolings.

Source: Eitel et al. 2021, "Patch individual filter layers in CNNs to harness the spatial homogeneity of
neuroimaging data", doi:10.1038/s41598-021-03785-9, figure 5; and the authors' code,
https://github.com/derEitel/patch_individual_filter_layer.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bids_xai.errors import InputError
from bids_xai.models.layers import features_shape, units
from bids_xai.models.patches import PatchIndividualFilters, Split
from bids_xai.registry import nearest_name

ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Block:
    """A convolution with ELU, and a max-pooling with dropout where ``pool`` is not 0.

    Parameters
    ----------
    filters
        Feature maps.
    pool, stride, pool_padding
        Window of the max-pooling, its stride, and the rim of minus infinity around its input.
    padding
        Zeros around the input of the convolution.
    dropout
        Whether the pooling is followed by dropout.
    """

    filters: int
    pool: int = 0
    stride: int = 0
    pool_padding: int = 0
    padding: int = 0
    dropout: bool = True


@dataclass(frozen=True)
class Plan:
    """One network of the paper: its blocks, filters per patch (0: none), units of the first dense layer."""

    name: str
    blocks: tuple[Block, ...]
    hidden: int = 100
    patch_filters: int = 0


_UKB = (Block(8, 3, 3), Block(16, 3, 3), Block(32), Block(64))
PLANS = {
    plan.name: plan
    for plan in (
        Plan("adni-a", (Block(8, 3, 3), Block(16, 3, 2), Block(32), Block(64), Block(36, 4, 2)), 80),
        Plan("adni-b", (Block(64, 3, 3), Block(64, 3, 2), Block(64), Block(64), Block(36, 4, 2)), 80),
        Plan("ukb-a", (*_UKB, Block(64, 4, 2))),
        Plan("ukb-b", (Block(8, 3, 3), Block(32, 3, 3), Block(64), Block(64, 4, 3))),
        Plan("ms-a", (Block(16, 3, 3), Block(32, 3, 3), Block(64), Block(64, 3, 1))),
        Plan("ms-b", (Block(64, 3, 3), Block(64, 3, 3), Block(64), Block(64, 3, 1))),
        Plan("adni-a-pif", (Block(8, 3, 3), Block(16, 3, 2), Block(32), Block(64)), patch_filters=3),
        Plan("adni-b-pif", (Block(64, 3, 3), Block(64, 3, 2), Block(64), Block(64)), patch_filters=3),
        Plan("ukb-a-pif", _UKB, patch_filters=6),
        Plan("ukb-b-pif", (Block(8, 3, 3), Block(32, 3, 3), Block(64, 3, 2, dropout=False)), patch_filters=6),
        Plan("ms-a-pif", (Block(16, 3, 3), Block(32, 3, 2), Block(64), Block(64)), patch_filters=4),
        Plan("ms-b-pif", (Block(64, 3, 3), Block(64, 3, 3, 1), Block(64, padding=1)), patch_filters=4),
    )
}


def adni_a(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """8-P3/3-16-P3/2-32-64-36-P4/2, then 1296-80-1 at 96 x 114 x 96."""
    return baseline(PLANS["adni-a"], shape, n_classes, dropout)


def adni_b(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """64-P3/3-64-P3/2-64-64-36-P4/2, then 1296-80-1 at 96 x 114 x 96."""
    return baseline(PLANS["adni-b"], shape, n_classes, dropout)


def ukb_a(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """8-P3/3-16-P3/3-32-64-64-P4/2, then 11200-100-1 at 182 x 218 x 182."""
    return baseline(PLANS["ukb-a"], shape, n_classes, dropout)


def ukb_b(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """8-P3/3-32-P3/3-64-64-P4/3, then 6144-100-1 at 182 x 218 x 182."""
    return baseline(PLANS["ukb-b"], shape, n_classes, dropout)


def ms_a(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """16-P3/3-32-P3/3-64-64-P3/1, then 2880-100-1 at 96 x 114 x 96."""
    return baseline(PLANS["ms-a"], shape, n_classes, dropout)


def ms_b(shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3) -> nn.Sequential:
    """64-P3/3-64-P3/3-64-64-P3/1, then 2880-100-1 at 96 x 114 x 96."""
    return baseline(PLANS["ms-b"], shape, n_classes, dropout)


def adni_a_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """8-P3/3-16-P3/2-32-64-PIF(14 patches x 3), then 1134-100-1 at 96 x 114 x 96."""
    return with_patches(PLANS["adni-a-pif"], shape, n_classes, dropout, overlap)


def adni_b_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """64-P3/3-64-P3/2-64-64-PIF(14 patches x 3), then 1134-100-1 at 96 x 114 x 96."""
    return with_patches(PLANS["adni-b-pif"], shape, n_classes, dropout, overlap)


def ukb_a_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """8-P3/3-16-P3/3-32-64-PIF(48 patches x 6), then 7776-100-1 at 182 x 218 x 182 (figure 5)."""
    return with_patches(PLANS["ukb-a-pif"], shape, n_classes, dropout, overlap)


def ukb_b_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """8-P3/3-32-P3/3-64-P3/2-PIF(9 patches x 6), then 1458-100-1 at 182 x 218 x 182."""
    return with_patches(PLANS["ukb-b-pif"], shape, n_classes, dropout, overlap)


def ms_a_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """16-P3/3-32-P3/2-64-64-PIF(14 patches x 4), then 1512-100-1 at 96 x 114 x 96."""
    return with_patches(PLANS["ms-a-pif"], shape, n_classes, dropout, overlap)


def ms_b_pif(
    shape: Sequence[int], n_classes: int = 2, *, dropout: float = 0.3, overlap: str = "half"
) -> nn.Sequential:
    """64-P3/3-64-P3/3 (padding 1)-64 (padding 1)-PIF(14 patches x 4), then 1512-100-1 at 96 x 114 x 96."""
    return with_patches(PLANS["ms-b-pif"], shape, n_classes, dropout, overlap)


def patch_based(
    shape: Sequence[int],
    n_classes: int = 2,
    *,
    patches: Sequence[int] = (2, 3, 2),
    dropout: float = 0.4,
    activation: str = "elu",
) -> nn.Sequential:
    """Build a network for every patch of the image, joined by two dense layers (baseline of the paper).

    The volume is cut into 2 x 3 x 2 patches (zeros at the end of an axis where they do not fit). Each has
    four convolutions of its own, of 15, 25, 50 and 50 filters of 3 x 3 x 3 (the last with padding 1), with
    max-pooling P3/3, P2/2 and P3/2 and dropout after the first three; the features of all patches are joined
    by 40 units and the output unit. The convolutions of all patches are grouped convolutions.

    Parameters
    ----------
    shape, n_classes
        As for the other networks.
    patches
        Patches per axis.
    dropout
        Probability that one of the 40 units is dropped; half of it after the last convolution, a quarter
        after the poolings, as in the code.
    activation
        ``"elu"``, as in the other networks; ``"tanh"``: the authors' code.

    The authors' code differs: one network for all patches, trained on patches drawn at random, of which the
    majority decides.

    Source: Eitel et al. 2021, "Machine learning models", after Liu et al. 2018,
    doi:10.1007/s12021-018-9370-4.
    """
    if activation not in ACTIVATIONS:
        raise InputError(
            f"Unknown activation {activation!r} of patch-based.",
            f"one of {', '.join(ACTIVATIONS)}",
            nearest_name(activation, ACTIVATIONS),
        )
    cut = (int(patches[0]), int(patches[1]), int(patches[2]))
    x, y, z = (max(1, -(-n // parts)) for n, parts in zip(shape, cut, strict=True))
    split = Split((shape[0], shape[1], shape[2]), (x, y, z))
    groups, before = split.n_patches, 1
    parts: list[nn.Module] = []
    for filters, pool, stride in ((15, 3, 3), (25, 2, 2), (50, 3, 2), (50, 0, 0)):
        convolution = nn.Conv3d(groups * before, groups * filters, 3, padding=0 if pool else 1, groups=groups)
        after = (
            [nn.MaxPool3d(pool, stride), nn.Dropout3d(dropout / 4)] if pool else [nn.Dropout3d(dropout / 2)]
        )
        parts.append(nn.Sequential(convolution, ACTIVATIONS[activation](), *after))
        before = filters
    features = nn.Sequential(*parts)
    n_inputs = groups * before * math.prod(features_shape(features, shape, "patch-based", cut=cut))
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_inputs, 40),
        ACTIVATIONS[activation](),
        nn.Dropout(dropout),
        nn.Linear(40, units(n_classes)),
    )
    return nn.Sequential(OrderedDict(split=split, features=features, classifier=classifier))


def baseline(plan: Plan, shape: Sequence[int], n_classes: int, dropout: float) -> nn.Sequential:
    """Return the blocks of a plan and the dense layers."""
    features = _features(plan.blocks, dropout)
    n_inputs = plan.blocks[-1].filters * math.prod(features_shape(features, shape, plan.name))
    classifier = nn.Sequential(nn.Flatten(), *_dense(n_inputs, plan.hidden, n_classes))
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def with_patches(
    plan: Plan, shape: Sequence[int], n_classes: int, dropout: float, overlap: str | None
) -> nn.Sequential:
    """Return the blocks of a plan, the layer of patch-individual filters with ELU, and the dense layers.

    ``overlap``: as in :class:`bids_xai.models.patches.PatchIndividualFilters`; ``"none"`` for one set.
    """
    features = _features(plan.blocks, dropout)
    pif = PatchIndividualFilters(
        features_shape(features, shape, plan.name),
        plan.blocks[-1].filters,
        plan.patch_filters,
        overlap=None if overlap == "none" else overlap,
        output="flat",
    )
    classifier = nn.Sequential(*_dense(pif.n_out, plan.hidden, n_classes))
    return nn.Sequential(OrderedDict(features=features, pif=pif, activation=nn.ELU(), classifier=classifier))


def _features(blocks: Sequence[Block], dropout: float) -> nn.Sequential:
    parts, before = [], 1
    for block in blocks:
        part: list[nn.Module] = [nn.Conv3d(before, block.filters, 3, padding=block.padding), nn.ELU()]
        if block.pool:
            part.append(nn.MaxPool3d(block.pool, block.stride, block.pool_padding))
            if block.dropout:
                part.append(nn.Dropout3d(dropout))
        parts.append(nn.Sequential(*part))
        before = block.filters
    return nn.Sequential(*parts)


def _dense(n_inputs: int, hidden: int, n_classes: int) -> list[nn.Module]:
    return [nn.Linear(n_inputs, hidden), nn.ELU(), nn.Linear(hidden, units(n_classes))]
