"""Interfaces from the heatmaps of folds to maps and tables of the group."""

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
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_xai.attribution import EXPLANATIONS, MAP_VALUES, RAW, SHARE
from bids_xai.attribution.explain import Explanation, describe, parse_explanation
from bids_xai.attribution.heatmaps import averaged, group_names, mean_over_runs, run_means
from bids_xai.attribution.localisation import chance_mass, mass_inside, pointing_game, ranking_auc
from bids_xai.attribution.shares import is_shared
from bids_xai.bids.lesions import find_lesion_masks
from bids_xai.decoding.design import Design
from bids_xai.images.masking import on_grid
from bids_xai.inference.chunks import load_chunk, save_chunk
from bids_xai.inference.networks import biomarker_tests, map_distances, map_test
from bids_xai.inference.permutation import smallest_p
from bids_xai.inference.similarity import embed
from bids_xai.interfaces.explanations import explained
from bids_xai.interfaces.network_results import save_tables
from bids_xai.tables import read_frame, write_frame

# What the seed of the permutations is of, beside those of bids_xai.interfaces.networks.
_LESION_LOAD = 16
_FEWEST_PEOPLE = 4
_KEYS = ["subject", "session", "task", "true", "class"]


class SummarizeHeatmaps(SimpleInterface):
    """Average heatmaps by person and group, and compare them with permuted labels and between trainings."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_mask = File(exists=True, mandatory=True, desc="voxels of the heatmaps")
        in_real = InputMultiObject(File(exists=True), mandatory=True, desc="heatmaps of the folds, .npz")
        in_null = InputMultiObject(File(exists=True), desc="mean heatmaps of the permutations, .npz")
        in_checkpoints = InputMultiObject(File(exists=True), mandatory=True, desc="weights of the trainings")
        explain = traits.List(traits.Str, mandatory=True, desc="explanations, with their options")
        explain_class = traits.Str(desc="class, 'true' or 'predicted'; absent: what suits the classes")
        alpha = traits.List(traits.Float, mandatory=True, desc="significance levels")
        map_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what heatmaps were tested as")
        shown_values = traits.Enum(*MAP_VALUES, usedefault=True, desc="what heatmaps are shown as")
        permute = traits.Str("between", usedefault=True, desc="exchangeability of the labels")
        lesion_masks = traits.Str(desc="derivatives with lesion masks")
        lesion_label = traits.Str("lesion", usedefault=True, desc="label of the masks")
        strongest_positions = traits.Int(0, usedefault=True, desc="positions of every class to list")
        random_seed = traits.Int(0, usedefault=True, desc="seed")

    class _OutputSpec(TraitedSpec):
        out_maps = File(exists=True, desc="maps by name, .npz")
        out_runs = File(exists=True, desc="mean heatmaps of every training, .npz")
        out_heatmaps = File(exists=True, desc="heatmaps of people, .npz")
        out_index = File(exists=True, desc="TSV file, one row per heatmap of a person")
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")
        out_summary = traits.Dict(desc="methods, levels and numbers of trainings")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        design = Design.load(inputs.in_design)
        folds = [load_chunk(path) for path in inputs.in_real]
        of_groups = [own["counts"] for own in folds]
        means, counts = run_means([own["sums"] for own in folds], of_groups)
        n = len(design.classes)
        tested, _ = run_means([own["tested"] for own in folds], [own[:, :n] for own in of_groups])
        explanations = [parse_explanation(text) for text in inputs.explain]
        methods = [explanation.label for explanation in explanations]
        maps, summary = self._maps(
            design, mean_over_runs(means, counts), mean_over_runs(tested, counts[:, :n])
        )
        index, heatmaps, totals = self._heatmaps(design, folds)
        groups = group_names(design.classes)
        tables = {
            "conservation": _conservation(folds, design, methods),
            "distances": _distances(means, counts, methods, groups),
            **self._localisation(index, heatmaps, totals, methods),
            **self._positions(maps["mean"], design, [own.name for own in explanations]),
        }
        write_frame(index, folder / "index.tsv")
        self._results.update(
            out_maps=str(save_chunk(folder / "maps.npz", maps)),
            out_runs=str(save_chunk(folder / "runs.npz", {"means": means, "counts": counts})),
            out_heatmaps=str(save_chunk(folder / "people.npz", {"heatmaps": heatmaps})),
            out_index=str(folder / "index.tsv"),
            out_tables=save_tables({name: own for name, own in tables.items() if len(own)}, folder),
            out_summary={
                **summary,
                "methods": methods,
                "method_info": {own.label: self._method_info(own) for own in explanations},
                "map_values": inputs.map_values,
                "shown_values": inputs.shown_values,
                "n_silent": self._silent(folds, methods),
                "n_runs": len(means),
                # Summed over the trainings: which decision a sample is depends on the training.
                "n_explained": dict(zip(groups, counts.sum(axis=0).tolist(), strict=True)),
                **_network(inputs.in_checkpoints[0]),
            },
        )
        return runtime

    def _maps(
        self, design: Design, shown: npt.NDArray[np.float32], tested: npt.NDArray[np.float32]
    ) -> tuple[dict[str, npt.NDArray], dict[str, Any]]:
        """Return the mean heatmaps as they are shown and as they are tested, and what the test says."""
        inputs = self.inputs
        maps = {"mean": shown, **({"share": tested} if inputs.map_values == SHARE else {})}
        null, codes = self._null(), design.exchange_codes
        smallest = smallest_p(len(null), design.labels, inputs.permute, *codes) if null else None
        reachable = [alpha for alpha in sorted(inputs.alpha) if smallest is not None and smallest <= alpha]
        # The strictest level that so few permutations can reach; else the laxest, which nothing will pass.
        alpha = reachable[0] if reachable else max(inputs.alpha)
        if null:
            test = map_test(tested, (load_chunk(path)["mean"] for path in null))
            maps["p"], maps["pfwer"] = test.p, test.p_family
            maps["thresholded"] = np.where(maps["p"] <= alpha, tested, 0)
            maps["fwer"] = np.where(maps["pfwer"] <= alpha, tested, 0)
        return maps, {
            "alphas": list(inputs.alpha),
            "report_alpha": alpha,
            "n_permutations": len(null),
            "smallest_p": smallest,
        }

    def _null(self) -> list[str]:
        return list(self.inputs.in_null) if isdefined(self.inputs.in_null) else []

    def _silent(self, folds: Sequence[dict[str, npt.NDArray]], methods: Sequence[str]) -> dict[str, Any]:
        """Count, of every method, heatmaps that are 0 everywhere: of true labels, of all, and of permuted."""
        real = np.concatenate([np.asarray(own["silent"]) for own in folds], axis=2)
        null = sum((load_chunk(path)["silent"] for path in self._null()), np.zeros(len(methods), np.int64))
        n = real.shape[0] * real.shape[2]
        return {
            method: {"silent": int(real[:, m].sum()), "of": n, "silent_null": int(null[m])}
            for m, method in enumerate(methods)
        }

    def _method_info(self, explanation: Explanation) -> dict[str, Any]:
        method = EXPLANATIONS[explanation.name]
        tested, shown = (
            SHARE if is_shared(method, values) else RAW
            for values in (self.inputs.map_values, self.inputs.shown_values)
        )
        return {
            "name": explanation.name,
            "title": explanation.title,
            "options": dict(explanation.options),
            "formula": describe(explanation),
            "source": method.source,
            "scale": method.scale,
            "scale_has_meaning": method.scale_has_meaning,
            "tested": tested,
            "shown": shown,
        }

    def _heatmaps(
        self, design: Design, folds: Sequence[dict[str, npt.NDArray]]
    ) -> tuple[pd.DataFrame, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Average the heatmaps of a participant's volumes of a class; an anatomical image stands by itself.

        Returns
        -------
        index : DataFrame
            One row per heatmap.
        heatmaps : array, float32, (n, n_methods, n_voxels)
            In the values that are shown.
        totals : array, float64, (n, n_methods)
            Sum of the heatmap as the method gives it over the voxels of the mask.
        """
        inputs = self.inputs
        of_class = explained(inputs.explain_class, design.classes)
        rows = read_frame(Path(inputs.in_rows)).fillna({"session": "", "task": ""})
        found = []
        for number, own in enumerate(folds):
            table = rows.iloc[np.asarray(own["samples"])][["subject", "session", "task", "image", "volume"]]
            probabilities = np.asarray(own["probabilities"])
            true = design.labels[np.asarray(own["samples"])]
            predicted = probabilities.argmax(axis=1)
            codes = {"true": true, "predicted": predicted}.get(str(of_class), np.full(len(true), of_class))
            names = np.array(design.classes, dtype=object)
            codes = codes.astype(np.int64)
            found.append(table.assign(**{
                "fold": number, "true": names[true], "predicted": names[predicted], "class": names[codes],
                "probability": probabilities[np.arange(len(true)), codes],
            }))  # fmt: skip
        table = pd.concat(found, ignore_index=True)
        table["key"] = table.groupby(_KEYS, sort=False).ngroup()
        keys = [table.loc[table["fold"] == number, "key"].to_numpy() for number in range(len(folds))]
        heatmaps = averaged([own["heatmaps"] for own in folds], keys, table["key"].nunique())
        first = table.groupby("key", sort=True).first()
        grouped = table.groupby("key", sort=True)
        index = first.assign(
            probability=grouped["probability"].mean(),
            predicted=grouped["predicted"].agg(_commonest),
        )
        of_samples = np.concatenate([np.asarray(own["totals"]).mean(axis=0) for own in folds], axis=1)
        totals = pd.DataFrame(of_samples.T).groupby(table["key"].to_numpy(), sort=True).mean().to_numpy()
        return index.reset_index(drop=True).drop(columns="fold"), heatmaps, totals

    def _localisation(
        self,
        index: pd.DataFrame,
        heatmaps: npt.NDArray,
        totals: npt.NDArray[np.float64],
        methods: Sequence[str],
    ) -> dict[str, pd.DataFrame]:
        inputs = self.inputs
        if not isdefined(inputs.lesion_masks):
            return {}
        mask = nb.load(inputs.in_mask)
        inside = np.asarray(mask.dataobj) > 0
        files = find_lesion_masks(Path(inputs.lesion_masks), inputs.lesion_label)
        kept, lesions = [], []
        for number, row in enumerate(index.to_dict("records")):
            path = files.get((row["subject"], row["session"])) or files.get((row["subject"], ""))
            if path is None:
                continue
            kept.append(number)
            lesions.append(on_grid(nb.load(path), mask)[inside])
        if not kept:
            return {}
        truth, people = (
            np.stack(lesions),
            index.iloc[kept][["subject", "session", "true"]].reset_index(drop=True),
        )
        found = []
        for place, method in enumerate(methods):
            own = heatmaps[kept, place]
            found.append(people.assign(
                method=method, mass=mass_inside(own, truth), chance=chance_mass(own, truth),
                auc=ranking_auc(own, truth), pointing=pointing_game(own, truth),
                lesion_voxels=truth.sum(axis=1), relevance=totals[kept, place],
            ))  # fmt: skip
        table = pd.concat(found, ignore_index=True)
        return {"localisation": table, "lesion_load": self._lesion_load(table)}

    def _lesion_load(self, table: pd.DataFrame) -> pd.DataFrame:
        """Correlate the number of lesion voxels with the sum of relevance (Eitel et al. 2019, figure 4).

        The sum as the method gives it: how much is what is asked here, and that of shares says nothing.
        """
        rng = np.random.default_rng([self.inputs.random_seed, _LESION_LOAD])
        found = []
        for method, own in table.groupby("method", sort=False):
            of_person = own.groupby("subject")[["lesion_voxels", "relevance"]].mean()
            if len(of_person) < _FEWEST_PEOPLE or of_person["lesion_voxels"].nunique() < 2:
                continue
            tests = biomarker_tests(
                of_person[["relevance"]].to_numpy(), of_person["lesion_voxels"].to_numpy(), ["all"], rng
            )
            found.append(tests[["r", "p", "n", "n_permutations"]].assign(method=method))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def _positions(self, mean: npt.NDArray, design: Design, names: Sequence[str]) -> dict[str, pd.DataFrame]:
        n, place = self.inputs.strongest_positions, names.index("occlusion") if "occlusion" in names else None
        if not n or place is None:
            return {}
        drops = mean[place, : len(design.classes)]
        table = strongest_positions(drops, design.classes, nb.load(self.inputs.in_mask), n)
        if not len(table):
            return {}
        seed = self.inputs.random_seed
        spatial = embed(table[["x", "y", "z"]].to_numpy(), seed=seed)
        functional = embed(drops[:, table["voxel"]].T, seed=seed)
        table["umap_1"], table["umap_2"] = spatial.T
        table["functional_1"], table["functional_2"] = functional.T
        return {"positions": table.drop(columns="voxel")[
            ["class", "x", "y", "z", "drop", "umap_1", "umap_2", "functional_1", "functional_2"]
        ]}  # fmt: skip


def strongest_positions(
    drops: npt.NDArray, classes: Sequence[str], mask: nb.Nifti1Image, n: int
) -> pd.DataFrame:
    """Return the n voxels of every class with the largest drops: world coordinates in mm, drop, voxel.

    Parameters
    ----------
    drops
        Shape (n_classes, n_voxels), the voxels of the mask; a class whose drops are all 0 was not explained.
    classes
        Their names.
    mask
        Image whose voxels above 0 they are.
    n
        Rows of a class.
    """
    places = nb.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
    parts = []
    for own, name in zip(drops, classes, strict=True):
        if own.any():
            strongest = np.argsort(-own, kind="stable")[:n]
            part = pd.DataFrame(places[strongest], columns=["x", "y", "z"])
            parts.append(part.assign(**{"class": name, "drop": own[strongest], "voxel": strongest}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _commonest(values: pd.Series) -> Any:
    return values.value_counts(sort=True).index[0]


def _network(checkpoint: str) -> dict[str, Any]:
    from bids_xai.models.build import parameter_count
    from bids_xai.models.checkpoints import load_own_checkpoint

    network, card = load_own_checkpoint(checkpoint)
    return {"model": card.model, "n_parameters": parameter_count(network), "shape": list(card.shape)}


def _distances(
    means: npt.NDArray, counts: npt.NDArray, methods: Sequence[str], groups: Sequence[str]
) -> pd.DataFrame:
    """Return the distances between trainings of every method and group that has samples in all of them."""
    found = []
    for m, method in enumerate(methods):
        for g, group in enumerate(groups):
            own = means[:, m, g]
            if len(own) < 2 or not counts[:, g].all() or not (own.max(axis=1) > 0).all():
                continue
            table = map_distances(own, [str(run) for run in range(len(own))])
            table = table.rename(columns={"first": "run_a", "second": "run_b"})
            found.append(table.assign(method=method, group=group))
    columns = ["method", "group", "run_a", "run_b", "distance"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _conservation(
    folds: Sequence[dict[str, npt.NDArray]], design: Design, methods: Sequence[str]
) -> pd.DataFrame:
    rows = []
    for fold, own in zip(design.folds, folds, strict=True):
        residuals, outside = np.asarray(own["residuals"]), np.asarray(own["outside"])
        for run in range(residuals.shape[0]):
            for place, method in enumerate(methods):
                values = residuals[run, place]
                known = values.size and not np.isnan(values).all()
                rows.append({
                    "method": method, "run": run, "fold": fold.name,
                    "residual_mean": values.mean() if known else np.nan,
                    "residual_max": values.max() if known else np.nan,
                    "outside_mask": outside[run, place].mean() if values.size else np.nan,
                })  # fmt: skip
    return pd.DataFrame(rows)
