"""One boundary: every failure ends with words, a code, and no traceback on the screen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_xai.cli.command import Command
from bids_xai.errors import InputError
from bids_xai.execution.full_disk import FullDiskError


def _run(error: BaseException | None, logs: Path | None = None) -> int:
    command = Command("tested")
    command.logs = logs

    def work() -> int:
        if error is not None:
            raise error
        return 0

    return command.run(lambda: work, last=False)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, ""),
        (InputError("found", "expected", "mend it"), 2, "found"),
        (FullDiskError("full"), 1, "full"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/file"), 1, "/out/file"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/in/a b.tsv"),
            2,
            "/in/a b.tsv: Permission denied",
        ),
        (MemoryError(), 1, "memory does not suffice"),
        (KeyError("subject"), 1, "KeyError: 'subject'"),
        (RecursionError("too deep"), 1, "RecursionError: too deep"),
        (SystemExit(0), 1, "ended the process"),
    ],
)
def test_every_failure_has_words_and_a_code(
    error: BaseException | None,
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(error, tmp_path) == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    unexpected = code == 1 and not isinstance(error, FullDiskError | OSError)
    files = list(tmp_path.iterdir())
    assert len(files) == unexpected
    if unexpected:
        assert str(files[0]) in said
        assert "Traceback" in files[0].read_text()


def test_the_file_that_was_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "sub-01_events.tsv"
    table.touch()

    def read(path: Path) -> Callable[[], int]:
        raise AssertionError("what nobody thought of")

    command = Command("tested")
    command.logs = tmp_path
    assert command.run(lambda: read(table), last=False) == 1
    assert str(table) in capsys.readouterr().err


def test_without_a_folder_of_logs_the_crash_file_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _run(KeyError("x"), tmp_path / "absent") == 1
    (path,) = tmp_path.iterdir()
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


def test_only_reading_the_words_may_end_the_process_with_its_own_code() -> None:
    def read() -> Callable[[], int]:
        raise SystemExit(0)

    assert Command("tested").run(read, last=False) == 0
