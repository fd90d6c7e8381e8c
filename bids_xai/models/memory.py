"""Memory of large tensors on the processor: kept for the next ones instead of given back each time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h: parameters of mallopt, and their defaults.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65_536}
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_depth = 0


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the C library keep what is freed within the block.

    It maps every array above some megabytes anew, and the system fills each page with zeros when it is first
    touched: where layers of a network come and go, a half of the time and more. Within the block, freed
    memory is used again; at its end it is given back. Nothing changes where the C library is not glibc.
    """
    global _depth  # noqa: PLW0603
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    _depth += 1
    _set(library, _KEPT)
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set(library, _DEFAULTS)
            library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)
