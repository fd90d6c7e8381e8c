"""What an option applies to: another setting decides, and the option is refused where it would be ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_xai.errors import InputError

if TYPE_CHECKING:
    from bids_xai.settings.files import Settings


@dataclass(frozen=True)
class Applies:
    """The values of one setting with which an option is used.

    Parameters
    ----------
    setting
        Name of the setting that decides; names are unique over all sections.
    to
        Values with which the option is used.
    but_not
        Values with which it is not used, where ``to`` is empty.
    unset
        The option is used where the setting is not set. With neither of the three it is used where it is set.
    name
        Words for the values, where their names do not say it.
    """

    setting: str
    to: tuple[str, ...] = ()
    but_not: tuple[str, ...] = ()
    unset: bool = False
    name: str = ""

    def __call__(self, value: Any) -> bool:
        """Tell whether the option is used with this value of the setting."""
        if self.to:
            return value in self.to
        if self.but_not:
            return value not in self.but_not
        return bool(value) is not self.unset

    @property
    def words(self) -> str:
        """What the option is used with, such as ``--modality bold``."""
        flag = _flag(self.setting)
        if self.name:
            return self.name
        if self.to:
            return f"{flag} {' or '.join(self.to)}"
        if self.but_not:
            return f"another {flag} than {' or '.join(self.but_not)}"
        return f"no {flag}" if self.unset else flag


SOFTMAX = Applies("model", to=("softmax",))
NETWORKS = Applies("model", but_not=("softmax",), name="a network as --model, such as boehle2019")
BOLD = Applies("modality", to=("bold",))
ANATOMICAL = Applies("modality", but_not=("bold",), name="an anatomical --modality, such as T1w")


def refuse_unused(settings: Settings, asked: Mapping[str, Mapping[str, Any]], origin: str) -> None:
    """Refuse options that were asked for and that what was chosen does not use.

    Parameters
    ----------
    settings
        All settings of the call; those that are None are not known yet, and decide nothing.
    asked
        Values that the user gave, by section and name.
    origin
        Where they were given, for the message.

    Raises
    ------
    InputError
        The first such option, with what it is used with.
    """
    for name, decides, value in unused(settings, asked):
        chosen = f"{_flag(decides.setting)} {value}" if value else f"no {_flag(decides.setting)}"
        raise InputError(
            f"{origin}: {_flag(name)} with {chosen}, which does not use it.",
            f"{_flag(name)} with {decides.words}",
            f"leave {_flag(name)} out, or choose what uses it",
        )


def unused(settings: Settings, asked: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Applies, Any]]:
    """Yield the options that are not used: name, what decided it, and the value that did."""
    from bids_xai.settings.files import SECTIONS
    from bids_xai.settings.options import options_of

    values = {name: value for section in SECTIONS for name, value in vars(getattr(settings, section)).items()}
    for section, given in asked.items():
        options = options_of(SECTIONS[section])
        for name in given:
            for decides in options[name].applies:
                value = values[decides.setting]
                known = value is not None or not (decides.to or decides.but_not)
                if known and not decides(value):
                    yield name, decides, value
                    break


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
