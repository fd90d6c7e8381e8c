"""From one table of samples to importance maps with thresholds: every repetition, in chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.attribution import SHARE
from bids_xai.attribution.runs import WEIGHTS_AT_ONCE
from bids_xai.inference.memory import chunk_bytes, summary_bytes, thresholds_bytes, univariate_bytes
from bids_xai.interfaces.chunks import MergeNull, MergeRuns, OpenLedger, RunChunk, StopPermuting
from bids_xai.interfaces.maps import Summarize, UnivariateMaps
from bids_xai.workflows.memory import with_memory

# A node has files of its own: more repetitions than this many chunks hold make larger chunks.
_MOST_CHUNKS = 200
_MOST_ROUNDS = 10
_SAMPLES = [
    ("data", "in_data"),
    ("gram", "in_gram"),
    ("design", "in_design"),
    ("permute", "permute"),
]


def init_inference_wf(
    *,
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
    tail: str = "greater",
    tail_fit: str = "none",
    stop_after_exceedances: int | None = None,
    random_seed: int = 0,
    chunk_size: int = 10,
    device: str = "cpu",
    omp_nthreads: int = 1,
    mem_gb: float = 2.0,
    weights_at_once: int | None = None,
    low_mem: bool = False,
    name: str = "inference_wf",
) -> pe.Workflow:
    """Classify samples over and over, on true and on permuted labels, and summarise what was important.

    .. code-block:: text

        inputnode -> null (chunks) -> thresholds -+-> real (chunks) -> merge_real -+
            |                                     +-> null2 (chunks) -> merge_null2 -> summarize -> outputnode
            +-> univariate --------------------------------------------------------+

    Every stage has a ledger (:class:`bids_xai.inference.ledger.Ledger`) into which its chunks merge their
    maps. Chunks are of ``chunk_size`` repetitions, or of more where there would be over 200 of them, whatever
    the number of processes; and what is merged does not depend on the order: results are the same to the bit.

    Parameters
    ----------
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
    tail_fit
        ``"gpd"``: small p-values come from the tail of their null (:mod:`bids_xai.inference.tail`).
    stop_after_exceedances
        Permutations run in rounds, and end with the round in which so many of them have reached the mean
        accuracy on the true labels (Besag and Clifford 1991); None runs them all. The true labels are then
        trained on twice, at first for the accuracy alone.
    random_seed
        Seed of everything random.
    chunk_size
        Repetitions per node, at least.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    omp_nthreads
        Threads of one chunk.
    mem_gb
        Memory of a node, until the size of the data is known
        (:func:`bids_xai.workflows.memory.declare_memory`).
    weights_at_once
        Weights that a chunk holds in memory (:func:`bids_xai.attribution.runs.run_repetitions`).
    low_mem
        The null is summarised from a file in place of memory.
    name
        Name of the workflow.

    Inputs
    ------
    data
        Samples, float32 (n_samples, n_voxels), ``.npy``.
    gram
        What they are trained with (:class:`bids_xai.decoding.basis.Basis`), ``.npy``.
    design
        Classes, labels, blocks and folds (:class:`bids_xai.decoding.design.Design`), ``.json``.
    permute
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`).

    Outputs
    -------
    maps
        Maps by name, ``.npz`` (:class:`bids_xai.inference.summary.Summary`).
    tables
        TSV files by name of the table.
    summary
        Methods, levels, numbers of repetitions and the smallest p-value.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["data", "gram", "design", "permute"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["maps", "tables", "summary"]), name="outputnode")
    chunk_settings = {
        "model": model,
        "training": dict(training or {}),
        "precision": precision,
        "importance": list(importance),
        "importance_samples": importance_samples,
        "map_values": map_values,
        "random_seed": random_seed,
        "alpha": list(alpha),
        "tail": tail,
        "n_permutations": n_permutations,
        "device": device,
        "n_threads": omp_nthreads,
        "use_gpu": device == "cuda",
        "weights_at_once": WEIGHTS_AT_ONCE if weights_at_once is None else weights_at_once,
    }
    univariate = with_memory(pe.Node(UnivariateMaps(), name="univariate", mem_gb=mem_gb), univariate_bytes)
    summarize = pe.Node(
        Summarize(
            model=model,
            training=dict(training or {}),
            map_values=map_values,
            importance=list(importance),
            alpha=list(alpha),
            tail=tail,
            tail_fit=tail_fit,
            random_seed=random_seed,
            low_mem=low_mem,
        ),
        name="summarize",
        mem_gb=mem_gb,
    )
    with_memory(summarize, summary_bytes)
    thresholds = with_memory(
        pe.Node(MergeNull(alpha=list(alpha)), name="thresholds", mem_gb=mem_gb), thresholds_bytes
    )
    ledger, chunks = _init_stage("null", n_permutations, chunk_size, chunk_settings, mem_gb)
    workflow.connect([
        (inputnode, ledger, _SAMPLES),
        (ledger, thresholds, [("out_ledger", "in_ledger")]),
        (ledger, summarize, [("out_ledger", "in_null_ledger")]),
        (thresholds, summarize, [("out_file", "in_null"), ("out_thresholds", "in_thresholds")]),
        (inputnode, univariate, [("data", "in_data"), ("design", "in_design")]),
        (inputnode, summarize, [("design", "in_design"), ("permute", "permute"), ("gram", "in_gram")]),
        (univariate, summarize, [("out_file", "in_univariate")]),
        (summarize, outputnode, [("out_maps", "maps"), ("out_tables", "tables"),
                                 ("out_summary", "summary")]),
    ])  # fmt: skip
    if stop_after_exceedances is None:
        workflow.connect([
            (inputnode, chunks, _SAMPLES),
            (ledger, chunks, [("out_ledger", "in_ledger")]),
            (chunks, thresholds, [("out_file", "in_files")]),
        ])  # fmt: skip
    else:
        summarize.inputs.stop_after_exceedances = stop_after_exceedances
        _, scores = _init_stage("real", n_runs, chunk_size, {**chunk_settings, "importance": []}, mem_gb)
        last = _connect_rounds(workflow, ledger, chunks, scores.clone("scores"), stop_after_exceedances)
        workflow.connect([(last, thresholds, [("out_file", "in_files")])])
    for stage, n in (("real", n_runs), ("null2", n_null)):
        if not n:
            continue
        ledger, chunks = _init_stage(stage, n, chunk_size, chunk_settings, mem_gb)
        merge = pe.Node(MergeRuns(), name=f"merge_{stage}")
        workflow.connect([
            (inputnode, ledger, _SAMPLES),
            (inputnode, chunks, _SAMPLES),
            (thresholds, ledger, [("out_thresholds", "in_thresholds")]),
            (thresholds, chunks, [("out_thresholds", "in_thresholds")]),
            (ledger, chunks, [("out_ledger", "in_ledger")]),
            (chunks, merge, [("out_file", "in_files")]),
            (merge, summarize, [("out_file", f"in_{stage}")]),
            (ledger, summarize, [("out_ledger", f"in_{stage}_ledger")]),
        ])  # fmt: skip
    return workflow


def _init_stage(
    stage: str, n: int, chunk_size: int, settings: Mapping[str, Any], mem_gb: float
) -> tuple[pe.Node, pe.MapNode]:
    """Return the ledger of a stage and its chunks."""
    size = max(chunk_size, -(-n // _MOST_CHUNKS))
    of_result = {**settings, "stage": stage, "chunk_size": size}
    how = {name: of_result.pop(name) for name in ("n_threads", "use_gpu", "weights_at_once")}
    ledger = pe.Node(OpenLedger(n_repetitions=n, **of_result), name=f"{stage}_ledger")
    chunks = pe.MapNode(
        RunChunk(**of_result, **how),
        iterfield=["start", "stop"],
        name=stage,
        mem_gb=mem_gb,
        n_procs=settings["n_threads"],
    )
    chunks.inputs.start = list(range(0, n, size))
    chunks.inputs.stop = [min(start + size, n) for start in chunks.inputs.start]
    return ledger, with_memory(chunks, chunk_bytes)


def _connect_rounds(
    workflow: pe.Workflow, ledger: pe.Node, chunks: pe.MapNode, scores: pe.MapNode, exceedances: int
) -> pe.Node:
    """Run the null chunks in rounds, each if those before it have not settled the accuracy's p-value.

    Rounds are cut whatever the number of processes, so that the number of permutations does not depend on it.
    Returns the node that holds the null chunks of all rounds.
    """
    inputnode = workflow.get_node("inputnode")
    starts, stops = chunks.inputs.start, chunks.inputs.stop
    n_chunks = -(-len(starts) // _MOST_ROUNDS)
    merge_scores = pe.Node(MergeRuns(), name="merge_scores")
    workflow.connect([
        (inputnode, scores, _SAMPLES),
        (scores, merge_scores, [("out_file", "in_files")]),
    ])  # fmt: skip
    before = None
    for number, first in enumerate(range(0, len(starts), n_chunks)):
        null = chunks.clone(f"null_{number}")
        null.inputs.start = starts[first : first + n_chunks]
        null.inputs.stop = stops[first : first + n_chunks]
        stop = pe.Node(
            StopPermuting(exceedances=exceedances, n_permutations=stops[-1]), name=f"stop_{number}"
        )
        workflow.connect([
            (inputnode, null, _SAMPLES),
            (ledger, null, [("out_ledger", "in_ledger")]),
            (merge_scores, stop, [("out_file", "in_real")]),
            (null, stop, [("out_file", "in_files")]),
        ])  # fmt: skip
        if before is not None:
            workflow.connect([
                (before, null, [("limit", "limit")]),
                (before, stop, [("out_file", "in_before")]),
            ])  # fmt: skip
        before = stop
    assert before is not None  # there is at least one permutation
    return before
