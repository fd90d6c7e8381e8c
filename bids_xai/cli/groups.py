"""The group level: what it reads, and its graph."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nb

from bids_xai.atomic import whole_file
from bids_xai.bids.results import SampleSet, find_samples
from bids_xai.bids.sidecars import MAY_HAVE_NO_EFFECT, settings_in
from bids_xai.cli.parser import Request
from bids_xai.cli.plan import count_voxels, plan_group, repetitions
from bids_xai.cli.target import save_template
from bids_xai.errors import InputError
from bids_xai.execution.graphs import APP_FOLDER, NO_CRASH_FILE, run_graph
from bids_xai.execution.memory import GroupMemory, group_memory
from bids_xai.execution.plugins import planned_device
from bids_xai.execution.progress import Progress
from bids_xai.execution.resources import resources
from bids_xai.images.templates import template_image
from bids_xai.settings import Settings, departures
from bids_xai.text_files import read_json_object

LOGGER = logging.getLogger("bids_xai")


def run_group(request: Request, *, failed_subjects: list[str]) -> dict[str, str]:
    """Classify, explain and report; return what failed."""
    from bids_xai.workflows.base import init_group_wf
    from bids_xai.workflows.memory import declare_memory

    settings = request.settings
    found = find_written(request, excluding=failed_subjects)
    design, _ = plan_group(settings, [], found, request.bids_dir)
    n_voxels, available = count_voxels(settings, [], found), resources(settings.execution)
    memory = group_memory(settings, design, n_voxels, available)
    workflow = init_group_wf(
        output_dir=request.output_dir,
        classes=design.classes,
        provenance={**origin_of(request, found), "failed_subjects": failed_subjects},
        **group_settings(settings, memory),
    )
    declare_memory(workflow, memory.size)
    n_folds = len(design.folds)
    progress = Progress("Group", repetitions(settings) * n_folds, "models", per_repetition=n_folds)
    return run_on_written(workflow, request, found, progress)


def run_on_written(
    workflow: Any, request: Request, found: list[SampleSet], progress: Progress
) -> dict[str, str]:
    """Run a graph of the group level on what the participant level wrote; return what failed."""
    workflow.inputs.inputnode.samples = [str(item.samples) for item in found]
    workflow.inputs.inputnode.rows = [str(item.rows) for item in found]
    workflow.inputs.inputnode.masks = [str(item.mask) for item in found]
    background = _background(found[0].space, request)
    if background is not None:
        workflow.inputs.inputnode.background = str(background)
    report = request.output_dir / "group.html"
    began = time.time()
    crashes = run_graph(workflow, request.settings.execution, request.output_dir, progress)
    if crashes:
        return {"group": str(next(iter(crashes.values())))}
    return {} if report.exists() and report.stat().st_mtime >= began - 1 else {"group": NO_CRASH_FILE}


def group_settings(settings: Settings, memory: GroupMemory | None = None) -> dict[str, Any]:
    """Return the parameters of :func:`bids_xai.workflows.group.init_group_wf` that settings hold.

    Parameters
    ----------
    settings
        All settings.
    memory
        Memory of the nodes, if the size of the data is known.
    """
    decoding, inference, execution = settings.decoding, settings.inference, settings.execution
    return {
        "cv": decoding.cv,
        "n_folds": decoding.n_folds,
        "n_repeats": decoding.n_repeats,
        "model": decoding.model,
        "training": {
            name: value
            for name in ("learning_rate", "batch_size", "n_updates", "l2", "clip", "bias")
            if (value := getattr(decoding, name)) is not None
        },
        "precision": decoding.precision,
        "importance": inference.importance,
        "importance_samples": inference.importance_samples,
        "map_values": inference.map_values,
        "n_runs": inference.n_runs,
        "n_permutations": inference.n_permutations,
        "n_null": inference.n_null,
        "alpha": inference.alpha,
        "permute": inference.permute,
        "tail": inference.tail,
        "tail_fit": inference.tail_fit,
        "exchange_within": inference.exchange_within,
        "stop_after_exceedances": inference.stop_after_exceedances,
        "atlas": inference.atlas,
        "map_scale": inference.map_scale,
        "random_seed": decoding.random_seed,
        "chunk_size": execution.chunk_size,
        "device": planned_device(execution),
        "omp_nthreads": execution.omp_nthreads,
        "low_mem": execution.low_mem,
        **({} if memory is None else {"weights_at_once": memory.weights_at_once}),
    }


def provenance(request: Request) -> dict[str, Any]:
    """Return what sidecars and reports say of the origin of the results."""
    description = read_json_object(request.bids_dir / "dataset_description.json")
    return {
        "dataset": str(description.get("Name", request.bids_dir.name)),
        "bids_dir": str(request.bids_dir),
        "derivatives": [str(path.absolute()) for path in request.settings.selection.derivatives],
        "settings": request.settings.flat(),
        "warnings": list(request.warnings),
        # A study runs its variants one by one.
        "preset_departures": [name for name in departures(request.settings) if name != "registration_study"],
    }


def software_of(request: Request) -> dict[str, str]:
    """Return the versions of the programs that preprocess, by name: FSL's, which is not part of this package.

    The group level may run where FSL is not: there, what the participant level wrote down holds.
    """
    if request.settings.preprocessing.preproc != "fsl":
        return {}
    from bids_xai.workflows.fsl import UNKNOWN_VERSION, fsl_version

    version = fsl_version()
    path = request.output_dir / "dataset_description.json"
    if version == UNKNOWN_VERSION and path.is_file():
        written = read_json_object(path).get("GeneratedBy") or []
        named = [entry.get("Version") for entry in written if entry.get("Name") == "FSL"]
        version = str(named[0]) if named else version
    return {"FSL": version}


def _background(space: str | None, request: Request) -> Path | None:
    """Write the template that figures show maps on, if the space has one here."""
    if space is None:
        return None
    execution = request.settings.execution
    if request.settings.preprocessing.template is not None:
        return save_template(request.settings, execution.work_dir.absolute() / APP_FOLDER).t1w
    path = execution.work_dir.absolute() / APP_FOLDER / f"tpl-{space}_res-2_T1w.nii.gz"
    try:
        image = template_image(space, 2.0, allow_downloads=execution.allow_downloads)
    except InputError as error:
        LOGGER.warning("Figures have no background: %s", error)
        return None
    with whole_file(path) as temporary:
        nb.save(image, temporary)
    return path


def origin_of(request: Request, found: list[SampleSet]) -> dict[str, Any]:
    """Return what reports say of where samples come from: of the call, and as their sidecars say.

    ``preprocessing`` has, for every description of what was done to images, ``text`` and the ``n_files`` of
    samples that it is of; ``warnings`` are those of the participant level.
    """
    described = Counter(str(item.metadata.get("PreprocessingDescription", "")) for item in found)
    call, metadata = provenance(request), dict(found[0].metadata)
    for key in MAY_HAVE_NO_EFFECT:
        # What some runs were too short for was done to the others.
        metadata |= next(
            ({key: item.metadata[key]} for item in found if item.metadata.get(key) is not None), {}
        )
    return {
        **call,
        "space": found[0].space,
        "resolution": found[0].resolution,
        "settings": settings_in(metadata, call["settings"]),
        "preprocessing": [{"text": text, "n_files": n} for text, n in described.items() if text],
        "warnings": [*call["warnings"], *warnings_of(found)],
    }


def warnings_of(found: Sequence[SampleSet]) -> list[str]:
    """Return what the sidecars of samples warn of; what several say is said once, with the first's name."""
    names: dict[str, list[str]] = {}
    for item in found:
        for text in item.metadata.get("Warnings") or ():
            names.setdefault(str(text), []).append(item.samples.name.removesuffix(".nii.gz"))
    return [
        # Some name their file themselves.
        text if "sub-" in text else f"{own[0]}{f' and {len(own) - 1} more' if len(own) > 1 else ''}: {text}"
        for text, own in names.items()
    ]


def find_written(request: Request, excluding: list[str] | None = None) -> list[SampleSet]:
    """Return the samples that the participant level wrote and the request selects."""
    chosen, modality = request.settings.selection, request.settings.preprocessing.modality
    return find_samples(
        request.output_dir,
        participant_label=chosen.participant_label,
        session_label=chosen.session_label,
        task_id=chosen.task_id,
        run_id=chosen.run_id,
        sample=request.settings.samples.sample if modality == "bold" else modality,
        excluding=excluding or (),
    )
