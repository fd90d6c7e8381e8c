"""What a real run writes into ``results.json``: reports may read nothing else, and tests inject nothing else.

``tests/integration/test_written_keys.py`` compares it with real runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.bids.network_columns import columns_of
from bids_xai.settings import SECTIONS, options_of

COMMON = frozenset({
    "version", "dataset", "space", "resolution", "tasks", "subjects", "classes", "chance", "methods",
    "alphas", "report_alpha", "permute", "n_runs", "n_permutations", "smallest_p", "cv", "n_samples",
    "samples_per_class", "n_voxels", "n_folds", "settings", "preprocessing", "preset_departures", "atlases",
    "chance_of", "n_repeats", "versions", "failed_subjects", "warnings", "mask", "background", "tables",
    "maps",
})  # fmt: skip
SOFTMAX = frozenset({
    "tail", "n_null", "tail_fit", "q_from", "map_values", "training", "no_prevalence", "importance_samples",
    "not_converged", "late_fall",
})  # fmt: skip
NETWORKS = frozenset({
    "kind", "positive", "heatmaps", "networks", "method_info", "model", "n_parameters", "shape",
    "n_explained", "explain_start", "explain_class", "map_values", "shown_values", "n_silent",
})  # fmt: skip
MANIFEST = COMMON | SOFTMAX | NETWORKS
# A run writes every setting that is set.
SETTINGS = frozenset(name for section in SECTIONS.values() for name in options_of(section))


def injected(asked: Mapping[str, Any] | None = None, /, **manifest: Any) -> None:
    """Refuse settings and keys of a manifest that no run can write."""
    wrong = {*(asked or {})} - SETTINGS | {*manifest} - MANIFEST
    assert not wrong, f"no run writes {sorted(wrong)}"


def injected_table(name: str, columns: Iterable[str], *, of_networks: bool) -> None:
    """Refuse a table or a column that no run can write."""
    if of_networks:
        columns_of(name, list(columns))
    else:
        wrong = {*columns} - {*TABLE_COLUMNS[name]}
        assert not wrong, f"no run writes {sorted(wrong)} into {name}"
