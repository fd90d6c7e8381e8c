"""Occlusion at stride 1 of one volume: only what changes computed, against batched full forward passes.

Run: python tests/benchmarks/bench_occlusion.py [--threads 2] [--boxes 0]

Times a sample of full forward passes, in the best of several batch sizes, and the boxes by
:mod:`bids_xai.attribution.incremental` (all that fit the volume, or so many drawn at random), and compares
the outputs of a few boxes.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from bids_xai.attribution.incremental import IncrementalForward
from bids_xai.attribution.occlusion import box_corners
from bids_xai.models.build import build_network

CASES = {"boehle2019": ((96, 114, 96), 2), "emotion": ((53, 63, 52), 5)}
BOX = (2, 2, 2)


def seconds_per_full_pass(network: nn.Module, x: Tensor) -> float:
    """Return the time of a full pass per volume, in the best batch size."""
    best = float("inf")
    for size in (1, 4, 8):
        batch = x.expand(size, -1, -1, -1, -1).contiguous()
        network(batch)
        for _ in range(3):
            begin = time.perf_counter()
            network(batch)
            best = min(best, (time.perf_counter() - begin) / size)
    return best


def differences(
    network: nn.Module, x: Tensor, passes: IncrementalForward, corners: Tensor
) -> tuple[float, float]:
    """Return the largest difference to the outputs of full passes, and the largest change of those."""
    expected = []
    for i, j, k in corners.tolist():
        covered = x.clone()
        covered[0, 0, i : i + BOX[0], j : j + BOX[1], k : k + BOX[2]] = 0
        expected.append(network(covered)[0])
    full = torch.stack(expected)
    found = passes.outputs(corners, BOX, torch.zeros_like(x[0, 0]))
    return float((found - full).abs().max()), float((full - passes.clean_output).abs().max())


def main() -> None:
    """Print times and their ratio for every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--boxes", type=int, default=0, help="boxes drawn at random; 0: all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(1)
    for name, (shape, n_classes) in CASES.items():
        network = build_network(name, shape, n_classes, seed=1).eval()
        x = 3 * torch.randn((1, 1, *shape), generator=generator)
        corners = box_corners(shape, BOX)
        n_all = len(corners)
        drawn = corners[torch.randperm(n_all, generator=generator)]
        corners = drawn[: options.boxes] if options.boxes else corners
        with torch.no_grad():
            full = seconds_per_full_pass(network, x)
            begin = time.perf_counter()
            passes = IncrementalForward(network, x)
            passes.outputs(corners, BOX, torch.zeros(shape))
            each = (time.perf_counter() - begin) / len(corners)
            error, change = differences(network, x, passes, drawn[:6])
        print(
            f"{name} {shape}: full pass {1e3 * full:.1f} ms, box {1e6 * each:.0f} us"
            f" ({len(corners)} of {n_all} boxes, {each * len(corners):.1f} s), ratio {full / each:.0f};"
            f" all boxes {each * n_all:.0f} s instead of {full * n_all / 3600:.1f} h;"
            f" outputs differ by {error:.1e} where they change by {change:.1e}"
        )


if __name__ == "__main__":
    main()
