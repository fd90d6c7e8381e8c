"""The image's builder carries the machine's configuration of pip into the build, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.container import build


def test_files_that_pip_s_configuration_names_are_brought_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more.txt").write_text("numpy<3\n")
    (tmp_path / "caps.txt").write_text("-c more.txt\ntorch<=2.14.1\n")
    monkeypatch.setattr(build, "_pip_options", lambda: {"constraint": str(tmp_path / "caps.txt")})
    monkeypatch.setattr(build, "_output", lambda *_words: "")
    folder = tmp_path / "folder"
    folder.mkdir()
    mounts = build.machine_configuration(folder)
    (source,) = [path for path, target in mounts.items() if target.endswith("/constraint.txt")]
    assert Path(source).read_text() == "numpy<3\ntorch<=2.14.1\n"
    written = (folder / "pip.conf").read_text()
    assert mounts[source] in written
    assert str(tmp_path) not in written
