"""Interfaces from merged runs to maps and tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.atlases.regions import labels_on_grid, region_table
from bids_xai.atlases.sources import load_atlas
from bids_xai.attribution import MAP_VALUES
from bids_xai.decoding.basis import Basis
from bids_xai.decoding.convergence import convergence_warning, has_converged
from bids_xai.decoding.design import Design
from bids_xai.decoding.held_out_scores import tested_samples
from bids_xai.inference.accuracy import why_no_prevalence
from bids_xai.inference.chunks import load_chunk, save_chunk
from bids_xai.inference.design_checks import design_warnings, unbalances_folds
from bids_xai.inference.held_out_tests import held_out_tests
from bids_xai.inference.ledger import Ledger
from bids_xai.inference.null import load_top
from bids_xai.inference.permutation import design_p, smallest_p
from bids_xai.inference.reproducibility import load_counts
from bids_xai.inference.summary import Null, Runs, summarize
from bids_xai.inference.univariate import anova_f, one_versus_rest_t
from bids_xai.models import MODELS
from bids_xai.tables import write_frame

# Stage of the seeds of what is drawn here; those of the trainings are 0, 1, 2.
_POPULATION = 3


class UnivariateMaps(SimpleInterface):
    """One-versus-rest t and analysis-of-variance F of every voxel."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_data = File(exists=True, mandatory=True, desc="float32 samples, .npy")
        in_design = File(exists=True, mandatory=True, desc="design, .json")

    class _OutputSpec(TraitedSpec):
        out_file = File(exists=True, desc="t (n_classes, n_voxels) and F (n_voxels,), .npz")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        X = np.load(self.inputs.in_data, mmap_mode="r")
        design = Design.load(self.inputs.in_design)
        arrays = {
            "t": one_versus_rest_t(X, design.labels, len(design.classes)),
            "F": anova_f(X, design.labels, len(design.classes)),
        }
        self._results["out_file"] = str(save_chunk(Path(runtime.cwd) / "univariate.npz", arrays))
        return runtime


class Summarize(SimpleInterface):
    """Threshold the maps and write the tables (:func:`bids_xai.inference.summary.summarize`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_null = File(exists=True, mandatory=True, desc="merged null: maxima and confusions, .npz")
        in_null_ledger = traits.Str(mandatory=True, desc="ledger of the null stage")
        in_thresholds = File(exists=True, mandatory=True, desc="thresholds, .npy")
        in_real = File(exists=True, mandatory=True, desc="merged real runs: confusions, .npz")
        in_real_ledger = traits.Str(mandatory=True, desc="ledger of the real runs")
        in_null2 = File(exists=True, desc="merged second set: confusions, .npz")
        in_null2_ledger = traits.Str(desc="ledger of the second set")
        in_univariate = File(exists=True, mandatory=True, desc="t and F, .npz")
        in_gram = File(exists=True, mandatory=True, desc="what was trained with, .npy (decoding.basis)")
        model = traits.Str("softmax", usedefault=True, desc="name of the classifier")
        training = traits.Dict(desc="parameters of the classifier")
        map_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what maps were compared as")
        importance = traits.List(traits.Str, mandatory=True, desc="measures of importance")
        alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")
        tail = traits.Enum("greater", "two-sided", usedefault=True, desc="what counts as important")
        permute = traits.Str("subject", usedefault=True, desc="exchangeability of the labels")
        tail_fit = traits.Enum("none", "gpd", usedefault=True, desc="what small p-values come from")
        stop_after_exceedances = traits.Int(desc="what permuting stopped at; absent: it did not stop")
        random_seed = traits.Int(0, usedefault=True, desc="seed")
        low_mem = traits.Bool(False, usedefault=True, nohash=True, desc="keep the null on disk")

    class _OutputSpec(TraitedSpec):
        out_maps = File(exists=True, desc="maps by name, .npz")
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")
        out_summary = traits.Dict(desc="levels and numbers of runs")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        design = Design.load(inputs.in_design)
        kept = folder / "top.npy" if inputs.low_mem else None
        null = _null(inputs.in_null, inputs.in_null_ledger, inputs.in_thresholds, kept)
        real = _runs(inputs.in_real, inputs.in_real_ledger)
        second = _runs(inputs.in_null2, inputs.in_null2_ledger) if isdefined(inputs.in_null2) else None
        codes = design.exchange_codes
        reason = why_no_prevalence(
            len(design.people),
            inputs.permute,
            within_people=design.within_people,
            unbalances_folds=unbalances_folds(design, inputs.permute),
        )
        summary = summarize(
            real,
            null,
            second,
            load_chunk(inputs.in_univariate),
            classes=design.classes,
            people=design.people,
            methods=inputs.importance,
            alphas=inputs.alpha,
            tail=inputs.tail,
            tail_fit=inputs.tail_fit,
            smallest=design_p(design.labels, inputs.permute, *codes),
            exceedances=inputs.stop_after_exceedances if isdefined(inputs.stop_after_exceedances) else 0,
            population=None if reason else np.random.default_rng([inputs.random_seed, _POPULATION]),
        )
        if kept is not None:
            kept.unlink()
        tested = self._score_tests(design, summary.tables["accuracy_tests"])
        falls = load_chunk(inputs.in_real)["falls"]
        unconverged = float(1 - has_converged(falls).mean())
        chance = float(tested.loc[tested["metric"] == "accuracy", "null_mean"].iloc[0])
        tables = {}
        for name, table in {**summary.tables, "score_tests": tested}.items():
            tables[name] = str(folder / f"{name}.tsv")
            write_frame(table, tables[name])
        self._results.update(
            out_maps=str(save_chunk(folder / "maps.npz", summary.maps)),
            out_tables=tables,
            out_summary={
                "methods": list(inputs.importance),
                "alphas": list(inputs.alpha),
                "report_alpha": summary.report_alpha,
                "tail": inputs.tail,
                "permute": inputs.permute,
                "n_runs": len(real),
                "n_permutations": len(null),
                "n_null": 0 if second is None else len(second),
                "tail_fit": inputs.tail_fit,
                "q_from": summary.q_from,
                "map_values": inputs.map_values,
                "training": self._training(len(design.labels)),
                "no_prevalence": reason,
                "warnings": [*design_warnings(design, inputs.permute), *convergence_warning(falls)],
                "chance": chance,
                "chance_of": "permuted labels",
                "not_converged": unconverged,
                "late_fall": float(np.median(falls)) if np.isfinite(falls).all() else None,
                "smallest_p": smallest_p(len(null), design.labels, inputs.permute, *codes),
            },
        )
        return runtime

    def _score_tests(self, design: Design, accuracies: pd.DataFrame) -> pd.DataFrame:
        """Return all scores; permuting may have stopped by the accuracy, whose p accounts for it."""
        real, null = (load_chunk(path) for path in (self.inputs.in_real, self.inputs.in_null))
        table = held_out_tests(
            (real["confusions"].astype(np.int64), real["placements"]),
            (null["confusions"].astype(np.int64), null["placements"]),
            tested_samples(design),
            design.classes,
        )
        of_all = accuracies["scope"] == "all"
        table.loc[table["metric"] == "accuracy", "p"] = float(accuracies.loc[of_all, "p"].iloc[0])
        return table

    def _training(self, n_samples: int) -> dict[str, Any]:
        """Return the parameters of the training, those among them that were taken from the data."""
        inputs = self.inputs
        n_voxels = np.load(inputs.in_univariate)["F"].shape[0]
        given = MODELS[inputs.model].load()(**(inputs.training if isdefined(inputs.training) else {}))
        return asdict(given.of(Basis.load(inputs.in_gram, (n_samples, n_voxels))))


def _null(path: str, ledger: str, thresholds: str, kept: Path | None) -> Null:
    arrays = load_chunk(path)
    return Null(
        top=load_top(Ledger.open(ledger), len(arrays["confusions"]), kept),
        thresholds=np.load(thresholds, mmap_mode="r"),
        maxima=arrays["maxima"],
        confusions=arrays["confusions"].astype(np.int64),
    )


def _runs(path: str, ledger: str) -> Runs:
    confusions = load_chunk(path)["confusions"].astype(np.int64)
    return Runs(*load_counts(Ledger.open(ledger), len(confusions)), confusions)


class RegionTable(SimpleInterface):
    """Report the mean importance by the regions of an atlas."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_maps = File(exists=True, mandatory=True, desc="maps by name, .npz")
        in_mask = File(exists=True, mandatory=True, desc="mask of the voxels")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_summary = traits.Dict(mandatory=True, desc="methods and levels")
        atlas = traits.Str(mandatory=True, desc="name of an atlas, or a NIfTI file with a TSV beside it")

    class _OutputSpec(TraitedSpec):
        out_table = File(exists=True, desc="TSV file")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        maps, mask = load_chunk(inputs.in_maps), nb.load(inputs.in_mask)
        summary = inputs.in_summary
        shown = list(summary["alphas"]).index(summary["report_alpha"])
        atlas = load_atlas(inputs.atlas)
        table = region_table(
            labels_on_grid(atlas, mask),
            atlas,
            np.asarray(maps["mean"]),
            np.asarray(maps[f"thresholded-{shown}"]) != 0,
            mask,
            summary["methods"],
            Design.load(inputs.in_design).classes,
            tail=summary["tail"],
        )
        path = Path(runtime.cwd) / "regions.tsv"
        write_frame(table, path)
        self._results["out_table"] = str(path)
        return runtime
