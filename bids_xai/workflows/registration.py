"""Registration profiles: metrics, levels and iterations of antsRegistration by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bids_xai.interfaces.ants import Registration

_LINEAR_STEP = 0.1
_SYN_STEP = (0.1, 3.0, 0.0)
_BINS = 32
_RADIUS = 4
_WINSOR = (0.005, 0.995)
_TRANSFORMS = {"rigid": ("Rigid",), "affine": ("Rigid", "Affine"), "syn": ("Rigid", "Affine", "SyN")}


@dataclass(frozen=True)
class Profile:
    """How thoroughly a registration searches.

    Attributes
    ----------
    levels_mm
        Voxel size of each level, coarse to fine; images are shrunk by whole factors to about it.
    sigmas_mm
        Smoothing of each level (standard deviation).
    linear, syn
        Iterations per level of linear stages and of SyN.
    metric
        Of SyN: ``"MI"`` (mutual information) or ``"CC"`` (cross-correlation of 9^3 neighbourhoods).
    """

    levels_mm: tuple[float, ...]
    sigmas_mm: tuple[float, ...]
    linear: tuple[int, ...]
    syn: tuple[int, ...]
    metric: str = "MI"


# ``full`` and ``quick`` are antsRegistrationSyN.sh and antsRegistrationSyNQuick.sh (Avants et al.); the
# latter's last level has no iterations and is left out. Their levels are voxels of a 1 mm template.
PROFILES: Mapping[str, Profile] = {
    "sloppy": Profile((8, 4), (3, 2), (50, 20), (20, 10)),
    "quick": Profile((8, 4, 2), (3, 2, 1), (1000, 500, 250), (100, 70, 50)),
    "full": Profile((8, 4, 2, 1), (3, 2, 1, 0), (1000, 500, 250, 100), (100, 70, 50, 20), "CC"),
}
COREGISTRATION: Mapping[str, Profile] = {
    "sloppy": Profile((4,), (2,), (50,), ()),
    "quick": Profile((6, 3), (2, 1), (500, 250), ()),
    "full": Profile((6, 3, 2), (2, 1, 0), (1000, 500, 250), ()),
}


def registration_interface(
    kind: str, profile: Profile, *, voxel_mm: float = 1.0, random_seed: int = 1, **inputs: Any
) -> Registration:
    """Return antsRegistration set up for one kind of transform.

    Parameters
    ----------
    kind
        ``"rigid"``, ``"affine"`` (rigid first) or ``"syn"`` (both first).
    profile
        One of :data:`PROFILES` or :data:`COREGISTRATION`.
    voxel_mm
        Voxel size of the fixed image: levels are whole multiples of it.
    random_seed
        Seed of the sampling; 0 would mean the time of day.
    **inputs
        Other inputs of :class:`nipype.interfaces.ants.Registration`.
    """
    transforms = _TRANSFORMS[kind]
    warps = [name == "SyN" for name in transforms]
    correlate = [warp and profile.metric == "CC" for warp in warps]
    factors = [max(1, round(level / voxel_mm)) for level in profile.levels_mm]
    n = len(transforms)
    return Registration(
        dimension=3,
        float=True,
        transforms=list(transforms),
        transform_parameters=[_SYN_STEP if warp else (_LINEAR_STEP,) for warp in warps],
        number_of_iterations=[list(profile.syn if warp else profile.linear) for warp in warps],
        metric=["CC" if cc else "MI" for cc in correlate],
        metric_weight=[1.0] * n,
        radius_or_number_of_bins=[_RADIUS if cc else _BINS for cc in correlate],
        sampling_strategy=["None" if warp else "Regular" for warp in warps],
        sampling_percentage=[None if warp else 0.25 for warp in warps],
        convergence_threshold=[1e-6] * n,
        convergence_window_size=[10] * n,
        shrink_factors=[factors] * n,
        smoothing_sigmas=[list(profile.sigmas_mm)] * n,
        sigma_units=["mm"] * n,
        use_histogram_matching=[False] * n,
        winsorize_lower_quantile=_WINSOR[0],
        winsorize_upper_quantile=_WINSOR[1],
        collapse_output_transforms=True,
        write_composite_transform=True,
        output_transform_prefix="transform",
        random_seed=random_seed + 1,
        **inputs,
    )
