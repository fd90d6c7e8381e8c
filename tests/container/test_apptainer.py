"""The Apptainer image, built from the Docker image's archive and run as on a cluster: read-only, clean."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bids_xai import __version__
from bids_xai.cli.phantom import main as make_phantom

pytestmark = [pytest.mark.container, pytest.mark.long, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "singularity" / "bids-xai.def"
SCRIPT = ROOT / "singularity" / "participants.sbatch"
SET_UP = Path(__file__).with_name("apptainer.sh")
IMAGE = "localhost/bids-xai:test"  # what test_container.py builds
LOCKED = ["--cleanenv", "--containall"]
# What a shell on a cluster has set, and no image may take to heart.
HOSTILE = {
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "TEMPLATEFLOW_HOME": "/nowhere",
    "OMP_NUM_THREADS": "77",
    "HOME": "/nowhere",
}


@pytest.fixture(scope="session")
def apptainer() -> str:
    done = subprocess.run(["bash", str(SET_UP)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no apptainer here, and none could be set up: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image as ``docker save`` would write it."""
    if shutil.which("skopeo") is None:
        pytest.skip("not installed: skopeo")
    path = tmp_path_factory.mktemp("archive") / "bids-xai.tar"
    words = ["skopeo", "copy", "-q", f"containers-storage:{IMAGE}", f"docker-archive:{path}:bids-xai:latest"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{IMAGE} is not stored here (test_container.py builds it): {done.stderr.strip()[-300:]}")
    return path


@pytest.fixture(scope="session")
def sif(apptainer: str, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sif") / "bids-xai.sif"
    source = ["--build-arg", "FROM=docker-archive", "--build-arg", f"IMAGE={archive}"]
    _checked([apptainer, "build", "--notest", *source, str(path), str(DEFINITION)])
    archive.unlink()
    return path


def _checked(words: Sequence[str], **options: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@dataclass(frozen=True)
class Image:
    """The image and the folders of a run."""

    apptainer: str
    sif: Path
    data: Path
    out: Path
    work: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run the app; everything but OUT and the work folder is read-only."""
        binds = [f"{self.data}:/data:ro", f"{self.out}:/out", f"{self.work}:/work"]
        bound = [word for bind in binds for word in ("-B", bind)]
        command = [self.apptainer, "run", "--userns", *LOCKED, *bound, *options, str(self.sif), *words]
        environment = {**os.environ, **HOSTILE, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "bids"
    coarse = ["--anatomy", "--resolution", "8", "--seed", "0"]
    assert make_phantom([str(folder), "--subjects", "3", "--runs", "1", "--classes", "2", *coarse]) == 0
    return folder


def _image(apptainer: str, sif: Path, data: Path, root: Path) -> Image:
    for name in ("out", "work"):
        (root / name).mkdir()
    return Image(apptainer, sif, data, root / "out", root / "work")


@pytest.fixture
def image(apptainer: str, sif: Path, phantom: Path, tmp_path: Path) -> Image:
    return _image(apptainer, sif, phantom, tmp_path)


@pytest.fixture(scope="session")
def finished(apptainer: str, sif: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Both levels in one call."""
    image = _image(apptainer, sif, phantom, tmp_path_factory.mktemp("finished"))
    before = _checksums(phantom)
    done = image.run("/data", "/out", "participant", "group", "--sloppy", "--atlas", "aal", "-w", "/work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Report: /out/group.html" in done.stdout
    assert _checksums(phantom) == before
    return image


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_image_says_what_it_is(apptainer: str, sif: Path, image: Image) -> None:
    labels = json.loads(_checked([apptainer, "inspect", "--json", str(sif)]))
    labels = labels["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.title"] == "bids_xai"
    assert labels["org.opencontainers.image.version"] == __version__
    assert "--containall" in _checked([apptainer, "run-help", str(sif)])
    assert __version__ in _checked([apptainer, "test", "--userns", str(sif)])
    done = image.run("--version")
    assert (done.returncode, done.stdout.split()[-1]) == (0, __version__)


def test_the_results_are_valid_and_say_which_container_made_them(finished: Image) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("bids-validator-deno", path=path)
    assert program, "the test extra brings the BIDS validator"
    words = [program, str(finished.out), "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    described = json.loads((finished.out / "dataset_description.json").read_text())
    (generated,) = described["GeneratedBy"]
    assert generated["Container"] == {"Type": "apptainer", "Tag": f"bids-xai:{__version__}"}
    assert described["DatasetLinks"]["raw"] == "file:///data"


def test_wrong_input_is_seen_from_outside(image: Image) -> None:
    for words in (["/nowhere", "/out", "participant"], ["/data", "/out", "participant", "--no-such-option"]):
        done = image.run(*words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "error: " in done.stderr
    assert list(image.out.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that holds 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    _checked(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)])
    yield folder
    _checked(["umount", "--lazy", str(folder)])


def test_a_failure_is_seen_from_outside(image: Image, small_disk: Path) -> None:
    words = ["/data", "/out", "participant", "--participant-label", "02", "--sloppy", "-w", "/small"]
    done = image.run(*words, "--skip-bids-validation", options=["-B", f"{small_disk}:/small"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr
    assert not list(image.out.rglob("*_samples.json"))


def _environment_of(image: Image, *options: str, **given: str) -> dict[str, str]:
    """Return what a program in the image sees: PYTHONPATH and such as the app does, after the runscript."""
    words = [image.apptainer, "exec", "--userns", *LOCKED, *options, str(image.sif), "env", "-0"]
    shown = _checked(words, env={**os.environ, **HOSTILE, **given})
    return dict(line.split("=", 1) for line in shown.split("\0") if "=" in line)


def test_of_the_host_s_environment_only_what_is_passed_gets_in(image: Image, tmp_path: Path) -> None:
    inside = _environment_of(image)
    assert inside["TEMPLATEFLOW_HOME"] == "/opt/templateflow"
    assert not set(inside) & {"PYTHONPATH", "PYTHONHOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    assert inside["HOME"] != HOSTILE["HOME"]

    home = tmp_path / "templateflow"
    (home / "tpl-Mine").mkdir(parents=True)
    passed = _environment_of(
        image,
        "-B",
        f"{home}:/templateflow",
        "--env",
        "TEMPLATEFLOW_HOME=/templateflow",
        APPTAINERENV_CUDA_VISIBLE_DEVICES="1,3",
    )
    assert passed["TEMPLATEFLOW_HOME"] == "/templateflow"
    assert passed["CUDA_VISIBLE_DEVICES"] == "1,3"


def test_without_cleanenv_the_host_s_python_stays_outside(image: Image) -> None:
    words = [image.apptainer, "run", "--userns", str(image.sif), "--version"]
    assert __version__ in _checked(words, env={**os.environ, "PYTHONPATH": "/x", "PYTHONHOME": "/nowhere"})


def test_the_job_array_runs_the_image(image: Image, apptainer: str, finished: Image, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").symlink_to(apptainer)
    environment = {
        **os.environ,
        **HOSTILE,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "APPTAINER_USERNS": "1",
        "BIDS": str(image.data),
        "OUT": str(image.out),
        "WORK": str(image.work),
        "IMAGE": str(image.sif),
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_CPUS_PER_TASK": "2",
    }
    _checked(["bash", str(SCRIPT), "--sloppy"], env=environment)
    assert sorted(path.name for path in image.out.glob("sub-*")) == ["sub-02", "sub-02.html"]
    for path in (finished.out / "sub-02").rglob("*.nii.gz"):
        assert path.read_bytes() == (image.out / path.relative_to(finished.out)).read_bytes()
