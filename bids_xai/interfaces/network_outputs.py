"""Interface that writes the results of networks into the folder of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai import reports
from bids_xai.attribution import RAW
from bids_xai.attribution.heatmaps import group_names
from bids_xai.bids.networks import NetworkResults, write_networks
from bids_xai.decoding.design import Design
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.design_checks import design_warnings
from bids_xai.tables import read_frame


class WriteNetworks(SimpleInterface):
    """Write heatmaps, maps, tables, manifest, citations and reports of networks.

    Without ``output_dir`` the results stay in the working folder, without reports.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_samples = InputMultiObject(File(exists=True), mandatory=True, desc="4-D images of samples")
        in_checkpoints = InputMultiObject(
            File(exists=True), desc="weights of the trainings, with their cards"
        )
        in_maps = File(exists=True, mandatory=True, desc="maps by name, .npz")
        in_heatmaps = File(exists=True, mandatory=True, desc="heatmaps of people, .npz")
        in_index = File(exists=True, mandatory=True, desc="TSV file, one row per heatmap")
        in_summary = traits.Dict(mandatory=True, desc="methods, levels and numbers of trainings")
        in_tables = traits.Dict(
            traits.Str, File(exists=True), mandatory=True, desc="scores: TSV files by name"
        )
        in_heatmap_tables = traits.Dict(traits.Str, File(exists=True), desc="of heatmaps: TSV files by name")
        in_trust = traits.Dict(traits.Str, File(exists=True), desc="of trust: TSV files by name")
        in_similarity = traits.Dict(traits.Str, File(exists=True), desc="of similarity: TSV files by name")
        in_regions = traits.List(
            traits.Dict(traits.Str, File(exists=True)), desc="of regions: TSV files by name, for every atlas"
        )
        in_filters = File(exists=True, desc="images that filters prefer, .npz")
        in_mask = File(exists=True, mandatory=True, desc="mask of the voxels")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_background = File(exists=True, desc="image that figures show the maps on")
        permute = traits.Str(desc="exchangeability of the labels")
        explain_class = traits.Str(desc="class, 'true' or 'predicted'; absent: what suits the classes")
        explain_start = traits.Str("logit", usedefault=True, desc="output that is explained")
        provenance = traits.Dict(mandatory=True, desc="settings, name of the dataset, space, resolution")
        output_dir = traits.Str(desc="folder of the derivatives")

    class _OutputSpec(TraitedSpec):
        out_dir = Directory(exists=True, desc="folder of the results")
        out_report = File(exists=True, desc="the HTML report")

    input_spec = _InputSpec
    output_spec = _OutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        to_output = isdefined(inputs.output_dir)
        out = Path(inputs.output_dir) if to_output else Path(runtime.cwd)
        design = Design.load(inputs.in_design)
        provenance = dict(inputs.provenance)
        provenance["warnings"] = [*provenance.get("warnings", []), *self._warnings(design)]
        results = NetworkResults(
            maps=load_chunk(inputs.in_maps),
            groups=group_names(design.classes),
            heatmaps=load_chunk(inputs.in_heatmaps)["heatmaps"],
            index=read_frame(Path(inputs.in_index)).fillna({"session": "", "task": ""}),
            tables=self._tables(),
            regions=self._regions("regions"),
            rows=read_frame(Path(inputs.in_rows)).fillna({"session": "", "task": "", "run": ""}),
            design=design,
            mask=nb.load(inputs.in_mask),
            background=nb.load(inputs.in_background) if isdefined(inputs.in_background) else None,
            images=[Path(path) for path in inputs.in_samples],
            checkpoints=[Path(path) for path in inputs.in_checkpoints or []],
            filters=load_chunk(inputs.in_filters) if isdefined(inputs.in_filters) else {},
            summary=self._summary(design),
            provenance=provenance,
        )
        self._results["out_dir"] = str(write_networks(results, out))
        if to_output:
            for subject in sorted(results.rows["subject"].unique()):
                reports.write_subject_report(out, subject)
            reports.write_citations(out)
            self._results["out_report"] = str(reports.write_group_report(out))
        return runtime

    def _warnings(self, design: Design) -> list[str]:
        above = self.inputs.provenance["settings"].get("explain_above", 0)
        permute = self.inputs.permute if isdefined(self.inputs.permute) else None
        permuted = self.inputs.in_summary.get("n_permutations")
        return [
            *design_warnings(design, permute if permuted else None),
            *self._not_explained(design.classes, above),
        ]

    def _not_explained(self, classes: Sequence[str], above: float) -> list[str]:
        return [
            f"No held-out sample of class {name} is explained: to none was its class given a probability of "
            f"{above:g} or more (--explain-above)."
            for name in classes
            if not self.inputs.in_summary["n_explained"][name]
        ] + self._value_warnings()

    def _value_warnings(self) -> list[str]:
        """Say which methods were tested as they are, and which heatmaps are 0 everywhere."""
        summary = self.inputs.in_summary
        info, found = summary["method_info"], []
        for method in summary["methods"]:
            one, zeros = info[method], summary["n_silent"][method]
            if one["tested"] == RAW and not one["scale_has_meaning"]:
                found.append(
                    f"{one['title']}: heatmaps were averaged, compared and tested as they are (--map-values "
                    f"raw). Their size follows {one['scale']}: voxels without information can pass, or none "
                    "may where there is some. --map-values share tests where, not how much."
                )
            if zeros["silent"] or zeros["silent_null"]:
                found.append(
                    f"{one['title']}: {zeros['silent']} of {zeros['of']} heatmaps are 0 in every voxel of "
                    f"the mask ({zeros['silent_null']} with permuted labels): they say nothing of where the "
                    "network looked, and count as 0 in the means."
                )
        return found

    def _tables(self) -> dict[str, pd.DataFrame]:
        inputs = self.inputs
        found: dict[str, str] = {}
        for part in (inputs.in_tables, inputs.in_heatmap_tables, inputs.in_trust, inputs.in_similarity):
            found |= part if isdefined(part) else {}
        tables = {name: read_frame(Path(path)) for name, path in found.items()}
        for name in ("overlap", "method_overlap", "biomarker", "fingerprints"):
            of_atlases = self._regions(name)
            if of_atlases:
                tables[name] = pd.concat(of_atlases, ignore_index=True)
        return tables

    def _regions(self, name: str) -> list[pd.DataFrame]:
        found = self.inputs.in_regions if isdefined(self.inputs.in_regions) else []
        return [read_frame(Path(tables[name])) for tables in found if name in tables]

    def _summary(self, design: Design) -> dict[str, Any]:
        inputs = self.inputs
        by_default = design.classes[1] if len(design.classes) == 2 else "true"
        return {
            **inputs.in_summary,
            "permute": inputs.permute if isdefined(inputs.permute) else None,
            "explain_start": inputs.explain_start,
            "explain_class": inputs.explain_class if isdefined(inputs.explain_class) else by_default,
        }
