"""Settings from TOML files and presets, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_xai.atomic import whole_file
from bids_xai.attribution import shown_as
from bids_xai.errors import InputError
from bids_xai.models import MODELS
from bids_xai.registry import nearest_name
from bids_xai.settings.applies import unused
from bids_xai.settings.network import Network
from bids_xai.settings.options import options_of
from bids_xai.settings.presets import SLOPPY, SLOPPY_NETWORK, preset_names, preset_text
from bids_xai.settings.sections import (
    Decoding,
    Execution,
    Inference,
    Origin,
    Preprocessing,
    Samples,
    Selection,
)
from bids_xai.text_files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

# What differs from the softmax layer's defaults, where the model is a network.
NETWORK_DEFAULTS: dict[str, dict[str, Any]] = {
    "decoding": {"learning_rate": 1e-4, "batch_size": 4},
    "inference": {"n_runs": 1, "n_permutations": 0, "n_null": 0},
}
Layer = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settings:
    """All settings of one call, by concern."""

    origin: Origin = field(default_factory=Origin)
    selection: Selection = field(default_factory=Selection)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    samples: Samples = field(default_factory=Samples)
    decoding: Decoding = field(default_factory=Decoding)
    network: Network = field(default_factory=Network)
    inference: Inference = field(default_factory=Inference)
    execution: Execution = field(default_factory=Execution)

    @property
    def is_network(self) -> bool:
        """Whether the classifier is a network on whole volumes."""
        return self.decoding.model != "softmax"

    def flat(self) -> dict[str, Any]:
        """Return every setting by its own name, in values that JSON and TOML hold."""
        return {name: value for part in self.tables().values() for name, value in part.items()}

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the settings as nested tables without the unset ones."""
        return {
            section: {
                name: _plain(value)
                for name, value in vars(getattr(self, section)).items()
                if value is not None and value != ()
            }
            for section in SECTIONS
        }


SECTIONS: dict[str, type] = {
    "origin": Origin,
    "selection": Selection,
    "preprocessing": Preprocessing,
    "samples": Samples,
    "decoding": Decoding,
    "network": Network,
    "inference": Inference,
    "execution": Execution,
}


def load_preset(name: str) -> Layer:
    """Return the tables of a preset, or refuse an unknown name."""
    if name not in (*preset_names(), SLOPPY, SLOPPY_NETWORK):
        raise InputError(
            f"Unknown preset {name!r}.",
            f"one of {', '.join(preset_names())}",
            nearest_name(name, preset_names()),
        )
    return _checked(tomllib.loads(preset_text(name)), f"preset {name}")


def with_origin(*layers: Layer) -> list[Layer]:
    """Return layers of settings over the preset that they name and, for ``sloppy``, what it cuts short."""
    found = {name: value for layer in layers for name, value in layer.get("origin", {}).items()}
    below = [load_preset(str(found["preset"]))] if found.get("preset") is not None else []
    if found.get("sloppy"):
        below.append(load_preset(SLOPPY if model_of(*below, *layers) == "softmax" else SLOPPY_NETWORK))
    return [*below, *layers]


def departures(settings: Settings) -> list[str]:
    """Return the names of the settings that differ from those of the preset, in its order."""
    if settings.origin.preset is None:
        return []
    return [
        name
        for section, values in load_preset(settings.origin.preset).items()
        for name, value in values.items()
        if getattr(getattr(settings, section), name) != value
    ]


def load_file(path: Path) -> Layer:
    """Read a TOML file of settings; misspelt tables and keys are refused.

    Raises
    ------
    InputError
        The file is missing, is no TOML, or holds a table, key or value that is not known.
    """
    text = read_text(path, "the file of --config-file")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config-file {path} is not TOML: {error}.", "a TOML text file") from error
    return _checked(tables, str(path))


def resolve(*layers: Layer) -> Settings:
    """Merge layers of settings, later ones over earlier ones, over the defaults of the model."""
    merged: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    model = model_of(*layers)
    for layer in (NETWORK_DEFAULTS if model != "softmax" else {}, *layers):
        for section, values in layer.items():
            merged[section].update(values)
    if ":" not in model:
        MODELS[model]  # refuses an unknown name
    if model == "softmax" and merged["inference"].get("n_permutations") == 0:
        raise InputError(
            "n_permutations = 0 with the softmax layer.",
            "at least 1",
            "its maps are thresholded by permutation",
        )
    if merged["preprocessing"].get("high_pass_sigma") and merged["preprocessing"].get("high_pass"):
        raise InputError(
            "Both high_pass and high_pass_sigma are set.", "one of the two", "remove one of them"
        )
    for alpha in merged["inference"].get("alpha", ()):
        if alpha >= 1:
            raise InputError(f"alpha = {alpha}.", "significance levels between 0 and 1")
    settings = Settings(**{name: SECTIONS[name](**values) for name, values in merged.items()})
    shown_as(settings.inference.map_values, settings.network.shown_values)  # refuses what cannot be
    return settings


def model_of(*layers: Layer) -> str:
    """Return the name of the classifier that layers of settings come to."""
    named = [layer["decoding"]["model"] for layer in layers if "model" in layer.get("decoding", {})]
    return str(named[-1]) if named else Decoding().model


def write_file(settings: Settings, path: Path) -> None:
    """Write the settings that are used so that ``--config-file`` gives them back; paths are made absolute."""
    import tomli_w

    tables = settings.tables()
    left_out = {name for name, *_ in unused(settings, tables)}
    used = {
        section: {name: value for name, value in values.items() if name not in left_out}
        for section, values in tables.items()
    }
    with whole_file(path) as temporary:
        temporary.write_text(tomli_w.dumps({name: table for name, table in used.items() if table}), "utf-8")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; ValueError if it is none."""
    return tomllib.loads(text)


def _checked(tables: Mapping[str, Any], origin: str) -> Layer:
    for section, values in tables.items():
        if section not in SECTIONS:
            raise InputError(
                f"{origin}: unknown table [{section}].",
                f"one of {', '.join(SECTIONS)}",
                nearest_name(section, SECTIONS),
            )
        if not isinstance(values, Mapping):
            raise InputError(f"{origin}: {section} = {values!r}.", f"a table [{section}]")
        unknown = [key for key in values if key not in options_of(SECTIONS[section])]
        if unknown:
            raise InputError(
                f"{origin}: unknown key {unknown[0]!r} in [{section}].",
                f"one of {', '.join(options_of(SECTIONS[section]))}",
                _nearest_key(unknown[0], section),
            )
    return {
        section: {
            key: options_of(SECTIONS[section])[key].check(f"{section}.{key}", value, origin)
            for key, value in values.items()
        }
        for section, values in tables.items()
    }


def _nearest_key(key: str, section: str) -> str:
    elsewhere = [name for name, part in SECTIONS.items() if key in options_of(part)]
    return f"move it to [{elsewhere[0]}]" if elsewhere else nearest_name(key, options_of(SECTIONS[section]))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
