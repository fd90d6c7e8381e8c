"""What is in a phantom dataset with lesions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bids_xai.errors import InputError
from bids_xai.phantom.parameters import check_range, size_label

GROUPS = ("control", "patient")
MODALITIES = ("T1w", "FLAIR")

_RANGES = {
    "subjects": (2, 999, "people, so that both groups have one"),
    "classes": (2, 2, "the groups control and patient"),
    "seed": (0, math.inf, "a whole number"),
    "resolution": (1.0, 8.0, "a voxel size in mm"),
    "sites": (1, 8, "sites"),
    "presence": (0.01, 1.0, "a probability"),
    "incidental": (0.0, 10.0, "lesions per person"),
    "radius": (2.0, 10.0, "mm"),
    "contrast": (0.01, 0.75, "a share of the tissue's brightness"),
    "noise": (0.0, 50.0, "percent of the brightness of white matter"),
    "scanners": (1, 20, "scanners"),
}


@dataclass(frozen=True)
class LesionParameters:
    """Size, lesions and noise of a phantom with lesions; every number that decides what is written.

    Parameters
    ----------
    subjects
        How many people; every two of them are a control and a patient of one sex, scanner and about one age.
    classes
        2: controls and patients.
    seed
        Same seed and parameters, same bytes. A subject's data do not change when others are added.
    modality
        ``"T1w"``: lesions are darker than the tissue around; ``"FLAIR"``: brighter.
    resolution
        Voxel size, in mm.
    sites
        Sites at which only patients have lesions.
    presence
        Probability of a patient's lesion at each of them.
    incidental
        Mean number (Poisson) of lesions that anybody has at other sites. Above 0, a control also has as many
        lesions at other sites as a patient may have at the patients' own: the groups differ in where their
        lesions are, not in how many. 0: controls have none.
    radius
        Mean radius of a lesion, in mm; those of single lesions differ by up to 30 %.
    contrast
        Mean change of brightness in a lesion, as a share; those of single lesions differ by up to 30 %.
    noise
        Standard deviation of the noise, in percent of the brightness of white matter.
    scanners
        Number of scanners, which differ in brightness; above 1 they are a column of participants.tsv.
    anatomy
        Give every subject a head size and a position in the scanner, and a larger deformation; otherwise
        heads lie as the template's does and differ from it by as much as registration may leave.
    null
        Let who has which lesions be independent of the group.

    Raises
    ------
    InputError
        If a value cannot be made into a dataset.
    """

    subjects: int = 60
    classes: int = 2
    seed: int = 0
    modality: str = "T1w"
    resolution: float = 2.0
    sites: int = 4
    presence: float = 0.9
    incidental: float = 2.0
    radius: float = 8.0
    contrast: float = 0.7
    noise: float = 2.0
    scanners: int = 1
    anatomy: bool = False
    null: bool = False

    def __post_init__(self) -> None:
        for name, bounds in _RANGES.items():
            check_range(name, getattr(self, name), *bounds)
        if self.modality not in MODALITIES:
            raise InputError(f"--modality is {self.modality}.", f"one of {', '.join(MODALITIES)}")

    @property
    def resolution_label(self) -> str:
        """BIDS label of the voxel size: ``4``, ``2p5``."""
        return size_label(self.resolution)
