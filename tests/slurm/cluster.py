"""A Slurm of one machine, for as long as a test needs it: munged, slurmctld and slurmd."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
START_SECONDS = 60.0
# Devices that stand for GPUs: Slurm counts them and tells jobs their indices; nothing can be computed there.
GPU_FILES = ("/dev/null", "/dev/zero")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# Without cgroups, what a job holds is looked at every second, and more than it asked for ends it.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=test Nodes={host} Default=YES MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A Slurm that is running: its programs find it by SLURM_CONF, which is in ``environment``."""

    folder: Path
    environment: dict[str, str]

    def call(self, *words: str) -> str:
        """Run a program of Slurm and return what it says."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def jobs(self, states: str = "all") -> dict[int, tuple[str, str]]:
        """Return name and state of the jobs that Slurm remembers, by their number."""
        lines = self.call("squeue", "-h", "-t", states, "-o", "%i|%j|%T").splitlines()
        parts = [line.split("|") for line in lines]
        return {int(number.split("_")[0]): (name, state) for number, name, state in parts}

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in paths)


def missing() -> str | None:
    """Return why no Slurm can be started here, or None."""
    if os.geteuid() != 0:
        return "slurmd runs jobs as their users: only root can start it"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    return None


@contextmanager
def running_cluster(*, cpus: int = 4, memory_mb: int = 16000, gpus: int = 2) -> Iterator[Cluster]:
    """Start a Slurm, wait until its node is idle, and stop all of it in the end."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    # Paths of sockets are short, and munged wants folders that nobody else may write to.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = Cluster(folder, {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")})
        _configure(folder, cpus, memory_mb, gpus)
        munged = [
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={folder}/munge.key",
        ]
        own = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "seed")]
        stack.enter_context(_daemon("munged", [*munged, *own], cluster))
        _wait((folder / "munge.socket").exists, "munged listens", cluster)
        stack.enter_context(_daemon("slurmctld", ["-D", "-c"], cluster))
        stack.enter_context(_daemon("slurmd", ["-D"], cluster))
        # Jobs end before the daemons do: they are not the daemons' children.
        stack.callback(_end_jobs, cluster)
        _wait(lambda: "idle" in cluster.call("sinfo", "-h", "-o", "%t").split(), "the node is idle", cluster)
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a Slurm whose programs this process and its children find."""
    with running_cluster() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", started.environment["SLURM_CONF"])
        yield started


def _configure(folder: Path, cpus: int, memory_mb: int, gpus: int) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(mode=0o700)
    controller_port, node_port = _free_ports(2)
    text = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
        cpus=cpus,
        memory_mb=memory_mb,
        gpus=gpus,
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={path}\n" for path in GPU_FILES[:gpus]))
    subprocess.run(["mungekey", "-c", "-k", str(folder / "munge.key")], check=True)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(name: str, words: list[str], cluster: Cluster) -> Iterator[None]:
    with (cluster.folder / f"{name}.out.log").open("w") as log:
        process = subprocess.Popen(
            [name, *words],
            env=cluster.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cluster.folder,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(condition: Callable[[], bool], what: str, cluster: Cluster) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except RuntimeError:
            pass  # the controller does not answer yet
        time.sleep(0.1)
    pytest.fail(f"after {START_SECONDS:.0f} s still not: {what}\n{cluster.logs()}")


def _end_jobs(cluster: Cluster) -> None:
    try:
        for number in cluster.jobs("pending,running,completing"):
            cluster.call("scancel", str(number))
        deadline = time.monotonic() + 15
        while cluster.jobs("pending,running,completing") and time.monotonic() < deadline:
            time.sleep(0.2)
    except RuntimeError:
        pass  # the controller is gone already
