"""Ledgers: every chunk counts once, in any order, whatever is killed; damage is noticed."""

from __future__ import annotations

import re
import shutil
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from bids_xai.errors import InputError
from bids_xai.inference import ledger as ledger_module
from bids_xai.inference.ledger import Arrays, Ledger

SHAPE = (2, 3, 7)


class Sums:
    """Adds up whole numbers: chunk c adds 10 ** c to every value."""

    def __init__(self, chunk: int, dies_at: int | None = None) -> None:
        self.chunk, self.dies_at, self.parts_seen = chunk, dies_at, 0

    def merged(self, values: slice, before: Arrays | None) -> dict[str, np.ndarray]:
        if self.parts_seen == self.dies_at:
            raise KeyboardInterrupt
        self.parts_seen += 1
        own = np.full(values.stop - values.start, 10**self.chunk, dtype=np.int64)
        return {"sums": own if before is None else before["sums"] + own}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Return an empty ledger of 5 parts for 4 chunks of 3 runs."""
    monkeypatch.setattr(ledger_module, "_PART_BYTES", 64)
    (tmp_path / "node").mkdir()
    ledger = Ledger.create(tmp_path / "node", SHAPE, n_runs=11, chunk_size=3, value_bytes=8)
    assert (ledger.n_parts, ledger.n_chunks, ledger.n_values) == (5, 4, 42)
    return ledger


def _sums(ledger: Ledger, n_runs: int = 11) -> np.ndarray:
    parts = list(ledger.parts(n_runs))
    edges = [values.start for values, _ in parts] + [parts[-1][0].stop]
    assert edges[0] == 0
    assert edges[-1] == ledger.n_values
    assert all(values.stop == start for (values, _), start in zip(parts, edges[1:], strict=True))
    return np.concatenate([arrays["sums"] for _, arrays in parts])


def test_every_chunk_counts_once(ledger: Ledger) -> None:
    for start in (9, 0, 3, 6, 3, 9):
        Ledger.open(ledger.folder).add(start, Sums(start // 3).merged)
    np.testing.assert_array_equal(_sums(ledger), 1111)


@pytest.mark.parametrize("dies_at", range(5))
def test_a_chunk_that_died_while_merging_is_merged_once_everywhere(ledger: Ledger, dies_at: int) -> None:
    for chunk in (0, 1, 2):
        ledger.add(3 * chunk, Sums(chunk).merged)
    with pytest.raises(KeyboardInterrupt):
        ledger.add(9, Sums(3, dies_at).merged)
    with pytest.raises(InputError, match="holds 3 chunks"):
        _sums(ledger)
    again = Sums(3)
    ledger.add(9, again.merged)
    assert again.parts_seen == 5 - dies_at
    np.testing.assert_array_equal(_sums(ledger), 1111)


def _add(folder: Path, chunk: int) -> None:
    Ledger.open(folder).add(3 * chunk, Sums(chunk).merged)


def test_processes_wait_for_each_other(ledger: Ledger) -> None:
    context = get_context("fork")
    # Every chunk twice: a run that was killed and one that took its place.
    workers = [context.Process(target=_add, args=(ledger.folder, n % 4)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    np.testing.assert_array_equal(_sums(ledger), 1111)


def _add_everything(folder: Path, order: list[int]) -> None:
    for chunk in order:
        Ledger.open(folder).add(chunk, Numbers(chunk).merged)


class Numbers:
    """Adds chunk + 1 to every value, so that a chunk that is missing or counts twice shows."""

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    def merged(self, values: slice, before: Arrays | None) -> dict[str, np.ndarray]:
        own = np.full(values.stop - values.start, self.chunk + 1, dtype=np.int64)
        return {"sums": own if before is None else before["sums"] + own}


def test_processes_killed_at_random_moments_leave_every_chunk_merged_once(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    ledger = Ledger.create(tmp_path, (1, 2, 40_000), n_runs=30, chunk_size=1, value_bytes=2000)
    assert ledger.n_parts == 20
    context, caught = get_context("fork"), 0
    for _ in range(12):
        orders = [rng.permutation(30).tolist() for _ in range(2)]
        workers = [context.Process(target=_add_everything, args=(ledger.folder, order)) for order in orders]
        for worker in workers:
            worker.start()
        time.sleep(rng.uniform(0.02, 0.2))
        for worker in workers:
            worker.kill()
            worker.join()
            caught += worker.exitcode == -signal.SIGKILL
    assert caught > 6, "kills come while chunks are merged"
    _add_everything(ledger.folder, list(range(30)))
    np.testing.assert_array_equal(_sums(ledger, 30), 30 * 31 // 2)
    left = {path.suffix for path in ledger.folder.iterdir()}
    assert left <= {".json", ".npz", ".lock"}


def test_what_a_killed_process_was_writing_is_overwritten(ledger: Ledger) -> None:
    left = ledger.folder / "part-02.new"
    left.write_bytes(b"half")
    for chunk in range(4):
        ledger.add(3 * chunk, Sums(chunk).merged)
    np.testing.assert_array_equal(_sums(ledger), 1111)
    assert not left.exists()


def test_runs_that_were_not_needed_have_no_chunk(ledger: Ledger) -> None:
    for chunk in (1, 0):
        ledger.add(3 * chunk, Sums(chunk).merged)
    np.testing.assert_array_equal(_sums(ledger, 6), 11)
    np.testing.assert_array_equal(_sums(ledger, 5), 11)
    with pytest.raises(InputError, match="the 3 chunks that were computed"):
        _sums(ledger, 7)
    with pytest.raises(InputError, match="the 1 chunks that were computed"):
        _sums(ledger, 3)


@pytest.mark.parametrize("name", ["ledger.json", "part-00.npz"])
def test_damage_is_noticed_or_harmless_at_every_byte(ledger: Ledger, name: str) -> None:
    for chunk in range(4):
        ledger.add(3 * chunk, Sums(chunk).merged)
    path = ledger.folder / name
    whole, noticed = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(_sums(Ledger.open(ledger.folder)), 1111)
        except InputError:
            noticed += 1
    # Dates and the like in the headers of the archive change nothing.
    assert noticed > 0.7 * len(whole)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_part_stops_chunks_and_readers(ledger: Ledger, length: int) -> None:
    ledger.add(0, Sums(0).merged)
    path = ledger.folder / "part-03.npz"
    path.write_bytes(path.read_bytes()[:length])
    message = f"delete {re.escape(str(ledger.folder.parent))} and run the same"
    with pytest.raises(InputError, match=message):
        ledger.add(3, Sums(1).merged)
    with pytest.raises(InputError, match=message):
        _sums(ledger, 3)


def test_parts_of_another_ledger_or_place_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger.create(tmp_path, SHAPE, n_runs=11, chunk_size=3, value_bytes=8)
    for one in (ledger, other):
        one.add(0, Sums(0).merged)
    for name, source in (("part-01.npz", other.folder), ("part-02.npz", ledger.folder)):
        original = (ledger.folder / "part-01.npz").read_bytes()
        shutil.copy(source / name, ledger.folder / "part-01.npz")
        with pytest.raises(InputError, match="belongs to another"):
            _sums(ledger, 3)
        (ledger.folder / "part-01.npz").write_bytes(original)


def test_a_folder_without_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Ledger.open(tmp_path / "ledger-0")
