"""The notice of licences names everything that is in the environment."""

from __future__ import annotations

import json
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from bids_xai.atlases import ATLASES
from bids_xai.cli import notice
from bids_xai.images import TEMPLATES


def test_every_distribution_template_and_atlas_is_listed(tmp_path: Path) -> None:
    text = notice.notice({"FSLDIR": str(tmp_path), "TEMPLATEFLOW_HOME": str(tmp_path)})
    for distribution in metadata.distributions():
        assert f"\n{distribution.metadata['Name']} {distribution.version}: " in text
    for name in (*TEMPLATES, *ATLASES):
        assert f"\n{name}: " in text
    assert notice.FSL_LICENCE not in text
    assert "notice.py" not in text
    nibabel = text[text.index("\nnibabel ") :].splitlines()[2].strip()
    assert "Permission is hereby granted" in Path(nibabel).read_text()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT AND BSD-3-Clause", "License": "x"}, "MIT AND BSD-3-Clause"),
        ({"License": " BSD "}, "BSD"),
        ({"License": "Copyright me\nAll rights", "Classifier": "License :: OSI Approved :: Zope"}, "Zope"),
        ({"License": "The MIT License\n\nCopyright"}, "The MIT License"),
        ({"Classifier": "License :: OSI Approved"}, "not stated"),
        ({}, "not stated"),
    ],
)  # fmt: skip
def test_the_licence_is_what_the_distribution_states(fields: dict[str, str], expected: str) -> None:
    described = Message()
    for key, value in fields.items():
        described[key] = value
    assert notice.python_licence(described) == expected  # type: ignore[arg-type]


def test_programs_from_conda_bring_their_licences(tmp_path: Path) -> None:
    records = tmp_path / "conda-meta"
    records.mkdir()
    (records / "fsl-bet2-1.json").write_text(json.dumps({"name": "fsl-bet2", "version": "2111.8"}))
    zlib = {"name": "zlib", "version": "1.3", "license": "Zlib"}
    (records / "zlib-1.json").write_text(json.dumps(zlib))
    assert notice.conda_packages(tmp_path) == [
        "fsl-bet2 2111.8: FSL's licence, non-commercial use",
        "zlib 1.3: Zlib",
    ]
    assert notice.FSL_LICENCE in notice.notice({"FSLDIR": str(tmp_path)})


def test_fetched_templates_are_listed_once_their_images_are_there(tmp_path: Path) -> None:
    for name, content in (("Here", b"image"), ("Empty", b"")):
        folder = tmp_path / f"tpl-{name}"
        folder.mkdir()
        (folder / f"tpl-{name}_T1w.nii.gz").write_bytes(content)
        (folder / "template_description.json").write_text(json.dumps({"Name": "a head", "License": "CC0"}))
    (tmp_path / "tpl-Here" / "LICENSE").write_text("text")
    assert notice.fetched_templates(tmp_path) == [f"Here: CC0\n    a head\n    {tmp_path}/tpl-Here/LICENSE"]
