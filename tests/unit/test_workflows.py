"""Graphs are built as documented, and every input that a node needs reaches it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nipype.interfaces.base import isdefined
from nipype.pipeline import engine as pe

from bids_xai.bids.records import AnatomicalRecord, RunRecord, SubjectRecord
from bids_xai.phantom.scenarios import ScenarioParameters
from bids_xai.workflows import ENGINES, RAW_ENGINES, fsl_anatomical, fsl_functional
from bids_xai.workflows.aligned import init_derivatives_preproc_wf, init_none_preproc_wf
from bids_xai.workflows.anatomical import init_coregistration_wf, init_t1w_wf
from bids_xai.workflows.ants import init_ants_preproc_wf
from bids_xai.workflows.base import (
    init_group_wf,
    init_participants_wf,
    init_samples_wf,
    init_single_subject_wf,
)
from bids_xai.workflows.figures import init_figures_wf
from bids_xai.workflows.fsl import init_fsl_preproc_wf
from bids_xai.workflows.functional import init_bold_wf
from bids_xai.workflows.grid import init_grid_wf
from bids_xai.workflows.inference import init_inference_wf
from bids_xai.workflows.networks import init_network_wf
from bids_xai.workflows.scenarios import init_scenario_wf

MODALITIES = ("bold", "T1w", "FLAIR")
# All that a graph of networks may hold.
NETWORK_PARTS: dict[str, object] = {
    "n_permutations": 3,
    "atlas": ["aal", "juelich"],
    "similarity": True,
    "visualise": ["features.0:1"],
    "biomarker": "age",
    "samples_per_class": 5,
    "output_dir": "out",
}
FACTORIES: list[tuple[Callable[..., pe.Workflow], dict[str, object]]] = [
    (init_ants_preproc_wf, {}),
    (init_fsl_preproc_wf, {}),
    (init_derivatives_preproc_wf, {"compute_mask": True}),
    (init_none_preproc_wf, {"modality": "T1w"}),
    (init_grid_wf, {"resolution": 4.0, "shape": (5, 6, 7)}),
    (init_t1w_wf, {}),
    (init_coregistration_wf, {}),
    (init_bold_wf, {}),
    (fsl_anatomical.init_fsl_t1w_wf, {}),
    (fsl_anatomical.init_fsl_head_wf, {}),
    (fsl_anatomical.init_fsl_flair_wf, {}),
    (fsl_functional.init_fsl_bold_wf, {}),
    (fsl_functional.init_fsl_resample_wf, {}),
    (fsl_functional.init_fsl_realign_wf, {}),
    (fsl_functional.init_fsl_high_pass_wf, {"sigma": 55}),
    (init_figures_wf, {}),
    (init_samples_wf, {}),
    (init_inference_wf, {}),
    (init_scenario_wf, {"parameters": ScenarioParameters(), "label": "1"}),
    (init_group_wf, {}),
    (init_network_wf, {}),
    (init_network_wf, NETWORK_PARTS),
]


def _documented(function: Callable[..., object], section: str) -> set[str]:
    text = inspect.getdoc(function) or ""
    found = re.search(rf"{section}\n-+\n(.*?)(?=\n\w+\n-+\n|\Z)", text, re.DOTALL)
    assert found, f"{function.__name__} lacks {section}"
    names = re.findall(r"^(\w[\w, *]*)$", found.group(1), re.MULTILINE)
    return {name.strip() for line in names for name in line.split(",")}


@pytest.mark.parametrize(("factory", "arguments"), FACTORIES)
def test_docstrings_name_the_parameters_and_ports(
    factory: Callable[..., pe.Workflow], arguments: dict[str, object]
) -> None:
    workflow = factory(**arguments)
    assert _documented(factory, "Parameters") == set(inspect.signature(factory).parameters)
    for section, node in (("Inputs", "inputnode"), ("Outputs", "outputnode")):
        ports = set(workflow.get_node(node).inputs.copyable_trait_names())
        assert _documented(factory, section) == ports


def _dangling(workflow: pe.Workflow) -> list[str]:
    """Return the mandatory inputs of all nodes that are neither set nor connected."""
    graph = workflow._create_flat_graph()
    found = []
    for node in graph.nodes():
        arriving = {port for *_, edge in graph.in_edges(node, data=True) for _, port in edge["connect"]}
        for name, trait in node.interface.inputs.traits(mandatory=True).items():
            given = isdefined(getattr(node.inputs, name)) or name in arriving
            if not given and not trait.xor and trait.mandatory is True:
                found.append(f"{node.fullname}.{name}")
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(("resolution", "shape"), [(None, None), (4.0, (5, 6, 7))])
@pytest.mark.parametrize("confounds", [(), ("trans_*",)])
@pytest.mark.parametrize("compute_mask", [False, True])
def test_graphs_of_every_engine_connect(
    engine: str,
    modality: str,
    resolution: float | None,
    shape: tuple[int, int, int] | None,
    confounds: tuple[str, ...],
    compute_mask: bool,
) -> None:
    workflow = init_samples_wf(
        preproc=engine,
        modality=modality,
        compute_mask=compute_mask,
        individual_mask=compute_mask,
        resolution=resolution,
        shape=shape,
        confounds=confounds,
    )
    assert not _dangling(workflow)
    nodes = [workflow.get_node(name) for name in workflow.list_node_names()]
    resolutions = {node.inputs.resolution for node in nodes if hasattr(node.inputs, "resolution")}
    assert (resolution in resolutions) == (resolution is not None)
    arriving = workflow._graph.in_edges(workflow.get_node("outputnode"), data=True)
    ports = {"samples", "rows", "mask"} | ({"notes"} if modality == "bold" else set())
    assert {port for *_, edge in arriving for _, port in edge["connect"]} == ports
    extract = workflow.get_node("extract")
    assert ("in_mask" in extract.inputs.copyable_trait_names()) == (modality == "bold")
    if modality == "bold":
        assert ("in_confounds" in extract.iterfield) == bool(confounds)
    own = any(name.endswith("own_mask") for name in workflow.list_node_names())
    assert own == (compute_mask and engine in RAW_ENGINES and modality == "bold")


def _subject(folder: Path, modality: str, label: str = "01") -> SubjectRecord:
    """Return a subject with two sessions of one run each, whose files are empty."""
    names = ("bold.nii.gz", "events.tsv", "T1w.nii.gz", "FLAIR.nii.gz")
    runs, anatomical = [], []
    for session in ("1", "2"):
        bold, events, t1w, flair = (folder / f"sub-{label}_ses-{session}_{name}" for name in names)
        for path in (bold, events, t1w, flair):
            path.touch()
        entities = {"subject": label, "session": session}
        runs.append(
            RunRecord(
                label, session, "look", "1", bold, events, 2.0, 50, entities={**entities, "task": "look"}
            )
        )
        image = flair if modality == "FLAIR" else t1w
        anatomical.append(AnatomicalRecord(label, session, "", image, t1w, "a", entities=entities))
    return SubjectRecord(label, tuple(runs) if modality == "bold" else (), tuple(anatomical))


@pytest.mark.parametrize("engine", RAW_ENGINES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_subjects_of_raw_engines_are_given_all_they_need(tmp_path: Path, engine: str, modality: str) -> None:
    template = tmp_path / "template.nii.gz"
    template.touch()
    workflow = init_single_subject_wf(
        _subject(tmp_path, modality),
        tmp_path / "out",
        preproc=engine,
        modality=modality,
        template=(template, template),
        classes={"a": ("a",), "b": ("b",)},
        space="MNI",
    )
    assert not _dangling(workflow)
    samples_wf = workflow.get_node("samples_wf")
    inputnode = samples_wf.get_node("inputnode")
    expected = {"bold": {"bold", "t1w_index"}, "T1w": set(), "FLAIR": {"flair"}}[modality]
    for port in {"t1w", "template", "template_mask", "names", *expected}:
        assert isdefined(getattr(inputnode.inputs, port)), port
    assert len(inputnode.inputs.names) == (2 if modality == "T1w" else 4)
    write = workflow.get_node("write_preprocessed")
    arriving = {
        port for *_, edge in workflow._graph.in_edges(write, data=True) for _, port in edge["connect"]
    }
    made = {
        "bold": {
            *("bold_std", "boldref", "hmc_xfm", "bold_xfm", "bold_quality", "confounds"),
            *("run_figure", "coregistration_figure", "reference_quality"),
        },
        "T1w": set(),
        "FLAIR": {"flair_preproc", "flair_std", "flair_xfm", "flair_quality", "flair_figure"},
    }
    always = {"t1w_preproc", "t1w_mask", "t1w_std", "t1w_xfm", "t1w_inverse_xfm", "t1w_quality"}
    always |= {"brain_quality"}
    assert arriving == {*always, "brain_figure", "registration_figure"} | made[modality]


def test_one_graph_per_subject_and_a_computed_mask_where_none_is_given(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("bold.nii.gz", "events.tsv", "mask.nii.gz")]
    for path in files:
        path.touch()
    records = [
        SubjectRecord(
            label,
            (RunRecord(label, "", "look", "1", files[0], files[1], 2.0, 50, mask, None, {"subject": label}),),
        )
        for label, mask in (("01", files[2]), ("02", None))
    ]
    workflow = init_participants_wf(records, tmp_path)
    names = workflow.list_node_names()
    assert "sub_01_wf.write" in names
    assert "sub_02_wf.samples_wf.preproc_wf.compute_mask" in names
    assert "sub_01_wf.samples_wf.preproc_wf.compute_mask" not in names


def test_chunks_do_not_depend_on_the_number_of_processes() -> None:
    workflow = init_inference_wf(n_runs=25, n_permutations=20, n_null=0, chunk_size=10)
    real = workflow.get_node("real")
    assert list(zip(real.inputs.start, real.inputs.stop, strict=True)) == [(0, 10), (10, 20), (20, 25)]
    assert workflow.get_node("null2") is None


def test_many_repetitions_make_larger_chunks_not_more_nodes() -> None:
    null = init_inference_wf(n_permutations=10_001, n_null=0).get_node("null")
    assert len(null.inputs.start) <= 200
    assert null.inputs.stop[-1] == 10_001
    assert null.inputs.start[1:] == null.inputs.stop[:-1]
    assert null.inputs.chunk_size == null.inputs.stop[0]


@pytest.mark.parametrize("stage", ["null", "real", "null2"])
def test_a_ledger_is_made_of_all_that_decides_its_chunks(stage: str) -> None:
    workflow = init_inference_wf(training={"l2": 0.5}, random_seed=3)
    ledger, chunks = workflow.get_node(f"{stage}_ledger"), workflow.get_node(stage)
    ends = {name: workflow._graph.in_edges(node, data=True) for name, node in (("l", ledger), ("c", chunks))}
    arriving = {
        name: {(source.name, *pair) for source, _, edge in edges for pair in edge["connect"]}
        for name, edges in ends.items()
    }
    assert arriving["c"] - arriving["l"] == {(ledger.name, "out_ledger", "in_ledger")}
    assert arriving["l"] <= arriving["c"]
    not_deciding = {"start", "stop", "limit", "in_ledger", "n_threads", "use_gpu", "weights_at_once"}
    for name in set(chunks.interface.inputs.copyable_trait_names()) - not_deciding:
        assert getattr(ledger.inputs, name) == getattr(chunks.inputs, name), name


def test_networks_are_trained_fold_by_fold_of_every_run_and_nothing_dangles() -> None:
    workflow = init_network_wf(**NETWORK_PARTS)  # type: ignore[arg-type]
    names = set(workflow.list_node_names())
    assert {"train", "train_null", "explain", "explain_null", "trust", "similarity", "visualise"} <= names
    assert not _dangling(workflow)
    assert set(init_network_wf(trust=False).list_node_names()) == names - {
        "train_null", "explain_null", "trust", "similarity", "visualise", "regions",
    }  # fmt: skip
