"""Files and folders that appear whole or not at all, and what a killed process leaves of them."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bids_xai.atomic import reserve, sweep, whole_file, whole_folder
from tests.disks import small_tmpfs


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


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    deep = tmp_path / "sub-01" / "func"
    _killed_while_writing(f"whole_file({str(deep / 'run.nii.gz')!r})")
    _killed_while_writing(f"whole_folder({str(tmp_path / 'group')!r})")
    (deep / "finished.nii.gz").touch()
    (tmp_path / ".bidsignore").touch()
    left = list(tmp_path.rglob(".tmp-*"))
    assert len(left) == 2
    assert sorted(sweep(tmp_path)) == sorted(left)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".bidsignore",
        "finished.nii.gz",
        "func",
        "sub-01",
    ]
    assert sweep(tmp_path / "absent") == []


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    with whole_file(tmp_path / "table.tsv") as file, whole_folder(tmp_path / "group") as folder:
        # Another process asks: locks are a process's own.
        code = f"import pathlib, bids_xai.atomic as a; print(a.sweep(pathlib.Path({str(tmp_path)!r})))"
        assert _python(code).stdout == "[]\n"
        assert sweep(tmp_path) == []
        assert file.exists()
        assert folder.exists()


def test_a_folder_that_was_being_exchanged_is_put_in_place(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "group") as folder:
        (folder / "old").touch()
    # The older folder is out of the way, and the new one not yet in its place.
    code = (
        "import os, pathlib; from bids_xai.atomic import whole_folder\n"
        "rename = pathlib.Path.rename\n"
        "def once(self, target):\n    rename(self, target); os.kill(os.getpid(), 9)\n"
        "pathlib.Path.rename = once\n"
        f"with whole_folder({str(tmp_path / 'group')!r}) as folder:\n    (folder / 'new').touch()\n"
    )
    assert _python(code).returncode == -signal.SIGKILL
    assert not (tmp_path / "group").exists()
    sweep(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["group", "group/new"]


def _killed_while_writing(how: str) -> None:
    code = (
        "import os; from bids_xai.atomic import whole_file, whole_folder\n"
        f"with {how}: os.kill(os.getpid(), 9)\n"
    )
    assert _python(code).returncode == -signal.SIGKILL


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that holds 200 KiB."""
    with small_tmpfs(tmp_path / "disk", 200) as folder:
        yield folder


def test_a_full_disk_is_named_and_nothing_half_written(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, whole_file(small_disk / "map.nii") as path:
        path.write_bytes(bytes(300 * 1024))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(small_disk / "map.nii")
    assert list(small_disk.iterdir()) == []


def test_a_memory_mapped_array_on_a_full_disk_is_an_error_and_no_bus_error(small_disk: Path) -> None:
    path = small_disk / "data.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(100, 1000))
    with pytest.raises(OSError, match="No space left"):
        reserve(path)
    data = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(10, 1000))
    reserve(path)
    data[:] = 1
    assert np.load(path).sum() == 10 * 1000


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_file_of_the_same_content_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "samples.tsv"
    for content, changes in (("a", True), ("a", False), ("b", True)):
        before = path.stat().st_mtime_ns if path.exists() else 0
        with whole_file(path, keep_equal=True) as temporary:
            temporary.write_text(content)
        assert (path.stat().st_mtime_ns != before) == changes
        assert path.read_text() == content
        assert list(tmp_path.iterdir()) == [path]
