"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("NIPYPE_NO_ET", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
