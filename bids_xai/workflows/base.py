"""The whole pipeline on one screen: subjects become samples, samples become thresholded maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.bids.query import SubjectRecord
from bids_xai.interfaces.outputs import WriteSamples
from bids_xai.workflows.group import init_group_wf
from bids_xai.workflows.samples import init_samples_wf

__all__ = ["init_group_wf", "init_participants_wf", "init_samples_wf", "init_single_subject_wf"]


def init_participants_wf(
    subjects: Sequence[SubjectRecord],
    output_dir: Path | str,
    *,
    name: str = "participants_wf",
    **settings: Any,
) -> pe.Workflow:
    """Make the samples of many subjects; one graph each, so that one that fails stops no other.

    Parameters
    ----------
    subjects
        What is known of each subject (:func:`bids_xai.bids.query.query`).
    output_dir
        Folder of the derivatives.
    name
        Name of the workflow.
    **settings
        Parameters of :func:`init_single_subject_wf`.
    """
    workflow = pe.Workflow(name=name)
    workflow.add_nodes([init_single_subject_wf(subject, output_dir, **settings) for subject in subjects])
    return workflow


def init_single_subject_wf(
    subject: SubjectRecord,
    output_dir: Path | str,
    *,
    space: str | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    bids_dir: Path | str = "",
    **settings: Any,
) -> pe.Workflow:
    """Make the samples of one subject and write them as BIDS derivatives.

    .. code-block:: text

        inputnode -> samples_wf -> write (samples, rows, mask, sidecars, sub-*.html)

    Parameters
    ----------
    subject
        Runs, events, masks and confounds of the subject.
    output_dir
        Folder of the derivatives.
    space
        Name of the template space that the images are in; None: native.
    classes
        Levels of the target by class.
    bids_dir
        Dataset that sidecars name their sources relative to.
    **settings
        Parameters of :func:`bids_xai.workflows.samples.init_samples_wf`.
    """
    runs = subject.runs
    workflow = pe.Workflow(name=f"sub_{subject.subject}_wf")
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=["bold", "events", "mask", "in_confounds", "repetition_time", "entities"]
        ),
        name="inputnode",
    )
    inputnode.inputs.bold = [str(run.bold) for run in runs]
    inputnode.inputs.events = [str(run.events) for run in runs]
    inputnode.inputs.repetition_time = [run.tr for run in runs]
    inputnode.inputs.entities = [dict(run.entities) for run in runs]
    if all(run.mask is not None for run in runs):
        inputnode.inputs.mask = [str(run.mask) for run in runs]
    if all(run.confounds is not None for run in runs):
        inputnode.inputs.in_confounds = [str(run.confounds) for run in runs]
    samples_wf = init_samples_wf(
        compute_mask=any(run.mask is None for run in runs), classes=classes, **settings
    )
    write = pe.Node(
        WriteSamples(
            output_dir=str(output_dir),
            subject=subject.subject,
            entities=inputnode.inputs.entities,
            sources=inputnode.inputs.bold,
            repetition_time=inputnode.inputs.repetition_time,
            settings={**_defaults(init_samples_wf), **settings, "classes": classes},
            bids_dir=str(bids_dir),
        ),
        name="write",
    )
    if space is not None:
        write.inputs.space = space
    if settings.get("resolution") is not None:
        write.inputs.resolution = settings["resolution"]
    ports = inputnode.inputs.copyable_trait_names()
    workflow.connect([
        (inputnode, samples_wf, [(port, f"inputnode.{port}") for port in ports]),
        (samples_wf, write, [("outputnode.samples", "in_samples"), ("outputnode.rows", "in_rows"),
                             ("outputnode.mask", "in_mask")]),
    ])  # fmt: skip
    return workflow


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
