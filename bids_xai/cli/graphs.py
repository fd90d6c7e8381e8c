"""Running a graph: its progress, its picture, and the crash files of its nodes."""

from __future__ import annotations

import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

from bids_xai.cli.parser import Request
from bids_xai.cli.plugins import quiet_collector, run_arguments
from bids_xai.cli.progress import Progress

LOGGER = logging.getLogger("bids_xai")
APP_FOLDER = "bids_xai"
NO_CRASH_FILE = "no crash file was written"


def run_graph(workflow: Any, request: Request, progress: Progress) -> dict[str, Path]:
    """Run a graph and return its crash files by the working folder of the node."""
    execution, logs = request.settings.execution, request.output_dir / "logs"
    workflow.base_dir = str(execution.work_dir.absolute() / APP_FOLDER)
    if execution.write_graph:
        _write_graph(workflow, logs / f"{workflow.name}.dot")
    began = time.time()
    try:
        with quiet_collector():
            workflow.run(**run_arguments(execution, progress))
    except (RuntimeError, OSError) as error:
        # nipype says this way that nodes failed; each has a crash file.
        LOGGER.debug("%s", error)
    finally:
        progress.close()
    return _crashes(logs, began - 1)


def _write_graph(workflow: Any, target: Path) -> None:
    """Write the graph as SVG, and as text alone where Graphviz is not installed."""
    if shutil.which("dot"):
        workflow.write_graph(graph2use="colored", dotfilename=str(target), format="svg")
    else:
        workflow.write_hierarchical_dotfile(dotfilename=str(target), colored=True, simple_form=True)
        LOGGER.warning("Graphviz's 'dot' is not installed: the graph is written as text to %s.", target)


def _crashes(logs: Path, since: float) -> dict[str, Path]:
    """Return the crash files written since a moment, by the working folder of the node."""
    crashes = {}
    for path in sorted(logs.glob("crash-*.txt")):
        if path.stat().st_mtime >= since:
            text = path.read_text(encoding="utf-8", errors="replace")
            match = re.search(r"^Working directory: (.+)$", text, re.MULTILINE)
            crashes[match.group(1) if match else path.name] = path
    return crashes
