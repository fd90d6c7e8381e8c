"""Results that take their space once: a second name for what was made here, a copy of all else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bids_xai.interfaces.outputs import _copy


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "work/resample").mkdir(parents=True)
    (tmp_path / "work/resample/run.nii.gz").write_bytes(b"values")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_made_here_gets_a_second_name(made: Path) -> None:
    source, target = made / "work/resample/run.nii.gz", made / "out/run.nii.gz"
    for _ in range(2):
        _copy(str(source), target, made / "work")
        assert target.samefile(source)
        assert names(target.parent) == ["run.nii.gz"]
    # A node that runs again makes a new file, and the result stays what it was until then.
    source.unlink()
    source.write_bytes(b"others")
    assert target.read_bytes() == b"values"
    _copy(str(source), target, made / "work")
    assert target.read_bytes() == b"others"


@pytest.mark.parametrize("link", [False, True])
def test_input_is_copied(made: Path, link: bool) -> None:
    (made / "bids").mkdir()
    source = made / "bids/run.nii.gz"
    source.write_bytes(b"raw")
    source.chmod(0o440)
    if link:
        (made / "work/run.nii.gz").symlink_to(source)
    _copy(str(made / "work/run.nii.gz" if link else source), made / "out/run.nii.gz", made / "work")
    assert not (made / "out/run.nii.gz").samefile(source)
    assert (made / "out/run.nii.gz").read_bytes() == b"raw"
    assert source.stat().st_mode & 0o777 == 0o440


def test_another_file_system_gets_a_copy(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    source, target = made / "work/resample/run.nii.gz", made / "out/run.nii.gz"
    _copy(str(source), target, made / "work")
    assert not target.samefile(source)
    assert target.read_bytes() == b"values"
    assert names(target.parent) == ["run.nii.gz"]
