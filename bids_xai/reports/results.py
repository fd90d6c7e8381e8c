"""The results of the group level, as they lie in the output folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nb
import pandas as pd
from nibabel.filebasedimages import ImageFileError

from bids_xai.atomic import whole_file
from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.errors import InputError
from bids_xai.tables import read_frame
from bids_xai.text_files import read_json_object

MANIFEST = "results.json"
_REQUIRED = ("dataset", "classes", "methods", "alphas", "report_alpha", "chance", "tables", "maps", "mask")


@dataclass(frozen=True)
class Results:
    """The manifest ``OUT/group/results.json`` and the files that it names.

    Parameters
    ----------
    out_dir
        Folder of the derivatives.
    manifest
        Content of the manifest; paths in it are relative to ``out_dir / "group"``.
    """

    out_dir: Path
    manifest: Mapping[str, Any]

    @property
    def group_dir(self) -> Path:
        """Folder of the group level."""
        return self.out_dir / "group"

    @property
    def of_networks(self) -> bool:
        """Whether networks were trained and explained, rather than a softmax layer."""
        return self.manifest.get("kind") == "networks"

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their codes."""
        return [str(name) for name in self.manifest["classes"]]

    @property
    def methods(self) -> list[str]:
        """Names of the importance measures."""
        return [str(name) for name in self.manifest["methods"]]

    @property
    def alpha(self) -> float:
        """Significance level that the report shows."""
        return float(self.manifest["report_alpha"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """All settings of the analysis by name."""
        settings: Mapping[str, Any] = self.manifest.get("settings") or {}
        return settings

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {}

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its name in the manifest; an empty one when it was not written."""
        if name not in self._tables:
            path = self.table_path(name)
            self._tables[name] = pd.DataFrame() if path is None else read_frame(path)
        return self._tables[name]

    def table_path(self, name: str) -> Path | None:
        """Return the file of a table, or None when it was not written."""
        relative = self.manifest["tables"].get(name)
        return self.group_dir / relative if relative else None

    def region_tables(self) -> list[tuple[Path, pd.DataFrame]]:
        """Return file and content of the region table of every atlas."""
        paths = [self.group_dir / relative for relative in self.manifest["tables"].get("regions") or []]
        return [(path, read_frame(path)) for path in paths]

    def image(
        self,
        stat: str,
        class_: str | None = None,
        method: str | None = None,
        alpha: float | None = None,
        group: str | None = None,
    ) -> nb.Nifti1Image | None:
        """Return the map of a statistic, or None when there is no such map.

        Parameters
        ----------
        stat
            Kind of map: mean, p, pfwer, q, reproducibility, thresholded, fwer, t, F, overlap or
            lowunivariate.
        class_, method, alpha, group
            What the map is of; None accepts any.
        """
        for entry in self.manifest["maps"]:
            if entry["stat"] != stat:
                continue
            if class_ is not None and str(entry.get("class")) != class_:
                continue
            if method is not None and str(entry.get("method")) != method:
                continue
            if group is not None and str(entry.get("group")) != group:
                continue
            level = entry.get("alpha")
            if alpha is not None and level is not None and not math.isclose(float(level), alpha):
                continue
            return load_image(self.group_dir / entry["path"])
        return None

    def named_image(self, key: str) -> nb.Nifti1Image | None:
        """Return the image under a key of the manifest (``mask``, ``background``), or None."""
        relative = self.manifest.get(key)
        return load_image(self.group_dir / relative) if relative else None


def overall_row(tests: pd.DataFrame) -> pd.Series | None:
    """Return the row of a table by ``scope`` that is of all classes together; None where there is none."""
    rows = tests[tests["scope"] == ALL_CLASSES] if len(tests) else tests
    return rows.iloc[0] if len(rows) else None


def load_results(out_dir: Path | str) -> Results:
    """Read the manifest of the group level.

    Parameters
    ----------
    out_dir
        Folder of the derivatives.

    Raises
    ------
    InputError
        No manifest, one that is no JSON, or one that lacks what a report needs.
    """
    path = Path(out_dir) / "group" / MANIFEST
    if not path.exists():
        raise InputError(
            f"No group results: {path} does not exist.",
            "an output folder in which the group level has finished",
            "run the group level on this output folder first",
        )
    manifest = read_json_object(path, "the manifest", "run the group level again")
    missing = [key for key in _REQUIRED if key not in manifest]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}.",
            "the manifest that the group level of this version writes",
            "run the group level again",
        )
    return Results(Path(out_dir), manifest)


def load_image(path: Path) -> nb.Nifti1Image:
    """Load a 3-D or 4-D image.

    Raises
    ------
    InputError
        The file does not exist or is no image.
    """
    try:
        image: nb.Nifti1Image = nb.load(path)
    except (FileNotFoundError, ImageFileError) as error:
        raise InputError(
            f"{path} cannot be read ({error}).", "a NIfTI image", "run that level again"
        ) from error
    return image


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file so that it appears whole or not at all, and return its path."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path
