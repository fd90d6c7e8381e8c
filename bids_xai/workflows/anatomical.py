"""Anatomical images and ANTs: bias correction, brain extraction, registration to a template."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.anatomical import (
    CentringTransform,
    ClipNegative,
    ConformImage,
    ExtractBrain,
    PrepareRegistration,
)
from bids_xai.interfaces.ants import ApplyTransforms, N4BiasFieldCorrection
from bids_xai.interfaces.quality import BrainQuality, CoregistrationQuality, TemplateSimilarity
from bids_xai.reports.html import listed
from bids_xai.workflows.literate import value_of
from bids_xai.workflows.raw import T1W
from bids_xai.workflows.registration import COREGISTRATION, PROFILES, registration_interface

# Correlation with the template, below which a registration has failed: a third of what brains reach that
# were registered with so many degrees of freedom, and more than brains in wrong positions.
FLOORS = {"none": -1.0, "rigid": 0.2, "affine": 0.25, "syn": 0.35}
INTERPOLATIONS = {"sloppy": "Linear", "quick": "BSpline", "full": "BSpline"}
REGISTRATION_GB = 2.0
_TRANSFORMS = {
    "Rigid": "rigid",
    "Affine": "affine",
    "SyN": "symmetric diffeomorphic (SyN) [@avants2008]",
}
_METRICS = {"MI": "mutual information", "CC": "cross-correlation"}
# Iterations per level and threshold; with the default's, fields differ from the last one's by .1 %.
_N4 = {"sloppy": ([20, 20], 1e-4), "quick": ([50] * 3, 1e-4), "full": ([50] * 4, 1e-7)}


def init_t1w_wf(
    *, registration: str = "syn", profile: str = "quick", random_seed: int = 0, name: str = "t1w_wf"
) -> pe.Workflow:
    """Correct T1w images for bias, extract the brains, and bring them to a template.

    .. code-block:: text

        t1w -> conform -> n4 -> extract -> normalize_<registration>_wf -> outputnode

    Parameters
    ----------
    registration
        ``"none"`` (centre on centre), ``"rigid"``, ``"affine"`` or ``"syn"``.
    profile
        One of :data:`bids_xai.workflows.registration.PROFILES`.
    random_seed
        Seed of the registration's sampling.
    name
        Name of the workflow.

    Inputs
    ------
    t1w
        List of T1w images, heads or brains.
    template
        T1w of the template without skull.
    template_mask
        Its brain mask.

    Outputs
    -------
    t1w_preproc
        List: bias-corrected, axes in the order right, anterior, superior.
    t1w_mask
        List: brain masks.
    t1w_brain
        List: bias-corrected brains.
    t1w_std
        List: brains on the template's grid.
    t1w_xfm
        List of ITK transforms, T1w to template (they map points of the template to points of the T1w).
    t1w_inverse_xfm
        List of the inverse transforms.
    t1w_quality
        List: what :class:`bids_xai.interfaces.quality.TemplateSimilarity` found.
    brain_quality
        List: what :class:`bids_xai.interfaces.quality.BrainQuality` found.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["t1w", "template", "template_mask"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(T1W)), name="outputnode")
    conform = pe.MapNode(ConformImage(), iterfield=["in_file"], name="conform", mem_gb=1)
    n4 = init_n4_node(profile)
    extract = pe.MapNode(ExtractBrain(), iterfield=["in_file"], name="extract", mem_gb=3)
    brain_quality = init_brain_quality_node()
    # A name of its own for each kind keeps the others' results when variants share a working folder.
    normalize_wf = _init_normalize_wf(
        registration=registration,
        profile=profile,
        random_seed=random_seed,
        name=f"normalize_{registration}_{profile}_wf",
    )
    workflow.connect([
        (inputnode, conform, [("t1w", "in_file")]),
        (conform, n4, [("out_file", "input_image")]),
        (n4, extract, [("output_image", "in_file")]),
        (inputnode, normalize_wf, [("template", "inputnode.template"),
                                   ("template_mask", "inputnode.template_mask")]),
        (extract, normalize_wf, [("out_file", "inputnode.brain")]),
        (extract, brain_quality, [("out_mask", "in_mask")]),
        (n4, outputnode, [("output_image", "t1w_preproc")]),
        (extract, outputnode, [("out_mask", "t1w_mask"), ("out_file", "t1w_brain")]),
        (normalize_wf, outputnode, [("outputnode.std", "t1w_std"), ("outputnode.xfm", "t1w_xfm"),
                                    ("outputnode.inverse_xfm", "t1w_inverse_xfm"),
                                    ("outputnode.quality", "t1w_quality")]),
        (brain_quality, outputnode, [("quality", "brain_quality")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        "Each T1-weighted image was corrected for intensity non-uniformity with N4 [@tustison2010], and its "
        "brain was extracted by the convolutional network deepbet [@fisch2024]."
    )
    return workflow


def init_brain_quality_node() -> pe.MapNode:
    """Return the node that judges brain masks of a list of T1w."""
    return pe.MapNode(BrainQuality(), iterfield=["in_mask"], name="brain_quality", mem_gb=1)


def init_n4_node(profile: str, name: str = "n4") -> pe.MapNode:
    """Return the node that corrects bias fields (N4; Tustison et al. 2010) of a list of images."""
    iterations, threshold = _N4[profile]
    interface = N4BiasFieldCorrection(
        dimension=3,
        shrink_factor=4,
        n_iterations=iterations,
        convergence_threshold=threshold,
        bspline_fitting_distance=200.0,
        copy_header=True,
    )
    return pe.MapNode(interface, iterfield=["input_image"], name=name, mem_gb=1)


def _init_normalize_wf(*, registration: str, profile: str, random_seed: int, name: str) -> pe.Workflow:
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["brain", "template", "template_mask"]), name="inputnode"
    )
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["std", "xfm", "inverse_xfm", "quality"]), name="outputnode"
    )
    if registration == "none":
        register = pe.MapNode(CentringTransform(), iterfield=["in_file"], name="centre")
        workflow.connect([
            (inputnode, register, [("brain", "in_file"), ("template", "grid")]),
        ])  # fmt: skip
    else:
        finest = PROFILES[profile].levels_mm[-1]
        prepare = pe.MapNode(
            PrepareRegistration(resolution=finest), iterfield=["moving"], name="prepare", mem_gb=1
        )
        register = pe.MapNode(
            registration_interface(registration, PROFILES[profile], voxel_mm=finest, random_seed=random_seed),
            iterfield=["fixed_image", "moving_image", "initial_moving_transform"],
            name="register",
            mem_gb=REGISTRATION_GB,
        )
        workflow.connect([
            (inputnode, prepare, [("template", "fixed"), ("brain", "moving")]),
            (prepare, register, [("fixed", "fixed_image"), ("moving", "moving_image"),
                                 ("initial", "initial_moving_transform")]),
        ])  # fmt: skip
    apply = pe.MapNode(
        ApplyTransforms(dimension=3, interpolation=INTERPOLATIONS[profile], float=True),
        iterfield=["input_image", "transforms"],
        name="apply",
        mem_gb=1,
    )
    positive = pe.MapNode(ClipNegative(), iterfield=["in_file"], name="positive", mem_gb=1)
    quality = pe.MapNode(
        TemplateSimilarity(floor=FLOORS[registration]), iterfield=["in_file", "before"], name="quality"
    )
    workflow.connect([
        (inputnode, apply, [("brain", "input_image"), ("template", "reference_image")]),
        (register, apply, [("composite_transform", "transforms")]),
        (apply, positive, [("output_image", "in_file")]),
        (positive, quality, [("out_file", "in_file")]),
        (inputnode, quality, [("brain", "before"), ("template", "template"), ("template_mask", "mask")]),
        (positive, outputnode, [("out_file", "std")]),
        (register, outputnode, [("composite_transform", "xfm"),
                                ("inverse_composite_transform", "inverse_xfm")]),
        (quality, outputnode, [("quality", "quality")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        "It was put centre on centre with the template, without registration."
        if registration == "none"
        else f"It was registered to the template by antsRegistration with {transforms_text(register)} "
        f"(profile “{profile}” of bids_xai)."
    )
    return workflow


def transforms_text(register: pe.MapNode) -> str:
    """Return the transforms of a node of antsRegistration, and what they compare, in words."""
    transforms, metrics = value_of(register, "transforms"), value_of(register, "metric")
    words = [_TRANSFORMS[name] for name in transforms]
    compared = listed(list(dict.fromkeys(_METRICS[name] for name in metrics)))
    kinds = f"{listed(words)} transforms" if len(words) > 1 else f"a {words[0]} transform"
    return f"{kinds}, by {compared}"


def init_coregistration_wf(
    *,
    kind: str = "rigid",
    profile: str = "quick",
    random_seed: int = 0,
    what: str = "Each image",
    name: str = "coregistration_wf",
) -> pe.Workflow:
    """Bring images of other contrasts (BOLD references, FLAIR) to the brains in their T1w.

    Parameters
    ----------
    kind
        ``"rigid"`` or ``"affine"``.
    profile
        One of :data:`bids_xai.workflows.registration.COREGISTRATION`.
    random_seed
        Seed of the registration's sampling.
    what
        What the description calls an image.
    name
        Name of the workflow.

    Inputs
    ------
    images
        List of 3-D images.
    brains
        List of brains of the same persons in T1w, in the same order.

    Outputs
    -------
    xfm
        List of ITK transforms, image to T1w.
    aligned
        List: the images on the grids of the T1w.
    quality
        List: what :class:`bids_xai.interfaces.quality.CoregistrationQuality` found.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["images", "brains"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["xfm", "aligned", "quality"]), name="outputnode")
    finest = COREGISTRATION[profile].levels_mm[-1]
    prepare = pe.MapNode(
        PrepareRegistration(resolution=finest), iterfield=["fixed", "moving"], name="prepare", mem_gb=1
    )
    register = pe.MapNode(
        registration_interface(kind, COREGISTRATION[profile], voxel_mm=finest, random_seed=random_seed),
        iterfield=["fixed_image", "moving_image", "initial_moving_transform"],
        name="register",
        mem_gb=1,
    )
    apply = pe.MapNode(
        ApplyTransforms(dimension=3, interpolation="Linear", float=True),
        iterfield=["input_image", "reference_image", "transforms"],
        name="apply",
        mem_gb=1,
    )
    quality = pe.MapNode(
        CoregistrationQuality(), iterfield=["in_file", "before", "reference"], name="quality", mem_gb=1
    )
    workflow.connect([
        (inputnode, prepare, [("brains", "fixed"), ("images", "moving")]),
        (prepare, register, [("fixed", "fixed_image"), ("moving", "moving_image"),
                             ("initial", "initial_moving_transform")]),
        (inputnode, apply, [("images", "input_image"), ("brains", "reference_image")]),
        (register, apply, [("composite_transform", "transforms")]),
        (apply, quality, [("output_image", "in_file")]),
        (inputnode, quality, [("images", "before"), ("brains", "reference")]),
        (register, outputnode, [("composite_transform", "xfm")]),
        (apply, outputnode, [("output_image", "aligned")]),
        (quality, outputnode, [("quality", "quality")]),
    ])  # fmt: skip
    workflow.__desc__ = (
        f"{what} was registered to the T1-weighted image of the same participant by antsRegistration with "
        f"{transforms_text(register)}."
    )
    return workflow
