"""Folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_xai.atomic import whole_folder


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
