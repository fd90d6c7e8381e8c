"""What preprocessing aims at: engine, template and grid, filled in and checked before anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_xai.atomic import steady_file
from bids_xai.bids.engines import choose_engine
from bids_xai.bids.filters import read_filter_file
from bids_xai.bids.names import sanitize
from bids_xai.bids.records import SubjectRecord
from bids_xai.errors import InputError
from bids_xai.images.grids import check_same_grid, factors, fit_shape, voxel_sizes
from bids_xai.images.masking import downsample_mask, load_mask
from bids_xai.images.templates import template_from_file, template_image, template_mask
from bids_xai.settings import Settings
from bids_xai.settings.sections import Preprocessing
from bids_xai.workflows import RAW_ENGINES

_DEFAULT_SPACE = {"ants": "MNI152NLin2009cAsym", "fsl": "MNI152NLin6Asym", "none": "MNI152NLin2009cAsym"}
_DEFAULT_REGISTRATION = {"fsl": "affine"}
_STEP_MM = 0.5
_MASK_WORDS = ("auto", "compute", "template", "derivatives")


@dataclass(frozen=True)
class Target:
    """A template to register to, as files."""

    space: str
    t1w: Path
    mask: Path


def complete(settings: Settings) -> Settings:
    """Return settings with the engine and what depends on it filled in.

    Raises
    ------
    InputError
        Settings contradict each other, or the engine's programs are not here.
    """
    images, chosen = settings.preprocessing, settings.selection
    filters = read_filter_file(chosen.bids_filter_file) if chosen.bids_filter_file else None
    engine = choose_engine(images.preproc, chosen.derivatives, images.modality, filters)
    filled = replace(
        images,
        preproc=engine,
        registration=images.registration or _DEFAULT_REGISTRATION.get(engine, "syn"),
        space=_space(settings, engine),
    )
    return replace(settings, preprocessing=filled)


def check_derivatives_used(settings: Settings) -> None:
    """Raise InputError if nothing is taken from the derivatives that were given."""
    images = settings.preprocessing
    engine = images.preproc
    masks = engine not in RAW_ENGINES and images.mask in ("auto", "derivatives")
    asked = engine == "derivatives" or masks or images.confounds or images.fd_threshold is not None
    if settings.selection.derivatives and not asked:
        mask = "" if engine in RAW_ENGINES else ", the mask is that of --mask"
        raise InputError(
            f"--derivatives with --preproc {engine}, and nothing is taken from them: images are those of BIDS"
            f"{mask}, no confounds are asked for.",
            "--preproc derivatives, which takes their images; --confounds or --fd-threshold, which read "
            "their confounds; or --preproc none with --mask derivatives",
            "leave out --derivatives, or add one of these",
        )


def needs_template(settings: Settings) -> bool:
    """Tell whether images are brought to a template here."""
    images = settings.preprocessing
    return images.preproc in RAW_ENGINES or (images.preproc == "none" and images.modality != "bold")


def check_programs(settings: Settings) -> None:
    """Raise InputError unless the programs of the engine are here."""
    images = settings.preprocessing
    if images.preproc == "ants" or (images.preproc == "fsl" and images.modality != "bold"):
        from bids_xai.interfaces.ants import check_ants

        check_ants()
    if images.preproc == "fsl":
        from bids_xai.workflows.fsl import check_fsl, check_registration

        check_registration(str(images.registration), images.dof)
        check_fsl(images.modality)


def _space(settings: Settings, engine: str) -> str | None:
    """Return the name of the space: as given, of the template, or the engine's default."""
    images = settings.preprocessing
    if images.template is None:
        # What is not registered is in no space but the one that was named.
        return images.space or (_DEFAULT_SPACE.get(engine) if engine in RAW_ENGINES else None)
    if engine not in _DEFAULT_SPACE:
        raise InputError(
            f"--template {images.template} with --preproc {engine}: its images are in a space already.",
            "--space, which chooses among those that there are",
            "leave out --template, or choose --preproc ants",
        )
    if not _is_file(images.template):
        if images.space not in (None, images.template):
            raise InputError(
                f"--template {images.template} and --space {images.space} name two templates.",
                "one of them, or a NIfTI file as --template and the name of its space as --space",
                "leave out --space",
            )
        return images.space if engine == "none" else images.template
    if images.space is not None or engine == "none":
        return images.space
    return _name_of(images.template)


def _name_of(template: str) -> str:
    """Return the name of a template: itself, or what the name of its file says."""
    if not _is_file(template):
        return template
    stem = Path(template).name.split(".")[0]
    parts = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
    return sanitize(parts.get("tpl") or parts.get("space") or stem)


def _is_file(template: str) -> bool:
    return template.endswith((".nii", ".nii.gz")) or "/" in template


def grid_name(images: Preprocessing) -> str:
    """Return the name of the template whose grid images are brought to, for settings that are complete."""
    named = None if images.template is None else _name_of(images.template)
    return str(images.space or named or _DEFAULT_SPACE[str(images.preproc)])


def save_template(settings: Settings, work_dir: Path) -> Target:
    """Write the template and its mask into the working folder, where all subjects' graphs find them.

    Raises
    ------
    InputError
        If it is not on this machine, or cannot be read.
    """
    space = grid_name(settings.preprocessing)
    t1w, mask = _load(settings)
    paths = []
    for image, ending in ((t1w, "T1w"), (mask, "mask")):
        path = work_dir / "templates" / f"tpl-{sanitize(space)}_{ending}.nii.gz"
        # Jobs of several participants may share the folder.
        with steady_file(path) as temporary:
            nb.save(image, temporary)
        paths.append(path)
    return Target(space, *paths)


def _load(settings: Settings) -> tuple[nb.Nifti1Image, nb.Nifti1Image]:
    images, downloads = settings.preprocessing, settings.execution.allow_downloads
    if images.template is not None and _is_file(images.template):
        return template_from_file(images.template)
    space = grid_name(images)
    mask = template_mask(space, allow_downloads=downloads)
    t1w = template_image(space, allow_downloads=downloads)
    inside = np.asarray(mask.dataobj) > 0
    return nb.Nifti1Image(np.where(inside, np.asarray(t1w.dataobj), 0), t1w.affine, t1w.header), mask


def with_grid(settings: Settings, subjects: Sequence[SubjectRecord]) -> Settings:
    """Return settings with the voxel size of the analysis grid filled in, once the grid is checked.

    BOLD that is registered here gets the largest voxel edge of any run, rounded up to half a millimetre.

    Raises
    ------
    InputError
        If the grid would be finer than the template, or a mask file does not lie on it.
    """
    images = settings.preprocessing
    if not needs_template(settings):
        return settings
    t1w, mask = _load(settings)
    if images.resolution is None and images.modality == "bold":
        largest = max(
            float(voxel_sizes(nb.load(run.bold)).max()) for subject in subjects for run in subject.runs
        )
        finest = float(voxel_sizes(t1w).max())
        resolution = max(math.ceil(round(largest / _STEP_MM, 3)) * _STEP_MM, finest)
        images = replace(images, resolution=resolution)
    if images.resolution is not None:
        factors(t1w, images.resolution)
    if images.mask not in _MASK_WORDS:
        check_same_grid(load_mask(images.mask), _on_grid(mask, images), images.mask, "the analysis grid")
    return replace(settings, preprocessing=images)


def template_grid(settings: Settings) -> nb.Nifti1Image:
    """Return the template's mask on the analysis grid, for settings that :func:`with_grid` has filled in."""
    return _on_grid(_load(settings)[1], settings.preprocessing)


def _on_grid(mask: nb.Nifti1Image, images: Preprocessing) -> nb.Nifti1Image:
    grid = mask if images.resolution is None else downsample_mask(mask, images.resolution)
    if images.shape is None:
        return grid
    return fit_shape(grid, (images.shape[0], images.shape[1], images.shape[2]))
