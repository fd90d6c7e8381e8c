"""The participant level: what it reads, and the graphs of its subjects."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from bids_xai.bids.anatomical import anatomical_classes
from bids_xai.bids.events import resolve_classes
from bids_xai.bids.exchange import OF_ROWS
from bids_xai.bids.filters import read_filter_file
from bids_xai.bids.query import SubjectRecord, query
from bids_xai.bids.results import find_samples
from bids_xai.cli.parser import Request
from bids_xai.cli.plan import expected_rows
from bids_xai.cli.target import needs_template, save_template, template_grid
from bids_xai.execution.graphs import APP_FOLDER, NO_CRASH_FILE, run_graph
from bids_xai.execution.memory import refuse_excess
from bids_xai.execution.progress import Progress
from bids_xai.execution.resources import Resources
from bids_xai.settings import Settings
from bids_xai.tables import alike_text

LOGGER = logging.getLogger("bids_xai.bids")


def query_dataset(bids_dir: Path, settings: Settings, output_dir: Path | None = None) -> list[SubjectRecord]:
    """Find the runs to read, or refuse the dataset (:func:`bids_xai.bids.query.query`)."""
    chosen, images, samples = settings.selection, settings.preprocessing, settings.samples
    subjects = query(
        bids_dir,
        derivatives=chosen.derivatives,
        modality=images.modality,
        preproc=images.preproc,
        participant_label=chosen.participant_label,
        session_label=chosen.session_label,
        task_id=chosen.task_id,
        run_id=chosen.run_id,
        bids_filters=read_filter_file(chosen.bids_filter_file) if chosen.bids_filter_file else None,
        database_dir=chosen.bids_database_dir,
        # A template of the user's own has a name of its own.
        space=images.space if images.template is None else None,
        mask=images.mask,
        confounds=images.confounds,
        resolution=images.resolution,
        dummy_scans=images.dummy_scans,
        fd_threshold=images.fd_threshold,
        allow_downloads=settings.execution.allow_downloads,
        work_dir=settings.execution.work_dir / APP_FOLDER,
        target=samples.target,
        classes=samples.classes,
        merge_events=samples.merge_events,
        sample=samples.sample,
        window=samples.window,
        window_anchor=samples.window_anchor,
        hrf_shift=samples.hrf_shift,
        max_events_outside=samples.max_events_outside,
        output_dir=output_dir,
    )
    if subjects and settings.inference.exchange_within is not None:
        # A column that is missing is missed now, not by the last node.
        _, rows = expected_rows(settings, subjects, bids_dir)
        column = settings.inference.exchange_within.rpartition(":")[2]
        # Labels of the data set are what they are.
        alike = None if column in OF_ROWS else alike_text(rows[column])
        if alike:
            LOGGER.warning("--exchange-within %s: these are different blocks: %s.", column, alike)
    return subjects


def run_participants(request: Request, subjects: list[SubjectRecord]) -> dict[str, str]:
    """Make and write the samples of every subject.

    Returns
    -------
    dict
        Crash files of what failed, by subject, or by ``<subject>_ses-<session>`` where other sessions of the
        subject are good.
    """
    from bids_xai.reports import write_subject_report
    from bids_xai.workflows.base import init_participants_wf

    settings, output_dir = request.settings, request.output_dir
    images, samples = settings.preprocessing, settings.samples
    target = None
    if needs_template(settings):
        target = save_template(settings, settings.execution.work_dir.absolute() / APP_FOLDER)
    workflow = init_participants_wf(
        subjects,
        output_dir,
        space=images.space,
        grid=None if target is None else target.space,
        template=None if target is None else (target.t1w, target.mask),
        classes=_classes(settings, subjects),
        bids_dir=request.bids_dir,
        preproc=images.preproc,
        modality=images.modality,
        individual_mask=images.mask == "compute",
        registration=images.registration,
        registration_profile=images.registration_profile,
        coregistration=images.coregistration,
        dof=images.dof,
        resolution=images.resolution,
        shape=images.shape,
        scaling=images.scaling,
        detrend=images.detrend,
        high_pass=1 / 128 if images.high_pass is None else images.high_pass,
        high_pass_sigma=images.high_pass_sigma,
        confounds=images.confounds,
        fd_threshold=images.fd_threshold,
        standardize=images.standardize,
        target=samples.target,
        merge_events=samples.merge_events,
        sample=samples.sample,
        window=samples.window,
        window_anchor=samples.window_anchor,
        hrf_shift=samples.hrf_shift,
        random_seed=settings.decoding.random_seed,
        exchange_within=settings.inference.exchange_within,
        low_mem=settings.execution.low_mem,
    )
    nodes = [name for name in workflow.list_node_names() if not name.endswith(("inputnode", "outputnode"))]
    progress = Progress("Participants", len(nodes), "nodes")
    crashes = run_graph(workflow, settings.execution, output_dir, progress)
    done = {(item.subject, item.session) for item in find_samples(output_dir, strict=False)}
    failures: dict[str, str] = {}
    for subject in subjects:
        parts = subject.parts()
        failed = {number: _failure(part, crashes, done) for number, part in enumerate(parts)}
        failed = {number: reason for number, reason in failed.items() if reason}
        if len(failed) == len(parts):
            failures[subject.subject] = failed[0]
            continue
        failures |= {
            f"{subject.subject}_ses-{session}": reason
            for number, reason in failed.items()
            for session in parts[number].sessions()
        }
        if len(parts) > 1:
            # Each part wrote the page with what there was of the others.
            write_subject_report(output_dir, subject.subject)
    return failures


def _failure(part: SubjectRecord, crashes: Mapping[str, Path], done: Collection[tuple[str, str]]) -> str:
    """Return the crash file of a part of a subject that failed; empty if it did not."""
    from bids_xai.workflows.base import part_name

    own = [str(path) for folder, path in crashes.items() if f"/{part_name(part)}/" in folder]
    if own:
        return own[0]
    sessions = part.sessions() or ("",)
    return "" if all((part.subject, session) in done for session in sessions) else NO_CRASH_FILE


def check_participants_memory(
    settings: Settings, subjects: list[SubjectRecord], available: Resources
) -> None:
    """Refuse runs that would not fit into memory.

    Raises
    ------
    InputError
        A node of a run takes more than there is.
    """
    from bids_xai.workflows.memory import run_memory
    from bids_xai.workflows.samples import init_samples_wf

    execution, images = settings.execution, settings.preprocessing
    # Runs of one shape take the same: one file of each is read.
    largest = {run.n_volumes: run for subject in subjects for run in subject.runs}
    if not largest:
        return
    chosen = {name: getattr(images, name) for name in ("preproc", "resolution", "shape", "high_pass_sigma")}
    samples_wf = init_samples_wf(**chosen)
    gb = run_memory(
        samples_wf,
        list(largest.values()),
        field=template_grid(settings) if needs_template(settings) else None,
        resolution=images.resolution,
        low_mem=execution.low_mem,
    )
    # A node and the graph that it is in.
    named = {".".join(f"{samples_wf.name}.{name}".split(".")[-2:]): size for name, size in gb.items()}
    ways = "a coarser --resolution" if execution.low_mem else "--low-mem or a coarser --resolution"
    refuse_excess(f"A run of {max(largest)} volumes", named, available, [ways])


def _classes(settings: Settings, subjects: list[SubjectRecord]) -> dict[str, tuple[str, ...]]:
    """Return the levels of the target by class."""
    samples = settings.samples
    if settings.preprocessing.modality != "bold":
        levels = [level for subject in subjects for level in subject.levels]
        return anatomical_classes(levels, samples.target, samples.classes)
    events = [run.events for subject in subjects for run in subject.runs]
    return resolve_classes(events, samples.target, samples.classes)
