"""The Slurm that the tests start runs jobs, counts memory and GPUs, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, cluster, running_cluster

__all__ = ["cluster"]
pytestmark = pytest.mark.slurm


def test_jobs_run_and_get_gpus_of_their_own(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\necho $CUDA_VISIBLE_DEVICES > $1; sleep 2\n")
    for name, words in {"a": ["--gres=gpu:1"], "b": ["--gres=gpu:1"], "c": ["--mem=100"]}.items():
        cluster.call("sbatch", "-o", "/dev/null", *words, str(script), str(tmp_path / name))
    deadline = time.monotonic() + 30
    while cluster.jobs("pending,running,completing") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {(tmp_path / name).read_text().strip() for name in ("a", "b")} == {"0", "1"}
    assert (tmp_path / "c").read_text().strip() == ""


def test_nothing_is_left_when_it_stops(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nexec sleep 987 # {tmp_path}\n")
    with running_cluster() as started:
        number = int(started.call("sbatch", "--parsable", "-o", str(tmp_path / "out"), str(script)))
        deadline = time.monotonic() + 20
        while started.jobs()[number][1] != "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started.jobs()[number][1] == "RUNNING"
        folder = started.folder
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in left
    assert "sleep 987" not in left
    assert not folder.exists()
