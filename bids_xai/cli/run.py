"""The ``bids-xai`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bids_xai.cli.interruption import run_interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something failed, 2 wrong input.

    Everything else is imported inside: a signal that comes meanwhile finds its handler.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return run_interruptible("bids-xai", lambda: _run(words), last=argv is None)


def _run(words: Sequence[str]) -> int:
    from bids_xai.cli.full_disk import FullDiskError, is_full, report_full_disk
    from bids_xai.cli.parser import parse
    from bids_xai.cli.resources import limit_library_threads
    from bids_xai.errors import InputError

    try:
        request = parse(words)
        limit_library_threads()
        from bids_xai.cli.stages import execute

        return execute(request)
    except InputError as error:
        print(f"bids-xai: error: {error}", file=sys.stderr)
        return 2
    except FullDiskError as error:
        print(f"bids-xai: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not is_full(error):
            raise
        report_full_disk("bids-xai", error)
        return 1
    except SystemExit as stop:
        # argparse leaves this way: 0 after --help and --version, 2 after a wrong word.
        return stop.code if isinstance(stop.code, int) else 2


if __name__ == "__main__":
    raise SystemExit(main())
