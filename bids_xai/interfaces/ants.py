"""nipype's ANTs interfaces, which need no installed ANTs.

The command line is the stock interface's. It runs the installed program where there is one, else the same
program inside the package antspyx, in a child process: ITK's threads, crashes and memory stay outside.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import nibabel as nb
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nipype.interfaces import ants

from bids_xai.errors import InputError
from bids_xai.interfaces import ants_program
from bids_xai.interfaces.programs import DirectCommand

_BLOCK = 2**22
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

    def _list_outputs(self) -> Any:
        """Return the outputs once they are whole: on a full disk ITK leaves half of them and reports success.

        Raises
        ------
        OSError
            Of a full disk, if an output is incomplete.
        """
        outputs: Any = super()._list_outputs()  # type: ignore[misc]
        for value in (outputs or {}).values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str) and Path(path).is_file():
                    check_whole(Path(path))
        return outputs


def check_whole(path: Path) -> None:
    """Raise OSError (no space left) unless a program of ITK has written all of a file."""
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            image = nb.load(path)
            # Reads all that there is: a compressed file has a checksum, the other an expected size.
            with ImageOpener(image.file_map["image"].filename) as stream:
                size = sum(iter(lambda: len(stream.read(_BLOCK)), 0))
            expected = (
                image.dataobj.offset + int(np.prod(image.shape)) * image.header.get_data_dtype().itemsize
            )
            whole = size >= expected
        elif path.suffix == ".h5":
            with h5py.File(path) as stored:
                whole = "TransformGroup" in stored
        else:
            whole = path.stat().st_size > 0
    except (OSError, EOFError, ValueError, KeyError, zlib.error, ImageFileError) as error:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (only half written)", str(path)) from error
    if not whole:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (only half written)", str(path))


class Registration(_Embedded, ants.Registration, DirectCommand):
    """``antsRegistration`` (:class:`nipype.interfaces.ants.Registration`)."""


class ApplyTransforms(_Embedded, ants.ApplyTransforms, DirectCommand):
    """``antsApplyTransforms`` (:class:`nipype.interfaces.ants.ApplyTransforms`)."""


class N4BiasFieldCorrection(_Embedded, ants.N4BiasFieldCorrection, DirectCommand):
    """``N4BiasFieldCorrection`` (:class:`nipype.interfaces.ants.N4BiasFieldCorrection`)."""
