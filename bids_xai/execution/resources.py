"""What this process may use: processors and memory, by the limits of its control group, not the host's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bids_xai.settings.sections import Execution

LOGGER = logging.getLogger("bids_xai")
# Docker, Slurm and nipype count so.
GIGABYTE = 2**30
# The system has a share that is not planned with, and the process that schedules a part of the rest.
PLANNED_SHARE = 0.9
OWN_GB = 0.4
_LEAST_GB = 0.5
# A worker with its libraries, before it computes anything.
PROCESS_GB = 0.35
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Resources:
    """What the scheduler plans with.

    Parameters
    ----------
    n_procs
        Processors: the threads of all nodes that run at once.
    memory_gb
        Memory of all of them together.
    """

    n_procs: int
    memory_gb: float


def resources(execution: Execution, root: Path = Path("/")) -> Resources:
    """Return what was asked for, and where nothing was, what this process may use.

    Of processors that were not asked for, only as many are used as there is memory for workers on them.

    Parameters
    ----------
    execution
        ``nprocs``, ``mem_gb`` and ``omp_nthreads``.
    root
        Folder that holds ``proc`` and ``sys``.
    """
    memory = memory_gb(root) if execution.mem_gb is None else execution.mem_gb
    n_procs = execution.nprocs or max(min(processors(root), int(memory / PROCESS_GB)), 1)
    return Resources(n_procs, memory)


def warn_of_excess(execution: Execution, root: Path = Path("/")) -> None:
    """Warn where more is asked for than this process may use; it is done as told."""
    n_procs, memory = processors(root), memory_limit(root) / GIGABYTE
    if execution.nprocs is not None and execution.nprocs > n_procs:
        LOGGER.warning(
            "--nprocs %d: this process may use %d (machine, control group, affinity).",
            execution.nprocs,
            n_procs,
        )
    if execution.mem_gb is not None and execution.mem_gb > memory:
        LOGGER.warning(
            "--mem-gb %g: this process may use %.1f GB; beyond that it may be killed.",
            execution.mem_gb,
            memory,
        )
    if execution.omp_nthreads > resources(execution, root).n_procs:
        LOGGER.warning(
            "--omp-nthreads %d is more than the %d processors of --nprocs: nodes run one at a time.",
            execution.omp_nthreads,
            resources(execution, root).n_procs,
        )


def limit_library_threads(environment: MutableMapping[str, str] | None = None) -> None:
    """Give libraries one thread in this process and those that it starts, if they are not loaded yet.

    Nodes that take ``--omp-nthreads`` start so many threads themselves, and the scheduler counts them; any
    other thread would be one too many, and change the order in which numbers are added up.
    """
    environment = os.environ if environment is None else environment
    environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def processors(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use: whole ones of its quota, at least one."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(folder) for name in ("cpu", "") for folder in _groups(root, name)]
    return max(int(min([available, *(quota for quota in quotas if quota is not None)])), 1)


def memory_gb(root: Path = Path("/")) -> float:
    """Return the memory in GB that the scheduler may plan with."""
    return max(PLANNED_SHARE * memory_limit(root) / GIGABYTE - OWN_GB, _LEAST_GB)


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that this process and its children may use: the machine's, or less by a limit."""
    limits = [_total_memory(root)]
    for name, files in (("memory", ("memory.limit_in_bytes",)), ("", ("memory.max", "memory.high"))):
        for folder in _groups(root, name):
            # "max" is no limit; version 1 says so by a number beyond any machine's memory.
            limits += [int(word) for file in files for word in _words(folder / file) if word.isdigit()]
    return min(limits)


def _total_memory(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _quota(folder: Path) -> float | None:
    """Return the processors of a control group's quota, None for no quota."""
    words = _words(folder / "cpu.max")
    if not words:
        words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Give the folders of this process's control group and of those above it, as far as they are mounted.

    Parameters
    ----------
    root
        Folder that holds ``proc`` and ``sys``.
    controller
        ``"cpu"`` or ``"memory"`` of version 1; empty for version 2.
    """
    for own in _own_groups(root, controller):
        for mounted, mount_point in _mounts(root, controller):
            top = root / mount_point.relative_to("/")
            # Outside its namespace a process does not see the path: what is mounted is all there is.
            inside = own.is_relative_to(mounted) and ".." not in own.parts
            folder = top / own.relative_to(mounted) if inside else top
            yield from (level for level in (folder, *folder.parents) if level.is_relative_to(top))


def _own_groups(root: Path, controller: str) -> Iterator[PurePosixPath]:
    for line in _lines(root / "proc/self/cgroup"):
        parts = line.split(":", 2)
        if len(parts) == 3 and controller in parts[1].split(","):
            yield PurePosixPath(parts[2])


def _mounts(root: Path, controller: str) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Give what is mounted of the hierarchy, and where (proc_pid_mountinfo(5))."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        of_version_1 = kind[0] == "cgroup" and controller != "" and controller in kind[2].split(",")
        if of_version_1 or (kind[0] == "cgroup2" and controller == ""):
            yield PurePosixPath(_plain(fields[3])), PurePosixPath(_plain(fields[4]))


def _plain(path: str) -> str:
    """Return a path of mountinfo without its octal escapes."""
    for character in " \t\n\\":
        path = path.replace(f"\\{ord(character):03o}", character)
    return path


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
