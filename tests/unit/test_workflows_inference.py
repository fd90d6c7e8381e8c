"""The graph of inference run for real, on a small table of samples: disk, resumption, sequential stopping."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nipype.pipeline import engine as pe

from bids_xai.cli.plan import group_work_bytes
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.design import Design, make_design
from bids_xai.execution.progress import Progress
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.sequential import stopped_at
from bids_xai.interfaces.chunks import OpenLedger
from bids_xai.settings import resolve
from bids_xai.workflows.inference import init_inference_wf

N_VOXELS = 60


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the inputs of the graph: 4 people, 2 classes that the first voxels tell apart."""
    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"subject": np.repeat(["01", "02", "03", "04"], 10), "session": "", "task": "look"})
    rows["run"], rows["event"], rows["class"] = "1", np.tile(np.arange(10), 4), np.tile(["a", "b"], 20)
    design, _ = make_design(rows, classes=("a", "b"), cv="subject", n_folds=4, seed=0)
    X = rng.standard_normal((40, N_VOXELS)).astype(np.float32)
    X[:, :5] += 2 * np.sign(design.labels - 0.5)[:, None]
    return write_samples(folder, X, design)


def write_samples(folder: Path, X: np.ndarray, design: Any) -> dict[str, str]:
    np.save(folder / "data.npy", X)
    training_basis(X).save(folder / "gram.npy")
    design.save(folder / "design.json")
    names = {"data": "data.npy", "gram": "gram.npy", "design": "design.json"}
    return {**{port: str(folder / name) for port, name in names.items()}, "permute": "subject"}


def inference(samples: dict[str, str], base: Path, **settings: Any) -> pe.Workflow:
    defaults = {
        "training": {"n_updates": 30},
        "importance": ("W", "WX"),
        "n_runs": 6,
        "n_permutations": 30,
        "n_null": 6,
        "alpha": (0.05, 0.2),
        "chunk_size": 4,
    }
    workflow = init_inference_wf(**{**defaults, **settings})
    workflow.base_dir = str(base)
    workflow.config["execution"] = {"poll_sleep_duration": "0.02", "crashdump_dir": str(base)}
    for port, value in samples.items():
        setattr(workflow.inputs.inputnode, port, value)
    return workflow


def run(
    workflow: pe.Workflow, n_procs: int = 1, plugin: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    arguments = {"n_procs": n_procs, "mp_context": "forkserver", "status_callback": progress}
    graph = workflow.run(plugin or ("Linear" if n_procs == 1 else "MultiProc"), plugin_args=arguments)
    (node,) = [node for node in graph.nodes() if node.name == "summarize"]
    return node.result.outputs.get()


def digests(outputs: dict[str, Any]) -> dict[str, str]:
    files = {"maps": outputs["out_maps"], **outputs["out_tables"]}
    return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in files.items()}


def test_a_damaged_ledger_is_named_and_deleting_it_is_enough(samples: dict[str, str], tmp_path: Path) -> None:
    first = digests(run(inference(samples, tmp_path)))
    (folder,) = tmp_path.glob("inference_wf/real_ledger/ledger-*")
    part = folder / "part-00.npz"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 16
    part.write_bytes(content)
    for result in tmp_path.glob("inference_wf/summarize/result_*"):
        result.unlink()
    with pytest.raises(RuntimeError, match=f"delete {folder.parent} and run the same"):
        run(inference(samples, tmp_path))
    null = {path: path.stat().st_mtime_ns for path in tmp_path.glob("inference_wf/null/**/chunk.npz")}
    assert len(null) == 8
    for path in sorted(folder.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.parent.rmdir()
    assert digests(run(inference(samples, tmp_path))) == first
    assert {path: path.stat().st_mtime_ns for path in null} == null, "the null was not computed again"


@pytest.mark.parametrize(
    "changed",
    [{"training": {"n_updates": 31}}, {"random_seed": 1}, {"alpha": (0.05, 0.1)}, {"chunk_size": 5}],
)
def test_changed_settings_never_meet_an_older_ledger(
    samples: dict[str, str], tmp_path: Path, changed: dict[str, Any]
) -> None:
    run(inference(samples, tmp_path / "used"))
    again = digests(run(inference(samples, tmp_path / "used", **changed)))
    assert again == digests(run(inference(samples, tmp_path / "fresh", **changed)))


def test_changed_data_never_meet_an_older_ledger(samples: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data.npy"
    X = np.load(samples["data"])
    np.save(data, X)
    own = {**samples, "data": str(data)}
    first = digests(run(inference(own, tmp_path / "used")))
    np.save(data, X[:, ::-1])
    again = digests(run(inference(own, tmp_path / "used")))
    assert again == digests(run(inference(own, tmp_path / "fresh")))
    assert again["maps"] != first["maps"]


def test_every_ledger_has_a_name_of_its_own(samples: dict[str, str], tmp_path: Path) -> None:
    chosen = {
        "in_data": samples["data"],
        "in_gram": samples["gram"],
        "in_design": samples["design"],
        "stage": "null",
        "importance": ["W"],
        "alpha": [0.05],
        "n_permutations": 20,
        "n_repetitions": 20,
        "chunk_size": 5,
    }
    made = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.add(Path(OpenLedger(**chosen).run(cwd=tmp_path / name).outputs.out_ledger).name)
    assert len(made) == 2


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, str]) -> dict[str, str]:
    """Return samples of the same design without any effect."""
    X = np.random.default_rng(1).standard_normal((40, N_VOXELS)).astype(np.float32)
    return write_samples(tmp_path_factory.mktemp("noise"), X, Design.load(samples["design"]))


def _null_accuracies(outputs: dict[str, Any]) -> np.ndarray:
    table = pd.read_csv(outputs["out_tables"]["accuracy"], sep="\t", keep_default_na=False)
    rows = table[(table["kind"] == "null") & (table["scope"] == "all")]
    return rows.sort_values("run")["accuracy"].to_numpy()


@pytest.mark.slow
def test_permutations_end_with_the_round_that_settles_the_p_value(
    noise: dict[str, str], tmp_path: Path
) -> None:
    everything = run(inference(noise, tmp_path / "all"))
    real = pd.read_csv(everything["out_tables"]["accuracy_tests"], sep="\t").set_index("scope")
    null = _null_accuracies(everything)
    stop = stopped_at(real.loc["all", "mean"], null, 2)
    assert stop is not None
    assert stop < 24
    expected = -(-stop // 4) * 4  # 8 chunks of 4 in as many rounds
    outputs = run(inference(noise, tmp_path / "one", stop_after_exceedances=2))
    assert outputs["out_summary"]["n_permutations"] == expected
    tests = pd.read_csv(outputs["out_tables"]["accuracy_tests"], sep="\t").set_index("scope")
    assert tests.loc["all", "p"] == pytest.approx(2 / stop)
    np.testing.assert_array_equal(_null_accuracies(outputs), null[:expected])
    assert run_digests(noise, tmp_path / "two", n_procs=2) == digests(outputs)
    trained = [len(load_chunk(path)["confusions"]) for path in tmp_path.glob("one/**/null_*/**/chunk.npz")]
    assert sorted(trained) == sorted([4] * (expected // 4) + [0] * (8 - expected // 4))


def run_digests(samples: dict[str, str], base: Path, n_procs: int) -> dict[str, str]:
    return digests(run(inference(samples, base, stop_after_exceedances=2), n_procs))


def test_an_effect_that_is_found_takes_all_permutations(samples: dict[str, str], tmp_path: Path) -> None:
    everything = run(inference(samples, tmp_path / "all"))
    outputs = run(inference(samples, tmp_path / "rounds", stop_after_exceedances=2, n_permutations=30))
    assert outputs["out_summary"]["n_permutations"] == 30
    assert digests(outputs) == digests(everything)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "n_procs"),
    [("Linear", 1), pytest.param("MultiProc", 1, marks=pytest.mark.long), ("MultiProc", 2)],
)
def test_progress_counts_every_model_once_and_rates_only_what_is_computed_now(
    samples: dict[str, str], tmp_path: Path, plugin: str, n_procs: int
) -> None:
    n_folds, repetitions = 4, 6 + 30 + 6
    first = Progress("", repetitions * n_folds, "models", per_repetition=n_folds, stream=io.StringIO())
    run(inference(samples, tmp_path), n_procs, plugin, first)
    assert first.done == first.computed == first.total
    # What a kill leaves: chunks without result.
    for name in ("null/mapflow/_null1/", "null/mapflow/_null7/", "null/", "thresholds/"):
        (result,) = tmp_path.glob(f"inference_wf/{name}result_*.pklz")
        result.unlink()
    again = Progress("", first.total, "models", per_repetition=n_folds, stream=io.StringIO())
    run(inference(samples, tmp_path), n_procs, plugin, again)
    assert again.done == again.total
    if plugin == "MultiProc":
        # Chunks of 4 and, the last, 2 permutations; and what depends on the thresholds, written anew.
        assert again.computed == (4 + 2 + 6 + 6) * n_folds
        assert "models/s" in again.line()


@pytest.mark.slow
def test_permutations_that_are_not_needed_count_as_done(noise: dict[str, str], tmp_path: Path) -> None:
    progress = Progress("", 48 * 4, "models", per_repetition=4, stream=io.StringIO())
    outputs = run(inference(noise, tmp_path, stop_after_exceedances=2), 1, "MultiProc", progress)
    assert progress.done == progress.total
    assert progress.computed == (3 * 6 + outputs["out_summary"]["n_permutations"]) * 4


def _size(folder: Path) -> int:
    """Return the bytes on disk of a folder, whose files may go away meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


class PeakDisk:
    """The largest size of a folder, looked at whenever a node ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.peak = folder, 0

    def __call__(self, _node: object, _status: str) -> None:
        self.peak = max(self.peak, _size(self.folder))


@pytest.mark.slow
def test_disk_use_does_not_grow_with_the_repetitions(samples: dict[str, str], tmp_path: Path) -> None:
    X = np.random.default_rng(2).standard_normal((40, 20_000)).astype(np.float32)
    (tmp_path / "samples").mkdir()
    wide = write_samples(tmp_path / "samples", X, Design.load(samples["design"]))
    peaks = []
    few, many = 4, 20
    for times in (few, many):
        folder = tmp_path / str(times)
        # Both keep as many of the largest values as a tail needs: 21.
        settings = {"n_permutations": 20 * times, "alpha": (0.2 / times,), "n_runs": 5 * times}
        peak = PeakDisk(folder)
        workflow = inference(wide, folder, training={"n_updates": 5}, n_null=5 * times, **settings)
        workflow.run("Linear", plugin_args={"status_callback": peak})
        peaks.append(peak.peak)
    kept = 2 * 2 * 20_000 * (21 * 4 + 4 + 2 * (4 + 16))  # largest values, thresholds, counts and sums
    maps = 2 * 2 * 20_000 * 4
    assert kept < peaks[0] < 2 * kept + 12 * maps
    # What grows are nipype's own files, a few kB a node, and the scores: not one map.
    nodes = 6 * (many - few)
    assert peaks[1] - peaks[0] < nodes * 60_000
    assert peaks[1] - peaks[0] < 0.1 * (20 + 5 + 5) * (many - few) * maps


def test_double_precision_checks_single(samples: dict[str, str], tmp_path: Path) -> None:
    few = {"n_permutations": 8, "n_null": 0, "n_runs": 4}
    single = load_chunk(run(inference(samples, tmp_path / "single", **few))["out_maps"])["mean"]
    double = load_chunk(run(inference(samples, tmp_path / "double", precision="double", **few))["out_maps"])[
        "mean"
    ]
    assert 0 < np.abs(single - double).max() < 1e-5 * np.abs(double).max()


@pytest.mark.parametrize("option", [{"clip": 0.3}, {"bias": False}])
def test_options_of_the_training_reach_it(
    samples: dict[str, str], tmp_path: Path, option: dict[str, Any]
) -> None:
    few = {"n_permutations": 8, "n_null": 0, "n_runs": 4}
    plain = load_chunk(run(inference(samples, tmp_path / "plain", **few))["out_maps"])["mean"]
    training = {"n_updates": 30, **option}
    own = load_chunk(run(inference(samples, tmp_path / "own", training=training, **few))["out_maps"])["mean"]
    assert np.abs(plain - own).max() > 1e-4 * np.abs(plain).max()


@pytest.mark.slow
def test_a_damaged_chunk_is_named_and_deleting_it_is_enough(samples: dict[str, str], tmp_path: Path) -> None:
    first = digests(run(inference(samples, tmp_path)))
    chunk = tmp_path / "inference_wf/null/mapflow/_null3/chunk.npz"
    os.truncate(chunk, chunk.stat().st_size - 10)
    for result in tmp_path.glob("inference_wf/thresholds/result_*"):
        result.unlink()
    with pytest.raises(RuntimeError, match=f"delete {chunk.parent} and run the same"):
        run(inference(samples, tmp_path))
    shutil.rmtree(chunk.parent)
    # The ledger holds the chunk already, and takes it once.
    assert digests(run(inference(samples, tmp_path), plugin="MultiProc")) == first


def test_the_dry_run_says_how_large_the_work_folder_gets(tmp_path: Path) -> None:
    rows = pd.DataFrame({"subject": np.repeat(["01", "02", "03"], 10), "session": "", "task": "look"})
    rows["run"], rows["event"], rows["class"] = "1", np.tile(np.arange(10), 3), np.tile(["a", "b"], 15)
    design, _ = make_design(rows, cv="subject")
    X = np.random.default_rng(0).standard_normal((30, 20_000)).astype(np.float32)
    alone = write_samples(tmp_path, X, design)
    few = {"n_runs": 4, "n_permutations": 39, "n_null": 4, "alpha": (0.05, 0.2)}
    run(inference(alone, tmp_path / "work", training={"n_updates": 2}, **few))
    inputs = sum(Path(alone[port]).stat().st_size for port in ("data", "gram"))
    settings = resolve({"inference": {**few, "importance": ("W", "WX")}})
    estimate = group_work_bytes(30, 20_000, 2, settings)
    assert estimate == pytest.approx(_size(tmp_path / "work") + inputs, rel=0.1)
