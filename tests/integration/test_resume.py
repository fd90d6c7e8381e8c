"""Inference in processes that are killed: the same bits in the end, whatever was lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_workflows_inference import digests, inference, run, samples

pytestmark = pytest.mark.slow
__all__ = ["samples"]
# Long enough trainings for a kill to come in the middle of a chunk.
SETTINGS = {"training": {"n_updates": 4000}, "n_permutations": 60, "n_runs": 12, "chunk_size": 3}
PROGRAM = """
import sys
from tests.unit.test_workflows_inference import inference, run
from tests.integration.test_resume import SETTINGS

samples, base = eval(sys.argv[1])
if __name__ == "__main__":
    run(inference(samples, base, **SETTINGS), 2)
"""


@pytest.fixture(scope="module")
def expected(samples: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the digests of a run in one process that nobody kills."""
    return digests(run(inference(samples, tmp_path_factory.mktemp("one"), **SETTINGS)))


@pytest.mark.parametrize("n_procs", [2, 4])
def test_results_do_not_depend_on_the_number_of_processes(
    samples: dict[str, str], expected: dict[str, str], tmp_path: Path, n_procs: int
) -> None:
    assert digests(run(inference(samples, tmp_path, **SETTINGS), n_procs)) == expected


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_run_killed_again_and_again_ends_the_same(
    samples: dict[str, str], expected: dict[str, str], tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), repr((samples, str(tmp_path)))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path, str(Path.cwd())])}
    kills = 0
    for _ in range(3):
        before = _finished(tmp_path)
        process = subprocess.Popen(words, start_new_session=True, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while _finished(tmp_path) < before + 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills == 3, "the run is killed before its end"
    assert digests(run(inference(samples, tmp_path, **SETTINGS))) == expected


def _finished(folder: Path) -> int:
    return len(list(folder.glob("inference_wf/*/mapflow/*/result_*.pklz")))
