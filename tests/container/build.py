"""Build the image on a machine that has buildah, but no daemon and perhaps no registry.

``python tests/container/build.py [--build-arg NAME=VALUE ...]`` needs root and Debian's buildah, podman,
runc and debootstrap. Where no ``debian:bookworm-slim`` is stored and none can be pulled, debootstrap makes
one. The machine's own apt and pip configuration is mounted into the build, so that nothing of it is in the
Dockerfile.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/bids-xai:test"
SUITE = "bookworm"
BASE = f"docker.io/library/debian:{SUITE}-slim"
PROGRAMS = ("buildah", "podman", "runc", "debootstrap")
# What can be had without the hosts of FSL, conda-forge and TemplateFlow.
OFFLINE = {"TORCH_INDEX_URL": "", "WITH_FSL": "0", "WITH_ANTS": "0", "WITH_TEMPLATES": "0"}
# crun is Debian's default and fails where cgroups are not delegated.
PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--runtime", "runc")
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
_MOUNTED = "/mnt/machine"


def why_not() -> str | None:
    """Return why this machine cannot build, None if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    if os.geteuid() != 0:
        return "building without a daemon needs root here"
    return None


def build(tag: str = IMAGE, arguments: Mapping[str, str] | None = None) -> str:
    """Build the image from this checkout and return its name; stored layers are used again."""
    if subprocess.run(["buildah", "images", "-q", BASE], capture_output=True, check=False).returncode:
        make_base()
    with tempfile.TemporaryDirectory() as folder:
        words = ["buildah", "bud", "--isolation", "chroot", "--pull-never", "--layers", "--tag", tag]
        for name, value in {**OFFLINE, **(arguments or {})}.items():
            words += ["--build-arg", f"{name}={value}"]
        for source, target in machine_configuration(Path(folder)).items():
            words += ["--volume", f"{source}:{target}:ro"]
        subprocess.run([*words, "--file", str(ROOT / "Dockerfile"), str(ROOT)], check=True)
    return tag


def make_base() -> None:
    """Store a ``debian:bookworm-slim`` made by debootstrap, or pulled where there is a registry."""
    pulled = subprocess.run(["buildah", "pull", "-q", BASE], capture_output=True, timeout=120, check=False)
    if pulled.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        mirror = next((uri for uri, suite, _ in _repositories() if suite == SUITE), None)
        words = ["debootstrap", "--variant=minbase", SUITE, folder, *([mirror] if mirror else [])]
        subprocess.run(words, check=True)
        for left in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            for path in (Path(folder) / left).rglob("*"):
                if path.is_file():
                    path.unlink()
        # As the slim image: of the documentation only the licences.
        for path in (Path(folder) / "usr/share/doc").rglob("*"):
            if path.is_file() and path.name != "copyright":
                path.unlink()
        container = _output("buildah", "from", "scratch")
        try:
            _output("buildah", "add", "-q", container, folder, "/")
            _output("buildah", "config", "--cmd", "/bin/bash", container)
            _output("buildah", "commit", "-q", container, BASE)
        finally:
            _output("buildah", "rm", container)


def machine_configuration(folder: Path) -> dict[str, str]:
    """Write this machine's apt and pip configuration into a folder; return source -> target of the mounts."""
    kept = re.findall(r"^Acquire::(?:Check-|Retries|http).*$", _output("apt-config", "dump"), re.MULTILINE)
    (folder / "apt.conf").write_text("\n".join(kept) + "\n")
    mounts = {str(folder / "apt.conf"): "/etc/apt/apt.conf.d/99machine"}
    sources = [f"deb {uri} {suite} {part}\n" for uri, suite, part in _repositories()]
    if sources:
        (folder / "sources.list.d").mkdir()
        (folder / "sources.list").write_text("".join(sources))
        mounts[str(folder / "sources.list.d")] = "/etc/apt/sources.list.d"
        mounts[str(folder / "sources.list")] = "/etc/apt/sources.list"
    options = _pip_options()
    if "cert" in options:
        # Under another name: mounted over the image's own bundle it would hide it from apt.
        mounts[options["cert"]] = f"{_MOUNTED}/ca-certificates.crt"
        options["cert"] = f"{_MOUNTED}/ca-certificates.crt"
    for key in ("constraint", "requirement"):
        if key in options:
            # Files of this machine: their lines are brought along, with those of files that they name.
            (folder / f"{key}.txt").write_text("\n".join(_lines(options[key].split())) + "\n")
            mounts[str(folder / f"{key}.txt")] = f"{_MOUNTED}/{key}.txt"
            options[key] = f"{_MOUNTED}/{key}.txt"
    for value in (options.get(key, "") for key in ("index-url", "extra-index-url", "find-links")):
        for word in value.split():
            # The pages of an index in a folder link to files beside it.
            place = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
            if place.is_dir():
                mounts[str(place)] = str(place)
    text = "".join(f"{key} = {value}\n" for key, value in options.items())
    (folder / "pip.conf").write_text(f"[global]\n{text}")
    return {**mounts, str(folder / "pip.conf"): "/etc/pip.conf"}


def _lines(paths: Sequence[str | Path]) -> list[str]:
    """Return the requirements in files, and in those that their lines name with ``-c`` and ``-r``."""
    lines = []
    for path in map(Path, paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            named = re.match(r"\s*(?:-c|--constraint|-r|--requirement)[\s=]+(\S+)", line)
            lines += _lines([path.parent / named.group(1)]) if named else [line]
    return lines


def _repositories() -> list[tuple[str, str, str]]:
    """Return address, suite and component of Debian's own repositories in this machine's apt sources."""
    shown = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"
    )
    found = [tuple(line.split()) for line in shown.splitlines()]
    return sorted({(row[0], row[1], row[2]) for row in found if len(row) == 3 and row[1].startswith(SUITE)})


def _pip_options() -> dict[str, str]:
    lines = _output(sys.executable, "-m", "pip", "config", "list").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line]
    options = {}
    # What the environment says comes first in pip's list, and overrides the files.
    for key, value in reversed(pairs):
        scope, name = key.rsplit(".", 1)
        if scope in ("global", "install", ":env:") and name != "config-file":
            options[name] = " ".join(shlex.split(value.replace("\\n", " ")))
    return options


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Build what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", default=IMAGE)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args(argv)
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    build(arguments.tag, dict(word.split("=", 1) for word in arguments.build_arg))
    return 0


if __name__ == "__main__":
    sys.exit(main())
