"""The ``bids-xai`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from bids_xai.cli.command import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something failed, 2 wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = Command("bids-xai")

    def read() -> Callable[[], int]:
        from bids_xai.cli.parser import parse

        request = parse(words)

        def work() -> int:
            from bids_xai.cli.stages import execute

            command.logs = request.output_dir / "logs"
            return execute(request)

        return work

    return command.run(read, last=argv is None)


if __name__ == "__main__":
    raise SystemExit(main())
