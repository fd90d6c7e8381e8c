"""How far a graph has run, for people who wait."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO


class Progress:
    """Counts finished units of work in nipype's ``status_callback`` and prints the time left.

    A unit is one training (nodes whose interface has ``start`` and ``stop``) or, where a graph has
    none, one finished node. On a terminal one line is rewritten; elsewhere a line is printed at
    most every ``interval`` seconds.

    Parameters
    ----------
    title
        What is being done.
    total
        Number of units.
    unit
        Plural name of a unit, for the rate.
    """

    def __init__(
        self, title: str, total: int, unit: str, *, stream: TextIO | None = None, interval: float = 15.0
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.interval = 0.2 if self.live else interval
        self.done = 0
        self._began = time.monotonic()
        self._printed = self._began

    def __call__(self, node: Any, status: str) -> None:
        """Take nipype's word that ``node`` has started, ended or failed."""
        if status != "end":
            return
        self.done += self._units(node)
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
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = self.done / elapsed
        left = f", {_duration((self.total - self.done) / rate)} left" if 0 < self.done < self.total else ""
        share = 100 * self.done // max(self.total, 1)
        return f"{self.title}: {self.done}/{self.total} {self.unit} ({share} %), {rate:.1f}/s{left}"

    def _units(self, node: Any) -> int:
        inputs = getattr(getattr(node, "interface", None), "inputs", None)
        start, stop = getattr(inputs, "start", None), getattr(inputs, "stop", None)
        if self.unit == "nodes":
            # The parts of a MapNode, whose names begin so, are not in the total.
            return int(not node.name.startswith("_"))
        return stop - start if isinstance(start, int) and isinstance(stop, int) else 0

    def _print(self) -> None:
        self._printed = time.monotonic()
        self.stream.write(f"\r\x1b[2K{self.line()}" if self.live else f"{self.line()}\n")
        self.stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _silent() -> None:
    return None
