"""Parts of a benchmark, timed in processes of their own."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable


def timed(script: str, part: str, options: argparse.Namespace) -> list[float]:
    """Return the numbers that a part of a script prints in a process of its own, with ``options.threads``."""
    sizes = {name: value for name, value in vars(options).items() if type(value) is int}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    threads = {
        f"{library}_NUM_THREADS": str(options.threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")
    }
    done = subprocess.run(
        [sys.executable, script, *arguments, f"--part={part}"],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(value) for value in done.stdout.split()]


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
