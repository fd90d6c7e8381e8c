"""``python -m bids_xai.cli.notice``: the licences of everything in this environment, for the container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from bids_xai import __version__

_LICENCE_FILES = ("licen", "copying", "notice", "authors")
_UNKNOWN = "not stated"
_LONGEST = 70
FSL_LICENCE = (
    "FSL is in this image. Its licence (https://fsl.fmrib.ox.ac.uk/fsl/docs/#/license) allows non-commercial "
    "use only;\nfor any other use ask the University of Oxford first."
)
# Conda's folder of each engine that the image may hold, as its environment variables have them.
ENGINES = {"FSL": "/opt/fsl", "ANTs": "/opt/ants"}


def main() -> int:
    """Print the notice."""
    sys.stdout.write(notice(os.environ))
    return 0


def notice(environ: Mapping[str, str]) -> str:
    """Return the text: Python and Debian packages, programs from conda, templates and atlases.

    Parameters
    ----------
    environ
        ``FSLDIR`` and ``TEMPLATEFLOW_HOME`` say where FSL and fetched templates are.
    """
    engines = {**ENGINES, "FSL": environ.get("FSLDIR") or ENGINES["FSL"]}
    sections = {
        "Python packages": python_packages(metadata.distributions()),
        "Debian packages": debian_packages(),
        **{f"Programs of {name}": conda_packages(Path(folder)) for name, folder in engines.items()},
        "Templates": [*packaged_templates(), *fetched_templates(Path(environ.get("TEMPLATEFLOW_HOME", "")))],
        "Atlases": packaged_atlases(),
    }
    head = (
        f"bids_xai {__version__} is licensed under Apache-2.0. What comes with it keeps its own licence: the "
        "name, version\nand licence of each follow, with where its text is. Some atlases and templates allow "
        "non-commercial use only.\n"
    )
    if sections["Programs of FSL"]:
        head += f"\n{FSL_LICENCE}\n"
    parts = [
        f"\n{title}\n{'-' * len(title)}\n" + "\n".join(lines) + "\n"
        for title, lines in sections.items()
        if lines
    ]
    return head + "".join(parts)


def python_packages(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """Return a line per distribution: name, version, licence, and the files that hold its text."""
    found = {}
    for distribution in distributions:
        name = distribution.metadata["Name"]
        texts = sorted(
            {
                str(distribution.locate_file(path))
                for path in distribution.files or ()
                if _is_licence(path.name)
            }
        )
        line = f"{name} {distribution.version}: {python_licence(distribution.metadata)}"
        found[name.lower()] = "\n    ".join([line, *texts])
    return [found[name] for name in sorted(found)]


def _is_licence(name: str) -> bool:
    return name.lower().startswith(_LICENCE_FILES) and not name.endswith((".py", ".pyc"))


def python_licence(described: metadata.PackageMetadata) -> str:
    """Return the licence that a distribution states: its expression, a short field, or its classifiers."""
    expression, field = (
        str((described.get_all(name) or [""])[0]).strip() for name in ("License-Expression", "License")
    )
    classifiers = [
        text.split("::")[-1].strip()
        for text in described.get_all("Classifier") or ()
        if text.startswith("License ::")
    ]
    named = [text for text in classifiers if text not in ("OSI Approved", "DFSG approved")]
    if expression or (field and len(field) <= _LONGEST and "\n" not in field):
        return expression or field
    # Some put the whole text into the field; its first line is the best that there is then.
    return ", ".join(named) or (field.splitlines()[0].strip() if field else _UNKNOWN)


def debian_packages() -> list[str]:
    """Return a line per installed Debian package, none where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return []
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = []
    for line in sorted(shown.stdout.splitlines()):
        text = Path("/usr/share/doc") / line.split()[0] / "copyright"
        lines.append(f"{line}: {text if text.exists() else _UNKNOWN}")
    return lines


def conda_packages(prefix: Path) -> list[str]:
    """Return a line per package of a conda environment, none where there is no such folder."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(prefix.glob("conda-meta/*.json"))]
    return [
        f"{record['name']} {record['version']}: {record.get('license') or _own_licence(record['name'])}"
        for record in records
    ]


def _own_licence(name: str) -> str:
    return "FSL's licence, non-commercial use" if name.startswith("fsl-") else _UNKNOWN


def packaged_templates() -> list[str]:
    """Return a line per template inside an installed package."""
    from bids_xai.cli.fetch import LICENCES
    from bids_xai.images import TEMPLATES

    return [
        f"{name}: {LICENCES[name]}\n    {entry.summary}; {entry.source}" for name, entry in TEMPLATES.items()
    ]


def fetched_templates(home: Path) -> list[str]:
    """Return a line per template in TemplateFlow's cache that has images."""
    lines = []
    for path in sorted(home.glob("tpl-*/template_description.json")):
        if not any(image.stat().st_size for image in path.parent.rglob("*.nii.gz")):
            continue
        described = json.loads(path.read_text("utf-8"))
        licence = described.get("License") or described.get("Licence") or _UNKNOWN
        texts = [str(text) for text in sorted(path.parent.iterdir()) if _is_licence(text.name)]
        line = f"{path.parent.name.removeprefix('tpl-')}: {licence}"
        lines.append("\n    ".join([line, str(described.get("Name", path)), *texts]))
    return lines


def packaged_atlases() -> list[str]:
    """Return a line per atlas inside an installed package."""
    from bids_xai.atlases import ATLASES

    return [
        f"{name}: {entry.load().licence}\n    {entry.summary}; {entry.source}"
        for name, entry in ATLASES.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
