"""Outside libraries to compare with, where they can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_TORCHVISION = ("torchvision", "torchvision.models", "torchvision.models.resnet")


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """Put empty modules in torchvision's place while it is absent; classes asked of them are empty."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    modules = {name: _Empty(name) for name in _TORCHVISION}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = sys.modules.get(f"{self.__name__}.{name}")
        return module if module is not None else type(name, (), {})


def zennit() -> types.ModuleType:
    """Import zennit, which imports torchvision without needing it here; skip the test where it is absent."""
    if importlib.util.find_spec("zennit") is None:
        pytest.skip("zennit is not installed")
    with torchvision_stand_in():
        return importlib.import_module("zennit")
