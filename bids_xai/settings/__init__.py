"""What the user asked for: frozen dataclasses, TOML files, presets."""

from bids_xai.settings.files import (
    SECTIONS,
    SLOPPY,
    Settings,
    load_file,
    load_preset,
    parse_toml,
    preset_names,
    resolve,
    write_file,
)
from bids_xai.settings.options import Option, options_of

__all__ = [
    "SECTIONS",
    "SLOPPY",
    "Option",
    "Settings",
    "load_file",
    "load_preset",
    "options_of",
    "parse_toml",
    "preset_names",
    "resolve",
    "write_file",
]
