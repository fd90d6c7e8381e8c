"""Jobs of single participants side by side, with the same OUT and work folder, as in a job array."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bids_xai.cli.run import main
from tests.datasets import QUICK, make_anatomical_dataset, make_dataset, write_mask

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "singularity" / "participants.sbatch"
LABELS = ("01", "02")


def _samples(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob("sub-*/**/*"))
        if path.is_file() and path.suffix != ".svg"
    }


def _dates(out: Path) -> dict[str, int]:
    """Return the dates of what the group level reads: samples, their rows and masks."""
    files = [
        path for kind in ("samples.nii.gz", "samples.tsv", "mask.nii.gz") for path in out.rglob(f"*_{kind}")
    ]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_jobs_at_once_do_each_others_work_no_harm(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=2, n_runs=1)
    mask = write_mask(tmp_path / "mask.nii.gz")
    words = [*QUICK, "--mask", str(mask), "--skip-bids-validation"]
    shared = ["-w", str(tmp_path / "work"), "--bids-database-dir", str(tmp_path / "database"), *words]
    one = [sys.executable, "-m", "bids_xai.cli.run", str(bids)]
    jobs = [
        subprocess.Popen(
            [*one, str(tmp_path / "out"), "participant", "--participant-label", label, *shared],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for label in LABELS
    ]
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    assert main([str(bids), str(undisturbed), "participant", "-w", str(tmp_path / "w"), *words]) == 0
    said = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)
    assert _samples(out) == _samples(undisturbed)
    assert {path.name for path in out.glob("sub-*.html")} == {f"sub-{label}.html" for label in LABELS}
    assert not list(tmp_path.rglob(".tmp-*"))
    assert [path.name for path in (tmp_path / "database").rglob("*.*")] == ["layout_index.sqlite"]

    # A job that is submitted again leaves the dates: by these nipype knows that the group is not outdated.
    written = _dates(out)
    assert {Path(path).suffixes[-1] for path in written} == {".gz", ".tsv"}
    assert main([str(bids), str(out), "participant", *shared]) == 0
    assert _dates(out) == written


@pytest.mark.long
@pytest.mark.timeout(3600)  # eight processes, one after the other
@pytest.mark.parametrize("modality", ["T1w", "FLAIR"])
def test_the_array_makes_the_samples_of_one_call(tmp_path: Path, modality: str) -> None:
    bids = make_anatomical_dataset(tmp_path / "bids", n_subjects=7, flair=modality == "FLAIR")
    table = bids / "participants.tsv"
    # A participant without a level is a job with nothing to do.
    table.write_text(table.read_text().replace("sub-07\t66\tM\tpatient", "sub-07\t66\tM\tn/a"))
    words = ["--modality", modality, "--target", "participants:group", *QUICK, "--resolution", "8"]
    words += ["--cv", "subject", "--skip-bids-validation"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "IMAGE"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BIDS": str(bids),
        "OUT": str(tmp_path / "out"),
        "WORK": str(tmp_path / "work"),
        "SLURM_CPUS_PER_TASK": "1",
    }
    assert _call(environment, "count")[1] == ["7"]
    for task in range(1, 8):
        code, _, error = _call({**environment, "SLURM_ARRAY_TASK_ID": str(task)}, *words)
        assert code == 0, error
        assert ("Nothing to do: no image of sub-07" in error) == (task == 7)
    code, _, error = _call(environment, "group", *words)
    assert code == 0, error
    group = json.loads((tmp_path / "out/group/results.json").read_text())
    assert group["subjects"] == [f"0{n}" for n in range(1, 7)]
    assert not [text for text in group["warnings"] if "Not part of" in text]
    alone = tmp_path / "alone"
    code = main([str(bids), str(alone), "participant", "group", "-w", str(tmp_path / "w"), *words])
    assert code == 0
    assert _samples(tmp_path / "out") == _samples(alone)


@pytest.fixture
def dispatch(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose bids-xai (and apptainer) print their words, one a line, and end with 7."""
    for name in ("bids-xai", "apptainer"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            "#!/bin/bash\n"
            f'printf "%s\\n" {name} "$@" "GPU=${{APPTAINERENV_CUDA_VISIBLE_DEVICES:-}}"\nexit 7\n'
        )
        program.chmod(0o755)
    for label in ("10", "02", "1"):
        (tmp_path / "my bids" / f"sub-{label}").mkdir(parents=True)
    (tmp_path / "my bids" / "sub-99_notes.txt").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "CUDA"))}
    return {
        **kept,
        "PATH": f"{tmp_path / 'programs'}:{os.environ['PATH']}",
        "BIDS": str(tmp_path / "my bids"),
        "OUT": str(tmp_path / "out"),
        "WORK": str(tmp_path / "work"),
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_MEM_PER_NODE": "6144",
    }


def _call(environment: dict[str, str], *words: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        ["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_task_of_the_array_is_a_participant(dispatch: dict[str, str]) -> None:
    assert _call(dispatch, "count") == (0, ["3"], "")
    common = ["--work-dir", dispatch["WORK"], "--nprocs", "3", "--mem-gb", "6.00", "--atlas", "a b", "GPU="]
    folders = [dispatch["BIDS"], dispatch["OUT"]]
    for task, label in (("1", "02"), ("2", "1"), ("3", "10")):
        code, said, _ = _call({**dispatch, "SLURM_ARRAY_TASK_ID": task}, "--atlas", "a b")
        assert (code, said) == (
            7,
            ["bids-xai", *folders, "participant", "--participant-label", label, *common],
        )
    assert _call(dispatch, "group", "--atlas", "a b")[1] == ["bids-xai", *folders, "group", *common]
    some = {**dispatch, "LABELS": "sub-10 02", "SLURM_ARRAY_TASK_ID": "1"}
    assert _call(some, "count")[1] == ["2"]
    assert "10" in _call(some)[1]
    assert _call(some, "group")[1][3:7] == ["group", "--participant-label", "10", "02"]


def test_the_image_gets_the_folders_and_the_gpu_of_the_job(dispatch: dict[str, str]) -> None:
    task = {**dispatch, "SLURM_ARRAY_TASK_ID": "1", "IMAGE": "/apps/bids-xai.sif", "SLURM_MEM_PER_NODE": "0"}
    bids, out, work = dispatch["BIDS"], dispatch["OUT"], dispatch["WORK"]
    code, said, _ = _call({**task, "CUDA_VISIBLE_DEVICES": "1,3"})
    assert code == 7
    assert said[:5] == ["apptainer", "run", "--cleanenv", "--containall", "--workdir"]
    assert not Path(said[5]).exists(), "the /tmp of the job goes with it"
    binds = ["-B", f"{bids}:{bids}:ro", "-B", f"{out}:{out}", "-B", f"{work}:{work}"]
    assert said[6:14] == [*binds, "--nv", "/apps/bids-xai.sif"]
    assert said[14:] == [
        bids, out, "participant", "--participant-label", "02", "--work-dir", work, "--nprocs", "3", "GPU=1,3",
    ]  # fmt: skip
    assert "--nv" not in _call(task)[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"WORK": ""}, "WORK is not set"),
        ({"BIDS": "/nowhere"}, "BIDS=/nowhere is not a folder"),
        ({"SLURM_ARRAY_TASK_ID": "4"}, "is 4; expected --array=1-3"),
        ({"SLURM_ARRAY_TASK_ID": "0"}, "is 0; expected --array=1-3"),
        ({}, "is 0; expected --array=1-3"),
    ],
)
def test_what_cannot_be_run_is_refused(
    dispatch: dict[str, str], changed: dict[str, str], message: str
) -> None:
    code, said, error = _call({**dispatch, **changed})
    assert (code, said) == (2, [])
    assert message in error


@pytest.mark.parametrize("word", ["--clean-workdir", "--clean_workdir"])
def test_no_job_deletes_what_others_work_on(dispatch: dict[str, str], word: str) -> None:
    for words in (("group", word), ("--atlas", "aal", word)):
        code, said, error = _call({**dispatch, "SLURM_ARRAY_TASK_ID": "1"}, *words)
        assert (code, said) == (2, [])
        assert "--clean-workdir would delete" in error


def test_signals_of_the_scheduler_reach_the_program(dispatch: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "programs" / "bids-xai"
    program.write_text(
        "#!/bin/bash\ntrap 'sleep 0.3; echo resumes; exit 1' TERM\necho starts\nwhile :; do sleep 0.1; done\n"
    )
    job = subprocess.Popen(
        ["bash", str(SCRIPT), "group"], env=dispatch, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "starts\n"
    job.terminate()
    assert job.stdout.readline() == "resumes\n"
    assert job.wait(timeout=10) == 1
