"""Maps of networks lie where the signal is: rates of voxels without information, and sensitivity.

The table of all explanations is that of ``tests/benchmarks/bench_map_validity.py``, whose parts run here.
"""

from __future__ import annotations

import pytest
from scipy import stats

from bids_xai.attribution import RAW, SHARE
from tests.benchmarks.bench_map_validity import one_set, parse, planted

pytestmark = pytest.mark.slow

SEED, NAMES = 0, ("lrp-alpha-beta", "saliency", "guided-backprop")
OPTIONS = parse(["--test", "30"])
FAR = int(planted(SEED, 2, 1.0, OPTIONS.side).far.sum())


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """Return accuracy, rate and sensitivity of class 1, which has the blob, by start, method and values."""
    rows = one_set(SEED, NAMES, OPTIONS)
    return {row[0:2] + row[3:4]: row[4:7] for row in rows if row.group == "1"}


def test_relevance_of_the_logit_is_tested_where_it_lies(found) -> None:
    accuracy, rate, sensitivity = found["logit", "lrp-alpha-beta", SHARE]
    assert accuracy >= 0.9
    assert rate <= stats.binom.ppf(0.99, FAR, 0.05) / FAR
    assert sensitivity >= 0.5
    # What made shares necessary: every voxel gains with the output.
    assert found["logit", "lrp-alpha-beta", RAW][1] > 0.3


@pytest.mark.parametrize("method", ["saliency", "guided-backprop"])
def test_gradients_of_a_probability_near_one_are_seen(found, method: str) -> None:
    accuracy, rate, sensitivity = found["probability", method, SHARE]
    assert accuracy >= 0.9
    assert rate <= stats.binom.ppf(0.99, FAR, 0.05) / FAR
    assert sensitivity >= 0.5
    # What made shares necessary: the gradient of a probability near 1 vanishes.
    assert found["probability", method, RAW][2] < 0.5
