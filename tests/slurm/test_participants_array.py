"""The job array of participants and the group job that waits for it, on a real Slurm."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_dataset, write_mask
from tests.slurm.cluster import Cluster, cluster

__all__ = ["cluster"]
pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "singularity" / "participants.sbatch"
SMALL = ["--cpus-per-task=1", "--mem=3000", "--time=20"]


@pytest.fixture
def submitted(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """Return an environment with the folders of the script and bids-xai on PATH; jobs inherit it."""
    program = tmp_path / "bin" / "bids-xai"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bids_xai.cli.run "$@"\n')
    program.chmod(0o755)
    make_dataset(tmp_path / "bids")
    write_mask(tmp_path / "mask.nii.gz")
    return {
        **cluster.environment,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BIDS": str(tmp_path / "bids"),
        "OUT": str(tmp_path / "out"),
        "WORK": str(tmp_path / "work"),
    }


def _submit(environment: dict[str, str], folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["sbatch", "--parsable", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _options(folder: Path) -> list[str]:
    # All of QUICK but --nprocs, which the script knows from Slurm.
    return [*QUICK[:-2], "--mask", str(folder / "mask.nii.gz")]


def _state(cluster: Cluster, job: str) -> str:
    return cluster.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def _wait(cluster: Cluster, job: str) -> str:
    deadline = time.monotonic() + 400
    while (state := _state(cluster, job)) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.5)
    return state


def _results(out: Path) -> dict[str, str]:
    files = [*out.glob("sub-*/**/*.*"), *out.glob("group/**/*.nii.gz"), *out.glob("group/**/*.tsv")]
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file() and path.suffix != ".svg"
    }


def _lines_of_the_readme(options: list[str]) -> str:
    """Return the README's commands, for a small machine and a small dataset."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [text for text in blocks if "participants.sbatch count" in text]
    variables, *lines = block.splitlines()
    assert variables.startswith("export BIDS=")
    changes = {
        "singularity/participants.sbatch": str(SCRIPT),
        "--mem=16G --cpus-per-task=4": "",
        "(sbatch --": f"(sbatch {shlex.join(SMALL)} --",
        "\nsbatch --": f"\nsbatch {shlex.join(SMALL)} --",
        "--atlas aal": shlex.join(options),
    }
    text = "\n".join(lines)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_participants_then_the_group(cluster: Cluster, submitted: dict[str, str], tmp_path: Path) -> None:
    options = _options(tmp_path)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _lines_of_the_readme(options)],
        env=submitted,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    group = done.stdout.split()[-1]  # Submitted batch job NUMBER
    state = _wait(cluster, group)
    logs = "\n".join(path.read_text() for path in sorted(tmp_path.glob("bids-xai-*.log")))
    assert state == "COMPLETED", logs
    assert len(list(tmp_path.glob("bids-xai-*_[123].log"))) == 3
    assert "mem_gb = 2.93" in (tmp_path / "out" / "logs" / "config.toml").read_text()

    words = [submitted["BIDS"], str(tmp_path / "one"), "participant", "group", "-w", str(tmp_path / "w")]
    assert main([*words, *options]) == 0
    assert _results(tmp_path / "out") == _results(tmp_path / "one")


def test_a_participant_that_fails_holds_the_group_back(
    cluster: Cluster, submitted: dict[str, str], tmp_path: Path
) -> None:
    # Without its events the second participant is refused.
    for events in (tmp_path / "bids" / "sub-02" / "func").glob("*_events.tsv"):
        events.unlink()
    options = _options(tmp_path)
    array = _submit(submitted, tmp_path, "--array=2", *SMALL, str(SCRIPT), *options)
    after = [f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
    group = _submit(submitted, tmp_path, *after, *SMALL, str(SCRIPT), "group", *options)
    assert _wait(cluster, group) == "CANCELLED"
    assert "events" in (tmp_path / f"bids-xai-{array}_2.log").read_text()
    assert not (tmp_path / "out" / "group").exists()
