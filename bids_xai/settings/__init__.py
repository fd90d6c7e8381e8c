"""What the user asked for: frozen dataclasses, TOML files, presets."""

from bids_xai.settings.applies import refuse_unused, unused
from bids_xai.settings.files import (
    SECTIONS,
    SLOPPY,
    SLOPPY_NETWORK,
    Settings,
    load_file,
    load_preset,
    model_of,
    parse_toml,
    preset_names,
    resolve,
    write_file,
)
from bids_xai.settings.options import Option, options_of

__all__ = [
    "SECTIONS",
    "SLOPPY",
    "SLOPPY_NETWORK",
    "Option",
    "Settings",
    "load_file",
    "load_preset",
    "model_of",
    "options_of",
    "parse_toml",
    "preset_names",
    "refuse_unused",
    "resolve",
    "unused",
    "write_file",
]
