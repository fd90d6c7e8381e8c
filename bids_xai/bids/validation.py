"""The BIDS validator, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bids_xai.errors import InputError

EXECUTABLES = ("bids-validator-deno", "bids-validator")
MAX_LISTED = 10


def run_validator(bids_dir: Path) -> str | None:
    """Run the BIDS validator on a dataset.

    Parameters
    ----------
    bids_dir
        The dataset; it is only read.

    Returns
    -------
    str or None
        Name of the program that found the dataset valid, None if none is installed.

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
    completed = subprocess.run(
        [program, str(bids_dir), "--format", "json"], capture_output=True, text=True, check=False
    )
    try:
        issues = json.loads(completed.stdout)["issues"]["issues"]
    except (json.JSONDecodeError, KeyError, TypeError):
        # Another generation of the validator, with other options: it does not speak to us.
        return None
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    if errors:
        listed = "\n    ".join(
            f"{issue.get('code', '')} {issue.get('location', '')} {issue.get('issueMessage', '')}".strip()
            for issue in errors[:MAX_LISTED]
        )
        raise InputError(
            f"{bids_dir} has {len(errors)} BIDS errors:\n    {listed}",
            "a valid BIDS dataset",
            f"mend them (see '{Path(program).name} {bids_dir}'), or use --skip-bids-validation",
        )
    return Path(program).name
