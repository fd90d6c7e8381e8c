"""Time of patch-individual filters: the layer against two loops over patches.

    python tests/benchmarks/bench_pif.py [--batch 4 12] [--threads 1 2] [--repeats 10] [--device cpu]
        [--clock wall]

Forward and backward (inputs and weights), in training, of the layer on maps of 15 x 19 x 15 in patches of
5 x 5 x 5: 36 of them, as in the network "ukb-a-pif" without its second set. The "lean" loop cuts the same
maps, calls a :class:`torch.nn.Conv3d` for every patch and joins the results; the "published" one goes about
it as the layer of Eitel et al. (2021) does: it cuts volume by volume and axis by axis, and joins them so. All
take turns, with freed memory kept as in training; the best of ``--repeats`` counts, as other work on the
machine only ever adds time. A line for each size (maps before, filters per patch: the first is that
network's, the second shows the loop's own cost), number of threads, batch, order of the maps in memory
("channels last" as training brings them, and "channels first"), and loop. "With patches" is the layer when
somebody looks at its inner modules (a hook): cut, one grouped convolution, joined. ``--clock processor``
counts the time of this process, which on a busy machine is the better measure of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.models.memory import memory_kept
from bids_xai.models.patches import PatchIndividualFilters

SHAPE, PATCH = (15, 19, 15), 5
SIZES = ((64, 6), (8, 8))
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
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
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    for threads, batch, (maps, filters) in itertools.product(options.threads, options.batch, SIZES):
        torch.set_num_threads(threads)
        for layout in LAYOUTS:
            for name, (kind, output) in LOOPS.items():
                with memory_kept():
                    layer, cut, looped = measure(kind, output, maps, filters, batch, layout, options)
                print(
                    f"{threads} threads, batch {batch}, {maps} maps, {filters} filters, {layout}: "
                    f"layer {1e3 * layer:.2f} ms, with patches {1e3 * cut:.2f} ms, "
                    f"{name} loop {1e3 * looped:.2f} ms, ratio {looped / layer:.1f}",
                    flush=True,
                )


def measure(
    kind: type[Loop] | type[PublishedLoop],
    output: str,
    maps: int,
    filters: int,
    batch: int,
    layout: str,
    options: argparse.Namespace,
) -> tuple[float, float, float]:
    """Return the seconds of a forward and backward of the layer, of it with patches, and of a loop."""
    device = options.device
    layer = PatchIndividualFilters(SHAPE, maps, filters, output=output).to(device)
    cut = PatchIndividualFilters(SHAPE, maps, filters, output=output).to(device)
    cut.split.register_forward_hook(lambda *_: None)
    loop = kind(maps, filters, layer.split.grid).to(device)
    with torch.no_grad():
        for name, parameter in layer.conv.named_parameters():
            parameter.copy_(torch.cat([getattr(single, name) for single in loop.convolutions]))
    cut.load_state_dict(layer.state_dict())
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn((batch, maps, *SHAPE), generator=drawn).to(device).to(memory_format=LAYOUTS[layout])
    x.requires_grad_()
    gradients: dict[nn.Module, Tensor] = {}

    def step(network: nn.Module) -> Tensor:
        x.grad = None
        network.zero_grad()
        output = network(x)
        if network not in gradients:
            gradients[network] = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(x)
        # What comes before and after the layer in a network is not the layer's time.
        output.backward(gradients[network])
        if x.is_cuda:
            torch.cuda.synchronize()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(step(layer), step(loop), rtol=1e-3, atol=1e-3)
    clock = CLOCKS[options.clock]
    times = [
        [seconds(lambda net=net: step(net), clock) for net in (layer, cut, loop)]
        for _ in range(options.repeats)
    ]
    fused, with_patches, looped = (min(column) for column in zip(*times, strict=True))
    return fused, with_patches, looped


def seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time one call."""
    start = clock()
    function()
    return clock() - start


if __name__ == "__main__":
    main()
