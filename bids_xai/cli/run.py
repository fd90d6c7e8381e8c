"""The ``bids-xai`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bids_xai.cli.parser import parse
from bids_xai.cli.resources import limit_library_threads
from bids_xai.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something failed, 2 wrong input."""
    try:
        request = parse(sys.argv[1:] if argv is None else argv)
        limit_library_threads()
        from bids_xai.cli.stages import execute

        return execute(request)
    except InputError as error:
        print(f"bids-xai: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        # argparse leaves this way: 0 after --help and --version, 2 after a wrong word.
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print(
            "\nbids-xai: interrupted. The same command with the same --work-dir goes on from here.",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
