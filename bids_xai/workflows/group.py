"""From the samples of all subjects to thresholded importance maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.chunks import MergeNull, MergeRuns, RunChunk
from bids_xai.interfaces.collect import CollectSamples
from bids_xai.interfaces.maps import RegionTable, Summarize, UnivariateMaps
from bids_xai.interfaces.outputs import WriteGroup


def init_group_wf(
    *,
    output_dir: Path | str | None = None,
    classes: Sequence[str] = (),
    cv: str = "subject",
    n_folds: int = 5,
    model: str = "softmax",
    training: Mapping[str, Any] | None = None,
    importance: Sequence[str] = ("W", "WX", "OD", "LRP-W2", "LRP-z"),
    importance_samples: str = "class",
    n_runs: int = 100,
    n_permutations: int = 1000,
    n_null: int = 100,
    alpha: Sequence[float] = (0.001, 0.01, 0.05),
    permute: str | None = None,
    tail: str = "greater",
    atlas: Sequence[str] = (),
    map_scale: float = 1.0,
    random_seed: int = 0,
    chunk_size: int = 10,
    device: str = "cpu",
    omp_nthreads: int = 1,
    mem_gb: float = 2.0,
    provenance: Mapping[str, Any] | None = None,
    name: str = "group_wf",
) -> pe.Workflow:
    """Classify the samples, explain the classifier, and keep what survives permutation.

    .. code-block:: text

        inputnode -> collect -> null (chunks) -> thresholds -+-> real (chunks) -> merge_real --+
                        |                                    +-> null2 (chunks) -> merge_null2 +-> summarize
                        +-> univariate --------------------------------------------------------+      |
                                                               outputnode <- write <- regions <-------+

    Chunks are cut in pieces of ``chunk_size`` trainings whatever the number of processes, and merge
    in their order, so that results are the same to the bit.

    Parameters
    ----------
    output_dir
        Folder of the derivatives; None writes none, and leaves the results in the working folder.
    classes
        Names of the classes in their order; empty takes those of the samples, sorted.
    cv, n_folds
        What is left out (:func:`bids_xai.decoding.splits.make_folds`).
    model, training
        Name of the classifier (:data:`bids_xai.models.MODELS`) and its parameters
        (:class:`bids_xai.decoding.softmax.SgdParameters`).
    importance, importance_samples
        Measures of importance (:data:`bids_xai.attribution.IMPORTANCES`), and whose held-out samples
        a class's map averages: ``"class"`` or ``"all"``.
    n_runs, n_permutations, n_null
        Trainings on the true labels, on permuted labels, and of the second permuted set.
    alpha, tail
        Significance levels, and ``"greater"`` or ``"two-sided"``.
    permute
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`); None chooses what keeps the
        class counts of every fold (:func:`bids_xai.inference.permutation.natural_scheme`).
    atlas
        Atlases of the region tables, by name or path.
    map_scale
        Factor that written importance maps are multiplied by.
    random_seed
        Seed of everything random.
    chunk_size
        Trainings per node.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    omp_nthreads, mem_gb
        Threads and memory of one chunk.
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
    background
        3-D image that figures show the maps on (optional).

    Outputs
    -------
    out_dir
        Folder of the results, with ``results.json``.
    report
        The HTML report (undefined without ``output_dir``).
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["samples", "rows", "masks", "background"]), name="inputnode"
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_dir", "report"]), name="outputnode")

    collect = pe.Node(
        CollectSamples(classes=list(classes), cv=cv, n_folds=n_folds, random_seed=random_seed),
        name="collect",
        mem_gb=mem_gb,
    )
    if permute is not None:
        collect.inputs.permute = permute
    chunk_settings = {
        "model": model,
        "training": dict(training or {}),
        "importance": list(importance),
        "importance_samples": importance_samples,
        "random_seed": random_seed,
        "alpha": list(alpha),
        "tail": tail,
        "n_permutations": n_permutations,
        "device": device,
    }
    stages = {"null": n_permutations, "real": n_runs, "null2": n_null}
    chunks = {
        stage: _init_chunks(
            stage, n, chunk_size, chunk_settings, omp_nthreads, mem_gb, on_gpu=device == "cuda"
        )
        for stage, n in stages.items()
        if n
    }
    thresholds = pe.Node(
        MergeNull(alpha=list(alpha), n_permutations=n_permutations), name="thresholds", mem_gb=mem_gb
    )
    merges = {
        stage: pe.Node(MergeRuns(), name=f"merge_{stage}", mem_gb=mem_gb)
        for stage in ("real", "null2")
        if stage in chunks
    }
    univariate = pe.Node(UnivariateMaps(), name="univariate", mem_gb=mem_gb)
    summarize = pe.Node(
        Summarize(importance=list(importance), alpha=list(alpha), tail=tail),
        name="summarize",
        mem_gb=mem_gb,
    )

    workflow.connect([
        (inputnode, collect, [("samples", "in_samples"), ("rows", "in_rows"), ("masks", "in_masks")]),
        (collect, univariate, [("out_data", "in_data"), ("out_design", "in_design")]),
        (chunks["null"], thresholds, [("out_file", "in_files")]),
        (collect, summarize, [("out_design", "in_design"), ("permute", "permute")]),
        (univariate, summarize, [("out_file", "in_univariate")]),
        (thresholds, summarize, [("out_file", "in_null"), ("out_top", "in_top"),
                                 ("out_thresholds", "in_thresholds")]),
    ])  # fmt: skip
    for stage, node in chunks.items():
        workflow.connect(
            [
                (
                    collect,
                    node,
                    [
                        ("out_data", "in_data"),
                        ("out_gram", "in_gram"),
                        ("out_design", "in_design"),
                        ("permute", "permute"),
                    ],
                )
            ]
        )
        if stage in merges:
            workflow.connect([
                (thresholds, node, [("out_thresholds", "in_thresholds")]),
                (node, merges[stage], [("out_file", "in_files")]),
                (merges[stage], summarize, [("out_file", f"in_{stage}")]),
            ])  # fmt: skip
    _connect_outputs(workflow, inputnode, outputnode, collect, summarize, list(atlas))
    write = workflow.get_node("write")
    write.inputs.map_scale = map_scale
    origin = dict(provenance or {})
    own = {**chunk_settings, "cv": cv, "n_folds": n_folds, "atlas": list(atlas), "map_scale": map_scale}
    origin["settings"] = {**origin.get("settings", {}), **own}
    write.inputs.provenance = origin
    if output_dir is not None:
        write.inputs.output_dir = str(output_dir)
    return workflow


def _init_chunks(
    stage: str,
    n: int,
    chunk_size: int,
    settings: Mapping[str, Any],
    n_procs: int,
    mem_gb: float,
    *,
    on_gpu: bool,
) -> pe.MapNode:
    starts = list(range(0, n, chunk_size))
    node = pe.MapNode(
        RunChunk(stage=stage, n_threads=n_procs, use_gpu=on_gpu, **settings),
        iterfield=["start", "stop"],
        name=stage,
        mem_gb=mem_gb,
        n_procs=n_procs,
    )
    node.inputs.start = starts
    node.inputs.stop = [min(start + chunk_size, n) for start in starts]
    return node


def _connect_outputs(
    workflow: pe.Workflow,
    inputnode: pe.Node,
    outputnode: pe.Node,
    collect: pe.Node,
    summarize: pe.Node,
    atlases: list[str],
) -> None:
    write = pe.Node(WriteGroup(), name="write")
    workflow.connect([
        (inputnode, write, [("background", "in_background")]),
        (collect, write, [("out_mask", "in_mask"), ("out_rows", "in_rows"), ("out_design", "in_design")]),
        (summarize, write, [("out_maps", "in_maps"), ("out_tables", "in_tables"),
                            ("out_summary", "in_summary")]),
        (write, outputnode, [("out_dir", "out_dir"), ("out_report", "report")]),
    ])  # fmt: skip
    if atlases:
        regions = pe.MapNode(RegionTable(), iterfield=["atlas"], name="regions")
        regions.inputs.atlas = atlases
        workflow.connect([
            (collect, regions, [("out_mask", "in_mask"), ("out_design", "in_design")]),
            (summarize, regions, [("out_maps", "in_maps"), ("out_summary", "in_summary")]),
            (regions, write, [("out_table", "in_regions")]),
        ])  # fmt: skip
