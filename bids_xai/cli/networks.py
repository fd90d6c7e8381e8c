"""The group level with networks: its parameters, and its graph."""

from __future__ import annotations

from typing import Any

from bids_xai.cli.groups import find_written, origin_of, run_on_written
from bids_xai.cli.network_plan import memory_of_networks, network_parameters, plan_networks, trainings
from bids_xai.cli.parser import Request
from bids_xai.execution.plugins import planned_device
from bids_xai.execution.progress import Progress
from bids_xai.settings import Settings


def run_networks(request: Request, *, failed_subjects: list[str]) -> dict[str, str]:
    """Train, explain and report; return what failed."""
    from bids_xai.workflows.memory import declare_memory
    from bids_xai.workflows.networks import init_network_wf

    settings = request.settings
    found = find_written(request, excluding=failed_subjects)
    design, _, shape = plan_networks(settings, [], found, request.bids_dir)
    workflow = init_network_wf(
        output_dir=request.output_dir,
        classes=design.classes,
        provenance={**origin_of(request, found), "failed_subjects": failed_subjects},
        **network_settings(settings),
    )
    declare_memory(workflow, memory_of_networks(settings, design, shape).size)
    participants = request.bids_dir / "participants.tsv"
    if participants.is_file():
        workflow.inputs.inputnode.participants = str(participants)
    progress = Progress("Group", trainings(settings, design), "trainings")
    return run_on_written(workflow, request, found, progress)


def network_settings(settings: Settings) -> dict[str, Any]:
    """Return the parameters of :func:`bids_xai.workflows.networks.init_network_wf` that settings hold."""
    decoding, network, inference = settings.decoding, settings.network, settings.inference
    search = {
        "draws": network.random_search,
        "batch_size": network.search_batch_size,
        "learning_rate": network.search_learning_rate,
        "patience": network.search_patience,
    }
    return {
        "cv": decoding.cv,
        "n_folds": decoding.n_folds,
        "n_repeats": decoding.n_repeats,
        "test_size": network.test_size,
        "test_first_session": network.test_first_session,
        "validation_size": network.validation_size,
        "stratify": network.stratify,
        "undersample": network.undersample,
        "samples_per_class": network.samples_per_class,
        "training": network_parameters(settings),
        "search": search if network.random_search else None,
        "baseline": network.baseline,
        "explain": network.explain,
        "explain_class": network.explain_class,
        "explain_start": network.explain_start,
        "explain_layer": network.explain_layer,
        "explain_filter": network.explain_filter,
        "visualise": network.visualise,
        "explain_samples": network.explain_samples,
        "explain_above": network.explain_above,
        "trust": network.trust,
        "lesion_masks": None if network.lesion_masks is None else network.lesion_masks.absolute(),
        "lesion_label": network.lesion_label,
        "biomarker": network.biomarker,
        "strongest_positions": network.strongest_positions,
        "similarity": network.similarity,
        "n_runs": inference.n_runs,
        "n_permutations": inference.n_permutations,
        "alpha": inference.alpha,
        "map_values": inference.map_values,
        "shown_values": network.shown_values,
        "permute": inference.permute,
        "exchange_within": inference.exchange_within,
        "atlas": inference.atlas,
        "merge_sides": network.merge_sides,
        "random_seed": decoding.random_seed,
        "device": planned_device(settings.execution),
        "omp_nthreads": settings.execution.omp_nthreads,
    }
