"""nipype's ANTs interfaces, which need no installed ANTs.

The command line is the stock interface's. It runs the installed program where there is one, else the same
program inside the package antspyx, in a child process: ITK's threads, crashes and memory stay outside.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import Any

from nipype.interfaces import ants

from bids_xai.errors import InputError
from bids_xai.interfaces import ants_program

PROGRAMS = ("N4BiasFieldCorrection", "antsApplyTransforms", "antsRegistration")


def check_ants() -> None:
    """Raise InputError unless every program that is needed is installed or inside antspyx."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing and ants_program.library() is None:
        raise InputError(
            f"ANTs is not here: {', '.join(missing)} are not on PATH, and the package antspyx is not "
            "installed.",
            "the programs of ANTs 2.3 or newer, or antspyx, which contains them",
            "'pip install antspyx', or choose another --preproc",
        )


class _Embedded:
    """Runs the program inside antspyx where it is not installed, always in one thread.

    With several threads ITK adds up metrics in the order in which threads finish: a repeat would differ in
    the last bits. Subjects and runs are processed side by side instead.
    """

    _num_threads = 1
    _cmd: str

    @property
    def _cmd_prefix(self) -> str:
        if shutil.which(self._cmd) is not None:
            return ""
        return f"{shlex.quote(sys.executable)} {shlex.quote(ants_program.__file__)} "

    def _get_environ(self) -> dict[str, Any]:
        environ = super()._get_environ()  # type: ignore[misc]
        return {**environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(self._num_threads)}


class Registration(_Embedded, ants.Registration):
    """``antsRegistration`` (:class:`nipype.interfaces.ants.Registration`)."""


class ApplyTransforms(_Embedded, ants.ApplyTransforms):
    """``antsApplyTransforms`` (:class:`nipype.interfaces.ants.ApplyTransforms`)."""


class N4BiasFieldCorrection(_Embedded, ants.N4BiasFieldCorrection):
    """``N4BiasFieldCorrection`` (:class:`nipype.interfaces.ants.N4BiasFieldCorrection`)."""
