"""What a call does, stage by stage."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_xai import __version__
from bids_xai.atlases.sources import check_atlas
from bids_xai.atlases.spaces import space_note
from bids_xai.atomic import sweep
from bids_xai.bids.container import container_of
from bids_xai.bids.descriptions import PROGRAM, maker_of, write_description
from bids_xai.bids.missing import LEFT_OUT
from bids_xai.bids.query import SubjectRecord
from bids_xai.bids.results import SampleSet
from bids_xai.bids.validation import run_validator
from bids_xai.cli.absences import NOT_PART, find_absences, kept_warnings
from bids_xai.cli.groups import find_written, provenance, run_group, software_of
from bids_xai.cli.network_plan import check_networks_memory, plan_networks, print_networks_plan
from bids_xai.cli.networks import run_networks
from bids_xai.cli.parser import Request
from bids_xai.cli.participants import check_participants_memory, query_dataset, run_participants
from bids_xai.cli.plan import check_plan_memory, plan_group, print_plan, with_split
from bids_xai.cli.study import compare_variants
from bids_xai.cli.target import check_derivatives_used, check_programs, complete, with_grid
from bids_xai.errors import InputError
from bids_xai.execution.full_disk import naming_folders
from bids_xai.execution.graphs import APP_FOLDER
from bids_xai.execution.locks import Run, alone, refuse_while_running
from bids_xai.execution.plugins import check_batch_folder, chosen_plugin, configure_nipype, planned_device
from bids_xai.execution.resources import resources, warn_of_excess
from bids_xai.execution.workdir import (
    check_kinds,
    check_work_dir,
    check_writable,
    empty_work_dir,
    make_private,
    refuse_links_into_input,
)
from bids_xai.settings import write_file

LOGGER = logging.getLogger("bids_xai")
REGISTRATION_STUDY = ("none", "affine", "syn")


def execute(request: Request) -> int:
    """Do what the request asks for and return the exit code.

    Raises
    ------
    InputError
        Something in the input is wrong; nothing has been written.
    FullDiskError
        The disk of the output or of the working folder is full.
    """
    folders = {"output folder": request.output_dir, "working folder": request.settings.execution.work_dir}
    with naming_folders(folders):
        return _execute(request)


def _execute(request: Request) -> int:
    _check_folders(request.bids_dir, request.output_dir, request.settings.selection.derivatives)
    execution = request.settings.execution
    inputs = (request.bids_dir, *request.settings.selection.derivatives)
    refuse_links_into_input(request.output_dir, inputs)
    check_kinds(request.output_dir)
    check_work_dir(
        execution.work_dir,
        request.bids_dir,
        request.output_dir,
        request.settings.selection.derivatives,
        clean=execution.clean_workdir,
    )
    if request.settings.preprocessing.registration_study:
        codes = [execute(variant) for variant in _variants(request)]
        if "group" in request.levels and request.settings.is_network and not request.dry_run:
            names = [f"registration-{kind}" for kind in REGISTRATION_STUDY]
            table = compare_variants(request.output_dir, names)
            if table is not None:
                print(f"Comparison of the registrations: {table}")
        return max(codes)
    if request.reports_only or request.boilerplate_only:
        return _write_reports(request)
    if execution.clean_workdir and not request.dry_run:
        refuse_while_running(execution.work_dir.absolute() / APP_FOLDER)
        # Reading the input may leave a mask there.
        empty_work_dir(execution.work_dir)
    request, subjects, found, absent = _check_input(request)
    if "participant" in request.levels and not subjects:
        return _nothing_to_do(request)
    warn_of_excess(request.settings.execution)
    if request.dry_run:
        return _show_plan(request, subjects, found)
    check_writable(request.output_dir)
    work = make_private(execution.work_dir)
    run = Run.here([subject.subject for subject in subjects], group="group" in request.levels)
    with alone([request.output_dir / "logs", work], run, wait=execution.wait) as others:
        if run.group:
            notes = [f"The group level goes without what is still being made by {it.words}." for it in others]
            for note in notes:
                LOGGER.warning("%s", note)
            request = replace(request, warnings=(*request.warnings, *notes))
        return _run_levels(request, subjects, absent)


def _show_plan(request: Request, subjects: list[SubjectRecord], found: list[SampleSet]) -> int:
    settings, available = request.settings, resources(request.settings.execution)
    show = print_networks_plan if settings.is_network else print_plan
    show(settings, subjects, found, request.bids_dir, available.n_procs, available.memory_gb)
    return 0


def _run_levels(request: Request, subjects: list[SubjectRecord], absent: Sequence[str]) -> int:
    settings = request.settings
    _prepare_folders(request)
    failures: dict[str, str] = {}
    if subjects:
        failures = run_participants(request, subjects)
        all_failed = all(subject.subject in failures for subject in subjects)
        if all_failed or (failures and settings.execution.stop_on_first_crash):
            return _finish(request, failures)
    if "group" in request.levels:
        failures |= _run_group(request, failures)
    return _finish(request, failures, absent)


def _run_group(request: Request, failures: Mapping[str, str]) -> dict[str, str]:
    """Run the group level without what failed before it; return what failed.

    Raises
    ------
    InputError
        What is there cannot be classified, and nothing failed that would be missing.
    """
    run = run_networks if request.settings.is_network else run_group
    try:
        return run(request, failed_subjects=sorted(failures))
    except InputError as error:
        if not failures:
            raise
        names = ", ".join(f"sub-{name}" for name in failures)
        LOGGER.error("The group level cannot be run without what failed (%s): %s", names, error)
        return {"group": "what failed before it"}


def _nothing_to_do(request: Request) -> int:
    """Say that no image of those chosen is of a class; a job of one participant is then done."""
    labels = ", ".join(
        f"sub-{label.removeprefix('sub-')}" for label in request.settings.selection.participant_label
    )
    samples = request.settings.samples
    if "group" in request.levels:
        raise InputError(
            f"No image of {labels or 'any participant'} is of a class of {samples.target}.",
            "images of two classes",
            "; ".join(request.warnings) or "change --classes, --target or --participant-label",
        )
    LOGGER.warning("Nothing to do: no image of %s is of a class of %s.", labels, samples.target)
    return 0


def _variants(request: Request) -> list[Request]:
    """Return a request for each registration of the study (Klingenberg et al. 2021), each with its folder."""
    chosen, execution = request.settings.preprocessing, request.settings.execution
    if chosen.registration is not None:
        raise InputError(
            f"--registration-study and --registration {chosen.registration}.",
            "one of them: the study runs each of none, affine and syn",
            "leave out --registration",
        )
    return [
        replace(
            request,
            output_dir=request.output_dir / f"registration-{kind}",
            settings=replace(
                request.settings,
                preprocessing=replace(chosen, registration=kind, registration_study=False),
                # What the first has made serves the others.
                execution=replace(execution, clean_workdir=execution.clean_workdir and number == 0),
            ),
        )
        for number, kind in enumerate(REGISTRATION_STUDY)
    ]


def _check_input(request: Request) -> tuple[Request, list[SubjectRecord], list[SampleSet], tuple[str, ...]]:
    """Return what will be read, raw by the participant level or written by it, once all of it is checked.

    The request comes back with those settings filled in that depend on the input, and with what was found odd
    in it; last come the labels of ``--participant-label`` that have no samples.
    """
    absent: tuple[str, ...] = ()
    with kept_warnings() as kept:
        request, subjects, found = _find_input(request)
        if found:
            absent = find_absences(request, found)
        try:
            request = _check_plan(request, subjects, found)
        except InputError as error:
            # What is left may be too little for the design: then its cause is who is not there.
            causes = [text for text in kept if text.startswith((LEFT_OUT, NOT_PART))]
            raise InputError(" ".join([error.found, *causes]), error.expected, error.remedy) from error
    return replace(request, warnings=tuple(kept)), subjects, found, absent


def _find_input(request: Request) -> tuple[Request, list[SubjectRecord], list[SampleSet]]:
    planned_device(request.settings.execution)
    check_batch_folder(request.settings.execution)
    # On a cluster's machines there may be more memory than here.
    nodes_run_elsewhere = chosen_plugin(request.settings.execution).is_elsewhere
    settings = complete(request.settings)
    subjects = []
    if "participant" in request.levels:
        check_programs(settings)
        subjects = query_dataset(request.bids_dir, settings, request.output_dir)
        check_derivatives_used(settings)
        settings = with_grid(settings, subjects) if subjects else settings
        if subjects and not nodes_run_elsewhere:
            check_participants_memory(settings, subjects, resources(settings.execution))
    request = replace(request, settings=settings)
    request.check_used()
    found = [] if "participant" in request.levels else find_written(request)
    return request, subjects, found


def _check_plan(request: Request, subjects: list[SubjectRecord], found: list[SampleSet]) -> Request:
    """Raise InputError unless what was found can be classified as asked, with the memory that there is."""
    settings = request.settings
    if "group" in request.levels and (subjects or found):
        plan = plan_networks if settings.is_network else plan_group
        design = plan(settings, subjects, found, request.bids_dir)[0]
        settings = with_split(settings, design)
        request = replace(request, settings=settings)
        if not chosen_plugin(settings.execution).is_elsewhere:
            check_memory = check_networks_memory if settings.is_network else check_plan_memory
            check_memory(settings, subjects, found, design, resources(settings.execution))
        for atlas in settings.inference.atlas:
            check_atlas(atlas)
            note = space_note(atlas, found[0].space if found else settings.preprocessing.space)
            if note and not request.dry_run:  # whose plan says so itself
                LOGGER.warning("%s", note)
    if subjects and not settings.selection.skip_bids_validation:
        run_validator(request.bids_dir, [subject.subject for subject in subjects])
    return request


def _prepare_folders(request: Request) -> None:
    execution = request.settings.execution
    logs = request.output_dir / "logs"
    work = execution.work_dir.absolute() / APP_FOLDER
    sweep(request.output_dir)
    sweep(work, deep=False)
    for folder in ("templates", "masks"):
        sweep(work / folder)
    write_file(request.settings, logs / "config.toml")
    _describe(request)
    configure_nipype(execution, logs, work, request.verbosity)


def _describe(request: Request) -> None:
    sources = {"raw": request.bids_dir}
    for number, path in enumerate(request.settings.selection.derivatives, start=1):
        sources[f"derivatives{number}"] = path.absolute()
    name = provenance(request)["dataset"]
    write_description(
        request.output_dir,
        name=f"bids_xai: {name}",
        version=__version__,
        sources=sources,
        container=container_of(os.environ),
        software=software_of(request),
    )


def _check_folders(bids_dir: Path, output_dir: Path, derivatives: Sequence[Path] = ()) -> None:
    source, target = bids_dir.resolve(), output_dir.resolve()
    # A folder of one's own among the derivatives is where BIDS has results.
    among_derivatives = source / "derivatives" in target.parents
    if target == source or (source in target.parents and not among_derivatives):
        raise InputError(
            f"The output folder {output_dir} lies in the input dataset {bids_dir}.",
            f"a folder outside it, or one in {bids_dir / 'derivatives'}: the input is never written to",
            "name another OUT",
        )
    if target.exists() and not target.is_dir():
        raise InputError(f"The output {output_dir} is a file.", "a folder", "name another OUT")
    if target in [folder.resolve() for folder in derivatives]:
        raise InputError(
            f"The output folder {output_dir} is one of --derivatives.",
            "a folder of its own: the input is never written to",
            "name another OUT",
        )
    maker = maker_of(output_dir)
    if maker not in (None, PROGRAM):
        raise InputError(
            f"The output folder {output_dir} holds a dataset by {maker}.",
            "a folder of its own",
            "name another OUT",
        )


def _write_reports(request: Request) -> int:
    from bids_xai.reports import write_citations, write_group_report, write_subject_report

    output_dir = request.output_dir
    grouped = os.path.lexists(output_dir / "group" / "results.json")
    subjects = sorted(path.name[4:] for path in output_dir.glob("sub-*") if path.is_dir())
    if not grouped and (request.boilerplate_only or not subjects):
        raise InputError(
            f"{output_dir} holds no {'group ' if subjects else ''}results.",
            "group/results.json" if subjects else "sub-*/, group/results.json",
            "run the analysis first",
        )
    if grouped:
        write_citations(output_dir)
    if request.reports_only:
        for subject in subjects:
            print(f"Report: {write_subject_report(output_dir, subject)}")
        if grouped:
            print(f"Report: {write_group_report(output_dir)}")
    return 0


def _finish(request: Request, failures: Mapping[str, str], absent: Sequence[str] = ()) -> int:
    """Name what failed, and the reports; return 1 if anything failed or somebody asked for is not there."""
    for name, crash in failures.items():
        what = name if name == "group" else f"sub-{name}"
        LOGGER.error("%s failed; see %s", what, crash)
    reports = [path for path in (request.output_dir / "group.html",) if path.exists()]
    if "group" not in request.levels:
        reports = sorted(request.output_dir.glob("sub-*.html"))
    for report in reports:
        print(f"Report: {report}")
    for label in absent:
        LOGGER.error(
            "sub-%s was asked for (--participant-label) and has no results of the participant level", label
        )
    return 1 if failures or absent else 0
