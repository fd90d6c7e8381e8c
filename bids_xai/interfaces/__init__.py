"""nipype interfaces: load files, call one pure function, save.

nipype asks a server for its newest version when an interface is made, unless this variable is set: nobody who
uses these interfaces asks. It also keeps the whole environment, with its passwords and keys, in the pickle of
every result: here results travel and are kept without it.
"""

import glob
import os
from typing import Any

from nipype.interfaces.base.support import Bunch

os.environ.setdefault("NIPYPE_NO_ET", "1")


def _without_environment(bunch: Bunch) -> dict[str, Any]:
    return {name: {} if name == "environ" else value for name, value in vars(bunch).items()}


Bunch.__getstate__ = _without_environment


def _in_folder(pattern: Any) -> list[str]:
    """Return the files in a folder whose names match; the folder's own name, say [a], is no pattern."""
    folder, name = os.path.split(os.fspath(pattern))
    return glob.glob(os.path.join(glob.escape(folder), name))


def _take_folders_literally() -> None:
    """Have nipype find what it has kept in a folder whose name has brackets: nothing would be resumed."""
    from nipype.pipeline.engine import nodes, utils
    from nipype.pipeline.plugins import base

    for module in (nodes, utils, base):
        module.glob = _in_folder


_take_folders_literally()
