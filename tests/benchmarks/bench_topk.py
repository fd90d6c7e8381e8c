"""Memory and time of the largest null values: streaming against storing all maps and sorting.

    python tests/benchmarks/bench_topk.py [--maps 1000] [--values 142930]

A map has as many values as methods x classes x voxels: 28 586 x 5 by default (28 586 x 25 in the published
analysis, where storing takes 2.9 GB). Every way runs in a process of its own; memory is the peak beyond that
before the first map. The last lines are the ratios.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bids_xai.inference.null import NullAccumulator, kept_values

ALPHAS = (0.05, 0.01)
_MIB = 1024


def main() -> None:
    """Print peak and time of both ways at every level, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--values", type=int, default=28_586 * 5)
    parser.add_argument("--alpha", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=("streaming", "storing"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(*measure(arguments.way, arguments.maps, arguments.values, arguments.alpha))
        return
    ratios = []
    for alpha in ALPHAS:
        peaks, checks = [], []
        for way in ("storing", "streaming"):
            command = [sys.executable, __file__, "--way", way, "--alpha", str(alpha)]
            command += ["--maps", str(arguments.maps), "--values", str(arguments.values)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak, seconds, check = done.stdout.split()
            peaks.append(float(peak))
            checks.append(check)
            k = kept_values(arguments.maps, [alpha])
            print(f"alpha {alpha:g} (k = {k}), {way}: {peak} MiB, {seconds} s of processor time")
        assert checks[0] == checks[1], "both ways keep the same values"
        ratios.append(f"alpha {alpha:g}: 1/{peaks[0] / peaks[1]:.0f} of the memory of storing")
    print("\n".join(ratios))


def measure(way: str, n_maps: int, n_values: int, alpha: float) -> tuple[str, str, str]:
    """Return the peak in MiB, the seconds, and the sum of the values kept."""
    shape, k = (1, 1, n_values), kept_values(n_maps, [alpha])
    _stream(np.zeros((2, 1, 1, 3), np.float32), 2, alpha)
    one = np.empty(shape, dtype=np.float32)
    rng = np.random.default_rng(0)
    rng.standard_normal(dtype=np.float32, out=one)
    before, began, spent = _reset_peak(), time.process_time(), 0.0
    if way == "streaming":
        null = NullAccumulator(n_maps, [alpha], shape)
        for _ in range(n_maps):
            drawn = time.process_time()
            rng.standard_normal(dtype=np.float32, out=one)
            spent += time.process_time() - drawn
            null.update(one)
        kept = null.arrays()["top"]
    else:
        maps = np.empty((n_maps, *shape), dtype=np.float32)
        for number in range(n_maps):
            drawn = time.process_time()
            rng.standard_normal(dtype=np.float32, out=maps[number])
            spent += time.process_time() - drawn
        maps.sort(axis=0)
        kept = maps[-k:]
    seconds, peak = time.process_time() - began - spent, _memory("VmHWM") - before
    return f"{peak:.1f}", f"{seconds:.2f}", f"{kept.sum(dtype=np.float64):.6f}"


def _stream(maps: np.ndarray, n: int, alpha: float) -> None:
    """Load the compiled code."""
    null = NullAccumulator(n, [alpha], maps.shape[1:])
    for one in maps:
        null.update(one)


def _reset_peak() -> float:
    """Set the peak of this process to its memory of the moment (Linux), and return that in MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _memory("VmRSS")


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"{name}:\s+(\d+)", status)
    assert found, f"no {name} in /proc/self/status"
    return int(found[1]) / _MIB


if __name__ == "__main__":
    main()
