"""Interfaces that write results into the folder of derivatives."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
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
from bids_xai.atomic import named_twice, steady_file
from bids_xai.bids.descriptions import write_json
from bids_xai.bids.events import ROW_COLUMNS
from bids_xai.bids.exchange import DESCRIPTION, with_blocks
from bids_xai.bids.group import GroupResults, write_group
from bids_xai.bids.names import common_entities, mask_path, samples_path
from bids_xai.bids.preprocessed import (
    OF_RUN,
    OF_T1W,
    Output,
    figure_path,
    image_metadata,
    of_contrast,
    output_path,
)
from bids_xai.bids.sample_files import write_samples
from bids_xai.bids.sidecars import relative_source, samples_metadata, with_notes
from bids_xai.decoding.design import Design
from bids_xai.inference.chunks import load_chunk
from bids_xai.tables import read_frame
from bids_xai.text_files import read_json_object


class WriteSamples(SimpleInterface):
    """Write the samples of a subject, its mask and its report as BIDS derivatives.

    See :func:`bids_xai.bids.sample_files.write_samples`: what has a sidecar is complete.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_samples = InputMultiObject(File(exists=True), mandatory=True, desc="4-D images, one per run")
        in_rows = InputMultiObject(File(exists=True), mandatory=True, desc="TSV files, in the same order")
        in_mask = File(exists=True, mandatory=True, desc="mask on the analysis grid")
        in_notes = InputMultiObject(File(exists=True), desc="JSON files: more for the sidecars of the runs")
        entities = traits.List(traits.Dict, mandatory=True, desc="BIDS entities of the runs")
        sources = traits.List(traits.Str, mandatory=True, desc="files that the runs were read from")
        repetition_time = traits.List(
            traits.Float, desc="seconds between volumes, per run; absent: anatomical images"
        )
        subject = traits.Str(mandatory=True, desc="participant label")
        space = traits.Str(desc="template space; absent: native")
        resolution = traits.Float(desc="voxel size in mm; absent: that of the images")
        settings = traits.Dict(mandatory=True, desc="how the samples were made, by name")
        bids_dir = traits.Str("", usedefault=True, desc="dataset that sources are named relative to")
        events = traits.List(traits.Str, desc="events files of the runs; absent: anatomical images")
        exchange_within = traits.Str(desc="column that rows get for the exchange of labels; absent: none")
        output_dir = traits.Str(mandatory=True, desc="folder of the derivatives")
        after = traits.Any(desc="output of what must be written before, as the report shows it, too")

    class _OutputSpec(TraitedSpec):
        out_samples = traits.List(File(exists=True), desc="the written images")
        out_report = File(exists=True, desc="the HTML report")

    input_spec = _InputSpec
    output_spec = _OutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        inputs, out = self.inputs, Path(self.inputs.output_dir)
        grid = {
            "space": inputs.space if isdefined(inputs.space) else None,
            "resolution": _resolution_label(inputs.resolution) if isdefined(inputs.resolution) else None,
        }
        entities = [{**entity, "subject": inputs.subject, **grid} for entity in inputs.entities]
        mask = self._write_mask(entities)
        written = []
        for index, entity in enumerate(entities):
            rows = self._with_blocks(read_frame(Path(inputs.in_rows[index])), index)
            metadata = samples_metadata(
                settings=inputs.settings,
                bids_dir=inputs.bids_dir,
                source=inputs.sources[index],
                mask=str(mask),
                space=grid["space"],
                resolution=inputs.resolution if isdefined(inputs.resolution) else None,
                repetition_time=inputs.repetition_time[index] if isdefined(inputs.repetition_time) else None,
            )
            if isdefined(inputs.in_notes):
                metadata = with_notes(metadata, read_json_object(Path(inputs.in_notes[index])))
            sample = metadata["Sample"]
            columns = {
                **ROW_COLUMNS,
                **dict.fromkeys(rows.columns.difference(list(ROW_COLUMNS)), DESCRIPTION),
            }
            target = write_samples(
                Path(inputs.in_samples[index]),
                rows,
                out / samples_path(entity, sample),
                {**metadata, **columns},
                out / mask,
            )
            written.append(str(target))
        self._results["out_samples"] = written
        self._results["out_report"] = str(reports.write_subject_report(out, inputs.subject))
        return runtime

    def _with_blocks(self, rows: pd.DataFrame, index: int) -> pd.DataFrame:
        inputs = self.inputs
        if not isdefined(inputs.exchange_within):
            return rows
        events = [Path(inputs.events[index])] * len(rows) if isdefined(inputs.events) else None
        modality = "anatomical" if events is None else "bold"
        return with_blocks(rows, inputs.exchange_within, modality, Path(inputs.bids_dir), events)

    def _write_mask(self, entities: list[dict[str, Any]]) -> PurePosixPath:
        """Write the mask, which is of all runs, under the entities that they share."""
        inputs = self.inputs
        path = mask_path(common_entities(entities))
        target = Path(inputs.output_dir) / path
        _copy(inputs.in_mask, target)
        metadata: dict[str, Any] = {
            "Type": "Brain",
            "Description": "Voxels that are classified, on the analysis grid",
            "Sources": [relative_source(source, inputs.bids_dir) for source in inputs.sources],
        }
        if isdefined(inputs.resolution):
            metadata["Resolution"] = f"{inputs.resolution:g} mm, isotropic"
        write_json(target.with_name(target.name.removesuffix(".nii.gz") + ".json"), metadata)
        return path


def _resolution_label(resolution: float) -> str:
    return f"{resolution:g}".replace(".", "p")


def _copy(source: str, target: Path, made_in: Path | None = None) -> None:
    """Copy a file, or give it a second name where it was made in the work folder and that is possible.

    Large images then take their space once. nipype replaces files of the work folder, and this app those of
    the results: none is written into. A file of the input never gets a second name. What is the same keeps
    its date: the group level is not done again because this node always runs.
    """
    made = made_in is not None and Path(source).resolve().is_relative_to(made_in.resolve())
    if made and named_twice(source, target):
        return
    with steady_file(target) as temporary:
        shutil.copyfile(source, temporary)


_QUALITY_PORTS = {
    "t1w_std": "t1w_quality", "flair_std": "flair_quality", "bold_std": "bold_quality",
    "t1w_mask": "brain_quality", "boldref": "reference_quality",
}  # fmt: skip


class WritePreprocessed(SimpleInterface):
    """Write what preprocessing made of a subject's raw images, and the report if something failed.

    The inputs are lists in the order of the T1w, FLAIR images or runs; those that an engine does not make
    stay undefined.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        t1w_preproc = InputMultiObject(File(exists=True))
        t1w_mask = InputMultiObject(File(exists=True))
        t1w_std = InputMultiObject(File(exists=True))
        t1w_xfm = InputMultiObject(File(exists=True))
        t1w_inverse_xfm = InputMultiObject(File(exists=True))
        t1w_quality = InputMultiObject(traits.Dict)
        brain_quality = InputMultiObject(traits.Dict)
        flair_preproc = InputMultiObject(File(exists=True))
        flair_std = InputMultiObject(File(exists=True))
        flair_xfm = InputMultiObject(File(exists=True))
        flair_quality = InputMultiObject(traits.Dict)
        bold_std = InputMultiObject(File(exists=True))
        boldref = InputMultiObject(File(exists=True))
        hmc_xfm = InputMultiObject(File(exists=True))
        bold_xfm = InputMultiObject(File(exists=True))
        bold_quality = InputMultiObject(traits.Dict)
        reference_quality = InputMultiObject(traits.Dict)
        confounds = InputMultiObject(File(exists=True))
        brain_figure = InputMultiObject(File(exists=True))
        registration_figure = InputMultiObject(File(exists=True))
        flair_figure = InputMultiObject(File(exists=True))
        coregistration_figure = InputMultiObject(File(exists=True))
        run_figure = InputMultiObject(File(exists=True))
        t1w_entities = traits.List(traits.Dict, desc="BIDS entities of the T1w")
        flair_entities = traits.List(traits.Dict, desc="BIDS entities of the FLAIR images")
        run_entities = traits.List(traits.Dict, desc="BIDS entities of the runs")
        t1w_sources = traits.List(traits.Str, desc="the T1w")
        flair_sources = traits.List(traits.Str, desc="the FLAIR images")
        run_sources = traits.List(traits.Str, desc="the runs")
        repetition_time = traits.List(traits.Float, desc="seconds between volumes, per run")
        subject = traits.Str(mandatory=True, desc="participant label")
        space = traits.Str(mandatory=True, desc="name of the template")
        settings = traits.Dict(mandatory=True, desc="how it was done, by name")
        bids_dir = traits.Str("", usedefault=True, desc="dataset that sources are named relative to")
        output_dir = traits.Str(mandatory=True, desc="folder of the derivatives")

    class _OutputSpec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="what was written")

    input_spec = _InputSpec
    output_spec = _OutputSpec
    _always_run = True
    _made_in: Path | None = None

    def _run_interface(self, runtime: Any) -> Any:
        # The graph of the subject: what its nodes made.
        self._made_in = Path(runtime.cwd).parent
        written: list[Path] = []
        contrast = of_contrast(self.inputs.settings["modality"])
        for kind, outputs in (("t1w", OF_T1W), ("flair", contrast), ("run", OF_RUN)):
            for output in outputs:
                written += self._write(kind, output)
        for figure, kind in _FIGURE_KINDS.items():
            written += self._write_figures(figure, kind)
        if self._failed():  # else the page is written with the samples
            reports.write_subject_report(self.inputs.output_dir, self.inputs.subject)
        self._results["out_files"] = [str(path) for path in written]
        return runtime

    def _failed(self) -> bool:
        qualities = [getattr(self.inputs, port) for port in _QUALITY_PORTS.values()]
        return any(not item["Passed"] for found in qualities if isdefined(found) for item in found)

    def _write(self, kind: str, output: Output) -> list[Path]:
        inputs = self.inputs
        files = getattr(inputs, output.port)
        if not isdefined(files):
            return []
        resolution = inputs.settings.get("resolution")
        label = None if resolution is None else _resolution_label(resolution)
        quality = getattr(inputs, _QUALITY_PORTS.get(output.port, ""), None)
        written = []
        for index, path in enumerate(files):
            entities = {**getattr(inputs, f"{kind}_entities")[index], "subject": inputs.subject}
            target = Path(inputs.output_dir) / output_path(
                output, entities, inputs.space, label, _extension(path)
            )
            _copy(path, target, self._made_in)
            metadata = image_metadata(
                output,
                sources=[relative_source(getattr(inputs, f"{kind}_sources")[index], inputs.bids_dir)],
                settings=inputs.settings,
                quality=quality[index] if quality and isdefined(quality) else None,
                extension=_extension(path),
            )
            if output.suffix == "bold":
                metadata |= {"RepetitionTime": inputs.repetition_time[index], "TaskName": entities["task"]}
            write_json(target.with_name(target.name.removesuffix(_extension(path)) + ".json"), metadata)
            written.append(target)
        return written

    def _write_figures(self, figure: str, kind: str) -> list[Path]:
        files = getattr(self.inputs, f"{figure}_figure")
        written = []
        for index, path in enumerate(files if isdefined(files) else []):
            entities = {**getattr(self.inputs, f"{kind}_entities")[index], "subject": self.inputs.subject}
            target = Path(self.inputs.output_dir) / figure_path(
                figure, entities, self.inputs.space, self.inputs.settings["modality"]
            )
            _copy(path, target)
            written.append(target)
        return written


_FIGURE_KINDS = {
    "brain": "t1w", "registration": "t1w", "flair": "flair", "coregistration": "run", "run": "run",
}  # fmt: skip


def _extension(path: str) -> str:
    return ".nii.gz" if path.endswith(".nii.gz") else Path(path).suffix


class WriteGroup(SimpleInterface):
    """Write the group's maps, tables, manifest, citations and report as one folder, whole or not at all.

    Without ``output_dir`` the folder stays in the working folder, without a report.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_maps = File(exists=True, mandatory=True, desc="maps by name, .npz")
        in_tables = traits.Dict(traits.Str, File(exists=True), mandatory=True, desc="TSV files by name")
        in_summary = traits.Dict(mandatory=True, desc="levels and numbers of runs")
        in_mask = File(exists=True, mandatory=True, desc="mask of the voxels")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_regions = InputMultiObject(File(exists=True), desc="region tables")
        in_background = File(exists=True, desc="image that figures show the maps on")
        map_scale = traits.Float(1.0, usedefault=True, desc="factor of written importance maps")
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
        regions = inputs.in_regions if isdefined(inputs.in_regions) else []
        results = GroupResults(
            maps=load_chunk(inputs.in_maps),
            tables={name: read_frame(Path(path)) for name, path in inputs.in_tables.items()},
            regions=[read_frame(Path(path)) for path in regions],
            rows=read_frame(Path(inputs.in_rows)),
            design=Design.load(inputs.in_design),
            mask=nb.load(inputs.in_mask),
            background=nb.load(inputs.in_background) if isdefined(inputs.in_background) else None,
            summary=dict(inputs.in_summary),
            provenance=dict(inputs.provenance),
            map_scale=inputs.map_scale,
        )
        self._results["out_dir"] = str(write_group(results, out))
        if to_output:
            reports.write_citations(out)
            self._results["out_report"] = str(reports.write_group_report(out))
        return runtime
