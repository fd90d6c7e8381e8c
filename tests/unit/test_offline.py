"""What keeps the tests off the network does so, in this process and in those it starts."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.offline import network_guard

# Documentation's own addresses: nobody answers there.
ADDRESS = "192.0.2.1"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a record of this test's own, so that what it tries on purpose does not fail it."""
    path = tmp_path / "record.txt"
    monkeypatch.setenv(network_guard.RECORD, str(path))
    path.touch()
    return path


def test_a_connection_and_a_lookup_are_refused_and_written_down(record: Path) -> None:
    with socket.socket() as plain, pytest.raises(PermissionError, match="may not use the network"):
        plain.connect((ADDRESS, 80))
    with pytest.raises(URLError, match="may not use the network"):
        urllib.request.urlopen("http://example.org", timeout=1)
    assert [line.split()[:2] for line in record.read_text().splitlines()] == [
        ["socket.connect", ADDRESS],
        ["socket.getaddrinfo", "example.org"],
    ]


def test_processes_that_a_test_starts_are_refused_too(record: Path) -> None:
    program = f"import socket; socket.create_connection(('{ADDRESS}', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "may not use the network" in done.stderr
    assert ADDRESS in record.read_text()


def test_this_machine_is_reached(record: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert not record.read_text()
