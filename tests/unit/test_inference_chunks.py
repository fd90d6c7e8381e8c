"""Chunk files: whole or not at all, checked when read, merged in bounded memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from bids_xai.errors import InputError
from bids_xai.inference.chunks import add_chunks, allocate, load_chunk, save_chunk
from bids_xai.inference.null import merge_top


def test_what_is_saved_is_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "top": rng.standard_normal((2, 3)).astype(np.float32),
        "counts": np.arange(4, dtype=np.int32),
        "none": np.empty((0, 5), dtype=np.float32),
    }
    loaded = load_chunk(save_chunk(tmp_path / "chunk.npz", arrays))
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert isinstance(loaded["top"], np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["chunk.npz"]


def test_an_allocated_array_lives_in_its_file(tmp_path: Path) -> None:
    array = allocate(tmp_path / "top.npy", (2, 3))
    array[:] = 1.5
    del array
    np.testing.assert_array_equal(np.load(tmp_path / "top.npy"), np.full((2, 3), 1.5, np.float32))


@pytest.mark.parametrize("damage", ["bit", "truncated", "missing", "text"])
def test_a_damaged_chunk_is_refused_and_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "node").mkdir()
    path = save_chunk(tmp_path / "node" / "chunk.npz", {"top": np.zeros(100, dtype=np.float32)})
    if damage == "bit":
        content = bytearray(path.read_bytes())
        content[300] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        os.truncate(path, path.stat().st_size - 4)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=f"delete {re.escape(str(tmp_path / 'node'))} and run the same"):
        load_chunk(path)


def test_an_interrupted_write_leaves_the_older_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_chunk(tmp_path / "chunk.npz", {"a": np.zeros(3)})

    def interrupted(stream: BinaryIO, **arrays: np.ndarray) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_chunk(path, {"a": np.ones(3)})
    np.testing.assert_array_equal(load_chunk(path)["a"], np.zeros(3))


def test_sums_are_added_in_order(tmp_path: Path) -> None:
    # In float64, (1 + 1e16) - 1e16 is 0 and 1 + (1e16 - 1e16) is 1: the order shows.
    parts = [np.array([1.0]), np.array([1e16]), np.array([-1e16])]
    chunks = [
        load_chunk(save_chunk(tmp_path / f"{i}.npz", {"total": part, "counts": np.array([i], np.int32)}))
        for i, part in enumerate(parts)
    ]
    added = add_chunks(chunks, ("total", "counts"))
    assert added["total"] == 0.0
    assert added["counts"] == 3
    assert added["counts"].dtype == np.int32


def _mapped_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"RssFile:\s+(\d+)", status)[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_merging_takes_no_memory_per_chunk(tmp_path: Path, rng: np.random.Generator) -> None:
    part = rng.standard_normal((4, 2, 64, 1024)).astype(np.float32)  # 2 MiB
    files = [save_chunk(tmp_path / f"{i}.npz", {"top": part}) for i in range(24)]
    chunks = [load_chunk(file) for file in files]
    before = _mapped_mib()
    merge_top([chunk["top"] for chunk in chunks], np.empty_like(part))
    add_chunks(chunks, ("top",))
    assert _mapped_mib() - before < 12  # 48 MiB if the pages of all chunks stayed
