"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bids_xai.atomic import whole_file, whole_folder


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "results"
    for content in ("first", "second"):
        with whole_folder(target) as folder:
            assert folder.name == "results"
            assert not list(folder.iterdir())
            (folder / content).touch()
            assert not (target / content).exists()
        assert [path.name for path in target.iterdir()] == [content]
    assert [path.name for path in target.parent.iterdir()] == ["results"]


def half_written(path: Path) -> None:
    with whole_folder(path) as folder:
        (folder / f"{1 / 0}").touch()


def test_a_failure_leaves_the_older_folder_and_nothing_else(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "results") as folder:
        (folder / "first").touch()
    with pytest.raises(ZeroDivisionError):
        half_written(tmp_path / "results")
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "first"]


def put(path: Path, content: bytes) -> None:
    with whole_file(path, keep_same=True) as temporary:
        temporary.write_bytes(content)


def test_a_file_of_the_same_bytes_keeps_its_date(tmp_path: Path) -> None:
    target = tmp_path / "image.nii.gz"
    put(target, b"first")
    os.utime(target, (1, 1))
    put(target, b"first")
    assert target.stat().st_mtime == 1
    put(target, b"other")
    assert target.stat().st_mtime > 1
    assert target.read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]


def test_of_processes_that_write_the_same_at_once_the_first_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "template.nii.gz"
    with whole_file(target, keep_same=True) as late:
        late.write_bytes(b"same")
        put(target, b"same")
        first = target.stat()
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["template.nii.gz"]


def test_file_systems_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    for content in (b"first", b"other"):
        put(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
