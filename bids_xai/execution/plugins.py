"""Where the nodes run: nipype's plugins and configuration."""

from __future__ import annotations

import configparser
import gc
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_xai.atomic import whole_file
from bids_xai.decoding.devices import visible_gpus
from bids_xai.decoding.softmax import resolve_device
from bids_xai.errors import InputError
from bids_xai.execution.batch_systems import SYSTEMS, check_words
from bids_xai.execution.resources import resources
from bids_xai.registry import nearest_name
from bids_xai.settings import parse_toml
from bids_xai.settings.sections import Execution
from bids_xai.text_files import read_text

# The plugins of nipype that wait for their nodes and take our results, Dask's, which is ours, and the
# arguments that each reads (None: not known).
PLUGINS: dict[str, tuple[str, ...] | None] = {
    "MultiProc": (
        "n_procs", "memory_gb", "n_gpu_procs", "raise_insufficient", "scheduler", "mp_context", "max_jobs",
    ),
    "Linear": (),
    **{name: system.arguments for name, system in SYSTEMS.items()},
    "Dask": ("address", "scheduler_file", "n_workers", "resources", "max_jobs", "timeout"),
    "IPython": None,
    "LegacyMultiProc": None,
}  # fmt: skip
_UNFIT = {
    **dict.fromkeys(
        ("SLURMGraph", "SGEGraph", "PBSGraph", "CondorDAGMan", "SomaFlow"),
        "it hands over all nodes at once and does not follow them, so that no result would be waited for",
    ),
    "Debug": "it runs nothing",
}
_MODULES = {"Dask": "distributed", "IPython": "ipyparallel"}


@dataclass(frozen=True)
class Plugin:
    """Where nodes run: the name of a plugin and what ``--use-plugin`` and ``--plugin-args`` say of it."""

    name: str
    arguments: dict[str, Any]

    @property
    def is_elsewhere(self) -> bool:
        """Whether nodes may run on other machines than this one."""
        return self.name in SYSTEMS or self.name == "Dask"


def chosen_plugin(execution: Execution) -> Plugin:
    """Return the plugin that was asked for, once its programs are found here.

    Raises
    ------
    InputError
        The ``--use-plugin`` file cannot be read, names no plugin or one that there is not, an argument is
        unknown, or a program of the batch system is not here.
    """
    given = execution.plugin_args or {}
    if execution.use_plugin is None:
        if given:
            raise InputError("--plugin-args without --use-plugin.", "the plugin that they are for")
        return Plugin("MultiProc", {})
    origin = f"--use-plugin {execution.use_plugin}"
    path = Path(execution.use_plugin)
    if path.is_absolute():
        content = _read_plugin_file(path)
        plugin = Plugin(content["plugin"], {**content["plugin_args"], **given})
        origin = f"{origin}: plugin {plugin.name}"
    else:
        plugin = Plugin(execution.use_plugin, dict(given))
    _check_name(plugin.name, origin)
    _check_arguments(plugin, origin)
    _check_programs(plugin, origin)
    return plugin


def check_batch_folder(execution: Execution) -> None:
    """Refuse a work folder whose name a batch system would take apart.

    nipype gives the names of its scripts to the submitting programs in one line for a shell, and writes them
    into Python sources.

    Raises
    ------
    InputError
        Nodes are to run in a batch system, and the path has signs besides letters, digits and ``._-+@=,``.
    """
    path = str(execution.work_dir.absolute())
    strange = sorted({sign for sign in path if not (sign.isalnum() or sign in "/._-+@=,")})
    if chosen_plugin(execution).name in SYSTEMS and strange:
        raise InputError(
            f"The work folder {path} has {' '.join(map(repr, strange))} in its path, with --use-plugin "
            f"{execution.use_plugin}: the batch system's programs would take it apart.",
            "letters, digits and ._-+@=, alone",
            "name another --work-dir",
        )


def open_plugin(execution: Execution, status_callback: Callable[[Any, str], None]) -> Any:
    """Return the plugin for ``Workflow.run(plugin=...)``, ready to run nodes.

    Raises
    ------
    InputError
        See :func:`chosen_plugin`.
    """
    chosen = chosen_plugin(execution)
    if chosen.is_elsewhere:
        return _remote_plugin(chosen, status_callback)
    if chosen.name != "MultiProc":
        from nipype.pipeline import plugins

        own = {**chosen.arguments, "status_callback": status_callback}
        return getattr(plugins, f"{chosen.name}Plugin")(plugin_args=own)
    from bids_xai.execution.multiproc import Workers

    available = resources(execution)
    arguments: dict[str, Any] = {
        "n_procs": available.n_procs,
        # nipype's own default is the memory of the machine.
        "memory_gb": available.memory_gb,
        "raise_insufficient": False,
        "status_callback": status_callback,
    }
    if planned_device(execution) == "cuda":
        # nipype counts a GPU node's threads as GPUs, and GPUs that are not this process's.
        arguments["n_gpu_procs"] = visible_gpus() * execution.omp_nthreads
    return Workers({**arguments, **chosen.arguments})


def cancel(plugin: Any) -> list[str]:
    """End what a plugin still runs: its workers, or its jobs; return the jobs' numbers."""
    own = getattr(plugin, "cancel", None)
    return own() if callable(own) else []


def planned_device(execution: Execution) -> str:
    """Return ``"cpu"`` or ``"cuda"``: where networks will be trained.

    What a cluster's machines have is not seen from here: there a GPU is asked for with ``cuda`` only.
    """
    if chosen_plugin(execution).is_elsewhere:
        return "cuda" if execution.device == "cuda" else "cpu"
    return resolve_device(execution.device)


def device_here(execution: Execution) -> str:
    """Return the device that this process measures on what nodes, here or elsewhere, will do."""
    return resolve_device("auto" if chosen_plugin(execution).is_elsewhere else execution.device)


def configure_nipype(execution: Execution, logs: Path, work: Path, verbosity: int) -> None:
    """Set nipype's options, here and for the workers: no network, quick polling, crash files in ``logs``."""
    level = ("WARNING", "INFO", "DEBUG")[min(verbosity, 2)]
    options = {
        "execution": {
            "crashfile_format": "txt",
            "poll_sleep_duration": "0.05",
            "stop_on_first_crash": str(execution.stop_on_first_crash).lower(),
            "check_version": "false",
            "remove_unnecessary_outputs": "false",
            # It would hold the whole environment, with what is secret there, for everyone to read.
            "create_report": "false",
        },
        "logging": {"workflow_level": level, "interface_level": level, "utils_level": "WARNING"},
        "monitoring": {"enabled": str(execution.resource_monitor).lower()},
    }
    # Worker processes start clean and read this file.
    parser = configparser.RawConfigParser()
    parser.read_dict(options)
    folder = work / "nipype"
    with whole_file(folder / "nipype.cfg") as path, path.open("w", encoding="utf-8") as stream:
        parser.write(stream)
    os.environ["NIPYPE_CONFIG_DIR"] = str(folder)
    os.environ["NIPYPE_NO_ET"] = "1"
    from nipype import config, logging

    config.update_config(options)
    # As it is: nipype's parser takes a % in the value for the beginning of a variable.
    config._sections["execution"]["crashdump_dir"] = str(logs)
    logging.update_logging(config)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep what is loaded by now out of garbage collection: nipype collects before every submission."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _remote_plugin(chosen: Plugin, status_callback: Callable[[Any, str], None]) -> Any:
    arguments = {**chosen.arguments, "status_callback": status_callback}
    if chosen.name == "Dask":
        from bids_xai.execution.dask_cluster import DaskPlugin

        return DaskPlugin(arguments)
    from bids_xai.execution.batch import batch_plugin

    return batch_plugin(chosen.name, arguments)


def _read_plugin_file(path: Path) -> dict[str, Any]:
    import yaml

    text = read_text(path, "the file of --use-plugin")
    try:
        content = parse_toml(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"--use-plugin {path} cannot be read: {error}.", "a YAML or TOML file") from error
    if not isinstance(content, dict) or not isinstance(content.get("plugin"), str):
        raise InputError(
            f"--use-plugin {path} names no plugin.",
            "a key 'plugin' (MultiProc, SLURM, ...) and, if wanted, 'plugin_args'",
        )
    arguments = content.get("plugin_args") or {}
    if not isinstance(arguments, dict):
        raise InputError(f"--use-plugin {path}: plugin_args = {arguments!r}.", "a table")
    return {"plugin": content["plugin"], "plugin_args": arguments}


def _check_name(name: str, origin: str) -> None:
    if name in _UNFIT:
        raise InputError(f"{origin}: {_UNFIT[name]}.", f"one of {', '.join(PLUGINS)}")
    if name not in PLUGINS:
        raise InputError(
            f"{origin}: there is no such plugin.",
            f"one of {', '.join(PLUGINS)}, or a YAML or TOML file",
            nearest_name(name, PLUGINS),
        )


def _check_arguments(plugin: Plugin, origin: str) -> None:
    """Refuse what nipype would ignore without a word, and words that cannot be filled in."""
    known = PLUGINS[plugin.name]
    for key, value in plugin.arguments.items():
        if known is not None and key not in known:
            raise InputError(
                f"{origin}: unknown argument {key!r}.",
                f"one of {', '.join(known)}",
                nearest_name(key, known),
            )
        if key == "template" or key.endswith("_args"):
            problem = "it is no text" if not isinstance(value, str) else None
            if key in ("node_args", "gpu_args") and problem is None:
                problem = check_words(value)
            if problem is not None:
                raise InputError(
                    f"{origin}: {key} = {value!r}: {problem}.",
                    "a text; node_args and gpu_args may hold {n_procs}, {mem_mb}, {mem_gb} and "
                    "{mem_mb_per_proc}",
                )
        if key in ("max_jobs", "n_procs") and (not isinstance(value, int) or value < 1):
            raise InputError(f"{origin}: {key} = {value!r}.", "a whole number of at least 1")


def _check_programs(plugin: Plugin, origin: str) -> None:
    programs = SYSTEMS[plugin.name].programs if plugin.name in SYSTEMS else ()
    absent = [name for name in programs if not shutil.which(name)]
    if absent:
        raise InputError(
            f"{origin}: {', '.join(absent)} not found on PATH.",
            f"{', '.join(programs)}",
            "run on a machine that may submit jobs, with its programs loaded",
        )
    module = _MODULES.get(plugin.name)
    if module is not None and importlib.util.find_spec(module) is None:
        raise InputError(
            f"{origin}: the Python package {module} is not installed.", module, f"pip install {module}"
        )
