"""The image, built and run from outside as a user would: read-only, without network, as anybody."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai import __version__
from tests.container.build import LIMITS, PODMAN, build, why_not

pytestmark = [pytest.mark.container, pytest.mark.long, pytest.mark.timeout(3600)]

UID, GID = 12345, 54321
LARGEST = 2.5e9
# One brain extraction, one registration at a coarse resolution: every library takes part.
PHANTOM = ["--subjects=3", "--runs=1", "--classes=2", "--anatomy", "--resolution=8", "--seed=0"]
FEW = ["--n-runs", "2", "--n-permutations", "9", "--n-null", "0"]
STOP_S = 10.0


@pytest.fixture(scope="session")
def image() -> str:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return build()


class Folders:
    """Folders of one run, which belong to somebody without an account."""

    def __init__(self, root: Path) -> None:
        self.data, self.out, self.work = root / "data", root / "out", root / "work"
        for folder in (self.data, self.out, self.work):
            folder.mkdir(parents=True)
            os.chown(folder, UID, GID)

    def volumes(self, data: Path | None = None) -> list[str]:
        pairs = [f"{data or self.data}:/data:ro", f"{self.out}:/out", f"{self.work}:/work"]
        return [word for pair in pairs for word in ("-v", pair)]


def _command(
    image: str, words: Sequence[str], options: Sequence[str] = (), entrypoint: str | None = None
) -> list[str]:
    asked = ["--entrypoint", entrypoint] if entrypoint else []
    # podman would give the user an entry in /etc/passwd, which Docker does not.
    user = ["--user", f"{UID}:{GID}", "--passwd=false", "--network", "none"]
    return [*PODMAN, "run", "--rm", *LIMITS, *user, *options, *asked, image, *words]


def _run(
    image: str, words: Sequence[str], options: Sequence[str] = (), entrypoint: str | None = None
) -> subprocess.CompletedProcess[str]:
    locked = ["--read-only", "--tmpfs", "/tmp", *options]
    return subprocess.run(
        _command(image, words, locked, entrypoint), capture_output=True, text=True, check=False
    )


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def phantom(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    os.chown(folder, UID, GID)
    done = _run(image, ["/made/bids", *PHANTOM], ["-v", f"{folder}:/made"], "bids-xai-phantom")
    assert done.returncode == 0, done.stderr
    return folder / "bids"


@pytest.fixture(scope="session")
def finished(image: str, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Both levels in one call."""
    folders = Folders(tmp_path_factory.mktemp("finished"))
    before = _checksums(phantom)
    words = ["/data", "/out", "participant", "group", "--sloppy", *FEW, "--atlas", "aal", "-w", "/work"]
    done = _run(image, words, folders.volumes(phantom))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Report: /out/group.html" in done.stdout
    assert _checksums(phantom) == before
    return folders


def test_the_version_is_the_package_s_and_the_label_s(image: str) -> None:
    done = _run(image, ["--version"])
    assert (done.returncode, done.stdout.split()[-1]) == (0, __version__)
    shown = subprocess.run([*PODMAN, "image", "inspect", image], capture_output=True, check=True)
    (described,) = json.loads(shown.stdout)
    assert described["Labels"]["org.opencontainers.image.version"] == __version__
    assert described["Config"]["User"] not in ("", "0", "root", "0:0")
    assert described["Size"] < LARGEST


def test_the_results_belong_to_the_user_and_are_valid_bids(image: str, finished: Folders) -> None:
    written = [path for folder in (finished.out, finished.work) for path in folder.rglob("*")]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in written} == {(UID, GID)}
    assert (finished.out / "group" / "results.json").is_file()
    # The validator in the image, without network and without a place to write to, and the one of the tests.
    inside = _run(image, ["/out", "--format", "json"], finished.volumes(), "bids-validator-deno")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("bids-validator-deno", path=path)
    assert program, "the test extra brings the BIDS validator"
    outside = subprocess.run(
        [program, str(finished.out), "--format", "json"], capture_output=True, text=True, check=False
    )
    for done in (inside, outside):
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_the_description_says_which_container_it_was(finished: Folders) -> None:
    described = json.loads((finished.out / "dataset_description.json").read_text())
    (generated,) = described["GeneratedBy"]
    assert generated["Container"] == {"Type": "docker", "Tag": f"bids-xai:{__version__}"}


def test_wrong_input_is_seen_from_outside(image: str, phantom: Path, tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    for words in (["/nowhere", "/out", "participant"], ["/data", "/out", "participant", "--no-such-option"]):
        done = _run(image, words, folders.volumes(phantom))
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr
    assert list(folders.out.iterdir()) == []


def test_a_failure_is_seen_from_outside(image: str, phantom: Path, tmp_path: Path) -> None:
    folders, spoiled = Folders(tmp_path), tmp_path / "spoiled"
    shutil.copytree(phantom, spoiled)
    (path,) = spoiled.glob("sub-01/anat/*_T1w.nii.gz")
    head = nb.load(path)
    noise = np.random.default_rng(0).integers(0, 1000, head.shape, dtype=np.int16)
    nb.save(nb.Nifti1Image(noise, head.affine), path)
    words = ["/data", "/out", "participant", "--sloppy", "--participant-label", "01", "-w", "/work"]
    words += ["--registration", "rigid"]
    done = _run(image, words, folders.volumes(spoiled))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "sub-01 failed; see /out/logs/" in done.stdout + done.stderr


def test_nothing_is_written_beside_the_output_and_work_folders(
    image: str, phantom: Path, finished: Folders
) -> None:
    # The group level again, into a container that could be written to: what has changed in it?
    name = f"bids-xai-test-{os.getpid()}"
    words = ["/data", "/out", "group", "--sloppy", *FEW, "-w", "/work"]
    command = _command(image, words, [*finished.volumes(phantom), "--name", name, "--tmpfs", "/tmp"])
    command.remove("--rm")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = subprocess.run([*PODMAN, "diff", name], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([*PODMAN, "rm", "-f", name], capture_output=True, check=False)
    mounted = {"/data", "/out", "/work", "/tmp", "/etc", "/etc/mtab", "/run", "/run/.containerenv"}
    changed = {line.split(maxsplit=1)[1] for line in shown.splitlines()}
    assert changed <= mounted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_container_says_how_to_go_on(
    image: str, phantom: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folders = Folders(tmp_path)
    name = f"bids-xai-test-{os.getpid()}-{number}"
    words = ["/data", "/out", "participant", "group", "--sloppy", "-w", "/work"]
    options = ["--read-only", "--tmpfs", "/tmp", *folders.volumes(phantom), "--name", name]
    process = subprocess.Popen(_command(image, words, options), stderr=subprocess.PIPE, text=True)
    try:
        started = folders.work / "bids_xai" / "nipype" / "nipype.cfg"
        _wait_until(started.exists, 120.0)
        shown = [*PODMAN, "inspect", "--format", "{{.State.Pid}}", name]
        first = Path(
            "/proc", subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
        )
        subprocess.run([*PODMAN, "kill", "--signal", number.name, name], check=True, capture_output=True)
        # The program's own time: podman takes as long again to clear up after it.
        _wait_until(lambda: not first.exists(), STOP_S)
        _, said = process.communicate(timeout=60.0)
        assert process.returncode == 1
        assert "--work-dir" in said
    finally:
        subprocess.run([*PODMAN, "rm", "-f", name], capture_output=True, check=False)
        process.wait()


def _wait_until(happened: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.1)


def test_licences_of_everything_are_inside(image: str) -> None:
    notice = _run(image, ["/usr/share/doc/bids-xai/NOTICE"], entrypoint="cat").stdout
    script = (
        "from importlib.metadata import distributions as d\n"
        "print(*(f'{x.name} {x.version}' for x in d()), sep='\\n')"
    )
    for distribution in _run(image, ["-c", script], entrypoint="python").stdout.splitlines():
        assert f"\n{distribution}" in notice
    for package in ("libc6", "python3", "bash"):
        assert f"/usr/share/doc/{package}/copyright" in notice
    for data in ("MNI152NLin6Asym: of FSL", "aal: ", "neuromorphometrics: CC BY-NC"):
        assert data in notice


def test_nothing_is_left_of_the_build(image: str) -> None:
    programs = "gcc cc c++ make pip pip3 curl wget git"
    found = _run(image, ["-c", f"for p in {programs}; do command -v $p; done; true"], entrypoint="bash")
    assert found.stdout == ""
    places = "/var/lib/apt/lists /root/.cache /wheels /src /opt/wheels /opt/pypi"
    left = _run(image, ["-c", f"find {places} -type f 2> /dev/null; true"], entrypoint="bash")
    assert left.stdout == ""
    # Byte code of everything: a read-only file system could not keep it.
    script = (
        "import bids_xai.cli.stages, sys, os; print(*(m.__file__ for m in list(sys.modules.values()) "
        "if getattr(m, '__cached__', None) and not os.path.exists(m.__cached__)))"
    )
    assert _run(image, ["-c", script], entrypoint="python").stdout.strip() == ""
