"""What nodes are said to take of memory, and that using less changes no bit."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.attribution.runs import run_repetitions
from bids_xai.bids.query import query
from bids_xai.bids.records import RunRecord, SubjectRecord
from bids_xai.cli.groups import group_settings
from bids_xai.cli.networks import network_settings
from bids_xai.cli.participants import check_participants_memory
from bids_xai.cli.plan import plan_group, print_plan
from bids_xai.cli.run import main
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import trainer
from bids_xai.decoding.design import Design, make_design
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.errors import InputError
from bids_xai.execution.memory import check_group_memory, group_memory, networks_memory
from bids_xai.execution.resources import Resources
from bids_xai.inference.ledger import Ledger
from bids_xai.inference.null import NullAccumulator, load_top
from bids_xai.inference.thresholds import p_map
from bids_xai.interfaces.functional import ResampleRun
from bids_xai.models.build import build_network
from bids_xai.settings import Settings, resolve
from bids_xai.workflows.base import init_group_wf, init_single_subject_wf
from bids_xai.workflows.memory import declare_memory, run_memory
from bids_xai.workflows.networks import init_network_wf
from bids_xai.workflows.samples import init_samples_wf
from tests.datasets import make_anatomical_dataset

PLENTY = Resources(2, 64.0)


def settings(**sections: dict[str, object]) -> Settings:
    return resolve(sections)


@pytest.fixture
def design() -> Design:
    rows = pd.DataFrame(
        {
            "subject": np.repeat([f"{number:02d}" for number in range(10)], 20),
            "session": "",
            "task": "x",
            "run": "1",
            "event": np.tile(np.arange(20), 10),
            "class": np.tile(["a", "b"], 100),
        }
    )
    return make_design(rows, classes=(), cv="subject", n_folds=5, seed=0, exchange_within=None)[0]


def test_a_chunk_holds_as_many_weights_as_there_is_memory_for(design: Design) -> None:
    of_one = 10 * 2 * 100_000
    plenty = group_memory(settings(), design, 100_000, PLENTY)
    short = group_memory(settings(), design, 100_000, Resources(2, 0.8))
    least = group_memory(settings(execution={"low_mem": True}), design, 100_000, PLENTY)
    assert plenty.weights_at_once > short.weights_at_once > least.weights_at_once == of_one
    assert 2 * short.gb["chunks"] <= 0.8 < 2 * plenty.gb["chunks"]
    # Nine repetitions more of 8 MB each, as measured.
    assert plenty.gb["chunks"] - least.gb["chunks"] == pytest.approx(9 * 4 * of_one / 2**30)


def test_what_does_not_fit_is_refused_with_what_helps(design: Design) -> None:
    memory = group_memory(settings(), design, 5_000_000, Resources(2, 8.0))
    with pytest.raises(
        InputError, match=r"needs \d+\.\d GB in one process \(summarize\), and there are 8\.0"
    ):
        check_group_memory(memory, settings(), Resources(2, 8.0))
    with pytest.raises(InputError, match=r"(?s)--low-mem, or a coarser --resolution"):
        check_group_memory(memory, settings(), Resources(2, 8.0))
    check_group_memory(memory, settings(), Resources(2, 500.0))
    less = group_memory(settings(execution={"low_mem": True}), design, 5_000_000, Resources(2, 8.0))
    assert less.gb["summarize"] < 0.6 * memory.gb["summarize"]


def test_networks_take_what_their_layers_put_out() -> None:
    net = build_network("boehle2019", (96, 114, 96), 2)
    small = settings(decoding={"model": "boehle2019", "batch_size": 4})
    large = settings(decoding={"model": "boehle2019", "batch_size": 8})
    gb = [networks_memory(one, net, 20, (96, 114, 96), "cpu").gb["networks"] for one in (small, large)]
    # Measured: a peak of 1.04 GB with minibatches of 4.
    assert 0.8 < gb[0] / 1.04 < 2
    assert gb[1] - gb[0] > 0.5


def test_nodes_of_the_group_level_declare_what_the_plan_counts(design: Design) -> None:
    chosen = settings(inference={"stop_after_exceedances": 10, "atlas": ("an atlas",)})
    memory = group_memory(chosen, design, 100_000, PLENTY)
    workflow = init_group_wf(**group_settings(chosen, memory))
    declare_memory(workflow, memory.size)
    chunks = ["scores", "real", "null2", *(f"null_{number}" for number in range(10))]
    names = {"collect": "collect", "write": "write", "regions": "write"}
    names |= {f"inference_wf.{name}": name for name in ("univariate", "thresholds", "summarize")}
    names |= {f"inference_wf.{name}": "chunks" for name in chunks}
    told = {name: workflow.get_node(name).mem_gb for name in names}
    assert told == {name: memory.gb[counted] for name, counted in names.items()}
    # Others keep nipype's own: none of them holds data.
    assert {workflow.get_node(name).mem_gb for name in workflow.list_node_names() if name not in names} == {
        0.2
    }


def test_nodes_of_networks_declare_what_the_plan_counts() -> None:
    chosen = settings(
        decoding={"model": "boehle2019"},
        network={"similarity": True, "visualise": ("conv1:0",)},
        inference={"n_permutations": 9},
    )
    net = build_network("boehle2019", (96, 114, 96), 2)
    memory = networks_memory(chosen, net, 20, (96, 114, 96), "cpu")
    workflow = init_network_wf(**network_settings(chosen))
    declare_memory(workflow, memory.size)
    running = ("train", "train_null", "explain", "explain_null", "trust", "visualise", "similarity")
    names = {**dict.fromkeys(running, "networks"), "collect": "collect", "heatmaps": "heatmaps"}
    told = {name: workflow.get_node(name).mem_gb for name in names}
    assert told == {name: memory.gb[counted] for name, counted in names.items()}
    assert memory.gb["networks"] > memory.gb["collect"] > 0.35


def _runs(folder: Path, n_volumes: int) -> SubjectRecord:
    path = folder / f"bold{n_volumes}.nii"
    # A header alone: nothing else is read.
    nb.save(nb.Nifti1Image(np.zeros((1, 1, 1, 1), np.int16), np.diag([2.0, 2, 2, 1])), path)
    header = nb.load(path).header.copy()
    header.set_data_shape((97, 115, 97, n_volumes))
    with path.open("r+b") as stream:
        header.write_to(stream)
    run = RunRecord("01", "", "x", "1", path, folder / "events.tsv", 2.0, n_volumes)
    return SubjectRecord("01", (run,))


def test_long_runs_declare_more(tmp_path: Path) -> None:
    graph = init_samples_wf(preproc="ants")
    few, many = (run_memory(graph, _runs(tmp_path, n).runs) for n in (120, 1000))
    # Measured at 2 mm and 120 volumes, in GB.
    for node, peak in (
        ("preproc_wf.bold_wf.motion", 0.556),
        ("preproc_wf.bold_wf.resample", 0.524),
        ("preproc_wf.bold_wf.confounds", 0.355),
        ("extract", 0.296),
    ):
        assert 0.8 < few[node] / peak < 2
    assert len(few) == 4
    assert many["extract"] > 2
    filed = run_memory(graph, _runs(tmp_path, 1000).runs, low_mem=True)
    assert many["preproc_wf.bold_wf.resample"] > 2 > filed["preproc_wf.bold_wf.resample"]


def test_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    chosen = settings(preprocessing={"preproc": "derivatives"})
    subjects = [_runs(tmp_path, 1000)]
    check_participants_memory(chosen, subjects, PLENTY)
    # A grid that stays takes no node that changes it.
    fitted = init_samples_wf(preproc="derivatives", shape=(97, 115, 97))
    assert run_memory(fitted, subjects[0].runs)["preproc_wf.grid_wf.fit"] > 5
    check_participants_memory(chosen, subjects, Resources(2, 5.0))
    with pytest.raises(
        InputError, match=r"(?s)A run of 1000 volumes needs .*\(samples_wf.extract\).*--low-mem or a coarser"
    ):
        check_participants_memory(chosen, subjects, Resources(2, 1.0))
    larger = settings(preprocessing={"preproc": "derivatives", "shape": (97, 115, 97)})
    with pytest.raises(InputError, match=r"\(grid_wf.fit\), and there are 5\.0"):
        check_participants_memory(larger, subjects, Resources(2, 5.0))


def test_nodes_of_runs_are_told_so(tmp_path: Path) -> None:
    subject = _runs(tmp_path, 1000)
    subject.runs[0].events.touch()
    workflow = init_single_subject_wf(subject, tmp_path, preproc="none", resolution=4.0)
    expected = run_memory(workflow, subject.runs, resolution=4.0)
    assert list(expected) == ["samples_wf.extract", "samples_wf.preproc_wf.grid_wf.downsample"]
    for name, gb in expected.items():
        assert workflow.get_node(name).mem_gb == gb > 0.5


def test_nodes_beside_runs_are_not_told_of_them(tmp_path: Path) -> None:
    graph = init_samples_wf(
        preproc="fsl", individual_mask=True, resolution=4.0, shape=(40, 40, 40), high_pass_sigma=55.0
    )
    found = run_memory(graph, _runs(tmp_path, 1000).runs)
    of_fsl = {
        "high_pass_wf": ("high_pass", "mean"),
        "realign_wf": ("extract", "mcflirt", "mean", "reorient"),
        "resample_wf": ("apply", "confounds", "grid_wf.downsample", "grid_wf.fit"),
    }
    of_engine = [f"preproc_wf.bold_wf.{part}.{node}" for part, nodes in of_fsl.items() for node in nodes]
    assert sorted(found) == ["extract", *of_engine]
    # The subject's brain is brought to the same grid by nodes of the same names.
    assert graph.get_node("preproc_wf.own_grid_wf.fit").mem_gb == 1


def test_fewer_weights_at_once_give_the_same_bits(design: Design) -> None:
    X = np.random.default_rng(0).standard_normal((200, 300), dtype=np.float32)

    def maps(weights_at_once: int) -> list[bytes]:
        repetitions = run_repetitions(
            X,
            training_basis(X),
            np.stack([design.labels] * 5),
            design.subjects,
            design.folds,
            2,
            seeds=np.random.SeedSequence(1).spawn(5),
            parameters=SgdParameters(n_updates=30),
            methods=("W", "Haufe", "OD"),
            trainer=trainer("cpu"),
            weights_at_once=weights_at_once,
        )
        return [one.maps.tobytes() + one.confusions.tobytes() for one in repetitions]

    assert maps(1) == maps(2 * 10 * 2 * 300) == maps(1 << 26)


def test_a_null_in_a_file_gives_the_same_p_values(tmp_path: Path, rng: np.random.Generator) -> None:
    shape = (2, 2, 50)
    ledger = Ledger.create(tmp_path, shape, n_runs=30, chunk_size=15, value_bytes=40)
    for start in (0, 15):
        keeper = NullAccumulator(30, [0.3], shape, n_runs=15)
        for _ in range(15):
            keeper.update(rng.standard_normal(shape, dtype=np.float32))
        ledger.add(start, keeper.merged)
    held, filed = load_top(ledger, 30), load_top(ledger, 30, tmp_path / "top.npy")
    assert isinstance(np.asanyarray(filed).base, np.memmap) or (tmp_path / "top.npy").exists()
    np.testing.assert_array_equal(held, filed)
    observed = rng.standard_normal(shape, dtype=np.float32) + 1
    plain = np.where((held >= observed).sum(0) < len(held), ((held >= observed).sum(0) + 1) / 31, 1)
    np.testing.assert_array_equal(p_map(observed, filed, 30), plain.astype(np.float32))


def test_a_run_resampled_in_a_file_is_the_same_file(tmp_path: Path, rng: np.random.Generator) -> None:
    affine = np.diag([3.0, 3, 3, 1])
    nb.save(nb.Nifti1Image(rng.standard_normal((9, 8, 7, 5), dtype=np.float32), affine), tmp_path / "run.nii")
    nb.save(nb.Nifti1Image(np.ones((6, 6, 6), np.uint8), affine), tmp_path / "mask.nii")
    nb.save(nb.Nifti1Image(np.full((6, 6, 6, 1, 3), 0.7), affine), tmp_path / "field.nii")
    np.save(tmp_path / "matrices.npy", np.tile(np.eye(4), (5, 1, 1)))
    written = []
    for low_mem in (False, True):
        folder = tmp_path / str(low_mem)
        folder.mkdir()
        files = {
            "in_file": "run.nii",
            "in_matrices": "matrices.npy",
            "in_field": "field.nii",
            "in_mask": "mask.nii",
        }
        interface = ResampleRun(
            low_mem=low_mem, **{port: str(tmp_path / name) for port, name in files.items()}
        )
        result = interface.run(cwd=str(folder))
        image = nb.load(result.outputs.out_file)
        written.append((image.header.binaryblock, np.asarray(image.dataobj).tobytes()))
        assert sorted(path.name for path in folder.iterdir()) == ["mask.nii.gz", "resampled.nii.gz"]
    assert written[0] == written[1]
    assert np.abs(np.frombuffer(written[0][1], np.float32)).max() > 1


def test_the_plan_says_what_is_needed_and_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visits = make_anatomical_dataset(tmp_path / "visits", n_subjects=8, sessions=("1",))
    chosen = settings(
        preprocessing={"modality": "T1w", "resolution": 4.0},
        samples={"target": "group"},
        inference={"n_runs": 2, "n_permutations": 19, "n_null": 0, "alpha": (0.05,)},
    )
    subjects = query(visits, modality="T1w", target="group")
    design, _ = plan_group(chosen, subjects, [], visits)
    memory = group_memory(chosen, design, 28594, Resources(1, 5.0))
    print_plan(chosen, subjects, [], visits, 1, 5.0)
    said = capsys.readouterr().out
    assert f"Memory of one process: about {memory.gb['chunks']:.1f} GB" in said
    assert "5.0 GB for all" in said


def test_the_command_limits_threads_before_libraries_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out"), "group"]) == 2
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "error" in capsys.readouterr().err
