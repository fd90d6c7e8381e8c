"""Crash files of nodes: whole, and somewhere else where the folder of results takes none."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from bids_xai.atomic import whole_file

LOGGER = logging.getLogger("bids_xai")


def keep_crash_files(plugin: Any, logs: Path, spare: Path) -> list[Path]:
    """Have a plugin of nipype's write crash files whole into ``logs``, else into ``spare``.

    Returns the list of those that are there, which grows while the plugin runs.

    On a full disk nipype would leave half a file and end the run. A node whose crash file cannot be written
    anywhere is logged and fails like the others.

    Parameters
    ----------
    plugin
        Instance; one that reports its crashes in another way stays as it is.
    logs, spare
        Folders, made as needed; ``spare`` is this run's own.
    """
    kept: list[Path] = []
    report = getattr(plugin, "_report_crash", None)
    if report is None:
        return kept

    def report_whole(node: Any, result: Any = None) -> str:
        node.config["execution"]["crashdump_dir"] = str(spare)
        try:
            written = Path(report(node, result=result))
        except OSError as error:
            LOGGER.error("The crash file of %s cannot be written (%s):\\n%s", node, error, _text(result))
            for half in spare.glob(f"crash-*-{node._id}-*.txt"):
                half.unlink()
            return ""
        kept.append(move_crash_file(written, logs))
        return str(kept[-1])

    plugin._report_crash = report_whole
    return kept


def move_crash_file(written: Path, logs: Path) -> Path:
    """Move a crash file whole into ``logs`` and return where it is: where it was, if there is no room."""
    try:
        with whole_file(logs / written.name) as temporary:
            shutil.copyfile(written, temporary)
    except OSError as error:
        LOGGER.error("The crash file %s stays where it is: %s", written, error)
        return written
    written.unlink()
    return logs / written.name


def _text(result: Any) -> str:
    return "".join((result or {}).get("traceback") or "")
