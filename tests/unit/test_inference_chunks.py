"""Chunk files: whole or not at all, checked when read, merged in bounded memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from bids_xai.errors import InputError
from bids_xai.inference.chunks import concatenate_chunks, load_chunk, save_chunk, smallest_integers


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


def test_chunks_follow_each_other_in_the_order_given(tmp_path: Path) -> None:
    files = [
        save_chunk(tmp_path / f"{i}.npz", {"counts": smallest_integers(np.full((n, 2), value))})
        for i, (n, value) in enumerate([(2, 7), (0, 1), (1, 70_000)])
    ]
    np.testing.assert_array_equal(concatenate_chunks(files)["counts"], [[7, 7], [7, 7], [70_000, 70_000]])


@pytest.mark.parametrize("largest", [0, 255, 256, 65_535, 65_536, 2**40])
def test_counts_take_no_more_bytes_than_they_need(largest: int) -> None:
    small = smallest_integers(np.array([0, largest]))
    np.testing.assert_array_equal(small, [0, largest])
    assert small.dtype.itemsize == max(-(-largest.bit_length() // 8), 1) or largest > 65_535
    assert small.dtype.itemsize <= 8
