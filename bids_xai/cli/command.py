"""What all long commands have in common: threads, signals and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bids_xai.cli.interruption import run_interruptible

_FAILED, _WRONG_INPUT = 1, 2


def run_command(program: str, work: Callable[[], int], *, last: bool) -> int:
    """Return the exit code of a command: that of ``work``, 1 if stopped or a disk is full, 2 for wrong input.

    Parameters
    ----------
    program
        Name of the command in messages.
    work
        What to do. It imports what it needs: a signal that comes meanwhile finds its handler, and libraries
        their number of threads.
    last
        Whether the process ends with the command (:func:`run_interruptible`).
    """
    return run_interruptible(program, lambda: _coded(program, work), last=last)


def _coded(program: str, work: Callable[[], int]) -> int:
    from bids_xai.cli.full_disk import FullDiskError, is_full, report_full_disk
    from bids_xai.cli.resources import limit_library_threads
    from bids_xai.errors import InputError

    limit_library_threads()
    try:
        return work()
    except (InputError, FullDiskError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return _WRONG_INPUT if isinstance(error, InputError) else _FAILED
    except OSError as error:
        if not is_full(error):
            raise
        report_full_disk(program, error)
        return _FAILED
    except SystemExit as stop:
        # argparse leaves this way: 0 after --help and --version, 2 after a wrong word.
        return stop.code if isinstance(stop.code, int) else _WRONG_INPUT
