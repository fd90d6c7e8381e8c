"""Crash files of nodes: whole, and somewhere else where the folder of results takes none."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from bids_xai.atomic import whole_file

LOGGER = logging.getLogger("bids_xai")


def keep_crash_files(plugin: Any, logs: Path, spare: Path) -> None:
    """Have a plugin of nipype's write crash files whole into ``logs``, else into ``spare``.

    On a full disk nipype would leave half a file and end the run. A node whose crash file cannot be written
    anywhere is logged and fails like the others.

    Parameters
    ----------
    plugin
        Instance; one that reports its crashes in another way stays as it is.
    logs, spare
        Folders, made as needed.
    """
    report = getattr(plugin, "_report_crash", None)
    if report is None:
        return

    def report_whole(node: Any, result: Any = None) -> str:
        node.config["execution"]["crashdump_dir"] = str(spare)
        try:
            written = Path(report(node, result=result))
        except OSError as error:
            LOGGER.error("The crash file of %s cannot be written (%s):\\n%s", node, error, _text(result))
            for half in spare.glob(f"crash-*-{node._id}-*.txt"):
                half.unlink()
            return ""
        try:
            with whole_file(logs / written.name) as temporary:
                shutil.copyfile(written, temporary)
        except OSError as error:
            LOGGER.error("The crash file of %s stays in %s: %s", node, spare, error)
            return str(written)
        written.unlink()
        return str(logs / written.name)

    plugin._report_crash = report_whole


def _text(result: Any) -> str:
    return "".join((result or {}).get("traceback") or "")
