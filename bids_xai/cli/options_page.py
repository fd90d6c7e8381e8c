"""The page of all options, ``bids_xai/OPTIONS.md``: ``python -m bids_xai.cli.options_page`` writes it.

A test compares the page with what this writes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from bids_xai.settings import SECTIONS, Option, options_of
from bids_xai.settings.files import NETWORK_DEFAULTS

_HEAD = """# Options

Made by `python -m bids_xai.cli.options_page` from the settings; a test keeps it true. On the command line an
option is `--name-with-dashes`, in a TOML file (`--config-file`) the key `name_with_underscores` of its
section's table. An option that is used only with others is refused without them.
"""


def options_page() -> str:
    """Return the page as Markdown: per section a table of option, values, default and meaning."""
    return "\n".join([_HEAD, *(line for section in SECTIONS for line in _section(section))])


def _section(section: str) -> Iterator[str]:
    settings = SECTIONS[section]
    yield f"## [{section}]"
    yield ""
    yield (settings.__doc__ or "").splitlines()[0]
    yield ""
    yield "| option | values | default | what it is |"
    yield "|---|---|---|---|"
    defaults = {field.name: _default(field.default) for field in dataclasses.fields(settings)}
    for name, value in NETWORK_DEFAULTS.get(section, {}).items():
        defaults[name] = "; ".join(filter(None, [defaults[name], f"networks: {_default(value)}"]))
    for name, details in options_of(settings).items():
        flags = " ".join(f"`{flag}`" for flag in (f"--{name.replace('_', '-')}", details.short) if flag)
        cells = (flags, _values(details), defaults[name], _meaning(details))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _values(details: Option) -> str:
    """Return the type of a value, how many there may be, and its bounds or choices."""
    if details.kind is bool:
        return "yes or no"
    choices = tuple(details.choices()) if details.choices is not None else ()
    kind = {dict: "KEY=VALUE", float: "number", int: "whole number", str: "text"}.get(details.kind, "path")
    words = [", ".join(f"`{choice}`" for choice in choices) or kind]
    words += [f"at least {details.minimum:g}"] if details.minimum is not None else []
    words += [f"at most {details.maximum:g}"] if details.maximum is not None else []
    if isinstance(details.nargs, int):
        words.append(f"{details.nargs} of them")
    elif details.nargs:
        words.append("one or more")
    return "; ".join(words)


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    values = value if isinstance(value, tuple | list) else (value,)
    return f"`{' '.join(map(str, values))}`"


def _meaning(details: Option) -> str:
    used_with = " and ".join(rule.words for rule in details.applies)
    return details.help + (f"; with {used_with}" if used_with else "")


if __name__ == "__main__":
    sys.stdout.write(options_page())
