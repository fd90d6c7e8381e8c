"""Where the nodes run: nipype's plugins and configuration."""

from __future__ import annotations

import configparser
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bids_xai.atomic import whole_file
from bids_xai.errors import InputError
from bids_xai.settings import parse_toml
from bids_xai.settings.sections import Execution


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_arguments(execution: Execution, status_callback: Callable[[Any, str], None]) -> dict[str, Any]:
    """Return the arguments of ``Workflow.run``: ``plugin`` and ``plugin_args``.

    Raises
    ------
    InputError
        The ``--use-plugin`` file cannot be read or names no plugin.
    """
    if execution.use_plugin is not None:
        chosen = _read_plugin_file(execution.use_plugin)
        chosen["plugin_args"] = {**chosen.get("plugin_args", {}), "status_callback": status_callback}
        return chosen
    arguments: dict[str, Any] = {
        "n_procs": execution.nprocs or processors(),
        "raise_insufficient": False,
        # Workers that start clean: forking a process whose libraries hold threads can deadlock.
        "mp_context": "forkserver",
        "status_callback": status_callback,
    }
    if execution.mem_gb is not None:
        arguments["memory_gb"] = execution.mem_gb
    return {"plugin": "MultiProc", "plugin_args": arguments}


def configure_nipype(execution: Execution, logs: Path, work: Path, verbosity: int) -> None:
    """Set nipype's options, here and for the workers: no network, quick polling, crash files in ``logs``."""
    level = ("WARNING", "INFO", "DEBUG")[min(verbosity, 2)]
    options = {
        "execution": {
            "crashdump_dir": str(logs),
            "crashfile_format": "txt",
            "poll_sleep_duration": "0.05",
            "stop_on_first_crash": str(execution.stop_on_first_crash).lower(),
            "check_version": "false",
            "remove_unnecessary_outputs": "false",
        },
        "logging": {"workflow_level": level, "interface_level": level, "utils_level": "WARNING"},
        "monitoring": {"enabled": str(execution.resource_monitor).lower()},
    }
    # Worker processes start clean and read this file.
    parser = configparser.ConfigParser()
    parser.read_dict(options)
    folder = work / "nipype"
    with whole_file(folder / "nipype.cfg") as path, path.open("w", encoding="utf-8") as stream:
        parser.write(stream)
    os.environ["NIPYPE_CONFIG_DIR"] = str(folder)
    os.environ["NIPYPE_NO_ET"] = "1"
    from nipype import config, logging

    config.update_config(options)
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


def _read_plugin_file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = parse_toml(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"--use-plugin {path} cannot be read: {error}.", "a YAML or TOML file") from error
    if not isinstance(content, dict) or not isinstance(content.get("plugin"), str):
        raise InputError(
            f"--use-plugin {path} names no plugin.",
            "a key 'plugin' (MultiProc, SLURM, ...) and, if wanted, 'plugin_args'",
        )
    return content
