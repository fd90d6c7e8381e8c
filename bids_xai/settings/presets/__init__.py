"""Presets: files of settings inside the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SLOPPY, SLOPPY_NETWORK = "sloppy", "sloppy-network"


def preset_names() -> list[str]:
    """Return the names that ``--preset`` accepts."""
    names = [
        Path(entry.name).stem
        for entry in resources.files("bids_xai.settings.presets").iterdir()
        if entry.name.endswith(".toml")
    ]
    return sorted(name for name in names if name not in (SLOPPY, SLOPPY_NETWORK))


def preset_text(name: str) -> str:
    """Return the TOML text of a preset."""
    return (resources.files("bids_xai.settings.presets") / f"{name}.toml").read_text(encoding="utf-8")
