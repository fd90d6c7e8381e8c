#!/usr/bin/env python3
"""The smallest PBS and SGE there can be: qsub, qstat and qdel that run jobs on this machine.

It stands for batch systems that are in no package: what is tested with it is that the words of a node reach
qsub, and what becomes of jobs; not that a site's PBS or SGE takes these words.
"""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("qsub", "qstat", "qdel")


def install(folder: Path, kind: str) -> Path:
    """Put the programs of ``"PBS"`` or ``"SGE"`` into a folder, and return the one that jobs are kept in."""
    jobs = folder / "jobs"
    jobs.mkdir(parents=True)
    (folder / "kind").write_text(kind)
    for name in PROGRAMS:
        program = folder / name
        text = Path(__file__).read_text(encoding="utf-8").split("\n", 1)[1]
        program.write_text(f"#!{sys.executable} -IS\n{text}", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return jobs


def submitted(jobs: Path) -> list[list[str]]:
    """Return the words that every job was submitted with, in their order."""
    paths = sorted(jobs.glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text())["words"] for path in paths]


def is_alive(jobs: Path, number: str) -> bool:
    """Tell whether the process of a job is there."""
    return _alive(json.loads((jobs / f"{number}.json").read_text()))


def _alive(job: dict) -> bool:
    try:
        return Path(f"/proc/{job['pid']}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _qsub(jobs: Path, kind: str, words: list[str]) -> int:
    if "refuse" in " ".join(words):
        print("qsub: no such queue", file=sys.stderr)
        return 1
    number = len(list(jobs.glob("*.json"))) + 1
    command = ["true"] if "vanish" in " ".join(words) else ["sh", words[-1]]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    (jobs / f"{number}.json").write_text(json.dumps({"pid": process.pid, "words": words}))
    print(f"{number}.server" if kind == "PBS" else f'Your job {number} ("name") has been submitted')
    return 0


def _qstat(jobs: Path, kind: str, words: list[str]) -> int:
    alive = [path.stem for path in jobs.glob("*.json") if _alive(json.loads(path.read_text()))]
    if kind == "PBS":
        if words[-1] in alive:
            print("    job_state = R")
            return 0
        print(f"qstat: Unknown Job Id {words[-1]}", file=sys.stderr)
        return 153
    if "-xml" in words:
        print("<job_info/>")
        return 0
    print("job-ID  prior   name       user         state submit/start at     queue          slots ja-task-ID")
    print("-" * 100)
    for name in alive:
        print(f"{name:>7} 0.55500 name       someone      r     11/21/2026 22:00:00 all.q@here         1")
    return 0


def main() -> int:
    """Act as the program whose name this file has."""
    folder = Path(sys.argv[0]).resolve().parent
    jobs, kind, words = folder / "jobs", (folder / "kind").read_text(), sys.argv[1:]
    name = Path(sys.argv[0]).name
    if name == "qsub":
        return _qsub(jobs, kind, words)
    if name == "qstat":
        return _qstat(jobs, kind, words)
    for number in words:
        job = json.loads((jobs / f"{number}.json").read_text())
        if _alive(job):
            os.killpg(job["pid"], signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
