"""Write a whole phantom as a raw BIDS dataset."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bids_xai import __version__
from bids_xai.phantom import truth
from bids_xai.phantom.anatomy import Anatomy, draw_anatomy, draw_motion, template_position
from bids_xai.phantom.bold import Brain, bold_run, make_brain
from bids_xai.phantom.events import draw_events, responses, run_length
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
from bids_xai.phantom.parameters import TASK, PhantomParameters
from bids_xai.phantom.places import amplitude_maps, choose_places
from bids_xai.phantom.t1w import t1w_image
from bids_xai.phantom.template import SPACE, Template, Volume, load_template, smoothed

_LOGGER = logging.getLogger("bids_xai.phantom")

# What a random stream is for: a switch never changes the draws of anything else.
_PLACES, _PERSON, _ANATOMY, _T1W, _MOTION, _EVENTS, _BOLD = range(7)


@dataclass(frozen=True)
class _Scene:
    """What all subjects have in common."""

    parameters: PhantomParameters
    template: Template
    brain: Brain
    head: Volume
    masks: dict[str, NDArray[np.bool_]]


def make_dataset(path: str | os.PathLike[str], parameters: PhantomParameters | None = None) -> Path:
    """Write a phantom: raw BIDS in ``path``, its truth in ``path/derivatives/truth``.

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
    parameters = parameters or PhantomParameters()
    target = Path(path).absolute()
    # One BLAS thread: sums in one order give the same bytes whatever the machine is told to use.
    with threadpool_limits(1), whole_or_nothing(target) as folder:
        template = load_template()
        rng = _stream(parameters, _PLACES)
        places = choose_places(template, parameters.classes, rng)
        classes, common = amplitude_maps(template, places, parameters.resolution)
        brain = make_brain(template, classes, common, parameters)
        head = smoothed(template.t1w, parameters.t1w_resolution)
        masks = truth.make_masks(template, classes, common, parameters)
        scene = _Scene(parameters, template, brain, head, masks)
        derivative = folder / "derivatives" / "truth"
        truth.write_description(derivative, parameters)
        truth.write_masks(
            derivative, scene.masks, brain.affine, parameters.resolution, parameters.resolution_label
        )
        truth.write_places(derivative, places, parameters.class_names)
        _write_top_level(folder, parameters)
        for subject in range(1, parameters.subjects + 1):
            _write_subject(folder, scene, subject)
            _LOGGER.info("Subject %d of %d is written.", subject, parameters.subjects)
    return target


def _stream(parameters: PhantomParameters, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([parameters.seed, *purpose]))


def _write_subject(folder: Path, scene: _Scene, number: int) -> None:
    parameters, subject = scene.parameters, subject_label(number)
    derivative = folder / "derivatives" / "truth"
    anatomy, code = template_position(), TEMPLATE
    if parameters.anatomy:
        anatomy, code = draw_anatomy(scene.template, _stream(parameters, _ANATOMY, number)), SCANNER
        truth.write_anatomy(derivative, subject, anatomy, scene.masks, scene.brain.affine)
    rng = _stream(parameters, _T1W, number)
    t1w, t1w_affine = t1w_image(scene.head, scene.template, anatomy, parameters.t1w_resolution, rng)
    write_nifti(folder / subject / "anat" / f"{subject}_T1w.nii.gz", t1w, t1w_affine, code)
    n_volumes = run_length(parameters)
    motion = None
    if parameters.motion:
        motion = draw_motion(n_volumes, parameters.runs, _stream(parameters, _MOTION, number))
    for run in range(1, parameters.runs + 1):
        movement = None if motion is None else motion[run - 1]
        _write_run(folder, scene, (number, run), anatomy, movement)
        if movement is not None:
            truth.write_motion(derivative, subject, run, movement)


def _write_run(
    folder: Path,
    scene: _Scene,
    number_and_run: tuple[int, int],
    anatomy: Anatomy,
    motion: NDArray[np.float64] | None,
) -> None:
    number, run = number_and_run
    parameters, subject = scene.parameters, subject_label(number)
    code = SCANNER if parameters.anatomy else TEMPLATE
    events = draw_events(parameters, _stream(parameters, _EVENTS, number, run))
    regressors = responses(events, parameters.classes, parameters.tr, run_length(parameters))
    rng = _stream(parameters, _BOLD, number, run)
    data = bold_run(scene.brain, anatomy, regressors, parameters, rng, motion=motion)
    stem = folder / subject / "func" / f"{subject}_task-{TASK}_run-{run}"
    write_nifti(stem.with_name(stem.name + "_bold.nii.gz"), data, scene.brain.affine, code, tr=parameters.tr)
    names = [parameters.class_names[event] for event in events.codes]
    rows = [[onset, events.duration, name] for onset, name in zip(events.onsets, names, strict=True)]
    write_tsv(stem.with_name(stem.name + "_events.tsv"), ["onset", "duration", "trial_type"], rows)


def _write_top_level(folder: Path, parameters: PhantomParameters) -> None:
    write_raw_description(folder)
    write_text(folder / "README", _readme(parameters))
    write_json(folder / f"task-{TASK}_bold.json", {"TaskName": TASK, "RepetitionTime": parameters.tr})
    levels = {name: f"An event of class {name}" for name in parameters.class_names}
    write_json(
        folder / f"task-{TASK}_events.json",
        {"trial_type": {"Description": "Class of the event", "Levels": levels}},
    )
    rows = []
    for number in range(1, parameters.subjects + 1):
        rng = _stream(parameters, _PERSON, number)
        rows.append([subject_label(number), int(rng.integers(20, 40)), "FM"[rng.integers(2)]])
    write_tsv(folder / "participants.tsv", ["participant_id", "age", "sex"], rows)
    write_json(
        folder / "participants.json",
        {
            "age": {"Description": "Age, made up", "Units": "year"},
            "sex": {"Description": "Sex, made up", "Levels": {"F": "female", "M": "male"}},
        },
    )


def _readme(parameters: PhantomParameters) -> str:
    head = (
        "Every subject has a head of its own, in a position of its own, in scanner coordinates."
        if parameters.anatomy
        else f"All images are in the position of the template ({SPACE}): no registration is needed."
    )
    signal = (
        f"A class's response (Glover HRF, plateau {parameters.effect:g} % of the mean signal) occurs in\n"
        "places distributed over the grey matter, half of them shared with neighbouring classes."
        if parameters.effect > 0
        else "This is a null dataset: the classes do not differ anywhere."
    )
    motion = "The head moves within and between runs.\n" if parameters.motion else ""
    return f"""Phantom with known truth
========================

Made by bids-xai-phantom {__version__} from the ICBM152 2009a symmetric template
(Fonov et al. 2011, NeuroImage 54:313-327); no person was scanned.
{head}

A run holds {parameters.trials_per_class} events of each class; an event lasts {parameters.duration:g} s.
Classes: {", ".join(parameters.class_names)}.
{signal}
{motion}Drift, physiological oscillations and autocorrelated noise (SD {parameters.noise:g} %) are added.
The truth is in derivatives/truth.
"""
