"""From the images of one subject to labelled samples on the analysis grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.functional import CheckRuns
from bids_xai.interfaces.images import DownsampleMask
from bids_xai.interfaces.samples import ExtractAnatomicalSample, ExtractSamples, samples_bytes
from bids_xai.reports.html import listed, number
from bids_xai.workflows import RAW_ENGINES
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.memory import with_memory
from bids_xai.workflows.preprocessing import init_preproc_wf

_INPUTS = (
    "bold", "t1w", "flair", "t1w_index", "template", "template_mask", "names", "events", "mask",
    "in_confounds", "dummies", "repetition_time", "entities", "anatomical_rows",
)  # fmt: skip

_SCALINGS = {
    "minmax": "The values of each image were scaled linearly to lie between 0 and 1.",
    "max": "The values of each image were divided by the largest.",
    "none": "",
}


def init_samples_wf(
    *,
    preproc: str = "none",
    modality: str = "bold",
    compute_mask: bool = False,
    individual_mask: bool = False,
    in_space: bool = False,
    registration: str | None = None,
    registration_profile: str = "quick",
    coregistration: str = "rigid",
    dof: int = 9,
    resolution: float | None = None,
    shape: tuple[int, int, int] | None = None,
    scaling: str = "minmax",
    detrend: bool = True,
    high_pass: float | None = 1 / 128,
    high_pass_sigma: float | None = None,
    confounds: Sequence[str] = (),
    fd_threshold: float | None = None,
    standardize: bool = True,
    target: str = "trial_type",
    classes: Mapping[str, Sequence[str]] | None = None,
    merge_events: float | None = None,
    sample: str = "events",
    window: tuple[float, float] | None = None,
    window_anchor: str = "onset",
    hrf_shift: float = 5.0,
    random_seed: int = 0,
    mem_gb: float = 1.0,
    name: str = "samples_wf",
) -> pe.Workflow:
    """Preprocess a subject's images and make labelled samples of them.

    .. code-block:: text

        inputnode -> (check_runs) -> preproc_wf -> extract -> outputnode

    Of a run, volumes without an image are found first, and ``extract`` cleans the time series before it takes
    samples of them.

    Parameters
    ----------
    preproc
        Name of the preprocessing engine (:data:`bids_xai.workflows.ENGINES`).
    modality
        What is classified: ``"bold"``, ``"T1w"``, ``"FLAIR"`` or ``"T2w"``.
    compute_mask
        Make brain masks (raw engines: take the template's) instead of taking them from the inputs.
    individual_mask
        With a raw engine: take the voxels in the subject's own brain, not those of the template's mask.
    in_space
        With ``none`` and anatomical images: they are in the template's space
        (:func:`bids_xai.workflows.aligned.init_none_preproc_wf`).
    registration, registration_profile, coregistration, dof, random_seed
        How raw images are registered (:func:`bids_xai.workflows.ants.init_ants_preproc_wf`,
        :func:`bids_xai.workflows.fsl.init_fsl_preproc_wf`); ``registration`` None: as the engine does.
    resolution
        Voxel size of the analysis grid in mm; None keeps the grid of the images or the template.
    shape
        Voxels of the analysis grid, padded or cropped around its centre; None keeps what there is.
    scaling
        How an anatomical image's values are scaled (:func:`bids_xai.images.brain.scale_intensities`).
    fd_threshold
        Framewise displacement in mm above which a volume is left out; None: none is for motion.
    detrend, high_pass, high_pass_sigma, confounds, standardize
        How a run is cleaned (:func:`bids_xai.images.cleaning.clean_run`); ``high_pass`` in Hz.
    target
        Column of the events files that holds the classes.
    classes
        Levels of ``target`` by class; None takes every level as a class but rest.
    merge_events
        Longest gap in seconds between events of a class that are made into one
        (:func:`bids_xai.bids.blocks.merge_events`); None: none are.
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
    t1w, flair
        Lists of anatomical images: classified, or (T1w, raw engines) what the others are registered through.
    t1w_index
        List of int: for each run or FLAIR the index of its anatomy in ``t1w`` (raw engines).
    template, template_mask
        T1w of the template without skull, its brain mask (raw engines; ``none`` with anatomical images).
    names
        Names of the images that are registered, for messages: T1w, then FLAIR or runs (raw engines).
    events
        List of events files, in the order of ``bold``.
    mask
        List of masks on the images' grid, with raw engines on the analysis grid (unused with
        ``compute_mask``).
    in_confounds
        List of confounds files, in the same order (used with ``confounds``; raw engines make their own).
    dummies
        List of int, in the same order: first volumes that are left out (absent: none).
    repetition_time
        List of seconds between volumes, in the same order.
    entities
        List of dictionaries with ``subject``, ``session``, ``task`` and ``run``, in the same order.
    anatomical_rows
        List of dictionaries, the rows of :func:`bids_xai.bids.anatomical.anatomical_rows`.

    Outputs
    -------
    samples
        List of 4-D images, one volume per sample.
    rows
        List of TSV files, one row per sample.
    mask
        Mask on the analysis grid.
    notes
        List of JSON files: more for the sidecars, such as volumes that were left out (BOLD only).
    """
    raw = preproc in RAW_ENGINES
    # FSL filters with its own program, before the images are resampled.
    filtered = preproc == "fsl" and high_pass_sigma is not None
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(_INPUTS)), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["samples", "rows", "mask", "notes"]), name="outputnode"
    )
    preproc_wf = init_preproc_wf(
        preproc,
        modality=modality,
        compute_mask=compute_mask,
        individual_mask=individual_mask,
        in_space=in_space,
        registration=registration,
        registration_profile=registration_profile,
        coregistration=coregistration,
        dof=dof,
        resolution=resolution,
        shape=shape,
        high_pass_sigma=high_pass_sigma,
        random_seed=random_seed,
    )
    ports = [
        port for port in _INPUTS if port in preproc_wf.get_node("inputnode").inputs.copyable_trait_names()
    ]
    check = None
    if modality == "bold":
        check = pe.Node(CheckRuns(), name="check_runs", mem_gb=mem_gb)
        ports.remove("bold")
        workflow.connect([
            (inputnode, check, [("bold", "in_files"), ("dummies", "dummies")]),
            (check, preproc_wf, [("out_files", "inputnode.bold")]),
        ])  # fmt: skip
    workflow.connect([(inputnode, preproc_wf, [(port, f"inputnode.{port}") for port in ports])])
    mask: tuple[pe.Node | pe.Workflow, str] = (preproc_wf, "outputnode.mask")
    # Images that are brought to the grid here are no images on which a mask could lie before.
    if (raw or (preproc == "none" and modality != "bold")) and not compute_mask:
        given = pe.Node(DownsampleMask(), name="given_mask")
        workflow.connect(inputnode, "mask", given, "in_masks")
        mask = (given, "out_mask")
    workflow.connect(*mask, outputnode, "mask")
    if check is None:
        extract = pe.MapNode(
            ExtractAnatomicalSample(scaling=scaling), iterfield=["in_file", "row"], name="extract"
        )
        workflow.connect([
            (preproc_wf, extract, [("outputnode.images", "in_file")]),
            (inputnode, extract, [("anatomical_rows", "row")]),
            (extract, outputnode, [("out_file", "samples"), ("out_rows", "rows")]),
        ])  # fmt: skip
        workflow.__postdesc__ = _SCALINGS[value_of(extract, "scaling")]
        return workflow
    extract = _init_extract_node(
        target=target,
        classes=classes,
        merge_events=merge_events,
        sample=sample,
        window=window,
        window_anchor=window_anchor,
        hrf_shift=hrf_shift,
        mem_gb=mem_gb,
    )
    extract.inputs.trait_set(detrend=detrend, standardize=standardize)
    if high_pass_sigma is not None and not filtered:
        extract.inputs.high_pass_sigma = high_pass_sigma
    elif high_pass and not filtered:
        extract.inputs.high_pass = high_pass
    workflow.connect(*mask, extract, "in_mask")
    workflow.connect([
        (inputnode, extract, [("events", "in_events"), ("repetition_time", "repetition_time"),
                              ("entities", "entities")]),
        (preproc_wf, extract, [("outputnode.images", "in_file")]),
        (check, extract, [("out_checks", "in_check")]),
        (extract, outputnode, [("out_notes", "notes")]),
    ])  # fmt: skip
    if fd_threshold is not None:
        extract.inputs.fd_threshold = fd_threshold
    if confounds:
        extract.inputs.confounds = list(confounds)
    if confounds or fd_threshold is not None:
        extract.iterfield = [*extract.iterfield, "in_confounds"]
        workflow.connect(preproc_wf, "outputnode.confounds", extract, "in_confounds")
    workflow.connect([(extract, outputnode, [("out_file", "samples"), ("out_rows", "rows")])])
    workflow.__postdesc__ = _cleaning(extract)
    return workflow


def _cleaning(extract: pe.MapNode) -> str:
    """Return what the node does to time courses before it takes samples of them."""
    steps = []
    if value_of(extract, "detrend"):
        steps.append("its linear trend was removed")
    if sigma := value_of(extract, "high_pass_sigma"):
        steps.append(
            f"slow drifts were removed by a Gaussian-weighted straight-line fit (σ = {number(sigma)} volumes)"
        )
    if cutoff := value_of(extract, "high_pass"):
        steps.append(f"drifts below {number(cutoff)} Hz were removed with discrete cosines")
    if names := value_of(extract, "confounds"):
        steps.append(f"the confounds {', '.join(names)} were regressed out")
    if value_of(extract, "standardize"):
        steps.append("it was scaled to zero mean and unit variance")
    if not steps:
        return "Time courses were not filtered or scaled."
    return f"For each voxel's time course in each run, {listed(steps)} [@nilearn2014]."


def _init_extract_node(
    *,
    target: str,
    classes: Mapping[str, Sequence[str]] | None,
    merge_events: float | None,
    sample: str,
    window: tuple[float, float] | None,
    window_anchor: str,
    hrf_shift: float,
    mem_gb: float,
) -> pe.MapNode:
    node = pe.MapNode(
        ExtractSamples(target=target, sample=sample, window_anchor=window_anchor, hrf_shift=hrf_shift),
        iterfield=["in_file", "in_check", "in_events", "repetition_time", "entities"],
        name="extract",
        mem_gb=mem_gb,
    )
    if merge_events is not None:
        node.inputs.merge_events = merge_events
    if window is not None:
        node.inputs.window = tuple(window)
    if classes is not None:
        node.inputs.classes = {key: list(levels) for key, levels in classes.items()}
    return with_memory(node, samples_bytes)
