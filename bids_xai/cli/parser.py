"""The command line: argparse only, so that ``--help`` starts at once."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_xai import __version__
from bids_xai.settings import (
    SECTIONS,
    Option,
    Settings,
    load_file,
    load_preset,
    options_of,
    refuse_unused,
    resolve,
    unused,
    with_origin,
)
from bids_xai.settings.applies import ANATOMICAL, BOLD, NETWORKS, SOFTMAX, Applies
from bids_xai.settings.files import Layer

LOGGER = logging.getLogger("bids_xai")
COMMAND_LINE, PRESET = "Command line", "Preset "
LEVELS = ("participant", "group")
# Options are listed by what they apply to.
_KINDS = (SOFTMAX, NETWORKS, BOLD, ANATOMICAL)


@dataclass(frozen=True)
class Request:
    """What one call of the command line asks for; ``warnings`` is what was found odd in the input."""

    bids_dir: Path
    output_dir: Path
    levels: tuple[str, ...]
    settings: Settings
    dry_run: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    verbosity: int = 0
    asked: Mapping[str, Layer] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def check_used(self, *, warn: bool = True) -> None:
        """Refuse options that what was chosen does not use; those of a preset are named in a warning.

        Settings that depend on the input decide once they are filled in.

        Raises
        ------
        InputError
            An option is not used.
        """
        for origin, layer in self.asked.items():
            if origin == COMMAND_LINE:
                refuse_unused(self.settings, layer, origin)
                continue
            if not origin.startswith(PRESET):
                # A file may write defaults down.
                refuse_unused(self.settings, self._changed(layer), origin)
                continue
            names = [f"--{name.replace('_', '-')}" for name, *_ in unused(self.settings, layer)]
            if names and warn:
                LOGGER.warning("%s: %s are not used with what was chosen besides.", origin, ", ".join(names))

    def _changed(self, layer: Layer) -> Layer:
        """Return the values of a layer that differ from the defaults of the model."""
        defaults = resolve({"decoding": {"model": self.settings.decoding.model}})
        return {
            section: {
                name: value
                for name, value in values.items()
                if value != getattr(getattr(defaults, section), name)
            }
            for section, values in layer.items()
        }


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every setting is an option of the same name with dashes."""
    parser = argparse.ArgumentParser(
        prog="bids-xai",
        description="From a BIDS dataset to thresholded maps of what a classifier used.",
        epilog="Exit codes: 0 all done; 1 something failed (it is named); 2 wrong usage or input.",
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS", help="the dataset; it is never written to")
    parser.add_argument("output_dir", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument(
        "levels",
        nargs="+",
        choices=LEVELS,
        metavar="{participant,group}",
        help="what to run: 'participant' prepares samples, 'group' classifies them; both may be given",
    )
    parser.add_argument("--version", action="version", version=f"bids-xai {__version__}")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more log messages; twice: all")
    actions = parser.add_argument_group("What to do")
    actions.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    actions.add_argument(
        "--reports-only", action="store_true", help="make the reports of finished results again"
    )
    actions.add_argument(
        "--boilerplate-only", action="store_true", help="write the methods text and citations, and stop"
    )
    sources = parser.add_argument_group("Settings (a preset, below a file, below options)")
    sources.add_argument("--config-file", type=Path, metavar="TOML", help="file of settings")
    for section in SECTIONS:
        title = f"{section.capitalize()}: {(SECTIONS[section].__doc__ or '').splitlines()[0]}"
        common = parser.add_argument_group(title)
        groups: dict[Applies, argparse._ArgumentGroup] = {}
        for name, details in options_of(SECTIONS[section]).items():
            kind = next((rule for rule in details.applies if rule in _KINDS), None)
            if kind is not None and kind not in groups:
                groups[kind] = parser.add_argument_group(f"{section.capitalize()} (with {kind.words})")
            add_option(common if kind is None else groups[kind], name, details)
    return parser


def parse(argv: Sequence[str]) -> Request:
    """Read the arguments of one call.

    Raises
    ------
    SystemExit
        argparse found a wrong word, or printed its help or version.
    InputError
        A preset, a settings file or a value is wrong.
    """
    arguments = vars(build_parser().parse_args([with_dashes(word) for word in argv]))
    own: dict[str, Layer] = {}
    if arguments["config_file"]:
        own[str(arguments["config_file"])] = load_file(arguments["config_file"])
    own[COMMAND_LINE] = given(arguments)
    settings = resolve(*with_origin(*own.values()))
    preset = settings.origin.preset
    asked = {f"{PRESET}{preset}": load_preset(preset), **own} if preset is not None else own
    request = Request(
        bids_dir=arguments["bids_dir"].absolute(),
        output_dir=arguments["output_dir"].absolute(),
        levels=tuple(level for level in LEVELS if level in arguments["levels"]),
        settings=settings,
        dry_run=arguments["dry_run"],
        reports_only=arguments["reports_only"],
        boilerplate_only=arguments["boilerplate_only"],
        verbosity=arguments["verbose"],
        asked=asked,
    )
    request.check_used(warn=False)
    return request


def add_option(group: argparse._ArgumentGroup, name: str, details: Option) -> None:
    """Add the option of a setting; without it on the command line its name is not among the arguments."""
    flags = [f"--{name.replace('_', '-')}", *([details.short] if details.short else [])]
    if details.kind is bool:
        group.add_argument(
            *flags, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=details.help
        )
        return
    choices = tuple(details.choices()) if details.choices is not None else ()
    described = f"{details.help} [{', '.join(choices)}]" if choices else details.help
    others = [rule.words for rule in details.applies if rule not in _KINDS]
    if others:
        described += f" (with {' and '.join(others)})"
    group.add_argument(
        *flags,
        type=str if details.kind is dict else details.kind,
        nargs=details.nargs,
        default=argparse.SUPPRESS,
        metavar=details.metavar or details.kind.__name__.upper(),
        help=described.replace("%", "%%"),
    )


def given(arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that were on the command line, by section, in their proper types."""
    return {
        section: {
            name: details.check(f"--{name.replace('_', '-')}", arguments[name], COMMAND_LINE)
            for name, details in options_of(SECTIONS[section]).items()
            if name in arguments
        }
        for section in SECTIONS
    }


def with_dashes(word: str) -> str:
    """Turn ``--participant_label=x_y`` into ``--participant-label=x_y``."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value
