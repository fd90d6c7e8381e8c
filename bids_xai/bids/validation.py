"""The BIDS validator, where it is installed."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_xai.errors import InputError

EXECUTABLES = ("bids-validator-deno", "bids-validator")
MAX_LISTED = 10
# Files that are not BIDS', and the form of tables and JSON files: what cannot be read, or lacks a column that
# is needed, the readers refuse with the line.
_OF_NO_USE = re.compile(r"NOT_INCLUDED|TSV_.*|INVALID_(JSON|FILE)_ENCODING")
_ENCODING = "INVALID_JSON_ENCODING"
LOGGER = logging.getLogger("bids_xai.bids")


def run_validator(bids_dir: Path, subjects: Sequence[str] = ()) -> str | None:
    """Run the BIDS validator on a dataset.

    Errors of what is not read (:func:`is_of_use`) are logged, as is a validator that breaks down.

    Parameters
    ----------
    bids_dir
        The dataset; it is only read.
    subjects
        Participants who are read (labels without ``sub-``); all when empty.

    Returns
    -------
    str or None
        Name of the program that found nothing wrong with what is read, None if none is installed or it broke
        down.

    Raises
    ------
    InputError
        The dataset has errors; the first ones are listed.
    """
    # An environment that is not activated still has its programs beside its Python.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = next((path for name in EXECUTABLES if (path := shutil.which(name, path=search))), None)
    if program is None:
        return None
    completed = subprocess.run([program, str(bids_dir), "--format", "json"], capture_output=True, check=False)
    name = Path(program).name
    try:
        issues = json.loads(completed.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError):
        # A validator of another generation, with other options, or one that stumbles over a file's name.
        said = re.sub(r"\x1b\[[0-9;]*m", "", completed.stderr.decode(errors="replace")).strip()
        LOGGER.warning(
            "%s could not check %s (exit code %d): %s",
            name,
            bids_dir,
            completed.returncode,
            said.partition("\n")[0] or "its answer is no JSON",
        )
        return None
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    # What the validator misses in files that it could not decode.
    undecoded = {issue.get("location") for issue in errors if issue.get("code") == _ENCODING}
    fatal = [
        issue for issue in errors if issue.get("location") not in undecoded and is_of_use(issue, subjects)
    ]
    if fatal:
        raise InputError(
            f"{bids_dir} has {len(fatal)} BIDS errors:\n    {_listed(fatal)}",
            "a valid BIDS dataset",
            f"mend them (see '{name} {bids_dir}'), or use --skip-bids-validation",
        )
    if errors:
        LOGGER.warning(
            "%s has %d BIDS errors in what is not read:\n    %s", bids_dir, len(errors), _listed(errors)
        )
    return name


def is_of_use(issue: Mapping[str, Any], subjects: Sequence[str]) -> bool:
    """Tell whether an error of the validator is of something that is read.

    Not read are the files of participants who are not chosen (in datasets of DataLad they may not be here),
    those in folders of no participant, files that BIDS does not know, and the form of tables.
    """
    folder, inside, _ = str(issue.get("location") or "").lstrip("/").partition("/")
    if inside and (not folder.startswith("sub-") or (subjects and folder[4:] not in subjects)):
        return False
    return not _OF_NO_USE.fullmatch(str(issue.get("code")))


def _listed(issues: Sequence[Mapping[str, Any]]) -> str:
    return "\n    ".join(
        " ".join(str(issue[key]) for key in ("code", "subCode", "location", "issueMessage") if issue.get(key))
        for issue in issues[:MAX_LISTED]
    )
