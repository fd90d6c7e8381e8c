"""Run a program of ANTs inside the package antspyx: ``python ants_program.py PROGRAM [ARGUMENT ...]``.

The extension module is loaded by its path: importing the package would take seconds for every command.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path


def library() -> Path | None:
    """Return the extension module of antspyx, None where the package is not installed."""
    spec = importlib.util.find_spec("ants")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("lib.*")) if path.is_file()]
    return next((path for path in found if path.suffix in (".so", ".pyd", ".dylib")), None)


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]`` with the other arguments and return its exit status."""
    path = library()
    if path is None:
        sys.stderr.write("antspyx is not installed: pip install antspyx\n")
        return 127
    spec = importlib.util.spec_from_file_location("lib", path)
    if spec is None or spec.loader is None:
        sys.stderr.write(f"{path} cannot be loaded\n")
        return 126
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = getattr(module, argv[0], None)
    if program is None:
        sys.stderr.write(f"antspyx has no program {argv[0]}\n")
        return 127
    status = program(list(argv[1:]))
    return int(status or 0)


if __name__ == "__main__":
    # Python puts the script's folder first, and this one's ants.py would hide the package of that name.
    sys.path[:] = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]
    sys.exit(main(sys.argv[1:]))
