"""The ``bids-xai`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bids_xai.cli.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something failed, 2 wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command("bids-xai", lambda: _run(words), last=argv is None)


def _run(words: Sequence[str]) -> int:
    from bids_xai.cli.parser import parse

    request = parse(words)
    from bids_xai.cli.stages import execute

    return execute(request)


if __name__ == "__main__":
    raise SystemExit(main())
