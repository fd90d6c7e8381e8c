"""``bids-xai-phantom``: make a BIDS dataset with known truth."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from bids_xai import __version__
from bids_xai.errors import InputError
from bids_xai.phantom.lesion_parameters import MODALITIES, LesionParameters
from bids_xai.phantom.parameters import CLASS_NAMES, PhantomParameters

_DONE, _WRONG_INPUT = 0, 2
KINDS: dict[str, type[PhantomParameters] | type[LesionParameters]] = {
    "bold": PhantomParameters,
    "lesions": LesionParameters,
}
_NULL = "null"
# Field of the parameters -> its metavar and help, by the groups that --help shows.
_OPTIONS = {
    "size": {
        "subjects": ("N", "subjects"),
        "runs": ("N", "runs of each subject"),
        "classes": (
            "N",
            f"classes, the first N of {' '.join(CLASS_NAMES)}; with --kind lesions controls and patients",
        ),
        "trials_per_class": ("N", "events of each class a run"),
        "seed": ("N", "same seed, same bytes"),
    },
    "images": {
        "modality": ("NAME", f"images with lesions: {' or '.join(MODALITIES)}"),
        "duration": ("S", "length of an event, s"),
        "tr": ("S", "repetition time, s"),
        "resolution": ("MM", "voxel size, mm: of BOLD, or of images with lesions"),
        "t1w_resolution": ("MM", "voxel size of T1w beside BOLD, mm"),
        "scanners": ("N", "scanners, which differ in brightness"),
    },
    "signal, lesions, noise, heads": {
        "effect": ("PERCENT", "plateau of a class's response"),
        "sites": ("N", "sites at which only patients have lesions"),
        "presence": ("P", "probability of a patient's lesion at each of these sites"),
        "incidental": (
            "N",
            "mean number of lesions that anybody has at other sites; 0: controls have no lesions at all",
        ),
        "radius": ("MM", "mean radius of a lesion, mm"),
        "contrast": ("SHARE", "change of brightness in a lesion, darker on T1w and brighter on FLAIR"),
        "noise": ("PERCENT", "standard deviation of the noise"),
        "anatomy": ("", "a head and a position of its own for every subject, instead of the template's"),
        "motion": ("", "heads that move"),
    },
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names and defaults are those of the parameters of the kinds of phantom.

    Options that are not given are absent from the namespace: defaults differ between kinds.
    """
    parser = argparse.ArgumentParser(
        prog="bids-xai-phantom",
        description="Make a raw BIDS dataset with known truth (in derivatives/truth): T1w and BOLD of "
        "made-up heads, with responses of several classes at known places; or T1w or FLAIR images of "
        "controls and patients, with lesions at known places.",
    )
    parser.add_argument("path", metavar="DIR", help="folder to make; it must not exist or be empty")
    parser.add_argument("--kind", choices=tuple(KINDS), default="bold", help="what to make (default: bold)")
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, (metavar, meaning) in options.items():
            _add_option(group, name, metavar, meaning)
    group.add_argument(
        "--null",
        action="store_true",
        help="no class differs anywhere; with --kind bold the same as --effect 0",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being written")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _add_option(group: argparse._ArgumentGroup, name: str, metavar: str, meaning: str) -> None:
    defaults = {kind: _defaults(kind)[name] for kind in KINDS if name in _defaults(kind)}
    default = next(iter(defaults.values()))
    keywords: dict[str, Any] = {"type": type(default), "metavar": metavar}
    if isinstance(default, bool):
        keywords = {"action": argparse.BooleanOptionalAction}
        shown = "no" if not default else "yes"
    elif len(set(defaults.values())) == 1:
        shown = str(default)
    else:
        shown = ", ".join(f"{value} for {kind}" for kind, value in defaults.items())
    only = f"; --kind {next(iter(defaults))} only" if len(defaults) == 1 else ""
    option = "--" + name.replace("_", "-")
    text = f"{meaning} (default: {shown}{only})"
    group.add_argument(option, default=argparse.SUPPRESS, help=text, **keywords)


def _defaults(kind: str) -> dict[str, Any]:
    return {field.name: field.default for field in fields(KINDS[kind])}


def parameters_of(arguments: argparse.Namespace) -> PhantomParameters | LesionParameters:
    """Return the parameters of the kind that the arguments ask for.

    Raises
    ------
    InputError
        An option is of the other kind only, or its value cannot be made into a dataset.
    """
    kind = arguments.kind
    known = {name for options in _OPTIONS.values() for name in options}
    given = {name: value for name, value in vars(arguments).items() if name in known}
    for name in given:
        if name not in _defaults(kind):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{option} with --kind {kind}, which has nothing of the sort.",
                f"options of --kind {kind}",
                f"leave out {option}, or choose another --kind",
            )
    if arguments.null:
        given |= {_NULL: True} if _NULL in _defaults(kind) else {"effect": 0.0}
    return KINDS[kind](**given)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the dataset that the arguments ask for.

    Returns
    -------
    int
        0 when it is written, 2 when the arguments or the folder are wrong.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING, format="%(message)s")
    try:
        parameters = parameters_of(arguments)
        if isinstance(parameters, LesionParameters):
            from bids_xai.phantom.lesions_dataset import make_lesion_dataset

            make_lesion_dataset(arguments.path, parameters)
        else:
            from bids_xai.phantom.bids_dataset import make_dataset

            make_dataset(arguments.path, parameters)
    except InputError as error:
        sys.stderr.write(f"bids-xai-phantom: {error}\n")
        return _WRONG_INPUT
    return _DONE


if __name__ == "__main__":
    sys.exit(main())
