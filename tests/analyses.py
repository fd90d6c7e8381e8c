"""Whole analyses, each as small as still takes its path, called as a user calls them.

Only commands are used, and what tests make datasets with: nothing here knows how the package is built.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nb
import numpy as np
from nilearn.datasets import load_mni152_template

from tests.datasets import make_anatomical_dataset, make_dataset, make_fmriprep, write_head, write_mask
from tests.fsl_programs import write_programs
from tests.integration import small_network
from tests.slurm.cluster import missing as missing_of_slurm
from tests.slurm.cluster import running_cluster
from tests.unit.batch_programs import install, submitted

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
MODULES = {
    "bids-xai": "bids_xai.cli.run", "bids-xai-phantom": "bids_xai.cli.phantom",
    "bids-xai-scenarios": "bids_xai.cli.scenarios",
}  # fmt: skip
# In the process that was called: starting others takes longer than the nodes of small data.
HERE = ("--use-plugin", "Linear", "--skip-bids-validation")
FEW = (
    "--n-updates", "200", "--n-runs", "3", "--n-permutations", "19", "--n-null", "3", "--alpha", ".05",
    "--chunk-size", "5",
)  # fmt: skip
GROUPS = ("--target", "participants:group")


class AnalysisSkippedError(Exception):
    """What an analysis needs is not on this machine."""


@dataclass
class Bench:
    """Where one analysis runs.

    Parameters
    ----------
    folder
        Its folder; what it writes into ``out`` are its outputs.
    nprocs
        Processors that it may use.
    notes
        How it was run, where that depends on the machine.
    """

    folder: Path
    nprocs: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """Folder of the outputs."""
        return self.folder / "out"

    def call(self, program: str, *words: object, environment: Mapping[str, str] = {}) -> None:
        """Run a command of the package.

        Raises
        ------
        RuntimeError
            It did not end with 0; its last lines are in the message.
        """
        command = [sys.executable, "-m", MODULES[program], *map(str, words)]
        if program != "bids-xai-phantom" and "--reports-only" not in words:
            command += ["--nprocs", str(self.nprocs), "-w", str(self.folder / "work")]
        paths = os.pathsep.join([str(self.folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
        log = self.folder / "log.txt"
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join([program, *command[3:]])}\n")
            stream.flush()
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep), **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            end = "\n".join(log.read_text(encoding="utf-8").splitlines()[-15:])
            raise RuntimeError(f"{program} ended with {done.returncode}:\n{end}")

    def analyse(self, bids: Path, *words: object, environment: Mapping[str, str] = {}) -> None:
        """Run ``bids-xai`` on a dataset."""
        self.call("bids-xai", bids, self.out, *words, environment=environment)


def demonstration(bench: Bench) -> None:
    """Run the README's demonstration with fewer and coarser images."""
    bids = bench.folder / "bids"
    small = ("--subjects", 3, "--runs", 2, "--classes", 2, "--resolution", 6, "--t1w-resolution", 3)
    bench.call(
        "bids-xai-phantom", bids, *small, "--trials-per-class", 5, "--anatomy", "--motion", "--seed", 0
    )
    bench.analyse(bids, "participant", "group", "--sloppy", "--resolution", 6, "--atlas", "aal")


def haxby_slice(bench: Bench) -> None:
    """Decode one slice of real data (Haxby et al. 2001), volumes as samples, leaving runs out."""
    bids = SHARED / "data" / "ds-haxby2001"
    if not bids.is_dir():
        raise AnalysisSkippedError(f"no {bids}")
    filters = bench.folder / "filters.json"
    filters.write_text(json.dumps({"bold": {"acquisition": "slice"}}))
    bench.analyse(
        bids, "participant", "group", "--preproc", "none", "-d", bids / "derivatives" / "masks",
        "--bids-filter-file", filters, "--sample", "volumes", "--hrf-shift", 0, "--high-pass", 0,
        "--cv", "run", "--n-runs", 2, "--n-permutations", 19, "--n-null", 2, "--alpha", ".05",
        "--n-updates", 1500, "--importance", "WX", "Haufe",
    )  # fmt: skip


def fsl_bold(bench: Bench) -> None:
    """Run FSL's graph for BOLD as published; stand-ins take the place of the programs."""
    bids = bench.folder / "bids"
    small = ("--subjects", 2, "--runs", 2, "--classes", 2, "--trials-per-class", 4, "--resolution", 12)
    bench.call("bids-xai-phantom", bids, *small)
    for number in (1, 2):
        subject = f"sub-{number:02d}"
        write_head(bids / subject / "anat" / f"{subject}_T1w.nii.gz", np.random.default_rng(number))
    _fsl(bench, bids, "--preset", "gotsopoulos2018", *FEW, "--resolution", 8, "--importance", "WX")


def fsl_flair(bench: Bench) -> None:
    """Run FSL's graph for FLAIR and T1w as published; stand-ins take the place of the programs."""
    bids = make_anatomical_dataset(bench.folder / "bids", n_subjects=6, flair=True)
    _fsl(
        bench, bids, "--preproc", "fsl", "--modality", "FLAIR", *GROUPS, "--registration", "affine", "--dof",
        12, "--resolution", 8, *FEW, "--importance", "W",
    )  # fmt: skip


def _fsl(bench: Bench, bids: Path, *words: object) -> None:
    for path in bids.glob("sub-*/anat/*.nii.gz"):
        # What the stand-in for BET takes for a brain: 0 outside.
        head = nb.load(path)
        data = np.asarray(head.dataobj)
        nb.save(nb.Nifti1Image(np.where(data > 100, data, 0), head.affine), path)
    environment, log = write_programs(bench.folder, unaligned=1e9, stretch=True)
    bench.analyse(
        bids, "participant", "group", *words, "--template", _template(bench.folder), *HERE,
        environment=environment,
    )  # fmt: skip
    # Nodes that do not wait for each other run in any order.
    lines = sorted(log.read_text(encoding="utf-8").splitlines())
    (bench.out / "commands.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _template(folder: Path) -> Path:
    """Write a brain on the grid of the heads of ``tests.datasets``."""
    shape = (20, 22, 18)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    data = np.where(sum(axis**2 for axis in axes) < 0.7, 100 + 20 * axes[0] + 10 * axes[1], 0)
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -4.0 * (np.array(shape) - 1)
    path = folder / "tpl-Heads_T1w.nii.gz"
    nb.save(nb.Nifti1Image(data.astype(np.float32), affine), path)
    return path


def derivatives(bench: Bench) -> None:
    """Take outputs as of fMRIPrep, with confounds and head motion, and decode within participants."""
    bids = make_dataset(bench.folder / "bids", n_runs=3)
    fmriprep = make_fmriprep(bids, bench.folder / "fmriprep")
    bench.analyse(
        bids, "participant", "group", "-d", fmriprep, "--space", "MNI152NLin2009cAsym", "--confounds",
        "trans_x", "--fd-threshold", 2, "--cv", "run", *FEW, "--tail-fit", "gpd", "--n-permutations", 99,
        "--chunk-size", 50, "--atlas", "aal", "--importance", "WX", "OD", *HERE,
    )  # fmt: skip


def t1w_softmax(bench: Bench) -> None:
    """Tell patients from controls by T1w images of sessions, with balanced folds that are drawn twice."""
    bids = make_anatomical_dataset(bench.folder / "bids", n_subjects=8, sessions=("1", "2"))
    bench.analyse(
        bids, "participant", "group", "--preproc", "none", "--modality", "T1w", *GROUPS, "--resolution", 8,
        "--n-repeats", 2, "--map-values", "raw", "--tail", "two-sided", *FEW, "--importance", "W", "WX",
        "LRP-W2", *HERE,
    )  # fmt: skip


def lesions_network(bench: Bench) -> None:
    """Train a small network on lesions at known positions, and explain it with every kind of method."""
    bids = bench.folder / "bids"
    bench.call("bids-xai-phantom", bids, "--kind", "lesions", "--subjects", 8, "--resolution", 8)
    truth = bids / "derivatives" / "truth"
    (brain,) = truth.glob("tpl-*/*desc-brain_mask.nii.gz")
    _own_network(bench)
    bench.analyse(
        bids, "participant", "group", "--modality", "T1w", *GROUPS, "--classes", "control", "patient",
        "--preproc", "none", "--space", "MNI152NLin2009aSym", "--resolution", 8, "--mask", brain,
        "--model", "own_network:small", "--cv", "kfold", "--n-folds", 2, "--max-epochs", 3,
        "--learning-rate", ".003", "--explain", "lrp-alpha-beta:beta=0.5", "gradient-x-input",
        "guided-backprop", "grad-cam", "occlusion:box=3x3x3,stride=3", "region-occlusion", "--atlas", "aal",
        "--n-runs", 2, "--n-permutations", 2, "--alpha", ".34", "--lesion-masks", truth,
        "--lesion-label", "evidence", "--biomarker", "lesion_volume", "--baseline", "logistic-regression",
        "--stratify", "sex", *HERE,
    )  # fmt: skip


def _own_network(bench: Bench) -> None:
    """Put a user's own network where ``--model own_network:small`` finds it."""
    shutil.copy(small_network.__file__, bench.folder / "own_network.py")


def pif_network(bench: Bench) -> None:
    """Train patch-individual filters as published (Eitel et al. 2021), with settings searched at random."""
    bids = bench.folder / "bids"
    bench.call("bids-xai-phantom", bids, "--kind", "lesions", "--subjects", 8, "--resolution", 8)
    bench.analyse(
        bids, "participant", "group", "--preset", "eitel2021-pif", *GROUPS, "--classes", "control", "patient",
        "--preproc", "none", "--space", "MNI152NLin2009aSym", "--resolution", 8, "--model", "ms-b-pif",
        "--n-folds", 1, "--max-epochs", 1, "--random-search", 2, "--search-batch-size", 2, 4,
        "--test-size", ".25", "--validation-size", ".25", "--no-trust", *HERE,
    )  # fmt: skip


def volumes_network(bench: Bench) -> None:
    """Train a network on single volumes of BOLD; explain it by occlusion, and compare its classes."""
    bids = bench.folder / "bids"
    small = ("--subjects", 3, "--runs", 1, "--classes", 3, "--trials-per-class", 3, "--resolution", 12)
    bench.call("bids-xai-phantom", bids, *small)
    bench.analyse(
        bids, "participant", "group", "--preset", "emotion-occlusion", "--preproc", "none", "--max-epochs", 2,
        "--explain", "occlusion:box=4x4x4,stride=2,baseline=zero", "--samples-per-class", 15,
        "--explain-samples", 1, "--explain-above", 0, "--strongest-positions", 20, "--no-trust", *HERE,
    )  # fmt: skip


def scenarios(bench: Bench) -> None:
    """Run simulations of the published analysis, without and with weight decay."""
    bench.call(
        "bids-xai-scenarios", bench.out, "--scenario", "1", "3-l2", "--subjects", 3, "--samples", 10,
        "--voxels", 120, "--learning-rate", ".005", "--n-updates", 50, "--n-runs", 2, "--n-permutations", 9,
        "--n-null", 2, "--alpha", ".2", "--chunk-size", 3, "--use-plugin", "Linear",
    )  # fmt: skip


def registration_study(bench: Bench) -> None:
    """Compare no registration, an affine one and SyN (ANTs) of T1w images by a small network."""
    bids = bench.folder / "bids"
    small = ("--subjects", 6, "--resolution", 4, "--anatomy")
    template = bench.folder / "tpl-Coarse_T1w.nii.gz"
    load_mni152_template(resolution=4).to_filename(template)
    bench.call("bids-xai-phantom", bids, "--kind", "lesions", *small)
    _own_network(bench)
    bench.analyse(
        bids, "participant", "group", "--modality", "T1w", *GROUPS, "--registration-study", "--sloppy",
        "--template", template,
        "--resolution", 8, "--model", "own_network:small", "--cv", "kfold", "--n-folds", 3, "--max-epochs", 1,
        "--explain", "saliency", "--no-trust", "--n-runs", 2, *HERE,
    )  # fmt: skip


def batch_chunks(bench: Bench) -> None:
    """Run the group level's chunks as jobs of Slurm where it can be started, else of a stand-in for SGE."""
    bids = make_dataset(bench.folder / "bids")
    mask = write_mask(bench.folder / "mask.nii.gz")
    bench.analyse(bids, "participant", "--preproc", "none", "--mask", mask, *HERE)
    with _batch_system(bench) as (plugin, environment):
        bench.analyse(
            bids, "group", *FEW, "--chunk-size", 10, "--importance", "WX", "OD", "--use-plugin", plugin,
            "--plugin-args", f"max_jobs={bench.nprocs}", environment=environment,
        )  # fmt: skip


@contextmanager
def _batch_system(bench: Bench) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Give the name of a batch system and the environment in which its programs are found."""
    reason = missing_of_slurm()
    if reason is None:
        with running_cluster() as cluster:
            yield "SLURM", cluster.environment
        bench.notes.append("jobs of Slurm")
        return
    programs = bench.folder / "batch"
    jobs = install(programs, "SGE")
    yield "SGE", {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LOGNAME": "user"}
    n_jobs = len(submitted(jobs))
    bench.notes.append(f"{n_jobs} jobs of a stand-in for SGE, not of Slurm ({reason})")
    if n_jobs < 3:
        raise RuntimeError(f"{n_jobs} jobs were submitted: chunks ran elsewhere.")


def reports_only(bench: Bench) -> None:
    """Make pages, figures and citations again from maps and tables alone."""
    bids = make_dataset(bench.folder / "bids", n_subjects=2)
    mask = write_mask(bench.folder / "mask.nii.gz")
    bench.analyse(
        bids, "participant", "group", "--preproc", "none", "--mask", mask, *FEW, "--cv", "run",
        "--sample", "volumes", "--importance", "W", "LRP-z", "--stop-after-exceedances", 10, *HERE,
    )  # fmt: skip
    for path in [*bench.out.glob("*.html"), *(bench.out / "logs").glob("CITATION.*")]:
        path.unlink()
    shutil.rmtree(bench.out / "group" / "figures")
    bench.analyse(bids, "participant", "group", "--reports-only")


ANALYSES: dict[str, Callable[[Bench], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        demonstration, haxby_slice, fsl_bold, fsl_flair, derivatives, t1w_softmax, lesions_network,
        pif_network, volumes_network, scenarios, registration_study, batch_chunks, reports_only,
    )
}  # fmt: skip
