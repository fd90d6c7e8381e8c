"""What the user asked for: frozen dataclasses, TOML files, presets."""

from bids_xai.settings.applies import refuse_unused, unused
from bids_xai.settings.files import (
    SECTIONS,
    Settings,
    departures,
    load_file,
    load_preset,
    model_of,
    parse_toml,
    resolve,
    with_origin,
    write_file,
)
from bids_xai.settings.options import Option, options_of
from bids_xai.settings.presets import preset_names

__all__ = [
    "SECTIONS",
    "Option",
    "Settings",
    "departures",
    "load_file",
    "load_preset",
    "model_of",
    "options_of",
    "parse_toml",
    "preset_names",
    "refuse_unused",
    "resolve",
    "unused",
    "with_origin",
    "write_file",
]
