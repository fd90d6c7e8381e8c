"""From the samples of all subjects to explained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.attribution import SHARE, shown_as
from bids_xai.decoding.network_memory import maps_bytes, training_bytes, volumes_bytes
from bids_xai.interfaces.explanations import ExplainFold, ExplainPermutation
from bids_xai.interfaces.heatmap_regions import HeatmapRegions
from bids_xai.interfaces.heatmap_results import SummarizeHeatmaps
from bids_xai.interfaces.network_features import CompareClasses, VisualizeFilters
from bids_xai.interfaces.network_outputs import WriteNetworks
from bids_xai.interfaces.network_results import ScoreNetworks
from bids_xai.interfaces.networks import CollectVolumes, TrainNetwork
from bids_xai.interfaces.trust import TrustNetwork
from bids_xai.workflows.memory import with_memory


def init_network_wf(
    *,
    output_dir: Path | str | None = None,
    classes: Sequence[str] = (),
    cv: str | None = "holdout",
    n_folds: int | None = 1,
    n_repeats: int | None = None,
    test_size: float = 0.2,
    test_first_session: bool = False,
    validation_size: float = 0.15,
    stratify: Sequence[str] = (),
    undersample: Sequence[str] = (),
    samples_per_class: int | None = None,
    training: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    baseline: Sequence[str] = (),
    explain: Sequence[str] = ("lrp-alpha-beta", "gradient-x-input", "grad-cam"),
    explain_class: str | None = None,
    explain_start: str = "logit",
    explain_layer: str | None = None,
    explain_filter: int = 0,
    explain_samples: int | None = None,
    explain_above: float = 0.0,
    visualise: Sequence[str] = (),
    trust: bool = True,
    lesion_masks: Path | str | None = None,
    lesion_label: str = "lesion",
    biomarker: str | None = None,
    strongest_positions: int = 0,
    similarity: bool = False,
    n_runs: int = 1,
    n_permutations: int = 0,
    alpha: Sequence[float] = (0.001, 0.01, 0.05),
    map_values: str = SHARE,
    shown_values: str | None = None,
    permute: str | None = None,
    exchange_within: str | None = None,
    atlas: Sequence[str] = (),
    merge_sides: bool = False,
    random_seed: int = 0,
    device: str = "cpu",
    omp_nthreads: int = 1,
    mem_gb: float = 2.0,
    provenance: Mapping[str, Any] | None = None,
    name: str = "network_wf",
) -> pe.Workflow:
    """Train networks on whole volumes, explain what they say of held-out people, and judge the explanations.

    .. code-block:: text

        inputnode -> collect -+-> train (runs x folds) -+-> explain (folds) -> heatmaps -> write -> outputnode
                              |                         +-> trust, similarity, scores ------+
                              +-> train_null -> explain_null (permutations) -> heatmaps, scores

    Parameters
    ----------
    output_dir
        Folder of the derivatives; None writes none, and leaves the results in the working folder.
    classes
        Names of the classes in their order, of two the second being the positive one; empty takes those of
        the samples, sorted.
    cv, n_folds, n_repeats, test_size, test_first_session, stratify
        What is left out (:func:`bids_xai.decoding.splits.make_folds`); cv None chooses what suits the classes
        (:func:`bids_xai.decoding.splits.natural_cv`).
    validation_size
        Share of the training people that stops the training.
    undersample, samples_per_class
        How the samples are balanced (:func:`bids_xai.decoding.partitions.undersample`,
        :func:`bids_xai.decoding.partitions.draw_balanced`).
    training
        Network and training (:class:`bids_xai.decoding.networks.NetworkParameters`).
    search
        ``draws``, ``batch_size``, ``learning_rate``, ``patience``: a random search in every fold.
    baseline
        Other classifiers on the same folds (:data:`bids_xai.decoding.BASELINES`).
    explain
        Explanations with their options (:func:`bids_xai.attribution.explain.parse_explanation`).
    explain_class, explain_start
        Class whose output is explained, ``"true"`` or ``"predicted"``; ``"logit"`` or ``"probability"``.
    explain_layer, explain_filter
        Filter of an inner layer that is explained instead of a class.
    visualise
        ``LAYER:FILTER``: filters whose preferred image is searched for.
    explain_samples, explain_above
        Samples of every class and fold that are explained at most, and the smallest probability of their
        class.
    trust
        Randomise parameters (Adebayo et al. 2018) and delete voxels by relevance.
    lesion_masks, lesion_label
        Derivatives with a lesion mask per person, which heatmaps are scored against, and its label.
    biomarker
        Column of participants.tsv that the relevance of regions is correlated with.
    strongest_positions
        Voxels of every class whose occlusion matters most that are listed and embedded in two dimensions.
    similarity
        Compare the classes' dissimilarities in the brain and in the network.
    n_runs, n_permutations
        Trainings of every fold on the true labels, and on permuted labels.
    alpha
        Significance levels.
    map_values, shown_values
        What heatmaps are averaged, tested and compared as, ``"share"`` (each divided by the sum of its
        absolute values, :mod:`bids_xai.attribution.shares`) or ``"raw"``; and what they are shown and summed
        by region as (None: the same).
    permute, exchange_within
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`), and the column whose levels
        are blocks.
    atlas
        Atlases of the region tables, by name or path; the first is that of region occlusion.
    merge_sides
        Left and right are one region.
    random_seed
        Seed of everything random.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    omp_nthreads
        Threads of one training.
    mem_gb
        Memory of a node, until the size of the data is known
        (:func:`bids_xai.workflows.memory.declare_memory`).
    provenance
        What the report says of the origin of the samples: name of the dataset, all settings.
    name
        Name of the workflow.

    Inputs
    ------
    samples
        List of 4-D images of samples.
    rows
        List of TSV files, in the same order.
    masks
        List of masks on the grid of the samples.
    participants
        participants.tsv, for the columns that are asked for (optional).
    background
        3-D image that figures show the maps on (optional).

    Outputs
    -------
    out_dir
        Folder of the results, with ``results.json``.
    report
        The HTML report (undefined without ``output_dir``).
    checkpoints
        Weights of the trainings on the true labels.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["samples", "rows", "masks", "participants", "background"]),
        name="inputnode",
    )
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["out_dir", "report", "checkpoints"]), name="outputnode"
    )
    columns = [*stratify, *undersample, *([biomarker] if biomarker else [])]
    collect = pe.Node(
        CollectVolumes(
            classes=list(classes),
            columns=columns,
            test_size=test_size,
            first_session=test_first_session,
            stratify=list(stratify),
            undersample=list(undersample),
            n_runs=n_runs,
            n_permutations=n_permutations,
            random_seed=random_seed,
            **_given(
                cv=cv,
                n_folds=n_folds,
                n_repeats=n_repeats,
                samples_per_class=samples_per_class,
                permute=permute,
                exchange_within=exchange_within,
            ),
        ),
        name="collect",
        mem_gb=mem_gb,
    )
    with_memory(collect, volumes_bytes)
    workflow.connect([
        (inputnode, collect, [("samples", "in_samples"), ("rows", "in_rows"), ("masks", "in_masks"),
                              ("participants", "in_participants")]),
    ])  # fmt: skip
    train_settings = {
        "parameters": dict(training or {}),
        "search": dict(search or {}),
        "validation_size": validation_size,
        "stratify": list(stratify),
        "random_seed": random_seed,
        "provenance": {key: (provenance or {}).get(key) for key in ("dataset", "space", "resolution")},
    }
    running = {"device": device, "n_threads": omp_nthreads, "use_gpu": device == "cuda"}
    explain_settings = {
        "explain": list(explain),
        "explain_start": explain_start,
        "explain_above": explain_above,
        "explain_filter": explain_filter,
        "batch_size": int((training or {}).get("batch_size", 4)),
        **_given(explain_class=explain_class, explain_samples=explain_samples, explain_layer=explain_layer),
        **({"atlas": atlas[0]} if atlas else {}),
    }
    values = {"map_values": map_values, "shown_values": shown_as(map_values, shown_values)}
    nodes = {"mem_gb": mem_gb, "n_procs": omp_nthreads}
    summaries = {
        "scores": pe.Node(ScoreNetworks(baseline=list(baseline), random_seed=random_seed), name="scores"),
        "heatmaps": pe.Node(
            SummarizeHeatmaps(
                explain=list(explain),
                alpha=list(alpha),
                **values,
                lesion_label=lesion_label,
                strongest_positions=strongest_positions,
                random_seed=random_seed,
                **_given(
                    explain_class=explain_class,
                    lesion_masks=None if lesion_masks is None else str(lesion_masks),
                ),
            ),
            name="heatmaps",
            mem_gb=mem_gb,
        ),
    }
    with_memory(summaries["heatmaps"], maps_bytes)
    write = _init_write_node(
        workflow, inputnode, collect, summaries, explain_start=explain_start, explain_class=explain_class
    )
    real = _connect_stage(
        workflow, collect, "real", train_settings, {**explain_settings, **values}, running, nodes, summaries
    )
    if n_permutations:
        _connect_stage(
            workflow, collect, "null", train_settings, {**explain_settings, "map_values": map_values},
            running, nodes, summaries, n_permutations=n_permutations,
        )  # fmt: skip
    if trust:
        node = pe.Node(
            TrustNetwork(**explain_settings, **running, random_seed=random_seed), name="trust", **nodes
        )
        with_memory(node, training_bytes)
        _connect_explain(workflow, collect, real, node)
        workflow.connect(node, "out_tables", write, "in_trust")
    if visualise:
        node = pe.Node(
            VisualizeFilters(filters=list(visualise), random_seed=random_seed, **running),
            name="visualise",
            **nodes,
        )
        with_memory(node, training_bytes)
        workflow.connect([
            (collect, node, [("out_mask", "in_mask")]),
            (real, node, [("out_checkpoint", "in_checkpoints")]),
            (node, write, [("out_file", "in_filters")]),
        ])  # fmt: skip
    if similarity:
        node = pe.Node(CompareClasses(**running, random_seed=random_seed), name="similarity", **nodes)
        with_memory(node, training_bytes)
        workflow.connect([
            (collect, node, [("out_data", "in_data"), ("out_mask", "in_mask"), ("out_design", "in_design")]),
            (real, node, [("out_checkpoint", "in_checkpoints")]),
            (node, write, [("out_tables", "in_similarity")]),
        ])  # fmt: skip
    if atlas:
        regions = pe.MapNode(
            HeatmapRegions(merge_sides=merge_sides, random_seed=random_seed),
            iterfield=["atlas"],
            name="regions",
        )
        regions.inputs.atlas = list(atlas)
        if biomarker:
            regions.inputs.biomarker = biomarker
        workflow.connect([
            (collect, regions, [("out_mask", "in_mask"), ("out_design", "in_design"),
                                ("out_rows", "in_rows")]),
            (summaries["heatmaps"], regions, [("out_runs", "in_runs"),
                                              ("out_heatmaps", "in_heatmaps"), ("out_index", "in_index"),
                                              ("out_summary", "in_summary")]),
            (regions, write, [("out_tables", "in_regions")]),
        ])  # fmt: skip
    own = {
        "cv": cv, "n_folds": n_folds, "n_repeats": n_repeats, "n_runs": n_runs,
        "undersample": list(undersample),
        "n_permutations": n_permutations,
        "explain": list(explain), "explain_class": explain_class, "explain_start": explain_start,
        "atlas": list(atlas), "random_seed": random_seed, **dict(training or {}),
    }  # fmt: skip
    origin = dict(provenance or {})
    origin["settings"] = {**own, **origin.get("settings", {})}
    write.inputs.provenance = origin
    if output_dir is not None:
        write.inputs.output_dir = str(output_dir)
    workflow.connect([
        (write, outputnode, [("out_dir", "out_dir"), ("out_report", "report")]),
        (real, write, [("out_checkpoint", "in_checkpoints")]),
        (real, outputnode, [("out_checkpoint", "checkpoints")]),
    ])  # fmt: skip
    return workflow


def _given(**values: Any) -> dict[str, Any]:
    """Return what is not None: a trait that is absent stays undefined."""
    return {name: value for name, value in values.items() if value is not None}


def _init_write_node(
    workflow: pe.Workflow,
    inputnode: pe.Node,
    collect: pe.Node,
    summaries: Mapping[str, pe.Node],
    *,
    explain_start: str,
    explain_class: str | None,
) -> pe.Node:
    write = pe.Node(
        WriteNetworks(explain_start=explain_start, **_given(explain_class=explain_class)), name="write"
    )
    workflow.connect([
        (inputnode, write, [("background", "in_background"), ("samples", "in_samples")]),
        (collect, write, [("out_mask", "in_mask"), ("out_rows", "in_rows"), ("out_design", "in_design"),
                          ("permute", "permute")]),
        (collect, summaries["scores"], [("out_design", "in_design"), ("out_rows", "in_rows"),
                                        ("out_data", "in_data"), ("out_mask", "in_mask"),
                                        ("permute", "permute")]),
        (collect, summaries["heatmaps"], [("out_design", "in_design"), ("out_rows", "in_rows"),
                                          ("out_mask", "in_mask"), ("permute", "permute")]),
        (summaries["scores"], write, [("out_tables", "in_tables")]),
        (summaries["heatmaps"], write, [("out_maps", "in_maps"), ("out_heatmaps", "in_heatmaps"),
                                        ("out_index", "in_index"), ("out_summary", "in_summary"),
                                        ("out_tables", "in_heatmap_tables")]),
    ])  # fmt: skip
    return write


def _connect_stage(
    workflow: pe.Workflow,
    collect: pe.Node,
    stage: str,
    train_settings: Mapping[str, Any],
    explain_settings: Mapping[str, Any],
    running: Mapping[str, Any],
    nodes: Mapping[str, Any],
    summaries: Mapping[str, pe.Node],
    n_permutations: int = 0,
) -> pe.MapNode:
    """Add the trainings of a stage and what explains them; return the trainings."""
    real = stage == "real"
    suffix = "" if real else "_null"
    train = pe.MapNode(
        TrainNetwork(stage=stage, **train_settings, **running),
        iterfield=["unit"],
        name=f"train{suffix}",
        **nodes,
    )
    with_memory(train, training_bytes)
    workflow.connect([
        (collect, train, [("out_data", "in_data"), ("out_rows", "in_rows"), ("out_mask", "in_mask"),
                          ("out_design", "in_design"), ("permute", "permute"), (f"out_{stage}", "unit")]),
        (train, summaries["scores"], [("out_predictions", f"in_{stage}")]),
    ])  # fmt: skip
    if real:
        workflow.connect([
            (train, summaries["scores"], [("out_history", "in_histories"), ("out_training", "in_trainings"),
                                          ("out_search", "in_searches"),
                                          ("out_checkpoint", "in_checkpoints")]),
            (train, summaries["heatmaps"], [("out_checkpoint", "in_checkpoints")]),
        ])  # fmt: skip
        explain = pe.MapNode(
            ExplainFold(**explain_settings, **running), iterfield=["fold"], name="explain", **nodes
        )
        workflow.connect(collect, "out_folds", explain, "fold")
    else:
        explain = pe.MapNode(
            ExplainPermutation(**explain_settings, **running), iterfield=["run"], name="explain_null", **nodes
        )
        explain.inputs.run = list(range(n_permutations))
    with_memory(explain, training_bytes)
    _connect_explain(workflow, collect, train, explain)
    workflow.connect(explain, "out_file", summaries["heatmaps"], f"in_{stage}")
    return train


def _connect_explain(workflow: pe.Workflow, collect: pe.Node, train: pe.Node, explain: pe.Node) -> None:
    workflow.connect([
        (collect, explain, [("out_data", "in_data"), ("out_mask", "in_mask"), ("out_design", "in_design")]),
        (train, explain, [("out_checkpoint", "in_checkpoints"), ("out_predictions", "in_predictions")]),
    ])  # fmt: skip
