"""From the samples of all subjects to thresholded importance maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.attribution import SHARE
from bids_xai.inference.memory import collect_bytes, results_bytes
from bids_xai.interfaces.collect import CollectSamples
from bids_xai.interfaces.maps import RegionTable
from bids_xai.interfaces.outputs import WriteGroup
from bids_xai.workflows.inference import init_inference_wf
from bids_xai.workflows.memory import with_memory


def init_group_wf(
    *,
    output_dir: Path | str | None = None,
    classes: Sequence[str] = (),
    cv: str | None = None,
    n_folds: int | None = None,
    n_repeats: int | None = None,
    model: str = "softmax",
    training: Mapping[str, Any] | None = None,
    precision: str = "single",
    importance: Sequence[str] = ("W", "Haufe", "WX", "OD", "LRP-W2", "LRP-z"),
    importance_samples: str = "class",
    map_values: str = SHARE,
    n_runs: int = 100,
    n_permutations: int = 1000,
    n_null: int = 100,
    alpha: Sequence[float] = (0.001, 0.01, 0.05),
    permute: str | None = None,
    exchange_within: str | None = None,
    tail: str = "greater",
    tail_fit: str = "none",
    stop_after_exceedances: int | None = None,
    atlas: Sequence[str] = (),
    map_scale: float = 1.0,
    random_seed: int = 0,
    chunk_size: int = 10,
    device: str = "cpu",
    omp_nthreads: int = 1,
    mem_gb: float = 2.0,
    weights_at_once: int | None = None,
    low_mem: bool = False,
    provenance: Mapping[str, Any] | None = None,
    name: str = "group_wf",
) -> pe.Workflow:
    """Classify the samples, explain the classifier, and keep what survives permutation.

    .. code-block:: text

        inputnode -> collect -> inference_wf -> regions -> write -> outputnode

    :func:`bids_xai.workflows.inference.init_inference_wf` holds all that is computed of the samples.

    Parameters
    ----------
    output_dir
        Folder of the derivatives; None writes none, and leaves the results in the working folder.
    classes
        Names of the classes in their order; empty takes those of the samples, sorted.
    cv, n_folds, n_repeats
        What is left out (:func:`bids_xai.decoding.splits.make_folds`); None chooses what suits the classes
        (:func:`bids_xai.decoding.splits.natural_cv`).
    model, training
        Name of the classifier (:data:`bids_xai.models.MODELS`) and its parameters
        (:class:`bids_xai.decoding.softmax.SgdParameters`).
    precision
        ``"single"``, or ``"double"`` to check it at twice the time and memory.
    importance, importance_samples
        Measures of importance (:data:`bids_xai.attribution.IMPORTANCES`), and whose held-out samples
        a class's map averages: ``"class"`` or ``"all"``.
    map_values
        What maps are averaged and compared as (:data:`bids_xai.attribution.MAP_VALUES`).
    n_runs, n_permutations, n_null
        Repetitions on the true labels, on permuted labels, and of the second permuted set.
    alpha, tail
        Significance levels, and ``"greater"`` or ``"two-sided"``.
    stop_after_exceedances
        Permutations end once so many have reached the mean accuracy on the true labels; None: all are run
        (:func:`bids_xai.workflows.inference.init_inference_wf`).
    permute
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`); None chooses what keeps the
        class counts of every fold (:func:`bids_xai.inference.permutation.natural_scheme`).
    exchange_within
        Column of the rows whose levels are blocks: labels are exchanged within them only. None: one block.
    tail_fit
        ``"gpd"``: small p-values come from the tail of their null (:mod:`bids_xai.inference.tail`).
    atlas
        Atlases of the region tables, by name or path.
    map_scale
        Factor that written importance maps are multiplied by.
    random_seed
        Seed of everything random.
    chunk_size
        Repetitions per node.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    omp_nthreads
        Threads of one chunk.
    mem_gb
        Memory of a node, until the size of the data is known
        (:func:`bids_xai.workflows.memory.declare_memory`).
    weights_at_once, low_mem
        How much a chunk and the summary hold in memory (same function).
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
        CollectSamples(classes=list(classes), random_seed=random_seed),
        name="collect",
        mem_gb=mem_gb,
    )
    with_memory(collect, collect_bytes)
    split = {"cv": cv, "n_folds": n_folds, "n_repeats": n_repeats}
    collect.inputs.trait_set(**{name: value for name, value in split.items() if value is not None})
    if permute is not None:
        collect.inputs.permute = permute
    if exchange_within is not None:
        collect.inputs.exchange_within = exchange_within
    settings: dict[str, Any] = {
        "model": model,
        "training": dict(training or {}),
        "precision": precision,
        "importance": list(importance),
        "importance_samples": importance_samples,
        "map_values": map_values,
        "n_runs": n_runs,
        "n_permutations": n_permutations,
        "n_null": n_null,
        "alpha": list(alpha),
        "tail": tail,
        "tail_fit": tail_fit,
        "stop_after_exceedances": stop_after_exceedances,
        "random_seed": random_seed,
        "device": device,
    }
    inference = init_inference_wf(
        chunk_size=chunk_size,
        omp_nthreads=omp_nthreads,
        mem_gb=mem_gb,
        weights_at_once=weights_at_once,
        low_mem=low_mem,
        **settings,
    )
    workflow.connect([
        (inputnode, collect, [("samples", "in_samples"), ("rows", "in_rows"), ("masks", "in_masks")]),
        (collect, inference, [("out_data", "inputnode.data"), ("out_gram", "inputnode.gram"),
                              ("out_design", "inputnode.design"), ("permute", "inputnode.permute")]),
    ])  # fmt: skip
    write = with_memory(pe.Node(WriteGroup(), name="write", mem_gb=mem_gb), results_bytes)
    _connect_outputs(workflow, inputnode, outputnode, collect, inference, write, list(atlas))
    write.inputs.map_scale = map_scale
    origin = dict(provenance or {})
    own = {**settings, **split, "atlas": list(atlas), "map_scale": map_scale}
    origin["settings"] = {**origin.get("settings", {}), **own}
    write.inputs.provenance = origin
    if output_dir is not None:
        write.inputs.output_dir = str(output_dir)
    return workflow


def _connect_outputs(
    workflow: pe.Workflow,
    inputnode: pe.Node,
    outputnode: pe.Node,
    collect: pe.Node,
    inference: pe.Workflow,
    write: pe.Node,
    atlases: list[str],
) -> None:
    workflow.connect([
        (inputnode, write, [("background", "in_background")]),
        (collect, write, [("out_mask", "in_mask"), ("out_rows", "in_rows"), ("out_design", "in_design")]),
        (inference, write, [("outputnode.maps", "in_maps"), ("outputnode.tables", "in_tables"),
                            ("outputnode.summary", "in_summary")]),
        (write, outputnode, [("out_dir", "out_dir"), ("out_report", "report")]),
    ])  # fmt: skip
    if atlases:
        regions = pe.MapNode(RegionTable(), iterfield=["atlas"], name="regions", mem_gb=write.mem_gb)
        with_memory(regions, results_bytes)
        regions.inputs.atlas = atlases
        workflow.connect([
            (collect, regions, [("out_mask", "in_mask"), ("out_design", "in_design")]),
            (inference, regions, [("outputnode.maps", "in_maps"), ("outputnode.summary", "in_summary")]),
            (regions, write, [("out_table", "in_regions")]),
        ])  # fmt: skip
