"""From the parameters of a scenario to what importance maps find of its truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_xai.interfaces.scenarios import MakeScenario, WriteScenario
from bids_xai.phantom.scenarios import ScenarioParameters
from bids_xai.workflows.inference import init_inference_wf


def init_scenario_wf(
    *,
    parameters: ScenarioParameters,
    label: str,
    output_dir: Path | str | None = None,
    permute: str = "all",
    inference: Mapping[str, Any] | None = None,
    mem_gb: float = 2.0,
    name: str = "scenario_wf",
) -> pe.Workflow:
    """Make a scenario, classify it, explain the classifier, and compare what it used with the truth.

    .. code-block:: text

        inputnode -> make -> inference_wf -> write -> outputnode
                       +---- truth, design ----^

    Parameters
    ----------
    parameters
        Scale and signal.
    label
        Name of the results: that of the scenario, with the variant of its training.
    output_dir
        Folder that ``scenario-LABEL`` is written in; None leaves it in the working folder.
    permute
        Exchangeability of the labels (:data:`bids_xai.inference.PERMUTATIONS`).
    inference
        Parameters of :func:`bids_xai.workflows.inference.init_inference_wf`.
    mem_gb
        Memory of making the data, and of one chunk.
    name
        Name of the workflow.

    Inputs
    ------
    base
        ``.npy`` file of samples to add the patterns to (optional: Gaussian noise).

    Outputs
    -------
    out_dir
        Folder of the results, with ``scenario.json``.
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=["base"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_dir"]), name="outputnode")
    own = {**dict(inference or {}), "random_seed": parameters.seed}
    make = pe.Node(
        MakeScenario(
            scenario=parameters.scenario,
            subjects=parameters.subjects,
            samples=parameters.samples,
            voxels=parameters.voxels,
            mu=parameters.means[0],
            mu_right=parameters.means[1],
            random_seed=parameters.seed,
        ),
        name="make",
        mem_gb=mem_gb,
    )
    inference_wf = init_inference_wf(**own, mem_gb=mem_gb)
    inference_wf.inputs.inputnode.permute = permute
    settings = {
        "subjects": parameters.subjects,
        "samples": parameters.samples,
        "voxels": parameters.voxels,
        "mu": parameters.means[0],
        "mu_right": parameters.means[1],
        "permute": permute,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in own.items()},
    }
    write = pe.Node(WriteScenario(label=label, settings=settings), name="write", mem_gb=mem_gb)
    if output_dir is not None:
        write.inputs.output_dir = str(output_dir)
    workflow.connect([
        (inputnode, make, [("base", "in_base")]),
        (make, inference_wf, [("out_data", "inputnode.data"), ("out_gram", "inputnode.gram"),
                              ("out_design", "inputnode.design")]),
        (make, write, [("out_truth", "in_truth"), ("out_design", "in_design")]),
        (inference_wf, write, [("outputnode.maps", "in_maps"), ("outputnode.tables", "in_tables"),
                               ("outputnode.summary", "in_summary")]),
        (write, outputnode, [("out_dir", "out_dir")]),
    ])  # fmt: skip
    return workflow
