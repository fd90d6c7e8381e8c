"""What a call does, stage by stage."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nb

from bids_xai import __version__
from bids_xai.atlases.sources import check_atlas
from bids_xai.bids.descriptions import write_description
from bids_xai.bids.events import resolve_classes
from bids_xai.bids.filters import read_filter_file
from bids_xai.bids.query import SubjectRecord, query
from bids_xai.bids.results import SampleSet, find_samples
from bids_xai.bids.validation import run_validator
from bids_xai.cli.parser import Request
from bids_xai.cli.plan import class_names, plan_group, print_plan
from bids_xai.cli.plugins import configure_nipype, processors, quiet_collector, run_arguments
from bids_xai.cli.progress import Progress
from bids_xai.decoding.softmax import resolve_device
from bids_xai.errors import InputError
from bids_xai.images.templates import template_image
from bids_xai.settings import Settings, write_file

LOGGER = logging.getLogger("bids_xai")
APP_FOLDER = "bids_xai"
NO_CRASH_FILE = "no crash file was written"


def execute(request: Request) -> int:
    """Do what the request asks for and return the exit code.

    Raises
    ------
    InputError
        Something in the input is wrong; nothing has been written.
    """
    _check_folders(request.bids_dir, request.output_dir)
    if request.reports_only or request.boilerplate_only:
        return _write_reports(request)
    subjects, found = _check_input(request)
    settings = request.settings
    if request.dry_run:
        print_plan(settings, subjects, found, settings.execution.nprocs or processors())
        return 0

    _prepare_folders(request)
    failures: dict[str, str] = {}
    if subjects:
        failures = run_participants(request, subjects)
        if len(failures) == len(subjects) or (failures and settings.execution.stop_on_first_crash):
            return _finish(request, failures)
    if "group" in request.levels:
        failures |= run_group(request, failed_subjects=sorted(failures))
    return _finish(request, failures)


def _check_input(request: Request) -> tuple[list[SubjectRecord], list[SampleSet]]:
    """Return what will be read, raw by the participant level or written by it, once all of it is checked."""
    settings = request.settings
    resolve_device(settings.execution.device)
    subjects = query_dataset(request.bids_dir, settings) if "participant" in request.levels else []
    found = [] if subjects else _find(request)
    if "group" in request.levels:
        plan_group(settings, subjects, found)
        for atlas in settings.inference.atlas:
            check_atlas(atlas)
    if subjects and not settings.selection.skip_bids_validation:
        run_validator(request.bids_dir)
    return subjects, found


def _prepare_folders(request: Request) -> None:
    execution = request.settings.execution
    _check_writable(request.output_dir)
    logs = request.output_dir / "logs"
    write_file(request.settings, logs / "config.toml")
    _describe(request)
    work = execution.work_dir.absolute() / APP_FOLDER
    if execution.clean_workdir:
        shutil.rmtree(work, ignore_errors=True)
    configure_nipype(execution, logs, work, request.verbosity)


def query_dataset(bids_dir: Path, settings: Settings) -> list[SubjectRecord]:
    """Find the runs to read, or refuse the dataset (:func:`bids_xai.bids.query.query`)."""
    chosen, images, samples = settings.selection, settings.preprocessing, settings.samples
    return query(
        bids_dir,
        derivatives=chosen.derivatives,
        preproc=images.preproc,
        participant_label=chosen.participant_label,
        session_label=chosen.session_label,
        task_id=chosen.task_id,
        run_id=chosen.run_id,
        bids_filters=read_filter_file(chosen.bids_filter_file) if chosen.bids_filter_file else None,
        database_dir=chosen.bids_database_dir,
        space=images.space,
        mask=images.mask,
        confounds=images.confounds,
        resolution=images.resolution,
        allow_downloads=settings.execution.allow_downloads,
        work_dir=settings.execution.work_dir / APP_FOLDER,
        target=samples.target,
        classes=samples.classes,
        sample=samples.sample,
        window=samples.window,
        window_anchor=samples.window_anchor,
        hrf_shift=samples.hrf_shift,
    )


def run_participants(request: Request, subjects: list[SubjectRecord]) -> dict[str, str]:
    """Make and write the samples of every subject; return what failed, by subject."""
    from bids_xai.workflows.base import init_participants_wf

    settings, output_dir = request.settings, request.output_dir
    images, samples = settings.preprocessing, settings.samples
    workflow = init_participants_wf(
        subjects,
        output_dir,
        preproc=images.preproc,
        space=images.space,
        resolution=images.resolution,
        detrend=images.detrend,
        high_pass=1 / 128 if images.high_pass is None else images.high_pass,
        high_pass_sigma=images.high_pass_sigma,
        confounds=images.confounds,
        standardize=images.standardize,
        target=samples.target,
        classes=resolve_classes(
            [run.events for subject in subjects for run in subject.runs], samples.target, samples.classes
        ),
        sample=samples.sample,
        window=samples.window,
        window_anchor=samples.window_anchor,
        hrf_shift=samples.hrf_shift,
        bids_dir=request.bids_dir,
    )
    nodes = [name for name in workflow.list_node_names() if not name.endswith(("inputnode", "outputnode"))]
    progress = Progress("Participants", len(nodes), "nodes")
    crashes = _run(workflow, request, progress)
    done = {found.subject for found in find_samples(output_dir, strict=False)}
    failures = {subject.subject: NO_CRASH_FILE for subject in subjects if subject.subject not in done}
    for folder, path in crashes.items():
        failures |= {
            subject.subject: str(path) for subject in subjects if f"/sub_{subject.subject}_wf/" in folder
        }
    return failures


def run_group(request: Request, *, failed_subjects: list[str]) -> dict[str, str]:
    """Classify, explain and report; return what failed."""
    from bids_xai.workflows.base import init_group_wf

    settings = request.settings
    found = _find(request, excluding=failed_subjects)
    workflow = init_group_wf(
        output_dir=request.output_dir,
        classes=class_names(settings, found),
        provenance={**provenance(request), "failed_subjects": failed_subjects, **_common(found)},
        **group_settings(settings),
    )
    workflow.inputs.inputnode.samples = [str(item.samples) for item in found]
    workflow.inputs.inputnode.rows = [str(item.rows) for item in found]
    workflow.inputs.inputnode.masks = [str(item.mask) for item in found]
    background = _background(found[0].space, request)
    if background is not None:
        workflow.inputs.inputnode.background = str(background)
    inference = settings.inference
    total = inference.n_runs + inference.n_permutations + inference.n_null
    report = request.output_dir / "group.html"
    began = time.time()
    crashes = _run(workflow, request, Progress("Group", total, "trainings"))
    if crashes:
        return {"group": str(next(iter(crashes.values())))}
    return {} if report.exists() and report.stat().st_mtime >= began - 1 else {"group": NO_CRASH_FILE}


def group_settings(settings: Settings) -> dict[str, Any]:
    """Return the parameters of :func:`bids_xai.workflows.group.init_group_wf` that settings hold."""
    decoding, inference, execution = settings.decoding, settings.inference, settings.execution
    return {
        "cv": decoding.cv,
        "n_folds": decoding.n_folds,
        "model": decoding.model,
        "training": {
            "learning_rate": decoding.learning_rate,
            "batch_size": decoding.batch_size,
            "n_updates": decoding.n_updates,
            "l2": decoding.l2,
        },
        "importance": inference.importance,
        "importance_samples": inference.importance_samples,
        "n_runs": inference.n_runs,
        "n_permutations": inference.n_permutations,
        "n_null": inference.n_null,
        "alpha": inference.alpha,
        "permute": inference.permute,
        "tail": inference.tail,
        "atlas": inference.atlas,
        "map_scale": inference.map_scale,
        "random_seed": decoding.random_seed,
        "chunk_size": execution.chunk_size,
        "device": resolve_device(execution.device),
        "omp_nthreads": execution.omp_nthreads,
    }


def provenance(request: Request) -> dict[str, Any]:
    """Return what sidecars and reports say of the origin of the results."""
    description = json.loads((request.bids_dir / "dataset_description.json").read_text(encoding="utf-8"))
    return {
        "dataset": str(description.get("Name", request.bids_dir.name)),
        "bids_dir": str(request.bids_dir),
        "derivatives": [str(path.absolute()) for path in request.settings.selection.derivatives],
        "settings": request.settings.flat(),
    }


def _describe(request: Request) -> None:
    sources = {"raw": request.bids_dir}
    for number, path in enumerate(request.settings.selection.derivatives, start=1):
        sources[f"derivatives{number}"] = path.absolute()
    name = provenance(request)["dataset"]
    write_description(request.output_dir, name=f"bids_xai: {name}", version=__version__, sources=sources)


def _background(space: str | None, request: Request) -> Path | None:
    """Write the template that figures show maps on, if the space has one here."""
    if space is None:
        return None
    execution = request.settings.execution
    path = execution.work_dir.absolute() / APP_FOLDER / f"tpl-{space}_res-2_T1w.nii.gz"
    try:
        image = template_image(space, 2.0, allow_downloads=execution.allow_downloads)
    except InputError as error:
        LOGGER.warning("Figures have no background: %s", error)
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.save(image, path)
    return path


def _common(found: list[SampleSet]) -> Mapping[str, Any]:
    return {"space": found[0].space, "resolution": found[0].resolution}


def _find(request: Request, excluding: list[str] | None = None) -> list[SampleSet]:
    chosen = request.settings.selection
    return find_samples(
        request.output_dir,
        participant_label=chosen.participant_label,
        session_label=chosen.session_label,
        task_id=chosen.task_id,
        run_id=chosen.run_id,
        sample=request.settings.samples.sample,
        excluding=excluding or (),
    )


def _run(workflow: Any, request: Request, progress: Progress) -> dict[str, Path]:
    """Run a graph and return its crash files by the working folder of the node."""
    execution, logs = request.settings.execution, request.output_dir / "logs"
    workflow.base_dir = str(execution.work_dir.absolute() / APP_FOLDER)
    if execution.write_graph:
        _write_graph(workflow, logs / f"{workflow.name}.dot")
    began = time.time()
    try:
        with quiet_collector():
            workflow.run(**run_arguments(execution, progress))
    except (RuntimeError, OSError) as error:
        # nipype says this way that nodes failed; each has a crash file.
        LOGGER.debug("%s", error)
    finally:
        progress.close()
    return _crashes(logs, began - 1)


def _write_graph(workflow: Any, target: Path) -> None:
    """Write the graph as SVG, and as text alone where Graphviz is not installed."""
    if shutil.which("dot"):
        workflow.write_graph(graph2use="colored", dotfilename=str(target), format="svg")
    else:
        workflow.write_hierarchical_dotfile(dotfilename=str(target), colored=True, simple_form=True)
        LOGGER.warning("Graphviz's 'dot' is not installed: the graph is written as text to %s.", target)


def _crashes(logs: Path, since: float) -> dict[str, Path]:
    """Return the crash files written since a moment, by the working folder of the node."""
    crashes = {}
    for path in sorted(logs.glob("crash-*.txt")):
        if path.stat().st_mtime >= since:
            text = path.read_text(encoding="utf-8", errors="replace")
            match = re.search(r"^Working directory: (.+)$", text, re.MULTILINE)
            crashes[match.group(1) if match else path.name] = path
    return crashes


def _check_folders(bids_dir: Path, output_dir: Path) -> None:
    source, target = bids_dir.resolve(), output_dir.resolve()
    if target == source or source in target.parents:
        raise InputError(
            f"The output folder {output_dir} lies in the input dataset {bids_dir}.",
            "a folder outside it: the input is never written to",
            "name another OUT",
        )
    if target.exists() and not target.is_dir():
        raise InputError(f"The output {output_dir} is a file.", "a folder", "name another OUT")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be written to: {error.strerror}.",
            "a folder that this user may write",
            "change its permissions or name another OUT",
        ) from error


def _write_reports(request: Request) -> int:
    from bids_xai.reports import write_citations, write_group_report, write_subject_report

    output_dir = request.output_dir
    if not (output_dir / "group" / "results.json").exists():
        raise InputError(
            f"{output_dir} holds no group results.", "group/results.json", "run the group level first"
        )
    write_citations(output_dir)
    if request.reports_only:
        for subject in sorted({found.subject for found in find_samples(output_dir)}):
            write_subject_report(output_dir, subject)
        print(f"Report: {write_group_report(output_dir)}")
    return 0


def _finish(request: Request, failures: Mapping[str, str]) -> int:
    for name, crash in failures.items():
        what = name if name == "group" else f"sub-{name}"
        LOGGER.error("%s failed; see %s", what, crash)
    reports = [path for path in (request.output_dir / "group.html",) if path.exists()]
    if "group" not in request.levels:
        reports = sorted(request.output_dir.glob("sub-*.html"))
    for report in reports:
        print(f"Report: {report}")
    return 1 if failures else 0
