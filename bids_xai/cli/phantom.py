"""``bids-xai-phantom``: make a BIDS dataset with known truth."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields

from bids_xai import __version__
from bids_xai.errors import InputError
from bids_xai.phantom.parameters import CLASS_NAMES, PhantomParameters

_DONE, _WRONG_INPUT = 0, 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names and defaults are those of ``PhantomParameters``."""
    default = PhantomParameters()
    parser = argparse.ArgumentParser(
        prog="bids-xai-phantom",
        description="Make a raw BIDS dataset with known truth (in derivatives/truth): T1w and BOLD of "
        "made-up heads, with responses of several classes at known places.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("path", metavar="DIR", help="folder to make; it must not exist or be empty")
    size = parser.add_argument_group("size")
    size.add_argument("--subjects", type=int, default=default.subjects, metavar="N", help="subjects")
    size.add_argument("--runs", type=int, default=default.runs, metavar="N", help="runs of each subject")
    size.add_argument(
        "--classes",
        type=int,
        default=default.classes,
        metavar="N",
        help=f"classes, the first N of {' '.join(CLASS_NAMES)}",
    )
    size.add_argument(
        "--trials-per-class",
        type=int,
        default=default.trials_per_class,
        metavar="N",
        help="events of each class a run",
    )
    size.add_argument("--seed", type=int, default=default.seed, metavar="N", help="same seed, same bytes")
    imaging = parser.add_argument_group("images")
    imaging.add_argument(
        "--duration", type=float, default=default.duration, metavar="S", help="length of an event, s"
    )
    imaging.add_argument("--tr", type=float, default=default.tr, metavar="S", help="repetition time, s")
    imaging.add_argument(
        "--resolution", type=float, default=default.resolution, metavar="MM", help="voxel size of BOLD, mm"
    )
    imaging.add_argument(
        "--t1w-resolution",
        type=float,
        default=default.t1w_resolution,
        metavar="MM",
        help="voxel size of T1w, mm",
    )
    content = parser.add_argument_group("signal, noise, heads")
    content.add_argument(
        "--effect",
        type=float,
        default=default.effect,
        metavar="PERCENT",
        help="plateau of a class's response",
    )
    content.add_argument(
        "--null", action="store_true", help="no class differs anywhere; the same as --effect 0"
    )
    content.add_argument(
        "--noise",
        type=float,
        default=default.noise,
        metavar="PERCENT",
        help="standard deviation of the noise",
    )
    content.add_argument(
        "--anatomy",
        action=argparse.BooleanOptionalAction,
        default=default.anatomy,
        help="a head and a position of its own for every subject, instead of the template's",
    )
    content.add_argument(
        "--motion", action=argparse.BooleanOptionalAction, default=default.motion, help="heads that move"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being written")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the dataset that the arguments ask for.

    Returns
    -------
    int
        0 when it is written, 2 when the arguments or the folder are wrong.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING, format="%(message)s")
    if arguments.null:
        arguments.effect = 0.0
    try:
        parameters = PhantomParameters(
            **{f.name: getattr(arguments, f.name) for f in fields(PhantomParameters)}
        )
        from bids_xai.phantom.bids_dataset import make_dataset

        make_dataset(arguments.path, parameters)
    except InputError as error:
        sys.stderr.write(f"bids-xai-phantom: {error}\n")
        return _WRONG_INPUT
    return _DONE


if __name__ == "__main__":
    sys.exit(main())
