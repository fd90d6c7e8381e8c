"""What is in a phantom dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bids_xai.errors import InputError

CLASS_NAMES = ("face", "house", "tool", "animal", "word", "scene", "body", "object")
TASK = "objects"

_FEWEST = {"subjects": 1, "runs": 1, "classes": 2, "trials_per_class": 1, "seed": 0}
_MOST = {"classes": len(CLASS_NAMES), "subjects": 999, "runs": 99}
_RANGES_MM = {"resolution": (2.0, 12.0), "t1w_resolution": (1.0, 8.0)}


@dataclass(frozen=True)
class PhantomParameters:
    """Size, timing, signal and noise of a phantom; every number that decides what is written.

    Parameters
    ----------
    subjects, runs, classes, trials_per_class
        How many people, runs of each, classes (at most 8), and events of each class in a run.
    seed
        Same seed and parameters, same bytes. A subject's data do not change when others are added.
    duration
        Length of an event, in seconds.
    tr
        Repetition time, in seconds.
    resolution, t1w_resolution
        Voxel sizes of BOLD and T1w, in mm.
    effect
        Plateau of a class's response in its places, in percent of the mean signal; 0 makes a null dataset.
    noise
        Standard deviation of the noise of a voxel, in percent of the mean signal.
    anatomy
        Give every subject a head of its own: smooth deformation, head size, position in the scanner.
    motion
        Move the head within and between runs.

    Raises
    ------
    InputError
        If a value cannot be made into a dataset.
    """

    subjects: int = 6
    runs: int = 2
    classes: int = 3
    seed: int = 0
    trials_per_class: int = 8
    duration: float = 6.0
    tr: float = 2.5
    resolution: float = 4.0
    t1w_resolution: float = 2.0
    effect: float = 0.3
    noise: float = 1.0
    anatomy: bool = False
    motion: bool = False

    def __post_init__(self) -> None:
        for name, fewest in _FEWEST.items():
            self._check(name, fewest, _MOST.get(name, math.inf), "a whole number")
        for name, (finest, coarsest) in _RANGES_MM.items():
            self._check(name, finest, coarsest, "a voxel size in mm")
        self._check("duration", 0.1, 60.0, "seconds")
        self._check("tr", 0.1, 10.0, "seconds")
        self._check("effect", 0.0, 100.0, "percent of the mean signal")
        self._check("noise", 0.0, 100.0, "percent of the mean signal")

    def _check(self, name: str, lowest: float, highest: float, meaning: str) -> None:
        check_range(name, getattr(self, name), lowest, highest, meaning)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as in the ``trial_type`` column."""
        return CLASS_NAMES[: self.classes]

    @property
    def resolution_label(self) -> str:
        """BIDS label of the BOLD voxel size: ``4``, ``2p5``."""
        return size_label(self.resolution)


def check_range(name: str, value: float, lowest: float, highest: float, meaning: str) -> None:
    """Refuse a value that is not finite or out of bounds, by the name of its option.

    Raises
    ------
    InputError
        It is.
    """
    if math.isfinite(value) and lowest <= value <= highest:
        return
    option = "--" + name.replace("_", "-")
    bounds = f"at least {lowest:g}" if math.isinf(highest) else f"between {lowest:g} and {highest:g}"
    raise InputError(f"{option} is {value}.", f"{meaning}, {bounds}", f"give {option} another value")


def size_label(resolution: float) -> str:
    """BIDS label of a voxel size in mm: ``4``, ``2p5``."""
    return f"{resolution:g}".replace(".", "p")
