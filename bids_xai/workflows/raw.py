"""What the engines for raw images have in common: their ports, and the gate behind the registrations."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.quality import RequireQuality

INDIVIDUAL_MASK = "Voxels outside the participant's own brain mask were left out."
INPUTS = ("t1w", "flair", "bold", "t1w_index", "template", "template_mask", "names")
T1W = (
    "t1w_preproc", "t1w_mask", "t1w_brain", "t1w_std", "t1w_xfm", "t1w_inverse_xfm", "t1w_quality",
    "brain_quality",
)  # fmt: skip
FLAIR = ("flair_preproc", "flair_std", "flair_xfm", "flair_t1w", "flair_quality")
BOLD = (
    "bold_std", "bold_mask_std", "boldref", "boldref_t1w", "hmc_xfm", "bold_xfm", "bold_quality",
    "reference_quality",
)  # fmt: skip


def connect_anatomies(
    workflow: pe.Workflow, t1w_wf: pe.Workflow, target: pe.Workflow, ports: Sequence[str]
) -> None:
    """Give a graph of FLAIR images what was made of the T1w of each: several may share one.

    Parameters
    ----------
    workflow
        The engine, whose ``inputnode`` has the port ``t1w_index``.
    t1w_wf
        Graph of the T1w images, each once.
    target
        Graph whose inputs of the same names are lists in the order of the FLAIR images.
    ports
        Names of the outputs.
    """
    inputnode = workflow.get_node("inputnode")
    for port in ports:
        select = pe.Node(niu.Select(), name=f"select_{port}")
        workflow.connect([
            (t1w_wf, select, [(f"outputnode.{port}", "inlist")]),
            (inputnode, select, [("t1w_index", "index")]),
            (select, target, [("out", f"inputnode.{port}")]),
        ])  # fmt: skip


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
