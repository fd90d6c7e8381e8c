"""The part of a network in which every patch of a map goes its own way: patch-individual filters.

After :class:`bids_xai.models.patches.Split`, grouped convolutions, poolings and voxelwise modules keep
patches apart; a change inside of some patches leaves what comes of the others as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.attribution.steps import Triple, triple
from bids_xai.models.patches import PatchConvolution, Split

# Per channel, and without parameters: the same for every patch.
_CHANNELWISE = (
    nn.AvgPool3d,
    nn.Dropout,
    nn.Dropout3d,
    nn.ELU,
    nn.LeakyReLU,
    nn.MaxPool3d,
    nn.ReLU,
    nn.ReLU6,
    nn.Tanh,
)


class Branches:
    """Modules after a split, patch by patch.

    Parameters
    ----------
    split
        Cuts the map.
    modules
        Modules after it that keep patches apart, in evaluation mode.

    Attributes
    ----------
    starts
        First voxel of every patch, int64, shape (n_patches, 3).
    extent
        Size of the map with the zeros that make its patches whole.
    """

    def __init__(self, split: Split, modules: list[nn.Module]) -> None:
        self.split, self.modules = split, modules
        self.size: Triple = triple(split.patch)
        self.extent: Triple = triple([g * p for g, p in zip(split.grid, split.patch, strict=True)])
        patch = torch.tensor(split.patch)
        sets = [_places(split.grid) * patch]
        if split.shift is not None:
            sets.append(_places(split.second) * patch + torch.tensor(split.shift))
        self.starts = torch.cat(sets)

    def clean(self, x: Tensor) -> Tensor:
        """Return the features of all patches, (n, n_patches * c, ...), of maps (n, channels, x, y, z)."""
        x = self.split(x)
        for module in self.modules:
            x = module(x)
        return x

    def touched(self, first: Tensor, stop: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Iterate over the patches that meet any box [first, stop), and the rows of those boxes."""
        for patch, begin in enumerate(self.starts):
            meets = ((first < begin + torch.tensor(self.size)) & (stop > begin)).all(dim=1)
            rows = meets.nonzero()[:, 0]
            if len(rows):
                yield patch, rows

    def of_patch(self, patch: int, x: Tensor) -> Tensor:
        """Return the features (n, c, ...) of one patch's values (n, channels, *size)."""
        n_patches = len(self.starts)
        for module in self.modules:
            if isinstance(module, nn.Conv3d):
                filters = module.out_channels // n_patches
                own = slice(patch * filters, (patch + 1) * filters)
                bias = None if module.bias is None else module.bias[own]
                groups = module.groups // n_patches
                x = functional.conv3d(
                    x, module.weight[own], bias, module.stride, module.padding, module.dilation, groups
                )
            else:
                x = module(x)
        return x


def branches_of(modules: list[nn.Module]) -> tuple[Branches | None, list[nn.Module]]:
    """Return the branches that modules begin with, if they do, and the modules after them."""
    if not modules or type(modules[0]) is not Split:
        return None, modules
    split = modules[0]
    own = list(itertools.takewhile(lambda module: _keeps_apart(module, split.n_patches), modules[1:]))
    return Branches(split, own), modules[1 + len(own) :]


def _keeps_apart(module: nn.Module, n_patches: int) -> bool:
    if type(module) in {nn.Conv3d, PatchConvolution}:
        return module.groups % n_patches == 0 and module.padding_mode == "zeros"
    return type(module) in _CHANNELWISE


def _places(grid: Triple) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(-1, 3)
