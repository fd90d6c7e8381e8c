"""Running programs without a shell, in names that no program can misread."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nipype import logging
from nipype.interfaces.base import CommandLine

# Looked up there at every call: worker processes put a function there whose programs end with them.
from nipype.utils import subprocess as nipype_subprocess

LOGGER = logging.getLogger("nipype.interface")
_LINKS = "inputs"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# What a shell adds to the number of the signal that ended the program it ran.
_SHELL_SIGNAL = 128


class DirectCommand(CommandLine):
    """Runs a program with a vector of words, and shows it its files under short names in the node's folder.

    nipype hands one line to a shell, and leaves names inside brackets as they are: a folder called ``a b``
    breaks it, one called ``$(rm x)`` is executed. The programs' own parsers and scripts are no better: ANTs
    takes commas and brackets apart, FSL's scripts do not quote. Here every input file is a link
    ``inputs/<number>/<name>`` while the program runs, and the node's folder, in which it runs, is left out of
    the names of outputs.

    It comes last among the bases, below what nipype's interface adds: ``class BET(fsl.BET, DirectCommand)``.
    """

    _seen: frozenset[str] | None = None

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        """Run the program.

        Raises
        ------
        OSError
            The program is not there.
        RuntimeError
            A signal ended it, or it returned another code than ``correct_return_codes``.
        """
        runtime.environ.update(self._get_environ())
        with _short_names(self.inputs) as self._seen:
            words = [*shlex.split(self._cmd_prefix), self.cmd]
            for text in self._parse_inputs():
                words += shlex.split(_without_folders(text, (runtime.cwd, os.getcwd())))
            found = shutil.which(words[0], path=runtime.environ.get("PATH"))
            if found is None:
                raise OSError(f"There is no program {words[0]!r} on PATH.")
            runtime.cmdline, runtime.command_path = shlex.join(words), found
            # Decided below: nipype's own word would take the place of the exception's.
            runtime.success_codes = correct_return_codes
            runtime.stdout = runtime.stderr = runtime.merged = ""
            with nipype_subprocess.Popen(
                [found, *words[1:]],
                cwd=runtime.cwd,
                env=nipype_subprocess.canonicalize_env(runtime.environ),
                stdout=nipype_subprocess.PIPE,
                stderr=nipype_subprocess.PIPE,
            ) as process:
                try:
                    said = process.communicate()
                except BaseException:
                    process.kill()
                    raise
        runtime.stdout, runtime.stderr = (text.decode(errors="replace").strip() for text in said)
        runtime.merged = "\n".join(text for text in (runtime.stdout, runtime.stderr) if text)
        runtime.returncode = process.returncode
        for line in runtime.merged.splitlines():
            LOGGER.info("%s: %s", self.cmd, line)
        if runtime.returncode not in correct_return_codes:
            runtime.success_codes = (*correct_return_codes, runtime.returncode)
            raise RuntimeError(how_it_ended(self.cmd, runtime.returncode))
        return runtime

    def aggregate_outputs(self, runtime: Any = None, needed_outputs: Any = None) -> Any:
        """Return the outputs, whose names come from the inputs' as the program saw them."""
        with _short_names(self.inputs, self._seen):
            return super().aggregate_outputs(runtime=runtime, needed_outputs=needed_outputs)


def how_it_ended(program: str, code: int) -> str:
    """Say with which return code a program ended, and which signal that stands for."""
    if code < 0:
        return f"{program} was ended by signal {-code} ({_signal(-code)}), return code {code}."
    if code > _SHELL_SIGNAL:
        called = f"a program that it called was ended by signal {code - _SHELL_SIGNAL}"
        return f"{program} exited with code {code}: {called} ({_signal(code - _SHELL_SIGNAL)})."
    return f"{program} exited with code {code}."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _without_folders(text: str, folders: tuple[str, ...]) -> str:
    """Leave a folder out of names of files in it, quoted by nipype or not."""
    for folder in sorted({str(folder).rstrip("/") + "/" for folder in folders}, key=len, reverse=True):
        text = text.replace(folder.replace("'", "'\"'\"'"), "").replace(folder, "")
    return text


@contextmanager
def _short_names(inputs: Any, only: frozenset[str] | None = None) -> Iterator[frozenset[str]]:
    """Have inputs name links in the current folder instead of files anywhere; they are gone afterwards.

    Parameters
    ----------
    inputs
        Of an interface.
    only
        Files that get links: those that were there when the program began. None: all that are there.

    Yields
    ------
    frozenset of str
        The files that have links.
    """
    links = _Links(Path(_LINKS), only)
    before = inputs.get_traitsfree()
    shown = {name: links.names(value) for name, value in sorted(before.items())}
    changed = [name for name, value in shown.items() if value != before[name]]
    try:
        inputs.trait_set(trait_change_notify=False, **{name: shown[name] for name in changed})
        yield frozenset(links.made)
    finally:
        inputs.trait_set(trait_change_notify=False, **{name: before[name] for name in changed})
        links.remove()


class _Links:
    """Links to files, each in a folder of its own, so that it can keep its name."""

    def __init__(self, folder: Path, only: frozenset[str] | None) -> None:
        self._folder, self._only = folder, only
        self.made: dict[str, str] = {}

    def names(self, value: Any) -> Any:
        """Return what links call the files in a value; what names no file stays as it is."""
        if isinstance(value, list | tuple):
            return type(value)(self.names(item) for item in value)
        if not isinstance(value, str) or not self._is_linked(value):
            return value
        if value not in self.made:
            self.made[value] = str(self._link(Path(value)))
        return self.made[value]

    def _is_linked(self, value: str) -> bool:
        if self._only is not None:
            return value in self._only
        return os.path.isabs(value) and Path(value).is_file()

    def _link(self, path: Path) -> Path:
        folder = self._folder / str(len(self.made))
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / _UNSAFE.sub("_", path.name)
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, link)
        return link

    def remove(self) -> None:
        if self.made:
            shutil.rmtree(self._folder, ignore_errors=True)
