"""How one option is declared: the same words serve ``--help``, TOML files and error messages."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_xai.errors import InputError
from bids_xai.registry import nearest_name
from bids_xai.settings.applies import Applies

# What arrays and the seeds of random streams hold.
LARGEST_INT = 2**63 - 1


@dataclass(frozen=True)
class Option:
    """What the command line and the TOML reader need to know of a setting.

    Parameters
    ----------
    help
        One sentence for ``--help``.
    kind
        ``int``, ``float``, ``str``, ``bool`` or ``Path``: the type of one value. ``dict``: a table, on the
        command line words KEY=VALUE.
    nargs
        None for one value, a number for exactly so many, ``"+"`` for any number.
    choices
        Function that returns the allowed values (read from a registry when asked for).
    also
        Text that marks other values than ``choices`` as allowed.
    minimum, maximum
        Smallest and largest allowed number.
    short
        One-letter alias, such as ``"-w"``.
    metavar
        Name(s) of the value in ``--help``.
    applies
        Settings with which the option is used, all of them; with others it is refused.
    """

    help: str
    kind: type
    nargs: int | str | None = None
    choices: Callable[[], Iterable[str]] | None = None
    also: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    short: str | None = None
    metavar: str | tuple[str, ...] | None = None
    applies: tuple[Applies, ...] = ()

    def check(self, name: str, value: Any, origin: str) -> Any:
        """Return ``value`` in its proper type, or refuse it naming where it came from."""
        if value is None:
            return None
        if self.kind is dict:
            return _table(name, value, origin)
        if self.nargs is None:
            return self._check_one(name, value, origin)
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(self.nargs, int) and len(values) != self.nargs:
            raise InputError(f"{origin}: {name} = {value!r}.", f"{self.nargs} values")
        return tuple(self._check_one(name, item, origin) for item in values)

    def _check_one(self, name: str, value: Any, origin: str) -> Any:
        allowed: dict[type, tuple[type, ...]] = {
            float: (int, float),
            int: (int,),
            bool: (bool,),
            str: (str,),
            Path: (str, Path),
        }
        mistyped_bool = isinstance(value, bool) and self.kind is not bool
        if mistyped_bool or not isinstance(value, allowed[self.kind]):
            raise InputError(f"{origin}: {name} = {value!r}.", f"a value of type {self.kind.__name__}")
        value = self.kind(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{origin}: {name} = {value}.", "a finite number")
        if isinstance(value, int) and abs(value) > LARGEST_INT:
            raise InputError(
                f"{origin}: {name} is a number of {value.bit_length()} bits.", f"at most {LARGEST_INT}"
            )
        if isinstance(value, str) and "\0" in value:
            raise InputError(f"{origin}: {name} = {value!r}.", "text without NUL")
        if self.minimum is not None and value < self.minimum:
            raise InputError(f"{origin}: {name} = {value}.", f"at least {self.minimum}")
        if self.maximum is not None and value > self.maximum:
            raise InputError(f"{origin}: {name} = {value}.", f"at most {self.maximum}")
        choices = tuple(self.choices()) if self.choices is not None else ()
        free = self.also is not None and self.also in value
        if choices and value not in choices and not free:
            raise InputError(
                f"{origin}: {name} = {value!r}.", f"one of {', '.join(choices)}", nearest_name(value, choices)
            )
        return value


def _table(name: str, value: Any, origin: str) -> dict[str, Any]:
    """Return a table as it is, or that of words KEY=VALUE, whose values are JSON where they can be."""
    if isinstance(value, Mapping):
        return dict(value)
    table = {}
    for word in value if isinstance(value, list | tuple) else [value]:
        key, equals, text = str(word).partition("=")
        if not equals or not key:
            raise InputError(f"{origin}: {name} {word!r}.", "KEY=VALUE")
        try:
            table[key] = json.loads(text)
        except ValueError:
            table[key] = text
        if table[key] is None:
            raise InputError(f"{origin}: {name} {word!r}.", "a value", "leave the word out")
    return table


def option(default: Any, help: str, kind: type, **details: Any) -> Any:  # noqa: A002
    """Declare a field of a settings dataclass (see :class:`Option`)."""
    return field(default=default, metadata={"option": Option(help=help, kind=kind, **details)})


def options_of(section: type) -> dict[str, Option]:
    """Return the options of a settings dataclass by field name."""
    common: tuple[Applies, ...] = getattr(section, "APPLIES", ())
    found = {f.name: f.metadata["option"] for f in dataclasses.fields(section)}
    if not common:
        return found
    return {
        name: dataclasses.replace(details, applies=(*common, *details.applies))
        for name, details in found.items()
    }
