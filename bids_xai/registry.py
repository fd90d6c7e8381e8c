"""Named methods that load on first use.

A registry holds names, one-line summaries and sources, so that ``--help`` can list methods without
importing the libraries that run them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bids_xai.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One method: where it lives, what it does, and where it was published."""

    name: str
    target: str
    summary: str
    source: str = ""

    def load(self) -> Any:
        """Import and return the object at ``target`` (``package.module:attribute``)."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Attribution(Entry):
    """A method that gives every voxel a value, and what is to be known of these values.

    Parameters
    ----------
    scale
        What the size of a whole map follows, in words that finish "the size of its maps follows ...".
    scale_has_meaning
        Whether maps of different classifiers, participants or classes may be compared as they are. Where it
        is false, they are compared as shares, ``R_i / sum_j |R_j|``
        (:func:`bids_xai.attribution.shares.as_shares`), or divided by ``divisor``: else a test says how large
        the output is, not where a classifier looked.
    divisor
        What maps without a meaningful scale are divided by: the "sum" of their absolute values, or the "norm"
        of the training samples' contributions (:attr:`bids_xai.decoding.softmax.SoftmaxLayer.norms`), or that
        times the "slope" of the output (:attr:`bids_xai.attribution.linear.Linear.slopes`).
    power
        Voxels with information that the family-wise test of its maps finds for one that ordinary least
        squares with permutation finds, at the defaults, mean of noise that voxels share and do not
        (``tests/benchmarks/bench_map_power.py``); None: not measured.
    t_correlation
        Correlation of its maps with t of the class against the others, over voxels with independent noise
        (same script); None: low, or not measured.
    sums_to_output
        Whether a map is meant to sum to the output that it explains.
    check
        ``package.module:function`` that refuses before anything is trained what the method cannot do:
        ``f(network, x, start, **options)`` raises InputError; x is one volume of zeros, perhaps without data
        (torch's "meta" device), as the network then is. Empty: nothing to check.
    """

    scale: str = ""
    scale_has_meaning: bool = True
    divisor: str = "sum"
    power: float | None = None
    t_correlation: float | None = None
    sums_to_output: bool = False
    check: str = ""


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E], Generic[E]):
    """Entries of one kind by name; an unknown name is refused with the nearest known one."""

    def __init__(self, kind: str, *entries: E) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except KeyError:
            raise InputError(
                f"Unknown {self.kind} {name!r}.",
                f"one of {', '.join(self._entries)}",
                nearest_name(name, self._entries),
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def nearest_name(name: str, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return "did you mean 'x'?" for the known name nearest to ``name``, or an empty string."""
    folded = {str(candidate).lower(): str(candidate) for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"did you mean {folded[close[0]]!r}?" if close else ""
