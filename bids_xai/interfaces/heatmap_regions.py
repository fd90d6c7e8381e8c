"""Interface that reports heatmaps by the regions of an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.atlases.heatmaps import (
    METRICS,
    TOP,
    Regions,
    densities,
    heatmap_table,
    most_different,
    region_sums,
    regions_of,
    top_overlaps,
)
from bids_xai.atlases.regions import labels_on_grid
from bids_xai.atlases.sources import load_atlas
from bids_xai.attribution import RAW, SHARE
from bids_xai.attribution.heatmaps import group_names
from bids_xai.attribution.shares import as_shares
from bids_xai.bids.covariates import column_of
from bids_xai.decoding.design import Design
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.networks import biomarker_tests
from bids_xai.interfaces.network_results import save_tables
from bids_xai.tables import read_frame

# What the seed of the biomarker's permutations is of, beside those of bids_xai.interfaces.networks.
_BIOMARKER = 15
_FEWEST_PEOPLE = 4


class HeatmapRegions(SimpleInterface):
    """Sum heatmaps by region: by class, between trainings, between people, and against a biomarker."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_runs = File(exists=True, mandatory=True, desc="mean heatmaps of every training, .npz")
        in_heatmaps = File(exists=True, mandatory=True, desc="heatmaps of people, .npz")
        in_index = File(exists=True, mandatory=True, desc="TSV file, one row per heatmap of a person")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_mask = File(exists=True, mandatory=True, desc="voxels of the heatmaps")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_summary = traits.Dict(mandatory=True, desc="methods")
        atlas = traits.Str(mandatory=True, desc="name of an atlas, or a NIfTI file with a TSV beside it")
        merge_sides = traits.Bool(False, usedefault=True, desc="left and right are one region")
        biomarker = traits.Str(desc="column of the rows")
        random_seed = traits.Int(0, usedefault=True, desc="seed")

    class _OutputSpec(TraitedSpec):
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        atlas, mask = load_atlas(inputs.atlas), nb.load(inputs.in_mask)
        regions = regions_of(labels_on_grid(atlas, mask), atlas, merge_sides=inputs.merge_sides)
        design = Design.load(inputs.in_design)
        methods = list(inputs.in_summary["methods"])
        index = read_frame(Path(inputs.in_index))
        heatmaps = load_chunk(inputs.in_heatmaps)["heatmaps"]
        runs = load_chunk(inputs.in_runs)
        sums = {method: region_sums(heatmaps[:, m], regions) for m, method in enumerate(methods)}
        of_class = {name: (index["true"].astype(str) == name).to_numpy() for name in design.classes}
        tables = {
            "regions": _region_table(sums, regions, of_class),
            "overlap": _overlaps(runs["means"], runs["counts"], regions, methods, design.classes),
            "method_overlap": _method_overlaps(sums, regions, of_class[design.classes[-1]]),
            "fingerprints": _fingerprints(sums, regions, index, of_class[design.classes[-1]]),
        }
        if isdefined(inputs.biomarker):
            tables["biomarker"] = self._biomarker(self._compared(heatmaps, regions), regions, index)
        named = {name: table.assign(atlas=atlas.name) for name, table in tables.items() if len(table)}
        ordered = {name: table[["atlas", *table.columns.drop("atlas")]] for name, table in named.items()}
        self._results["out_tables"] = save_tables(ordered, Path(runtime.cwd))
        return runtime

    def _compared(
        self, heatmaps: npt.NDArray[np.float32], regions: Regions
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return sums of heatmaps by region as participants are compared: of shares, also if shown raw."""
        info = self.inputs.in_summary["method_info"]
        divided = {name: (own["tested"], own["shown"]) == (SHARE, RAW) for name, own in info.items()}
        return {
            method: region_sums(as_shares(heatmaps[:, m]) if divided[method] else heatmaps[:, m], regions)
            for m, method in enumerate(self.inputs.in_summary["methods"])
        }

    def _biomarker(
        self, sums: dict[str, npt.NDArray[np.float64]], regions: Regions, index: pd.DataFrame
    ) -> pd.DataFrame:
        """Correlate a region's relevance, mean over a person's heatmaps, with the person's biomarker."""
        inputs = self.inputs
        column = column_of(inputs.biomarker)
        values = read_frame(Path(inputs.in_rows)).groupby("subject")[column].mean()
        found = []
        for method, own in sums.items():
            of_person = pd.DataFrame(own).groupby(index["subject"].to_numpy()).mean()
            if len(of_person) < _FEWEST_PEOPLE:
                continue
            tests = biomarker_tests(
                of_person.to_numpy(),
                values.loc[of_person.index].to_numpy(dtype=float),
                regions.names,
                np.random.default_rng([inputs.random_seed, _BIOMARKER]),
            )
            found.append(tests.assign(method=method))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _region_table(
    sums: dict[str, npt.NDArray[np.float64]], regions: Regions, of_class: dict[str, npt.NDArray[np.bool_]]
) -> pd.DataFrame:
    """Return the metrics of every class's people, all others being the controls of the gain."""
    found = []
    for method, own in sums.items():
        for group, members in of_class.items():
            if not members.any():
                continue
            table = heatmap_table(own, regions, members)[["region", "n_voxels", *METRICS]]
            table.insert(0, "index", np.arange(1, len(table) + 1))
            for metric in METRICS:
                ranks = table[metric].rank(ascending=False, method="first")
                table[f"rank_{metric}"] = ranks.astype("Int64")
            found.append(table.assign(method=method, group=group))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _overlaps(
    means: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    regions: Regions,
    methods: Sequence[str],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return what the first ten regions of all pairs of trainings have in common (Eitel and Ritter 2019)."""
    groups = list(group_names(classes))
    pairs = [("TP", "TN"), (classes[1], classes[0])] if len(classes) == 2 else []
    pairs = [pair for pair in pairs if counts[:, [groups.index(name) for name in pair]].all()]
    if len(means) < 2 or not pairs:
        return pd.DataFrame()
    group, other = pairs[0]
    found = []
    for m, method in enumerate(methods):
        tables = {}
        for run, own in enumerate(means[:, m]):
            both = own[[groups.index(group), groups.index(other)]]
            sums = region_sums(both, regions, absolute=True)
            tables[str(run)] = heatmap_table(sums, regions, np.array([True, False]))
        overlap = top_overlaps(tables, TOP[1])
        grouped = overlap.groupby("metric", sort=False)
        found.append(
            pd.DataFrame({
                "method": method,
                "metric": list(grouped.groups),
                "group": group,
                "k": grouped["k"].first().to_numpy(),
                "mean_overlap": grouped["overlap"].mean().to_numpy() / 100,
                "n_pairs": grouped.size().to_numpy(),
            })
        )  # fmt: skip
    return pd.concat(found, ignore_index=True)


def _method_overlaps(
    sums: dict[str, npt.NDArray[np.float64]], regions: Regions, patients: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Return what the first ten regions of all pairs of explanations have in common (Böhle et al. 2019)."""
    if len(sums) < 2 or not patients.any():
        return pd.DataFrame()
    tables = {method: heatmap_table(own, regions, patients) for method, own in sums.items()}
    table = top_overlaps(tables, TOP[1])
    return table.assign(overlap=table["overlap"] / 100)


def _fingerprints(
    sums: dict[str, npt.NDArray[np.float64]],
    regions: Regions,
    index: pd.DataFrame,
    patients: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """Return, of the last class's people with probabilities above .9, the two that differ the most."""
    rows = []
    people = index[patients].reset_index(drop=True)
    if not len(people):
        return pd.DataFrame()
    for method, own in sums.items():
        pair = most_different(densities(own[patients], regions), people["probability"].to_numpy())
        if pair is not None:
            first, second, distance = pair
            rows.append({
                "method": method,
                "subject": people["subject"][first],
                "other": people["subject"][second],
                "distance": distance,
            })  # fmt: skip
    return pd.DataFrame(rows)
