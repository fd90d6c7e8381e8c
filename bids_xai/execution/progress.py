"""How far a graph has run, for people who wait."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class Progress:
    """Counts finished units of work in nipype's ``status_callback`` and prints the time left.

    A unit is one model (a fold of a repetition of a chunk: nodes that have ``start`` and ``stop``), one
    network (nodes that have ``unit``) or, with the unit ``"nodes"``, one finished node. What an earlier run
    of the same command has left done counts as done, but not for the rate, nor do chunks that turned out not
    to be needed. On a terminal one line is
    rewritten; elsewhere a line is printed at most every ``interval`` seconds.

    Parameters
    ----------
    title
        What is being done.
    total
        Number of units.
    unit
        Plural name of a unit, for the rate.
    per_repetition
        Units of one repetition: the number of folds.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        *,
        per_repetition: int = 1,
        stream: TextIO | None = None,
        interval: float = 15.0,
    ) -> None:
        self.title, self.total, self.unit, self.per_repetition = title, total, unit, per_repetition
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.interval = 0.2 if self.live else interval
        self.done = self.computed = 0
        self._created = time.time()
        self._began: float | None = None
        self._printed = time.monotonic()
        self._counted: set[tuple[Any, ...]] = set()
        # Permutations that are needed, once a node has found that not all are.
        self._limit = math.inf

    def __call__(self, node: Any, status: str) -> None:
        """Take nipype's word that ``node`` has started, ended or failed."""
        if status == "start" and self._began is None and (self.unit == "nodes" or any(_chunks(node))):
            self._began = time.monotonic()
        if status != "end":
            return
        done, needed = self._units(node)
        self.done += done
        if _computed_since(node, self._created):
            self.computed += needed
        if time.monotonic() - self._printed >= self.interval:
            self._print()

    def __deepcopy__(self, memo: dict[int, Any]) -> Progress:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # nipype sends its arguments along with a node: a worker has nothing to print.
        return (_silent, ())

    def close(self) -> None:
        """Print the last line."""
        self._print()
        if self.live:
            self.stream.write("\n")

    def line(self) -> str:
        """Return the line of the moment: title, units done, rate, time left."""
        share = 100 * self.done // max(self.total, 1)
        text = f"{self.title}: {self.done}/{self.total} {self.unit} ({share} %)"
        if self._began is None or not self.computed:
            return text
        rate = self.computed / max(time.monotonic() - self._began, 1e-9)
        left = f", {_duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        return f"{text}, {rate:.3g} {self.unit}/s{left}"

    def _units(self, node: Any) -> tuple[int, int]:
        """Return the units that a node stands for, and how many of them were needed."""
        if self.unit == "nodes":
            # The parts of a MapNode, whose names begin so, are not in the total.
            units = int(not node.name.startswith("_"))
            return units, units
        # A MapNode ends after its parts where these ran as nodes, and alone where they did not.
        new = {key: repetitions for key, repetitions in _chunks(node) if key not in self._counted}
        self._counted.update(new)
        if hasattr(node.inputs, "exceedances"):
            self._limit = node.result.outputs.limit
        needed = [n for (stage, _, *start), n in new.items() if stage != "null" or start[0] < self._limit]
        return sum(new.values()) * self.per_repetition, sum(needed) * self.per_repetition

    def _print(self) -> None:
        self._printed = time.monotonic()
        self.stream.write(f"\r\x1b[2K{self.line()}" if self.live else f"{self.line()}\n")
        self.stream.flush()


def _chunks(node: Any) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Give what tells the chunks of a node apart, and their numbers of repetitions."""
    inputs = node.inputs
    units = getattr(inputs, "unit", None)
    for unit in units if isinstance(units, list) else [units]:
        if isinstance(unit, dict):
            yield (inputs.stage, True, unit["run"], unit["fold"]), 1
    starts, stops = getattr(inputs, "start", None), getattr(inputs, "stop", None)
    if isinstance(starts, int) and isinstance(stops, int):
        starts, stops = [starts], [stops]
    if isinstance(starts, list) and isinstance(stops, list):
        for start, stop in zip(starts, stops, strict=True):
            yield (inputs.stage, bool(inputs.importance), start), stop - start


def _computed_since(node: Any, moment: float) -> bool:
    """Tell work done now from results that were there."""
    try:
        return (Path(node.output_dir()) / f"result_{node.name}.pklz").stat().st_mtime >= moment
    except OSError:
        return True


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _silent() -> None:
    return None
