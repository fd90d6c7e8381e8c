"""Where nodes run: what is chosen, what is refused before anything runs, and the README's examples."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from nipype.pipeline import engine as pe
from nipype.pipeline import plugins

from bids_xai.cli.parser import parse
from bids_xai.cli.run import main
from bids_xai.errors import InputError
from bids_xai.execution import batch_systems
from bids_xai.execution.multiproc import Workers
from bids_xai.execution.plugins import (
    PLUGINS,
    cancel,
    check_batch_folder,
    chosen_plugin,
    device_here,
    open_plugin,
    planned_device,
)
from bids_xai.settings import load_file, resolve, write_file
from bids_xai.settings.sections import Execution
from bids_xai.workflows.base import init_group_wf
from tests.slurm.nodes import Tell

README = Path(__file__).resolve().parents[2] / "README.md"
SECTION = re.search(r"^### On a cluster$(.*?)^##", README.read_text("utf-8"), re.M | re.S).group(1)  # type: ignore[union-attr]
EXAMPLES = re.findall(r"```(toml|yaml)\n(.*?)```", SECTION, re.S)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs on PATH that are there and do nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in {program for system in batch_systems.SYSTEMS.values() for program in system.programs}:
        (folder / name).write_text("#!/bin/sh\necho '<job_info/>'\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def _callback(node: Any, status: str) -> None:
    """Take nipype's word and do nothing."""


def _parsed(*words: str) -> Execution:
    return parse(["bids", "out", "group", *words]).settings.execution


def test_the_readme_has_an_example_of_every_kind() -> None:
    names = [re.search(r"plugin(?: =|:) \"?(\w+)", text).group(1) for _, text in EXAMPLES]  # type: ignore[union-attr]
    assert sorted(names) == ["Dask", "PBS", "SGE", "SLURM"]


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_examples_of_the_readme_are_accepted(programs: None, tmp_path: Path, kind: str, text: str) -> None:
    path = tmp_path / f"plugin.{kind}"
    path.write_text(text)
    if '"Dask"' in text:
        pytest.importorskip("distributed")
    execution = _parsed("--use-plugin", str(path))
    plugin = open_plugin(execution, _callback)
    assert type(plugin).__name__ == f"{chosen_plugin(execution).name}Plugin"
    assert isinstance(plugin, plugins.base.DistributedPluginBase)
    assert cancel(plugin) == []
    workflow = init_group_wf(n_runs=4, n_permutations=19, n_null=4, chunk_size=5, alpha=[0.05], device="cuda")
    chunks = workflow.get_node("inference_wf.null")
    assert chunks.is_gpu_node()
    if chosen_plugin(execution).name in batch_systems.SYSTEMS:
        words = plugin.system.words(plugin.plugin_args, chunks.n_procs, chunks.mem_gb, gpu=True)
        assert "gpu" in words
        assert "{" not in words


def test_the_readme_words_on_the_command_line_are_accepted(programs: None) -> None:
    execution = _parsed(
        "--use-plugin", "SLURM", "--plugin-args", "sbatch_args=-p long --time=4:00:00", "max_jobs=50"
    )
    assert '--plugin-args sbatch_args="-p long --time=4:00:00" max_jobs=50' in SECTION
    plugin = open_plugin(execution, _callback)
    assert isinstance(plugin, plugins.SLURMPlugin)
    assert plugin.max_jobs == 50
    assert plugin.plugin_args["sbatch_args"] == "-p long --time=4:00:00"


def test_words_are_read_as_json_where_they_can_be() -> None:
    words = [
        "a=1",
        "b=2.5",
        "c=true",
        "d=text",
        "e=-p x --time=1:00:00",
        "f=",
        'g=["x"]',
        "h=07:30:00",
        "i=x=y",
    ]
    assert _parsed("--use-plugin", "IPython", "--plugin-args", *words).plugin_args == {
        "a": 1, "b": 2.5, "c": True, "d": "text", "e": "-p x --time=1:00:00", "f": "", "g": ["x"],
        "h": "07:30:00", "i": "x=y",
    }  # fmt: skip


@pytest.mark.parametrize("word", ["max_jobs", "=5", "max_jobs=null"])
def test_words_without_key_or_value_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=re.escape(word)):
        _parsed("--use-plugin", "SLURM", "--plugin-args", word)


def test_choice_and_arguments_come_back_from_a_settings_file(tmp_path: Path) -> None:
    words = ("--use-plugin", "SLURM", "--plugin-args", "sbatch_args=-p long", "max_jobs=50")
    settings = parse(["bids", "out", "group", *words]).settings
    write_file(settings, tmp_path / "config.toml")
    assert resolve(load_file(tmp_path / "config.toml")).tables() == settings.tables()
    assert settings.tables()["execution"]["plugin_args"] == {"sbatch_args": "-p long", "max_jobs": 50}
    assert 'use_plugin = "SLURM"' in (tmp_path / "config.toml").read_text()
    (tmp_path / "own.toml").write_text('[execution]\nuse_plugin = "SLURM"\nplugin_args = { max_jobs = 50 }\n')
    assert _parsed("--config-file", str(tmp_path / "own.toml")).plugin_args == {"max_jobs": 50}


def test_a_plugin_file_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _parsed("--use-plugin", "p.toml").use_plugin == str(tmp_path / "p.toml")
    assert _parsed("--use-plugin", "SLURM").use_plugin == "SLURM"
    (tmp_path / "mine").write_text("plugin: Linear\n")
    assert chosen_plugin(_parsed("--use-plugin", "mine")).name == "Linear"


def test_words_are_over_those_of_the_file(programs: None, tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("plugin: SLURM\nplugin_args: {max_jobs: 3, sbatch_args: -p long}\n")
    chosen = chosen_plugin(_parsed("--use-plugin", str(tmp_path / "p.yml"), "--plugin-args", "max_jobs=9"))
    assert chosen.arguments == {"max_jobs": 9, "sbatch_args": "-p long"}


@pytest.mark.parametrize(
    ("use_plugin", "plugin_args", "message"),
    [
        ("SLRUM", {}, "did you mean 'SLURM'"),
        ("slurm", {}, "did you mean 'SLURM'"),
        ("SLURMGraph", {}, "hands over all nodes at once"),
        ("SLURM", {"sbatch_arg": "-p x"}, "did you mean 'sbatch_args'"),
        ("SLURM", {"qsub_args": "-q x"}, "unknown argument 'qsub_args'"),
        ("SLURM", {"sbatch_args": ["-p", "x"]}, "it is no text"),
        ("SLURM", {"max_jobs": 0}, "at least 1"),
        ("SLURM", {"max_jobs": "many"}, "at least 1"),
        ("SGE", {"node_args": "-pe smp {threads}"}, "KeyError"),
        ("SGE", {"node_args": "-pe 'smp"}, "No closing quotation"),
        ("Linear", {"n_procs": 2}, "unknown argument 'n_procs'"),
        (None, {"max_jobs": 2}, "--plugin-args without --use-plugin"),
        ("/absent.toml", {}, "cannot be read"),
    ],
)
def test_what_would_not_work_is_refused(
    programs: None, use_plugin: str | None, plugin_args: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        chosen_plugin(Execution(use_plugin=use_plugin, plugin_args=plugin_args))


@pytest.mark.parametrize("text", ["plugin: [", "a: 1", "plugin: SLURM\nplugin_args: 5"])
def test_files_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=r"p\.yaml"):
        chosen_plugin(Execution(use_plugin=str(tmp_path / "p.yaml")))


@pytest.mark.parametrize("name", sorted(batch_systems.SYSTEMS))
def test_a_batch_system_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=f"{batch_systems.SYSTEMS[name].programs[0]}.* not found on PATH"):
        chosen_plugin(Execution(use_plugin=name))


def test_nothing_is_written_where_the_batch_system_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "bids").mkdir()
    words = [tmp_path / "bids", tmp_path / "out", "participant", "--use-plugin", "SLURM"]
    assert main([str(word) for word in words]) == 2
    assert "sbatch, squeue, scancel not found on PATH" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_plugin_is_one_of_nipypes_or_dask() -> None:
    assert {name for name in PLUGINS if not hasattr(plugins, f"{name}Plugin")} == {"Dask"}


def test_multiproc_by_name_keeps_its_way_of_starting_workers() -> None:
    execution = Execution(use_plugin="MultiProc", plugin_args={"n_procs": 3}, nprocs=1)
    plugin = open_plugin(execution, _callback)
    assert isinstance(plugin, Workers)
    assert plugin.plugin_args["n_procs"] == 3
    plugin.cancel()


def test_gpus_of_a_cluster_are_not_looked_for_here(programs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bids_xai.decoding.softmax._GPU_DEVICES", ("/absent",))
    elsewhere = Execution(use_plugin="SLURM", device="cuda")
    assert planned_device(elsewhere) == "cuda"
    assert device_here(elsewhere) == "cpu"
    assert planned_device(Execution(use_plugin="SLURM")) == "cpu"


def test_as_many_gpu_nodes_run_at_once_as_there_are_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bids_xai.execution.plugins.planned_device", lambda _: "cuda")
    monkeypatch.setattr("bids_xai.execution.plugins.visible_gpus", lambda: 2)
    monkeypatch.setenv("NIPYPE_CONFIG_DIR", str(tmp_path))
    execution = Execution(nprocs=12, omp_nthreads=3)
    running, most = set(), [0]

    def count(node: Any, status: str) -> None:
        (running.add if status == "start" else running.discard)(node.name)
        most.append(len(running))

    workflow = pe.Workflow("nodes", base_dir=str(tmp_path / "work"))
    workflow.add_nodes(
        [
            pe.Node(Tell(use_gpu=True, seconds=0.5), name=f"gpu{index}", n_procs=3, mem_gb=0.01)
            for index in range(4)
        ]
    )
    workflow.run(plugin=open_plugin(execution, count))
    assert max(most) == 2


def test_the_word_of_a_plugin_is_json_in_the_results(programs: None) -> None:
    settings = parse(["b", "o", "group", "--use-plugin", "SLURM", "--plugin-args", "max_jobs=5"]).settings
    assert json.loads(json.dumps(settings.flat()))["plugin_args"] == {"max_jobs": 5}


@pytest.mark.parametrize("name", ["two words", "$(touch x)", "it's", "a;b", "[x]"])
def test_a_work_folder_that_submitting_programs_would_take_apart_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for program in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="would take it apart"):
        check_batch_folder(Execution(use_plugin="SLURM", work_dir=tmp_path / name))
    check_batch_folder(Execution(use_plugin="SLURM", work_dir=Path("/scratch/me_1/work-2")))
    check_batch_folder(Execution(work_dir=tmp_path / name))
