"""From the aligned runs of one subject to labelled samples on the analysis grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.images import CleanRun, DownsampleImage, DownsampleMask
from bids_xai.interfaces.samples import ExtractSamples
from bids_xai.workflows import ENGINES


def init_samples_wf(
    *,
    preproc: str = "none",
    compute_mask: bool = False,
    resolution: float | None = None,
    detrend: bool = True,
    high_pass: float | None = 1 / 128,
    high_pass_sigma: float | None = None,
    confounds: Sequence[str] = (),
    standardize: bool = True,
    target: str = "trial_type",
    classes: Mapping[str, Sequence[str]] | None = None,
    sample: str = "events",
    window: tuple[float, float] | None = None,
    window_anchor: str = "onset",
    hrf_shift: float = 5.0,
    mem_gb: float = 1.0,
    name: str = "samples_wf",
) -> pe.Workflow:
    """Preprocess, mask, downsample and clean a subject's runs, and cut samples out of them.

    .. code-block:: text

        inputnode -> preproc_wf -> downsample_mask -------------> outputnode
                        +-> downsample_bold -> clean -> extract ----^

    Parameters
    ----------
    preproc
        Name of the preprocessing engine (:data:`bids_xai.workflows.ENGINES`).
    compute_mask
        Compute brain masks instead of taking them from the inputs.
    resolution
        Voxel size of the analysis grid in mm; None keeps the grid of the images.
    detrend, high_pass, high_pass_sigma, confounds, standardize
        How a run is cleaned (:func:`bids_xai.images.cleaning.clean_run`); ``high_pass`` in Hz.
    target
        Column of the events files that holds the classes.
    classes
        Levels of ``target`` by class; None takes every level as a class but rest.
    sample
        ``"events"``: the mean of the window's volumes; ``"volumes"``: each of them.
    window, window_anchor, hrf_shift
        Seconds of the volumes that are taken (:func:`bids_xai.images.windows.window_volumes`).
    mem_gb
        Memory that a run's images take.
    name
        Name of the workflow.

    Inputs
    ------
    bold
        List of 4-D images, one per run.
    events
        List of events files, in the same order.
    mask
        List of masks on the images' grid (unused with ``compute_mask``).
    in_confounds
        List of confounds files, in the same order (used with ``confounds``).
    repetition_time
        List of seconds between volumes, in the same order.
    entities
        List of dictionaries with ``subject``, ``session``, ``task`` and ``run``, in the same order.

    Outputs
    -------
    samples
        List of 4-D images, one volume per sample.
    rows
        List of TSV files, one row per sample.
    mask
        Mask on the analysis grid.
    """
    fields = ["bold", "events", "mask", "in_confounds", "repetition_time", "entities"]
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["samples", "rows", "mask"]), name="outputnode")
    preproc_wf = ENGINES[preproc].load()(compute_mask=compute_mask)

    downsample_mask = pe.Node(DownsampleMask(), name="downsample_mask")
    clean = _init_clean_node(
        detrend=detrend,
        high_pass=high_pass,
        high_pass_sigma=high_pass_sigma,
        confounds=confounds,
        standardize=standardize,
        mem_gb=mem_gb,
    )
    extract = pe.MapNode(
        ExtractSamples(target=target, sample=sample, window_anchor=window_anchor, hrf_shift=hrf_shift),
        iterfield=["in_file", "in_events", "repetition_time", "entities"],
        name="extract",
        mem_gb=mem_gb,
    )
    if window is not None:
        extract.inputs.window = tuple(window)
    if classes is not None:
        extract.inputs.classes = {key: list(levels) for key, levels in classes.items()}

    workflow.connect([
        (inputnode, preproc_wf, [("bold", "inputnode.bold"), ("mask", "inputnode.mask")]),
        (inputnode, clean, [("repetition_time", "repetition_time")]),
        (inputnode, extract, [("events", "in_events"), ("repetition_time", "repetition_time"),
                              ("entities", "entities")]),
        (preproc_wf, downsample_mask, [("outputnode.mask", "in_masks")]),
        (downsample_mask, clean, [("out_mask", "in_mask")]),
        (clean, extract, [("out_file", "in_file")]),
        (downsample_mask, outputnode, [("out_mask", "mask")]),
        (extract, outputnode, [("out_file", "samples"), ("out_rows", "rows")]),
    ])  # fmt: skip
    if resolution is None:
        workflow.connect(preproc_wf, "outputnode.bold", clean, "in_file")
    else:
        downsample_mask.inputs.resolution = resolution
        downsample_bold = pe.MapNode(
            DownsampleImage(resolution=resolution),
            iterfield=["in_file"],
            name="downsample_bold",
            mem_gb=mem_gb,
        )
        workflow.connect([
            (preproc_wf, downsample_bold, [("outputnode.bold", "in_file")]),
            (downsample_bold, clean, [("out_file", "in_file")]),
        ])  # fmt: skip
    if confounds:
        workflow.connect(inputnode, "in_confounds", clean, "in_confounds")
    return workflow


def _init_clean_node(
    *,
    detrend: bool,
    high_pass: float | None,
    high_pass_sigma: float | None,
    confounds: Sequence[str],
    standardize: bool,
    mem_gb: float,
) -> pe.MapNode:
    iterfield = ["in_file", "repetition_time", *(["in_confounds"] if confounds else [])]
    node = pe.MapNode(
        CleanRun(detrend=detrend, standardize=standardize), iterfield=iterfield, name="clean", mem_gb=mem_gb
    )
    if high_pass_sigma is not None:
        node.inputs.high_pass_sigma = high_pass_sigma
    elif high_pass:
        node.inputs.high_pass = high_pass
    if confounds:
        node.inputs.confounds = list(confounds)
    return node
