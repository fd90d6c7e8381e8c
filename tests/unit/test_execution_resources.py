"""Processors and memory by the limits of control groups, in made-up trees and in a real one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bids_xai.execution.resources import (
    GIGABYTE,
    THREAD_VARIABLES,
    limit_library_threads,
    memory_gb,
    memory_limit,
    processors,
    resources,
    warn_of_excess,
)
from bids_xai.settings.sections import Execution

V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "3{n} 31 0:3{n} {root} /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}"
NO_LIMIT = "9223372036854771712"


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def tree(root: Path, cgroup: str, mounts: list[str], files: dict[str, str]) -> Path:
    """Write a machine of 64 GB with control groups, as the kernel shows them."""
    written = {
        "proc/meminfo": "MemTotal:       67108864 kB\nMemFree: 5 kB\n",
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": "\n".join(mounts) + "\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v1(root: str) -> list[str]:
    return [V1.format(n=n, root=root, name=name) for n, name in enumerate(("memory", "cpu,cpuacct"))]


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "n_procs", "gigabytes"),
    [
        pytest.param("0::/\n", [V2.format(root="/")], {}, 8, 64, id="v2 without limits"),
        pytest.param(
            "0::/\n",
            [V2.format(root="/")],
            {"cpu.max": "250000 100000\n", "memory.max": f"{4 * GIGABYTE}\n", "memory.high": "max\n"},
            *(2, 4),
            id="v2 in a namespace, as in a container",
        ),
        pytest.param(
            "0::/a/b\n",
            [V2.format(root="/")],
            {
                "cpu.max": "max 100000\n",
                "a/cpu.max": "300000 100000\n",
                "a/memory.high": f"{3 * GIGABYTE}\n",
                "a/memory.max": f"{6 * GIGABYTE}\n",
                "a/b/cpu.max": "700000 100000\n",
                "a/b/memory.max": "max\n",
            },
            *(3, 3),
            id="v2 nested: the narrowest counts, memory.high too",
        ),
        pytest.param(
            "0::/../../slurm\n",
            [V2.format(root="/")],
            {"cpu.max": "50000 100000\n", "memory.max": f"{GIGABYTE}\n"},
            *(1, 1),
            id="v2 outside of the namespace; half a processor is one",
        ),
        pytest.param(
            "4:memory:/job/step\n2:cpu,cpuacct:/job/step\n1:name=systemd:/\n0::/\n",
            [*v1("/"), V2.format(root="/").replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")],
            {
                "memory/job/memory.limit_in_bytes": f"{5 * GIGABYTE}\n",
                "memory/job/step/memory.limit_in_bytes": f"{NO_LIMIT}\n",
                "memory/memory.limit_in_bytes": f"{NO_LIMIT}\n",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000\n",
            },
            *(4, 5),
            id="v1 and v2 side by side, nested",
        ),
        pytest.param(
            "4:memory:/docker/1234\n2:cpu,cpuacct:/docker/1234\n",
            v1("/docker/1234"),
            {
                "memory/memory.limit_in_bytes": f"{2 * GIGABYTE}\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "50000\n",
            },
            *(3, 2),
            id="v1 in a container that sees the host's path",
        ),
        pytest.param(
            "4:memory:/docker/1234\n",
            v1("/"),
            {"memory/memory.limit_in_bytes": f"{7 * GIGABYTE}\n"},
            *(8, 7),
            id="v1 whose own folder is not mounted: those above count",
        ),
        pytest.param("", [], {}, 8, 64, id="no control groups"),
        pytest.param("damaged\n", ["damaged"], {}, 8, 64, id="files that say nothing"),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, cgroup: str, mounts: list[str], files: dict[str, str], n_procs: int, gigabytes: int
) -> None:
    root = tree(tmp_path, cgroup, mounts, files)
    assert processors(root) == n_procs
    assert memory_limit(root) == gigabytes * GIGABYTE
    assert memory_gb(root) == pytest.approx(max(0.9 * gigabytes - 0.4, 0.5))


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    mount = V2.format(root="/").replace("/sys/fs/cgroup ", "/sys/fs/cgroup/with\\040blank ")
    root = tree(tmp_path, "0::/\n", [mount], {"with blank/memory.max": f"{GIGABYTE}\n"})
    assert memory_limit(root) == GIGABYTE


@pytest.mark.usefixtures("eight")
def test_workers_that_have_no_memory_are_not_started(tmp_path: Path) -> None:
    files = {"memory.max": f"{2 * GIGABYTE}\n"}
    root = tree(tmp_path, "0::/\n", [V2.format(root="/")], files)
    assert resources(Execution(), root).n_procs == 4
    assert resources(Execution(nprocs=8, mem_gb=30.0), root) == resources(
        Execution(nprocs=8, mem_gb=30.0), tmp_path / "nothing"
    )


@pytest.mark.usefixtures("eight")
def test_more_than_there_is_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "0::/\n", [V2.format(root="/")], {"memory.max": f"{4 * GIGABYTE}\n"})
    with caplog.at_level(logging.WARNING, logger="bids_xai"):
        warn_of_excess(Execution(nprocs=8, mem_gb=4.0), root)
        assert not caplog.messages
        warn_of_excess(Execution(nprocs=9, mem_gb=4.5, omp_nthreads=10), root)
    assert [message.split(":")[0] for message in caplog.messages] == [
        "--nprocs 9",
        "--mem-gb 4.5",
        "--omp-nthreads 10 is more than the 9 processors of --nprocs",
    ]


_IN_GROUP = """
import os, sys
for folder in sys.argv[1:]:
    open(os.path.join(folder, "cgroup.procs"), "w").write(str(os.getpid()))
from bids_xai.execution.resources import memory_limit, processors
print(processors(), memory_limit())
"""


def test_a_real_control_group() -> None:
    limits = {
        "memory": {"memory.limit_in_bytes": str(GIGABYTE), "memory.max": str(GIGABYTE)},
        "cpu": {"cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000"},
    }
    made: dict[str, Path] = {}
    try:
        for controller, files in limits.items():
            folder = _make_group(controller, files)
            if folder is not None:
                made[controller] = folder
        if set(made) != set(limits):
            pytest.skip("control groups cannot be made here")
        folders = [str(folder) for folder in dict.fromkeys(made.values())]
        command = [sys.executable, "-c", _IN_GROUP, *folders]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["1", str(GIGABYTE)]
    finally:
        for folder in made.values():
            if folder.exists():
                folder.rmdir()


def _make_group(controller: str, files: dict[str, str]) -> Path | None:
    """Make a group below the root of a controller (v1) or of all (v2) and limit it; None: not possible."""
    for top in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
        folder = top / f"bids_xai_test_{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            written = [
                (folder / name).write_text(text) for name, text in files.items() if (folder / name).exists()
            ]
        except OSError:
            written = []
        if written:
            return folder
        if folder.is_dir() and not any(path.name == "cgroup.procs" for path in folder.iterdir()):
            folder.rmdir()
    return None


def test_libraries_get_one_thread() -> None:
    environment = {"OMP_NUM_THREADS": "64", "HOME": "/home/x"}
    limit_library_threads(environment)
    assert environment == {"HOME": "/home/x", **dict.fromkeys(THREAD_VARIABLES, "1")}


_REPORT = """
def report(path):
    import json, threadpoolctl, torch, numba, scipy.linalg
    own = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    with open(path, "w") as stream:
        json.dump([torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, *own], stream)
    return path
"""
_SCRIPT = """
import sys
from pathlib import Path

from bids_xai.execution.resources import limit_library_threads


def ignore(*_):
    pass


if __name__ == "__main__":
    limit_library_threads()
    from nipype import Node, Workflow
    from nipype.interfaces.utility import Function
    from bids_xai.execution.plugins import configure_nipype, open_plugin
    from bids_xai.settings.sections import Execution

    here, text = Path(sys.argv[1]), sys.argv[2]
    execution = Execution(nprocs=2, mem_gb=2.0)
    configure_nipype(execution, here, here, 0)
    plugin = open_plugin(execution, ignore)
    assert plugin.plugin_args["n_procs"] == 2 and plugin.plugin_args["memory_gb"] == 2.0
    workflow = Workflow("threads", base_dir=str(here))
    for number in range(2):
        node = Node(Function(input_names=["path"], output_names=["out"]), name=f"report{number}")
        node.inputs.function_str = text
        node.inputs.path = str(here / f"{number}.json")
        workflow.add_nodes([node])
    workflow.run(plugin=plugin)
"""


def test_workers_of_the_scheduler_have_one_thread_per_library(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "5", "OPENBLAS_NUM_THREADS": "5", "NIPYPE_NO_ET": "1"}
    command = [sys.executable, str(script), str(tmp_path), _REPORT]
    subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    for number in range(2):
        report = json.loads((tmp_path / f"{number}.json").read_text())
        assert len(report) > 2
        assert set(report) == {1}
