"""The whole pipeline on one screen: subjects become samples, samples become thresholded maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe

from bids_xai.bids.anatomical import anatomical_rows
from bids_xai.bids.query import SubjectRecord
from bids_xai.interfaces.outputs import WritePreprocessed, WriteSamples
from bids_xai.workflows import IMAGE_PORTS, RAW_ENGINES
from bids_xai.workflows.figures import init_figures_wf
from bids_xai.workflows.group import init_group_wf
from bids_xai.workflows.literate import describe
from bids_xai.workflows.memory import declare_run_memory
from bids_xai.workflows.samples import init_samples_wf

__all__ = ["init_group_wf", "init_participants_wf", "init_samples_wf", "init_single_subject_wf"]


def init_participants_wf(
    subjects: Sequence[SubjectRecord],
    output_dir: Path | str,
    *,
    name: str = "participants_wf",
    **settings: Any,
) -> pe.Workflow:
    """Make the samples of many subjects; one graph for what can fail alone, so that it stops no other.

    That is each session of each subject; sessions that are registered through one T1w are together.

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
    workflow.add_nodes([
        init_single_subject_wf(part, output_dir, name=part_name(part), **settings)
        for subject in subjects
        for part in subject.parts()
    ])  # fmt: skip
    return workflow


def part_name(part: SubjectRecord) -> str:
    """Return the name of the graph of a part of a subject (:meth:`SubjectRecord.parts`)."""
    return "_".join([f"sub_{part.subject}", *(f"ses_{session}" for session in part.sessions()), "wf"])


def init_single_subject_wf(
    subject: SubjectRecord,
    output_dir: Path | str,
    *,
    space: str | None = None,
    grid: str | None = None,
    template: tuple[Path | str, Path | str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    bids_dir: Path | str = "",
    exchange_within: str | None = None,
    low_mem: bool = False,
    name: str | None = None,
    **settings: Any,
) -> pe.Workflow:
    """Make the samples of one subject and write them as BIDS derivatives.

    .. code-block:: text

        samples_wf -> (figures_wf) -> (write_preprocessed) -> write (samples, rows, mask, sub-*.html)

    Parameters
    ----------
    subject
        Images, events, masks and confounds of the subject.
    output_dir
        Folder of the derivatives.
    space
        Name of the template space that the samples are in; None: native.
    grid
        Name of the template on whose grid anatomical images are centred that are in no space.
    template
        T1w of the template without skull and its brain mask, to register to.
    classes
        Levels of the target by class.
    bids_dir
        Dataset that sidecars name their sources relative to.
    exchange_within
        Column that the rows get, whose levels are blocks (:func:`bids_xai.bids.exchange.with_blocks`).
    low_mem
        Resampled runs are held in files until they are written.
    name
        Name of the workflow; None: that of the subject and its sessions.
    **settings
        Parameters of :func:`bids_xai.workflows.samples.init_samples_wf`.
    """
    settings = {**_defaults(init_samples_wf), **settings, "classes": classes}
    bold = settings["modality"] == "bold"
    masks = [record.mask for record in (subject.runs if bold else subject.anatomical)]
    settings["compute_mask"] = any(mask is None for mask in masks)
    settings["in_space"] = space is not None
    workflow = pe.Workflow(name=name or part_name(subject))
    samples_wf = init_samples_wf(**{name: settings[name] for name in _defaults(init_samples_wf)})
    inputs = samples_wf.inputs.inputnode
    inputs.trait_set(**_inputs_of(subject, settings["modality"], classes or {}))
    if not settings["compute_mask"]:
        inputs.mask = [str(mask) for mask in masks]
    if template is not None:
        inputs.template, inputs.template_mask = (str(path) for path in template)
    centred = settings["preproc"] == "none" and not bold and space is None
    described = {
        **settings,
        "template": space if settings["preproc"] in RAW_ENGINES else None,
        "centred_on": (grid or "template") if centred else None,
        "description": describe(samples_wf),
    }
    if settings["preproc"] in RAW_ENGINES:
        described["description"] += f" The template was {space or 'a file'}."
    write = pe.Node(
        WriteSamples(
            output_dir=str(output_dir),
            subject=subject.subject,
            entities=[dict(record.entities) for record in (subject.runs if bold else subject.anatomical)],
            sources=inputs.bold if bold else [str(record.image) for record in subject.anatomical],
            settings=described,
            bids_dir=str(bids_dir),
        ),
        name="write",
    )
    if bold:
        write.inputs.repetition_time = inputs.repetition_time
        write.inputs.events = inputs.events
    if exchange_within is not None:
        write.inputs.exchange_within = exchange_within
    if space is not None:
        write.inputs.space = space
    if settings["resolution"] is not None:
        write.inputs.resolution = settings["resolution"]
    workflow.connect([
        (samples_wf, write, [("outputnode.samples", "in_samples"), ("outputnode.rows", "in_rows"),
                             ("outputnode.mask", "in_mask")]),
    ])  # fmt: skip
    if bold:
        workflow.connect(samples_wf, "outputnode.notes", write, "in_notes")
        raw = template is not None and settings["preproc"] in RAW_ENGINES
        declare_run_memory(
            workflow,
            subject.runs,
            template=template[0] if raw and template is not None else None,
            resolution=settings["resolution"],
            low_mem=low_mem,
        )
    if settings["preproc"] in RAW_ENGINES:
        _write_preprocessed(workflow, subject, space or "template", described, output_dir, bids_dir)
    return workflow


def _inputs_of(subject: SubjectRecord, modality: str, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what the inputnode of a subject's samples is given, from its records."""
    runs, anatomical = subject.runs, subject.anatomical
    inputs: dict[str, Any] = {}
    t1w = [str(record.t1w) for record in subject.anatomies()]
    if t1w:
        inputs["t1w"], inputs["t1w_index"] = t1w, subject.t1w_index()
    if modality != "bold":
        images = [str(record.image) for record in anatomical]
        inputs[IMAGE_PORTS[modality]] = images
        inputs["anatomical_rows"] = anatomical_rows(anatomical, classes).to_dict("records")
        own = images if modality != "T1w" else []
    else:
        own = [str(run.bold) for run in runs]
        inputs |= {
            "bold": own,
            "events": [str(run.events) for run in runs],
            "repetition_time": [run.tr for run in runs],
            "entities": [{**run.entities, "run": run.run} for run in runs],
            "dummies": [run.dummies for run in runs],
        }
        if all(run.confounds is not None for run in runs):
            inputs["in_confounds"] = [str(run.confounds) for run in runs]
    inputs["names"] = [Path(path).name for path in (*t1w, *own)]
    return inputs


def _write_preprocessed(
    workflow: pe.Workflow,
    subject: SubjectRecord,
    space: str,
    settings: Mapping[str, Any],
    output_dir: Path | str,
    bids_dir: Path | str,
) -> None:
    """Add the figures and files of a raw engine, which are written even where a registration failed."""
    samples_wf, write_samples = workflow.get_node("samples_wf"), workflow.get_node("write")
    modality = settings["modality"]
    inputs = samples_wf.inputs.inputnode
    figures_wf = init_figures_wf(modality=modality, space=space)
    for port in ("template", "template_mask", "t1w_index", "repetition_time"):
        setattr(figures_wf.inputs.inputnode, port, getattr(inputs, port))
    write = pe.Node(
        WritePreprocessed(
            output_dir=str(output_dir),
            subject=subject.subject,
            space=space,
            settings={**settings},
            bids_dir=str(bids_dir),
            t1w_entities=[_session_entities(record.t1w_entities) for record in subject.anatomies()],
            t1w_sources=inputs.t1w,
            flair_entities=[dict(record.entities) for record in subject.anatomical],
            flair_sources=[str(record.image) for record in subject.anatomical],
            run_entities=[dict(run.entities) for run in subject.runs],
            run_sources=[str(run.bold) for run in subject.runs],
            repetition_time=[run.tr for run in subject.runs],
        ),
        name="write_preprocessed",
    )
    made = set(samples_wf.get_node("preproc_wf").get_node("outputnode").inputs.copyable_trait_names())
    of_port = {
        "bold": ("t1w", "brain", "bold", "hmc", "reference", "confounds"),
        "t1w": ("t1w", "brain"),
        "flair": ("t1w", "brain", "flair"),
    }
    of_modality = of_port[IMAGE_PORTS[modality]]
    made = {port for port in made if port.split("_")[0].removesuffix("ref") in of_modality}
    for target, name, ports in (
        (figures_wf, "inputnode.{}", figures_wf.get_node("inputnode").inputs.copyable_trait_names()),
        (write, "{}", write.inputs.copyable_trait_names()),
    ):
        wanted = sorted(made & set(ports))
        workflow.connect([
            (samples_wf, target, [(f"preproc_wf.outputnode.{port}", name.format(port)) for port in wanted]),
        ])  # fmt: skip
    of_images = {"bold": ("coregistration", "run"), "t1w": (), "flair": ("flair",)}
    figures = of_images[IMAGE_PORTS[modality]]
    workflow.connect([
        (figures_wf, write, [(f"outputnode.{figure}", f"{figure}_figure")
                             for figure in ("brain", "registration", *figures)]),
        (write, write_samples, [("out_files", "after")]),
    ])  # fmt: skip


def _session_entities(entities: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in entities.items() if name in ("subject", "session", "run")}


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "name"}
