"""Interfaces that make data with known truth as arrays, and compare results with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from threadpoolctl import threadpool_limits

from bids_xai.atomic import reserve
from bids_xai.bids.scenarios import write_scenario
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.design import Design, make_design
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.recovery import recovery_tables
from bids_xai.phantom.scenarios import CLASSES, ScenarioParameters, make_samples, rows_of
from bids_xai.tables import read_frame


class MakeScenario(SimpleInterface):
    """Make the samples of a scenario, their Gram matrix, their design and their truth."""

    class _InputSpec(BaseInterfaceInputSpec):
        scenario = traits.Str(mandatory=True, desc="name of the scenario")
        subjects = traits.Int(mandatory=True, desc="number of people")
        samples = traits.Int(mandatory=True, desc="samples of each")
        voxels = traits.Int(mandatory=True, desc="number of voxels")
        mu = traits.Float(mandatory=True, desc="mean of what is added")
        mu_right = traits.Float(mandatory=True, desc="the same on the right side of scenario 3")
        random_seed = traits.Int(0, usedefault=True, desc="seed")
        in_base = File(exists=True, desc="samples to add the patterns to, .npy; absent: Gaussian noise")

    class _OutputSpec(TraitedSpec):
        out_data = File(exists=True, desc="float32 matrix (n_samples, n_voxels), .npy")
        out_gram = File(exists=True, desc="what they are trained with, .npy (decoding.basis)")
        out_design = File(exists=True, desc="classes, labels, blocks and folds, .json")
        out_truth = File(exists=True, desc="bool (n_classes, n_voxels), .npy")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        parameters = ScenarioParameters(
            scenario=inputs.scenario,
            subjects=inputs.subjects,
            samples=inputs.samples,
            voxels=inputs.voxels,
            mu=inputs.mu,
            mu_right=inputs.mu_right,
            seed=inputs.random_seed,
        )
        shape = (parameters.subjects * parameters.samples, parameters.voxels)
        data = np.lib.format.open_memmap(folder / "data.npy", mode="w+", dtype=np.float32, shape=shape)
        reserve(folder / "data.npy")
        base = np.load(inputs.in_base, mmap_mode="r") if isdefined(inputs.in_base) else None
        _, labels, subjects = make_samples(parameters, base, out=data)
        data.flush()
        with threadpool_limits(1):
            training_basis(data).save(folder / "gram.npy")
        design, _ = make_design(rows_of(labels, subjects), classes=CLASSES)
        design.save(folder / "design.json")
        np.save(folder / "truth.npy", parameters.truth)
        for name in ("data.npy", "gram.npy", "design.json", "truth.npy"):
            self._results[f"out_{Path(name).stem}"] = str(folder / name)
        return runtime


class WriteScenario(SimpleInterface):
    """Compare the maps with the truth and write the folder of a scenario, whole or not at all."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_maps = File(exists=True, mandatory=True, desc="maps by name, .npz")
        in_tables = traits.Dict(traits.Str, File(exists=True), mandatory=True, desc="TSV files by name")
        in_summary = traits.Dict(mandatory=True, desc="levels and numbers of runs")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_truth = File(exists=True, mandatory=True, desc="bool (n_classes, n_voxels), .npy")
        label = traits.Str(mandatory=True, desc="name of the scenario, with the variant of its training")
        settings = traits.Dict(mandatory=True, desc="what the results were made with")
        output_dir = traits.Str(desc="folder to write the scenario's folder in; absent: the working folder")

    class _OutputSpec(TraitedSpec):
        out_dir = Directory(exists=True, desc="folder of the scenario")

    input_spec = _InputSpec
    output_spec = _OutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        maps, design = load_chunk(inputs.in_maps), Design.load(inputs.in_design)
        truth, summary = np.load(inputs.in_truth), dict(inputs.in_summary)
        tables = {name: read_frame(Path(path)) for name, path in inputs.in_tables.items()}
        tables |= recovery_tables(
            maps,
            tables["thresholds"],
            truth,
            n_samples=len(design.labels),
            classes=design.classes,
            methods=summary["methods"],
            alphas=summary["alphas"],
        )
        manifest = {
            "name": inputs.label,
            "classes": list(design.classes),
            **summary,
            "n_samples": len(design.labels),
            "n_subjects": len(np.unique(design.subjects)),
            "settings": dict(inputs.settings),
        }
        out = Path(inputs.output_dir) if isdefined(inputs.output_dir) else Path(runtime.cwd)
        self._results["out_dir"] = str(write_scenario(out, manifest, tables, maps, truth))
        return runtime
