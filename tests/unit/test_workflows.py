"""Graphs are built as documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nipype.pipeline import engine as pe

from bids_xai.bids.records import RunRecord, SubjectRecord
from bids_xai.workflows import ENGINES
from bids_xai.workflows.base import init_group_wf, init_participants_wf, init_samples_wf
from bids_xai.workflows.preprocessing import init_aligned_preproc_wf

FACTORIES: list[tuple[Callable[..., pe.Workflow], dict[str, object]]] = [
    (init_aligned_preproc_wf, {"compute_mask": True}),
    (init_samples_wf, {}),
    (init_group_wf, {}),
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("resolution", [None, 4.0])
@pytest.mark.parametrize("confounds", [(), ("trans_*",)])
def test_graphs_of_every_engine_connect(
    engine: str, resolution: float | None, confounds: tuple[str, ...]
) -> None:
    workflow = init_samples_wf(preproc=engine, resolution=resolution, confounds=confounds)
    names = workflow.list_node_names()
    assert ("downsample_bold" in names) == (resolution is not None)
    clean = workflow.get_node("clean")
    assert ("in_confounds" in clean.iterfield) == bool(confounds)
    assert clean in workflow._graph.nodes


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
    workflow = init_group_wf(n_runs=25, n_permutations=20, n_null=0, chunk_size=10)
    real = workflow.get_node("real")
    assert list(zip(real.inputs.start, real.inputs.stop, strict=True)) == [(0, 10), (10, 20), (20, 25)]
    assert workflow.get_node("null2") is None
