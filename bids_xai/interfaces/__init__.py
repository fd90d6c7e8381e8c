"""nipype interfaces: load files, call one pure function, save.

nipype asks a server for its newest version when an interface is made, unless this variable is set: nobody who
uses these interfaces asks. It also keeps the whole environment, with its passwords and keys, in the pickle of
every result: here results travel and are kept without it.
"""

import os
from typing import Any

from nipype.interfaces.base.support import Bunch

os.environ.setdefault("NIPYPE_NO_ET", "1")


def _without_environment(bunch: Bunch) -> dict[str, Any]:
    return {name: {} if name == "environ" else value for name, value in vars(bunch).items()}


Bunch.__getstate__ = _without_environment
