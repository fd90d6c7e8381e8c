"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.offline import network_guard

OFFLINE = Path(network_guard.__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
os.environ[network_guard.RECORD] = tempfile.mkstemp(prefix="network-", suffix=".txt")[1]
network_guard.install()

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    """Fail a test that, or whose processes, tried to use the network."""
    record = Path(os.environ[network_guard.RECORD])
    before = record.stat().st_size
    yield
    assert record.stat().st_size == before, record.read_text(encoding="utf-8")


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(20180101)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data, or skip where a clone has none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside this checkout")
    return folder
