"""Batch systems that nipype's plugins submit to: their programs, and how a node's needs are said to them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A job starts an interpreter and its libraries, and CUDA's on a GPU, whatever its node needs.
_LEAST_GB, _LEAST_GB_ON_GPU = 1.0, 4.0


@dataclass(frozen=True)
class Words:
    """Words for one need of a node, left out where the user's words say it.

    Parameters
    ----------
    text
        With ``{n_procs}``, ``{mem_mb}``, ``{mem_gb}`` and ``{mem_mb_per_proc}``.
    unless
        Regular expression of words of the user that take their place.
    on
        ``"all"`` nodes, those on a ``"cpu"``, or those on a ``"gpu"``.
    """

    text: str
    unless: str
    on: str = "all"


@dataclass(frozen=True)
class BatchSystem:
    """One batch system.

    Parameters
    ----------
    programs
        What must be on PATH.
    words_key
        nipype's name of the words that go before the script.
    cancel
        Program that ends the jobs whose numbers follow.
    needs
        Words for what a node needs; none where these depend on the site (``node_args``).
    keys
        Further arguments that nipype's plugin reads.
    """

    programs: tuple[str, ...]
    words_key: str
    cancel: str
    needs: tuple[Words, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names that ``plugin_args`` may hold."""
        return ("template", self.words_key, "node_args", "gpu_args", "max_jobs", *_TRIES, *self.keys)

    def words(self, arguments: Mapping[str, Any], n_procs: int, mem_gb: float, *, gpu: bool) -> str:
        """Return the words that a node is submitted with: its needs, then the user's own.

        ``arguments`` are nipype's ``plugin_args``, where ``node_args`` takes the place of ``needs`` and
        ``gpu_args`` is added on a GPU.
        """
        own = str(arguments.get(self.words_key) or "")
        mem_gb = max(mem_gb, _LEAST_GB_ON_GPU if gpu else _LEAST_GB)
        mem_mb = math.ceil(1024 * mem_gb)
        values = {
            "n_procs": n_procs,
            "mem_mb": mem_mb,
            "mem_gb": math.ceil(mem_gb),
            "mem_mb_per_proc": math.ceil(mem_mb / n_procs),
        }
        if "node_args" in arguments:
            chosen = [str(arguments["node_args"])]
        else:
            said = f"{own}\n{arguments.get('template') or ''}"
            wanted = ("all", "gpu" if gpu else "cpu")
            chosen = [
                need.text for need in self.needs if need.on in wanted and not re.search(need.unless, said)
            ]
        if gpu and "gpu_args" in arguments:
            chosen.append(str(arguments["gpu_args"]))
        return " ".join(word for word in (*(text.format(**values) for text in chosen), own) if word)


_TRIES = ("retry_timeout", "max_tries")
_PBS_SAYS = r"select=|nodes=|ncpus=|mem="
SYSTEMS = {
    "SLURM": BatchSystem(
        ("sbatch", "squeue", "scancel"),
        "sbatch_args",
        "scancel",
        (
            Words("--cpus-per-task={n_procs}", r"(^|\s)-c|--cpus-per-task|--exclusive"),
            Words("--mem={mem_mb}M", r"--mem"),
            Words("--gres=gpu:1", r"--gres|--gpus|(^|\s)-G", on="gpu"),
        ),
        ("jobid_re",),
    ),
    "PBS": BatchSystem(
        ("qsub", "qstat", "qdel"),
        "qsub_args",
        "qdel",
        (
            Words("-l select=1:ncpus={n_procs}:mem={mem_mb}mb", _PBS_SAYS, on="cpu"),
            Words("-l select=1:ncpus={n_procs}:mem={mem_mb}mb:ngpus=1", _PBS_SAYS, on="gpu"),
        ),
        ("max_jobname_len",),
    ),
    "SGE": BatchSystem(("qsub", "qstat", "qdel"), "qsub_args", "qdel"),
    "LSF": BatchSystem(("bsub", "bjobs", "bkill"), "bsub_args", "bkill"),
    "OAR": BatchSystem(("oarsub", "oarstat", "oardel"), "oarsub_args", "oardel", keys=("max_jobname_len",)),
    "Condor": BatchSystem(("condor_qsub", "condor_q", "condor_rm"), "qsub_args", "condor_rm"),
}


def check_words(text: str) -> str | None:
    """Return why words cannot be filled in or split, or None."""
    try:
        shlex.split(text.format(n_procs=1, mem_mb=1, mem_gb=1, mem_mb_per_proc=1))
    except (KeyError, IndexError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None
