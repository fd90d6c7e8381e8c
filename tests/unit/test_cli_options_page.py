"""The page of all options is that of the settings, and has all of them."""

from __future__ import annotations

from pathlib import Path

import bids_xai
from bids_xai.cli.options_page import options_page
from bids_xai.settings import SECTIONS, options_of

PAGE = Path(bids_xai.__file__).with_name("OPTIONS.md")


def test_the_page_is_that_of_the_settings() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), (
        "make it anew: python -m bids_xai.cli.options_page > bids_xai/OPTIONS.md"
    )


def test_every_option_has_one_row_of_four_cells() -> None:
    rows = [line for line in options_page().splitlines() if line.startswith("| `--")]
    named = [row.split("`")[1] for row in rows]
    options = [f"--{name.replace('_', '-')}" for section in SECTIONS.values() for name in options_of(section)]
    assert named == options
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}
