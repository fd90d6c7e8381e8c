"""Files that keep their date when the same is written again."""

from __future__ import annotations

import os
from pathlib import Path

from bids_xai.atomic import steady_file


def put(path: Path, content: bytes) -> None:
    with steady_file(path) as temporary:
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


def test_of_jobs_that_write_the_same_at_once_the_first_sets_the_date(tmp_path: Path) -> None:
    target = tmp_path / "template.nii.gz"
    with steady_file(target) as late:
        late.write_bytes(b"same")
        put(target, b"same")
        os.utime(target, (1, 1))
    assert target.stat().st_mtime == 1
