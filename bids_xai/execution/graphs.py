"""Running a graph: its progress, its picture, and the crash files of its nodes."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bids_xai.execution.crashes import keep_crash_files, move_crash_file
from bids_xai.execution.full_disk import FullDiskError, full_disk_message, is_full, speaks_of_full_disk
from bids_xai.execution.plugins import cancel, open_plugin, quiet_collector
from bids_xai.execution.progress import Progress
from bids_xai.settings.sections import Execution

LOGGER = logging.getLogger("bids_xai")
APP_FOLDER = "bids_xai"
# In the working folder: crash files that did not find room among the results.
CRASHES = "crashes"
NO_CRASH_FILE = "no crash file was written"


def run_graph(workflow: Any, execution: Execution, output_dir: Path, progress: Progress) -> dict[str, Path]:
    """Run a graph and return its crash files by the working folder of the node.

    Where the graph failed and no crash file could be written, :data:`NO_CRASH_FILE` stands for it.

    Parameters
    ----------
    workflow
        The graph.
    execution
        Where its nodes run, and their working folder.
    output_dir
        Folder of the results; crash files, and the picture of the graph, go into its ``logs``.
    progress
        Told of every node.

    Raises
    ------
    FullDiskError
        A disk is full: a group level without the people who found no room is not what was asked for.
    """
    logs = output_dir / "logs"
    work = execution.work_dir.absolute() / APP_FOLDER
    workflow.base_dir = str(work)
    if execution.write_graph:
        _write_graph(workflow, logs / f"{workflow.name}.dot")
    plugin = open_plugin(execution, progress)
    # A folder of this run's own: another may be failing at the same time.
    spare = work / CRASHES / secrets.token_hex(4)
    spare.mkdir(parents=True, exist_ok=True)
    workflow.config["execution"]["crashdump_dir"] = str(spare)
    kept = keep_crash_files(plugin, logs, spare)
    failure = None
    try:
        with quiet_collector():
            workflow.run(plugin=plugin)
    except (RuntimeError, OSError) as error:
        # nipype says this way that nodes failed; each has a crash file.
        LOGGER.debug("%s", error)
        failure = error
    finally:
        progress.close()
        # What a run that did not come to its end has left running.
        cancel(plugin)
    kept += [move_crash_file(path, logs) for path in sorted(spare.glob("crash-*.txt")) if path not in kept]
    with suppress(OSError):
        spare.rmdir()
    crashes = _by_node(kept)
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in crashes.values()]
    if is_full(failure) or any(map(speaks_of_full_disk, texts)):
        for node, path in crashes.items():
            LOGGER.error("%s failed; see %s", node, path)
        raise FullDiskError(_full_disk(output_dir, work, [*texts, repr(failure)])) from failure
    if failure is not None and not crashes:
        LOGGER.error("%s failed: %s", workflow.name, failure)
        return {workflow.name: Path(NO_CRASH_FILE)}
    return crashes


def _full_disk(output_dir: Path, work: Path, texts: list[str]) -> str:
    """Say which disk is full: errors name the files of results, but seldom those of the working folder."""
    output = any(
        str(output_dir.absolute()) in line
        for text in texts
        for line in text.splitlines()
        if speaks_of_full_disk(line)
    )
    folder, what = (output_dir, "output folder") if output else (work.parent, "working folder")
    return full_disk_message(folder, what)


def _write_graph(workflow: Any, target: Path) -> None:
    """Write the graph as SVG, and as text alone where Graphviz is not installed."""
    workflow.write_hierarchical_dotfile(dotfilename=str(target), colored=True, simple_form=True)
    program = shutil.which("dot")
    if program is None:
        LOGGER.warning("Graphviz's 'dot' is not installed: the graph is written as text to %s.", target)
        return
    # Not by nipype, which would have a shell read the folder's name.
    drawn = subprocess.run([program, "-Tsvg", "-O", target.name], cwd=target.parent, check=False)
    if drawn.returncode:
        LOGGER.warning("'dot' failed (return code %d): see %s for the graph.", drawn.returncode, target)


def _by_node(paths: Iterable[Path]) -> dict[str, Path]:
    """Return crash files by the working folder of the node."""
    crashes = {}
    for path in sorted(paths):
        text = path.read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^Working directory: (.+)$", text, re.MULTILINE)
        crashes[match.group(1) if match else path.name] = path
    return crashes
