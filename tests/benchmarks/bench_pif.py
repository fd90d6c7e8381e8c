"""Time of patch-individual filters: one grouped convolution against two loops over patches.

    python tests/benchmarks/bench_pif.py [--batch 4 12] [--threads 1 2] [--repeats 10] [--device cpu]

Forward and backward (inputs and weights), in training, of the layer on maps of 15 x 19 x 15 in patches of
5 x 5 x 5: 36 of them, as in the network "ukb-a-pif" without its second set. The "lean" loop cuts the same
maps, calls a :class:`torch.nn.Conv3d` for every patch and joins the results; the "published" one goes about
it as the layer of Eitel et al. (2021) does: it cuts volume by volume and axis by axis, and joins them so. All
take turns, with freed memory kept as in training; the best of ``--repeats`` counts, as other work on the
machine only ever adds time. A line for each size (maps before, filters per patch: the first is that
network's, the second shows the loop's own cost), number of threads, batch, order of the maps in memory
("channels last" as training brings them, and "channels first"), and loop.
"""

from __future__ import annotations

import argparse
import itertools
import math

import torch
from parts import seconds
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.models.memory import memory_kept
from bids_xai.models.patches import PatchIndividualFilters

SHAPE, PATCH = (15, 19, 15), 5
SIZES = ((64, 6), (8, 8))
LAYOUTS = {"channels last": torch.channels_last_3d, "channels first": torch.contiguous_format}


class Loop(nn.Module):
    """A convolution per patch, one after the other."""

    def __init__(self, maps: int, filters: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.corners = [[i * PATCH for i in at] for at in itertools.product(*map(range, grid))]
        self.convolutions = nn.ModuleList(nn.Conv3d(maps, filters, 3) for _ in self.corners)

    def forward(self, x: Tensor) -> Tensor:
        wide = [-size % PATCH for size in SHAPE]
        x = functional.pad(x, (0, wide[2], 0, wide[1], 0, wide[0]))
        outputs = []
        for (a, b, c), convolution in zip(self.corners, self.convolutions, strict=True):
            own = x[:, :, a : a + PATCH, b : b + PATCH, c : c + PATCH]
            outputs.append(convolution(own).flatten(1))
        return torch.cat(outputs, dim=1)


class PublishedLoop(nn.Module):
    """A convolution per patch; volumes are cut and joined one by one, axis by axis."""

    def __init__(self, maps: int, filters: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.convolutions = nn.ModuleList(nn.Conv3d(maps, filters, 3) for _ in range(math.prod(grid)))

    def forward(self, x: Tensor) -> Tensor:
        wide = [-size % PATCH for size in SHAPE]
        x = functional.pad(x, (0, wide[2], 0, wide[1], 0, wide[0])).permute(0, 2, 3, 4, 1)
        patches = torch.stack([torch.stack(self._cut(volume)) for volume in x])
        found = [
            convolution(patches[:, place].permute(0, 4, 1, 2, 3)).unsqueeze(2)
            for place, convolution in enumerate(self.convolutions)
        ]
        outputs = torch.cat(found, dim=2).permute(0, 2, 3, 4, 5, 1)
        return torch.stack([self._join(own) for own in outputs]).permute(0, 4, 1, 2, 3)

    def _cut(self, volume: Tensor) -> list[Tensor]:
        parts = [volume]
        for axis in range(3):
            parts = [piece for part in parts for piece in part.split(PATCH, axis)]
        return parts

    def _join(self, patches: Tensor) -> Tensor:
        for axis in (2, 1, 0):
            n = self.grid[axis]
            rows = [torch.cat(list(patches[i : i + n]), axis) for i in range(0, len(patches), n)]
            patches = torch.stack(rows)
        return patches[0]


LOOPS: dict[str, tuple[type[Loop] | type[PublishedLoop], str]] = {
    "lean": (Loop, "flat"),
    "published": (PublishedLoop, "map"),
}


def main() -> None:
    """Print the times, and their ratios, for every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for threads, batch, (maps, filters) in itertools.product(options.threads, options.batch, SIZES):
        torch.set_num_threads(threads)
        for layout in LAYOUTS:
            for name, (kind, output) in LOOPS.items():
                with memory_kept():
                    grouped, looped = measure(
                        kind, output, maps, filters, batch, options.repeats, options.device, layout
                    )
                print(
                    f"{threads} threads, batch {batch}, {maps} maps, {filters} filters, {layout}: "
                    f"one grouped convolution {1e3 * grouped:.2f} ms, {name} loop {1e3 * looped:.2f} ms, "
                    f"ratio {looped / grouped:.1f}",
                    flush=True,
                )


def measure(
    kind: type[Loop] | type[PublishedLoop],
    output: str,
    maps: int,
    filters: int,
    batch: int,
    repeats: int,
    device: str,
    layout: str,
) -> tuple[float, float]:
    """Return the seconds of a forward and backward of the layer and of a loop."""
    layer = PatchIndividualFilters(SHAPE, maps, filters, output=output).to(device)
    loop = kind(maps, filters, layer.split.grid).to(device)
    with torch.no_grad():
        for name, parameter in layer.conv.named_parameters():
            parameter.copy_(torch.cat([getattr(single, name) for single in loop.convolutions]))
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn((batch, maps, *SHAPE), generator=drawn).to(device).to(memory_format=LAYOUTS[layout])

    def step(network: nn.Module) -> Tensor:
        own = x.clone().requires_grad_()
        network.zero_grad()
        network(own).square().sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        assert own.grad is not None
        return own.grad

    torch.testing.assert_close(step(layer), step(loop), rtol=1e-3, atol=1e-3)
    times = [[seconds(lambda net=net: step(net)) for net in (layer, loop)] for _ in range(repeats)]
    grouped, looped = (min(column) for column in zip(*times, strict=True))
    return grouped, looped


if __name__ == "__main__":
    main()
