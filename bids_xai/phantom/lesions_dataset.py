"""Write a phantom with lesions as a raw BIDS dataset of anatomical images."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bids_xai import __version__
from bids_xai.phantom import lesions_truth as truth
from bids_xai.phantom.anatomy import Anatomy, draw_anatomy
from bids_xai.phantom.files import (
    SCANNER,
    TEMPLATE,
    subject_label,
    whole_or_nothing,
    write_json,
    write_nifti,
    write_raw_description,
    write_text,
    write_tsv,
)
from bids_xai.phantom.lesion_parameters import GROUPS, LesionParameters
from bids_xai.phantom.lesions import (
    Lesions,
    Sites,
    choose_sites,
    draw_lesions,
    head_of,
    tissue_of,
    with_lesions,
)
from bids_xai.phantom.t1w import magnitude
from bids_xai.phantom.template import Template, Volume, grid, grid_points, load_template, sample, smoothed

_LOGGER = logging.getLogger("bids_xai.phantom")

# What a random stream is for: a switch never changes the draws of anything else.
_SITES, _PAIR, _PERSON, _ANATOMY, _LESIONS, _IMAGE, _SCANNERS = range(7)

_AGES = (55.0, 85.0)
_AGE_JITTER = 2.0
_RESIDUAL = 0.5  # of the deformation that registration leaves: SD 1.25 mm an axis
_GAIN_SD, _GAMMA_SD = 0.05, 0.05
_SCANNER_GAINS = (0.8, 1.25)


@dataclass(frozen=True)
class Person:
    """One row of participants.tsv, and whether the lesions are those of a patient.

    ``ill`` is the group, but for a null dataset, where it is independent of it.
    """

    subject: str
    group: str
    sex: str
    age: int
    scanner: int
    ill: bool


@dataclass(frozen=True)
class _Scene:
    parameters: LesionParameters
    template: Template
    tissue: Volume
    heads: dict[str, Volume]
    sites: Sites


def make_lesion_dataset(path: str | os.PathLike[str], parameters: LesionParameters | None = None) -> Path:
    """Write a phantom with lesions: raw BIDS in ``path``, its truth in ``path/derivatives/truth``.

    The folder appears when it is complete, or not at all. The same parameters give the same bytes.

    Parameters
    ----------
    path
        A folder that does not exist yet or is empty.
    parameters
        What to make; the defaults if None.

    Returns
    -------
    Path
        The dataset.

    Raises
    ------
    InputError
        If the folder holds anything, or cannot be written.
    """
    parameters = parameters or LesionParameters()
    target = Path(path).absolute()
    with threadpool_limits(1), whole_or_nothing(target) as folder:
        template = load_template()
        sites = choose_sites(template, parameters, _stream(parameters, _SITES))
        modalities = [parameters.modality]
        if parameters.modality == "FLAIR" and parameters.anatomy:
            modalities.append("T1w")  # FLAIR images find the template through it
        heads = {name: smoothed(head_of(template, name), parameters.resolution) for name in modalities}
        scene = _Scene(parameters, template, tissue_of(template), heads, sites)
        truth.write_common(folder / "derivatives" / "truth", template, sites, parameters)
        people = [person(number, parameters) for number in range(1, parameters.subjects + 1)]
        volumes = []
        for number, one in enumerate(people, 1):
            volumes.append(_write_subject(folder, scene, number, one))
            _LOGGER.info("Subject %d of %d is written.", number, parameters.subjects)
        _write_top_level(folder, parameters, people, volumes)
    return target


def person(number: int, parameters: LesionParameters) -> Person:
    """Draw the person of a number, from 1.

    Persons 2k - 1 and 2k are a control and a patient, in an order drawn at random, of one sex and scanner and
    of ages that differ by up to 4 years: neither tells the group. Sexes and scanners take turns.
    """
    pair = (number - 1) // 2
    rng = _stream(parameters, _PAIR, pair)
    patient_first, age = bool(rng.integers(2)), rng.uniform(*_AGES)
    patient = patient_first == (number % 2 == 1)
    own = _stream(parameters, _PERSON, number)
    years = round(age + own.uniform(-_AGE_JITTER, _AGE_JITTER))
    ill = bool(own.integers(2)) if parameters.null else patient
    scanner = pair // 2 % parameters.scanners + 1
    return Person(subject_label(number), GROUPS[int(patient)], "FM"[pair % 2], years, scanner, ill)


def _stream(parameters: LesionParameters, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([parameters.seed, *purpose]))


def _write_subject(folder: Path, scene: _Scene, number: int, one: Person) -> float:
    """Write the images and the truth of a person; return the volume of all lesions in ml."""
    parameters = scene.parameters
    rng = _stream(parameters, _LESIONS, number)
    lesions = draw_lesions(scene.sites, parameters, rng, ill=one.ill)
    anatomy = _anatomy(scene, number)
    code = SCANNER if parameters.anatomy else TEMPLATE
    for index, modality in enumerate(scene.heads):
        rng = _stream(parameters, _IMAGE, number, index)
        data, affine = _image(scene, modality, anatomy, lesions, one.scanner, rng)
        path = folder / one.subject / "anat" / f"{one.subject}_{modality}.nii.gz"
        write_nifti(path, data, affine, code)
    derivative = folder / "derivatives" / "truth"
    context = (scene.template, scene.tissue, scene.sites, parameters)
    return truth.write_person(derivative, one.subject, anatomy, lesions, *context)


def _anatomy(scene: _Scene, number: int) -> Anatomy:
    anatomy = draw_anatomy(scene.template, _stream(scene.parameters, _ANATOMY, number))
    if scene.parameters.anatomy or anatomy.displacement is None:
        return anatomy
    residual = (_RESIDUAL * anatomy.displacement).astype(np.float32)
    return replace(anatomy, head=np.eye(4), displacement=residual)


def _image(
    scene: _Scene, modality: str, anatomy: Anatomy, lesions: Lesions, scanner: int, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Image a person: ``gain b'^gamma``, b' the brightness with lesions; gain and gamma differ by person."""
    parameters = scene.parameters
    shape, affine = grid(scene.template, parameters.resolution)
    points = grid_points(shape, affine)
    at = anatomy.to_template(points)
    healthy = sample(scene.heads[modality], scene.template.affine, at)
    tissue = sample(scene.tissue, scene.template.affine, at)
    brightness = with_lesions(healthy, lesions, tissue, at, modality)
    gain = np.exp(rng.normal(0, _GAIN_SD))
    if parameters.scanners > 1:
        gain *= _stream(parameters, _SCANNERS, scanner).uniform(*_SCANNER_GAINS)
    seen = (gain * brightness ** np.exp(rng.normal(0, _GAMMA_SD))).astype(np.float32)
    return magnitude(seen, points, rng, parameters.noise).reshape(shape), affine


def _write_top_level(
    folder: Path, parameters: LesionParameters, people: list[Person], volumes: list[float]
) -> None:
    write_raw_description(folder)
    write_text(folder / "README", _readme(parameters))
    scanners = parameters.scanners > 1
    columns = ["participant_id", "group", "sex", "age", "lesion_volume", *(["scanner"] if scanners else [])]
    rows = [
        [one.subject, one.group, one.sex, one.age, volume, *([f"scanner{one.scanner}"] if scanners else [])]
        for one, volume in zip(people, volumes, strict=True)
    ]
    write_tsv(folder / "participants.tsv", columns, rows)
    meanings: dict[str, object] = {
        "group": {
            "Description": "What is to be classified",
            "Levels": {
                "control": "Person without lesions at the patients' sites",
                "patient": "Person with some",
            },
        },
        "sex": {"Description": "Sex, made up", "Levels": {"F": "female", "M": "male"}},
        "age": {"Description": "Age, made up", "Units": "year"},
        "lesion_volume": {"Description": "Volume of all lesions, in template space", "Units": "mL"},
    }
    if parameters.null:
        meanings["group"] = {"Description": "Made up: nothing in the images depends on it"}
    if scanners:
        meanings["scanner"] = {"Description": "Scanner, made up; scanners differ in brightness"}
    write_json(folder / "participants.json", meanings)


def _readme(parameters: LesionParameters) -> str:
    look = "darker" if parameters.modality == "T1w" else "brighter"
    elsewhere = "have none" if parameters.incidental == 0 else "have as many at other sites"
    groups = (
        f"Patients have lesions at {parameters.sites} sites of the white matter, each with probability\n"
        f"{parameters.presence:g}; controls {elsewhere}."
    )
    if parameters.null:
        groups = "Null dataset: who has which lesions is independent of the group."
    heads = (
        "Every subject has a head of its own, in a position of its own, in scanner coordinates."
        if parameters.anatomy
        else "Heads lie as the template's does and differ from it by smooth deformations of about 2 mm."
    )
    return f"""Phantom with lesions at known places
====================================

Made by bids-xai-phantom {__version__} from the ICBM152 2009a symmetric template
(Fonov et al. 2011, NeuroImage 54:313-327); no person was scanned.
{heads}

{groups}
Everybody has a further {parameters.incidental:g} lesions on average at other sites.
In {parameters.modality} images lesions are {look} than the tissue around.
Age, sex and scanner tell nothing about the group. The truth is in derivatives/truth.
"""
