"""Ledgers: what the chunks of a stage add up to, kept once on disk however many chunks there are."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from bids_xai.atomic import whole_file
from bids_xai.errors import InputError
from bids_xai.inference.chunks import load_chunk

Arrays = Mapping[str, npt.NDArray]
# Gives the arrays of some values from those of the chunks merged before, None being none.
Combine = Callable[[slice, Arrays | None], Arrays]

_HEADER = "ledger.json"
# Parts near this size are written twice for a moment: the old one and its successor.
_PART_BYTES = 8_000_000
_MOST_PARTS = 64


class Keeper(Protocol):
    """What a chunk keeps of its runs: takes their maps, and merges them with those of other chunks."""

    def update(self, maps: npt.NDArray[np.float32]) -> None:
        """Take the maps of one run."""

    def run_arrays(self) -> dict[str, npt.NDArray]:
        """Return what is kept of single runs, along the first axis."""

    def merged(self, values: slice, before: Arrays | None) -> dict[str, npt.NDArray]:
        """Return what is kept of some values, with that of earlier chunks: :data:`Combine`."""


@dataclass(frozen=True)
class Ledger:
    """The merged result of the chunks of a stage that are done, in one folder.

    The values (methods x classes x voxels) are cut into parts. A part is one file with checksums, replaced
    whole by its successor under a lock that its process loses when it dies. It names the chunks that it
    holds, so that a chunk that was killed half-way, or is computed again, is merged exactly once everywhere.
    What is merged must not depend on the order, to the bit: counts, sums in fixed point, largest values.

    Parameters
    ----------
    folder
        Folder of the ledger.
    identity
        Name that no other ledger has: its parts bear it.
    shape
        Shape of the maps of a run: (n_methods, n_classes, n_voxels).
    n_runs
        Number of runs of the stage.
    chunk_size
        Runs of a chunk; the last may have fewer.
    n_parts
        Number of files.
    """

    folder: Path
    identity: str
    shape: tuple[int, int, int]
    n_runs: int
    chunk_size: int
    n_parts: int

    @classmethod
    def create(
        cls, folder: Path, shape: tuple[int, int, int], *, n_runs: int, chunk_size: int, value_bytes: int
    ) -> Ledger:
        """Make an empty ledger in a new folder of ``folder``.

        Parameters
        ----------
        folder
            Existing folder.
        shape, n_runs, chunk_size
            See :class:`Ledger`.
        value_bytes
            Bytes that is kept of a value: sets the number of parts.
        """
        n_values = math.prod(shape)
        n_parts = _number_of_parts(n_values, value_bytes)
        identity = secrets.token_hex(8)
        ledger = cls(folder / f"ledger-{identity}", identity, shape, n_runs, chunk_size, n_parts)
        ledger.folder.mkdir(parents=True)
        with whole_file(ledger.folder / _HEADER) as path:
            content = {key: value for key, value in asdict(ledger).items() if key != "folder"}
            path.write_text(json.dumps({**content, "sha256": _sha256(content)}), encoding="utf-8")
        return ledger

    @classmethod
    def open(cls, folder: Path | str) -> Ledger:
        """Return the ledger of a folder.

        Raises
        ------
        InputError
            There is none, or its header is damaged.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
            written = content.pop("sha256")
            if written != _sha256(content):
                raise ValueError("its checksum is not that of its content")
            content["shape"] = tuple(content["shape"])
            return cls(folder, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unusable(folder, f"The ledger {folder} cannot be read: {error}.") from error

    @property
    def n_values(self) -> int:
        """Number of values of the maps of a run."""
        return math.prod(self.shape)

    @property
    def n_chunks(self) -> int:
        """Number of chunks of the stage."""
        return -(-self.n_runs // self.chunk_size)

    def add(self, start: int, combine: Combine) -> None:
        """Merge a chunk into every part that does not hold it yet.

        Parameters
        ----------
        start
            Its first run.
        combine
            Called with the values of a part and the arrays of the part so far; returns the new ones.

        Raises
        ------
        InputError
            A part is damaged.
        """
        # Chunks that end together start at parts of their own, and seldom wait for each other.
        chunk = start // self.chunk_size
        for turn in range(self.n_parts):
            number = (chunk + turn) % self.n_parts
            path = self._path(number)
            with FileLock(path.with_suffix(".lock")):
                arrays, held = self._load(number)
                if held[chunk]:
                    continue
                merged = combine(self._values(number), arrays)
                held[chunk] = True
                self._save(path, merged, held)

    def parts(self, n_runs: int) -> Iterator[tuple[slice, Arrays]]:
        """Give the values of every part and their arrays, memory-mapped.

        Parameters
        ----------
        n_runs
            Number of runs that there were: the chunks of all of them, and no others, must be there.

        Raises
        ------
        InputError
            Chunks are missing, or a part is damaged.
        """
        expected = np.arange(self.n_chunks) < -(-n_runs // self.chunk_size)
        for number in range(self.n_parts):
            arrays, held = self._load(number)
            if arrays is None or not np.array_equal(held, expected):
                found = f"Part {number} of the ledger {self.folder} holds {held.sum()} chunks."
                raise _unusable(self.folder, found, f"the {expected.sum()} chunks that were computed")
            yield self._values(number), arrays

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:02d}.npz"

    def _values(self, number: int) -> slice:
        edges = np.linspace(0, self.n_values, self.n_parts + 1).astype(int)
        return slice(int(edges[number]), int(edges[number + 1]))

    def _load(self, number: int) -> tuple[dict[str, npt.NDArray] | None, npt.NDArray[np.bool_]]:
        path = self._path(number)
        if not path.exists():
            return None, np.zeros(self.n_chunks, dtype=bool)
        arrays = load_chunk(path, f"delete {self.folder.parent} and run the same command again")
        origin, held = arrays.pop("origin", np.empty(0)), arrays.pop("held", np.empty(0, bool))
        if not np.array_equal(origin, self._origin(number)) or held.shape != (self.n_chunks,):
            raise _unusable(self.folder, f"{path} belongs to another ledger.")
        return arrays, np.array(held)

    def _save(self, path: Path, arrays: Arrays, held: npt.NDArray[np.bool_]) -> None:
        # One name, under the lock: what a killed process left is overwritten, not piled up.
        successor = path.with_suffix(".new")
        origin = self._origin(int(path.stem.removeprefix("part-")))
        with successor.open("wb") as stream:
            np.savez(stream, **dict(arrays), held=held, origin=origin)  # type: ignore[arg-type]
        os.replace(successor, path)

    def _origin(self, number: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(f"{self.identity}/{number}".encode(), dtype=np.uint8)


def part_values(n_values: int, value_bytes: int) -> int:
    """Return how many values a part of a ledger holds, at most."""
    return -(-n_values // _number_of_parts(n_values, value_bytes))


def _number_of_parts(n_values: int, value_bytes: int) -> int:
    return min(max(n_values * value_bytes // _PART_BYTES, 1), _MOST_PARTS, n_values)


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _unusable(folder: Path, found: str, expected: str = "a ledger as it was written") -> InputError:
    return InputError(found, expected, f"delete {folder.parent} and run the same command again")
