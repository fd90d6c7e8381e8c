"""The folder of a scenario's results: tables, maps, truth, and the manifest that says what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai import __version__
from bids_xai.atomic import whole_folder
from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.bids.descriptions import write_json, write_tsv
from bids_xai.inference.chunks import save_chunk

MANIFEST = "scenario.json"


def write_scenario(
    out_dir: Path,
    manifest: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    maps: Mapping[str, npt.NDArray],
    truth: npt.NDArray[np.bool_],
) -> Path:
    """Write ``out_dir/scenario-NAME`` whole: it is made beside and put in the place of an older one.

    Parameters
    ----------
    out_dir
        Folder of the scenarios.
    manifest
        ``name`` of the scenario and what else the report says of it.
    tables
        Tables by name, each in ``NAME.tsv`` with its columns explained in ``NAME.json``.
    maps
        Maps by name (:class:`bids_xai.inference.summary.Summary`), in ``maps.npz``.
    truth
        Whether a voxel is of a class's pattern, shape (n_classes, n_voxels), in ``truth.npy``.

    Returns
    -------
    Path
        The folder.
    """
    target = out_dir / f"scenario-{manifest['name']}"
    with whole_folder(target) as folder:
        for name, table in tables.items():
            write_tsv(folder / f"{name}.tsv", table, TABLE_COLUMNS[name])
        save_chunk(folder / "maps.npz", maps)
        np.save(folder / "truth.npy", truth)
        write_json(folder / MANIFEST, {"version": __version__, **manifest, "tables": sorted(tables)})
    return target
