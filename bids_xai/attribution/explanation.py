"""Explanations by name and options: what users write, file names hold and reports say."""

from __future__ import annotations

import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

Value = str | int | float | bool | tuple[int, ...]
# Given by the program, not by the user: an atlas has no short spelling.
_NOT_OPTIONS = ("regions",)
_UPPER = ("lrp", "cam")


@dataclass(frozen=True)
class Explanation:
    """A method of ``EXPLANATIONS`` with options.

    Parameters
    ----------
    name
        Its name in the registry.
    options
        Options that were given, as pairs of name and value, in the order of the function's parameters.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def label(self) -> str:
        """Letters and digits for file names, such as ``LRPAlphaBetaBeta0p5``."""
        words = [word.upper() if word in _UPPER else word.capitalize() for word in self.name.split("-")]
        for option, value in self.options:
            words += [word.capitalize() for word in option.split("_")]
            words.append(_in_letters(value))
        return "".join(words)

    @property
    def title(self) -> str:
        """Words for reports, such as ``LRP alpha-beta (beta = 0.5)``."""
        first, *rest = self.name.split("-")
        if first == "lrp":
            title = "-".join(rest) if rest != ["0"] else ""
            title = f"LRP {title}" if title else "LRP-0"
        else:
            title = self.name.replace("grad-cam", "Grad-CAM").replace("-x-", " x ")
            if title.startswith(("integrated-", "guided-", "deep-")):
                title = title.replace("-", " ", 1)
            title = (title[0].upper() + title[1:]).replace("Deep taylor", "Deep Taylor")
        options = ", ".join(
            f"{option.replace('_', ' ')} = {_spelled(value)}" for option, value in self.options
        )
        return f"{title} ({options})" if options else title

    @property
    def spelling(self) -> str:
        """What :func:`parse_explanation` reads as this explanation."""
        options = ",".join(f"{option}={_spelled(value)}" for option, value in self.options)
        return f"{self.name}:{options}" if options else self.name

    @property
    def function(self) -> Callable[..., Tensor]:
        """The function ``f(network, x, start, **options)``."""
        return EXPLANATIONS[self.name].load()

    def check(self, network: nn.Module, x: Tensor, start: Start) -> None:
        """Refuse, before anything is trained, what the method cannot do with this network and these options.

        Parameters
        ----------
        network, x, start
            Network; one volume of zeros, shape (1, 1, x, y, z), on its device, which may be "meta"; what is
            explained.
        """
        entry = EXPLANATIONS[self.name]
        if entry.check:
            module, _, attribute = entry.check.partition(":")
            getattr(importlib.import_module(module), attribute)(network, x, start, **dict(self.options))


def parse_explanation(text: str) -> Explanation:
    """Read ``name`` or ``name:option=value,option=value``; tuples are written 2x2x2.

    Raises
    ------
    InputError
        An unknown name, option or value, with the nearest known one; an option given twice.
    """
    name, _, rest = text.strip().partition(":")
    function = EXPLANATIONS[name].load()
    known = options_of(function)
    given: dict[str, Value] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        option = option.replace("-", "_")
        if not equals:
            raise InputError(f"{part!r} in {text!r}.", "option=value", f"for example {name}:{option}=...")
        if option not in known:
            expected = f"one of {', '.join(known)}" if known else f"{name} without options"
            raise InputError(
                f"Unknown option {option!r} of {name}.", expected, nearest_name(option, list(known))
            )
        if option in given:
            raise InputError(f"The option {option!r} twice in {text!r}.", "every option once")
        given[option] = _read(value, known[option], f"{name}:{option}")
    return Explanation(name, tuple((option, given[option]) for option in known if option in given))


def options_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the options of an explanation's function and their types: its keyword-only parameters."""
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {
        parameter.name: hints[parameter.name]
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _NOT_OPTIONS
    }


def describe(explanation: Explanation) -> str:
    """Return a method's formula and source as one text, from its docstring (``Formula:``, ``Source:``)."""
    paragraphs = textwrap.dedent(inspect.getdoc(explanation.function) or "").split("\n\n")
    joined = [" ".join(paragraph.split()) for paragraph in paragraphs]
    found = [text for text in joined if text.startswith(("Formula:", "Source:"))]
    entry = EXPLANATIONS[explanation.name]
    if not any(text.startswith("Formula:") for text in found):
        found.insert(0, entry.summary[0].upper() + entry.summary[1:] + ".")
    if not any(text.startswith("Source:") for text in found):
        found.append(f"Source: {entry.source}.")
    return f"{explanation.title}. {' '.join(found)}".replace("``", "")


def _read(text: str, hint: Any, where: str) -> Value:
    """Return a value of the type that a function's annotation asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if text not in arguments:
            raise InputError(
                f"{where}={text}.", f"one of {', '.join(map(str, arguments))}", nearest_name(text, arguments)
            )
        return text
    if origin in {typing.Union, types.UnionType}:
        kinds = [kind for kind in arguments if kind is not type(None)]
        for kind in kinds[:-1]:
            try:
                return _read(text, kind, where)
            except InputError:
                continue
        return _read(text, kinds[-1], where)
    try:
        return _read_plain(text, hint, origin, arguments)
    except (KeyError, ValueError):
        kind = "numbers such as 2x2x2" if origin is tuple else getattr(hint, "__name__", str(hint))
        raise InputError(f"{where}={text}.", f"a value of type {kind}") from None


def _read_plain(text: str, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Value:
    if origin is tuple:
        values = tuple(int(piece) for piece in text.split("x"))
        if Ellipsis not in arguments and len(values) != len(arguments):
            raise ValueError(text)
        return values
    if hint is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    if hint in {int, float, str}:
        value = hint(text)
        if hint is float and not np.isfinite(value):
            raise ValueError(text)
        return value
    raise TypeError(f"no spelling for options of type {hint}")


def _spelled(value: Value) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return (
        f"{value:.12g}"
        if isinstance(value, float)
        else str(value).lower()
        if value is True or value is False
        else str(value)
    )


def _in_letters(value: Value) -> str:
    words = {"+": "plus", "-": "m", ".": "p"}
    text = _spelled(value)
    # The exponent's plus sign says nothing: 1e+20.
    text = text.replace("e+", "e") if isinstance(value, float) else text
    letters = "".join(
        words.get(letter, letter if letter.isascii() and letter.isalnum() else "") for letter in text
    )
    return letters[:1].upper() + letters[1:]
