"""GPUs of this machine: those that a process may see, and one for each that computes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bids_xai.decoding.softmax import resolve_device


def visible_gpus() -> int:
    """Return the number of GPUs that CUDA_VISIBLE_DEVICES and the machine leave to this process."""
    if resolve_device("auto") == "cpu":
        return 0
    import torch

    return int(torch.cuda.device_count())


@contextmanager
def own_gpu(device: str) -> Iterator[None]:
    """Make a GPU that no other process of ours computes on the one that ``"cuda"`` means.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``; where it comes to the processor, nothing happens.
    """
    if resolve_device(device) == "cpu":
        yield
        return
    import torch

    with claimed(gpu_names(torch.cuda.device_count())) as index, torch.cuda.device(index):
        yield


def gpu_names(n: int) -> list[str]:
    """Return a name for each visible GPU that is the same in processes that see others."""
    listed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return listed if len(listed) == n else [str(index) for index in range(n)]


@contextmanager
def claimed(names: Sequence[str], folder: Path | None = None) -> Iterator[int]:
    """Hold the first of some devices that no process of this user holds, and give its index.

    The system frees it when the process dies. The scheduler lets no more nodes run than there are devices;
    where all are held, by another run, one is shared.

    Parameters
    ----------
    names
        Names of the devices.
    folder
        Where processes meet (default: in the machine's temporary folder).
    """
    if len(names) == 1:
        yield 0
        return
    for index, name in enumerate(names):
        lock = _lock(name, folder or Path(tempfile.gettempdir()) / f"bids_xai-gpus-{os.getuid()}")
        if lock is not None:
            try:
                yield index
            finally:
                lock.release()
            return
    yield os.getpid() % len(names)


def _lock(name: str, folder: Path) -> FileLock | None:
    """Return the lock of a device, or None where another process holds it or locks cannot be made."""
    lock = FileLock(folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return None
        lock.acquire(blocking=False)
    except (OSError, Timeout):
        return None
    return lock
