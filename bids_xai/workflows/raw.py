"""What the engines for raw images have in common: their ports, and the gate behind the registrations."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.quality import RequireQuality

INDIVIDUAL_MASK = "Voxels outside the participant's own brain mask were left out."
INPUTS = ("t1w", "flair", "bold", "bold_t1w", "template", "template_mask", "names")
T1W = (
    "t1w_preproc", "t1w_mask", "t1w_brain", "t1w_std", "t1w_xfm", "t1w_inverse_xfm", "t1w_quality",
    "brain_quality",
)  # fmt: skip
FLAIR = ("flair_preproc", "flair_std", "flair_xfm", "flair_t1w", "flair_quality")
BOLD = (
    "bold_std", "bold_mask_std", "boldref", "boldref_t1w", "hmc_xfm", "bold_xfm", "bold_quality",
    "reference_quality",
)  # fmt: skip


def start_engine(name: str) -> pe.Workflow:
    """Return a graph with the ports of an engine for raw images, and a gate for the aligned images.

    Nodes ``inputnode`` and ``outputnode`` have the ports. Node ``require`` passes its ``in_files`` on to the
    port ``images`` only if the qualities that it is given are sound
    (:class:`bids_xai.interfaces.quality.RequireQuality`).

    Parameters
    ----------
    name
        Name of the workflow.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(INPUTS)), name="inputnode")
    outputs = ["images", "mask", "confounds", *T1W, *FLAIR, *BOLD]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    require = pe.Node(RequireQuality(), name="require")
    workflow.connect([
        (inputnode, require, [("names", "names")]),
        (require, outputnode, [("out_files", "images")]),
    ])  # fmt: skip
    return workflow
