"""No report reads a key of a manifest, a setting, a sidecar or a table that no run writes: by its source.

``tests/integration/test_written_keys.py`` asks real runs; this looks at what their pages did not come to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bids_xai.reports
from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.bids.events import ROW_COLUMNS
from bids_xai.bids.network_columns import _COLUMNS
from bids_xai.bids.sidecars import SETTINGS_KEYS, samples_metadata
from tests.written import MANIFEST, SETTINGS

FOLDER = Path(bids_xai.reports.__file__).parent
SOURCES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "scenarios")
SIDECAR = {
    *SETTINGS_KEYS,
    *ROW_COLUMNS,
    *samples_metadata(
        settings={}, bids_dir="", source="", mask="", space=None, resolution=None, repetition_time=1.0
    ),
}
TABLES = {*TABLE_COLUMNS, *_COLUMNS}
# Name of what is read -> what a run writes.
READ = {"settings": SETTINGS, "manifest": MANIFEST, "metadata": SIDECAR, "common": SIDECAR}


def keys_read(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Give name of the mapping, key and line of every ``x.get("key")``, ``x["key"]`` and ``"key" in x``."""
    for node in ast.walk(tree):
        value: ast.expr | None = None
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr in ("get", "table", "table_path"):
                value, key = node.func.value, node.args[0]
                if node.func.attr != "get":
                    value = ast.Name("tables")
        elif isinstance(node, ast.Subscript):
            value, key = node.value, node.slice
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            value, key = node.comparators[0], node.left
        if value is not None and isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield ast.unparse(value).rpartition(".")[2], key.value, node.lineno  # type: ignore[attr-defined]


def unwritten(text: str) -> list[tuple[str, str]]:
    known = {**READ, "tables": TABLES | {"regions"}}
    return [
        (name, key) for name, key, _ in keys_read(ast.parse(text)) if name in known and key not in known[name]
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_reports_read_only_what_a_run_writes(path: Path) -> None:
    assert unwritten(path.read_text(encoding="utf-8")) == []


def test_a_key_that_nothing_writes_is_found() -> None:
    text = """
if results.settings.get("slopy") or "presett" in settings or manifest["spaec"]:
    file.metadata.get("Warnings"), results.table("fingerprint"), results.manifest.get("space")
"""
    assert sorted(unwritten(text)) == [
        ("manifest", "spaec"),
        ("metadata", "Warnings"),
        ("settings", "presett"),
        ("settings", "slopy"),
        ("tables", "fingerprint"),
    ]


def test_the_reading_is_not_empty() -> None:
    found = [key for path in SOURCES for key in keys_read(ast.parse(path.read_text(encoding="utf-8")))]
    for name, least in (("settings", 30), ("manifest", 40), ("tables", 25), ("metadata", 5)):
        assert len({key for of, key, _ in found if of == name}) >= least
