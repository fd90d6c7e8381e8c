"""Interfaces from trained and explained networks to maps and tables."""

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
from threadpoolctl import threadpool_limits

from bids_xai.decoding.baselines import baseline_probabilities
from bids_xai.decoding.design import ALL_CLASSES, Design
from bids_xai.decoding.held_out_scores import placements, score_intervals, tested_samples
from bids_xai.decoding.network_scores import roc_table, score_table, summarise
from bids_xai.decoding.scores import confusion_counts
from bids_xai.decoding.splits import Fold
from bids_xai.inference.networks import score_tests
from bids_xai.inference.permutation import smallest_p
from bids_xai.tables import read_frame, write_frame

NETWORK = "network"
_TESTED = ["null_mean", "null_sd", "null_max", "p", "smallest_p"]
Predictions = list[tuple[npt.NDArray[np.int64], npt.NDArray]]


class ScoreNetworks(SimpleInterface):
    """Score what networks said of held-out people, on true and on permuted labels, and other classifiers."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_data = File(exists=True, mandatory=True, desc="float32 volumes, .npy")
        in_mask = File(exists=True, mandatory=True, desc="voxels of other classifiers")
        in_real = InputMultiObject(File(exists=True), mandatory=True, desc="predictions, true labels")
        in_null = InputMultiObject(File(exists=True), desc="predictions, permuted labels")
        in_histories = InputMultiObject(File(exists=True), mandatory=True, desc="TSV files of the epochs")
        in_searches = InputMultiObject(File(exists=True), desc="TSV files of the draws of random searches")
        in_trainings = traits.List(traits.Dict, mandatory=True, desc="what the trainings took")
        in_checkpoints = InputMultiObject(File(exists=True), mandatory=True, desc="weights of the trainings")
        baseline = traits.List(traits.Str, desc="other classifiers")
        permute = traits.Str("between", usedefault=True, desc="exchangeability of the labels")
        random_seed = traits.Int(0, usedefault=True, desc="seed")

    class _OutputSpec(TraitedSpec):
        out_tables = traits.Dict(traits.Str, File(exists=True), desc="TSV files by name of the table")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        design = Design.load(inputs.in_design)
        real = [read_frame(Path(path)) for path in inputs.in_real]
        predictions = scored_units(real, design)
        scores = _named(score_table(predictions, design.classes))
        null = [read_frame(Path(path)) for path in inputs.in_null] if isdefined(inputs.in_null) else []
        null_scores = _null_scores(null, design)
        n_permutations = len(null) // len(design.folds)
        smallest = smallest_p(n_permutations, design.labels, inputs.permute, *design.exchange_codes)
        tests = _tests(_named(summarise(scores)), null_scores, smallest)
        tests = tests.merge(network_intervals(real, design), on=["metric", "class"], how="left")
        others = (
            [self._baseline(name, design) for name in inputs.baseline] if isdefined(inputs.baseline) else []
        )
        histories = pd.concat([read_frame(Path(path)) for path in inputs.in_histories], ignore_index=True)
        tables = {
            "predictions": pd.concat(real, ignore_index=True),
            "scores": pd.concat([scores.assign(model=NETWORK), *others], ignore_index=True),
            "score_tests": tests,
            "roc": roc_table(predictions, design.classes),
            "history": histories,
            "trainings": pd.DataFrame(inputs.in_trainings),
        }
        searches = [read_frame(Path(path)) for path in inputs.in_searches]
        if any(len(table) for table in searches):
            tables["search"] = pd.concat(searches, ignore_index=True)
        self._results["out_tables"] = save_tables(tables, Path(runtime.cwd))
        return runtime

    def _baseline(self, name: str, design: Design) -> pd.DataFrame:
        inputs = self.inputs
        inside = np.asarray(nb.load(inputs.in_mask).dataobj) > 0
        X = np.load(inputs.in_data, mmap_mode="r")[:, inside]
        with threadpool_limits(1):
            found = baseline_probabilities(name, X, design, seed=inputs.random_seed)
        pairs = [(design.labels[fold.test], own) for fold, own in zip(design.folds, found, strict=True)]
        return _named(score_table(_pooled(pairs, design), design.classes)).assign(model=name)


def network_intervals(tables: Sequence[pd.DataFrame], design: Design) -> pd.DataFrame:
    """Return the confidence intervals of the mean scores over people.

    Parameters
    ----------
    tables, design
        As in :func:`scored_units`.

    Returns
    -------
    DataFrame
        Columns ``metric, class, ci_low, ci_high``, of
        :func:`bids_xai.decoding.held_out_scores.score_intervals`.
    """
    columns = [f"probability_{name}" for name in design.classes]
    n_folds, n_classes, n_people = len(design.folds), len(design.classes), len(design.people)
    confusions, placed = [], []
    for start in range(0, len(tables), n_folds):
        own = tables[start : start + n_folds]
        tests = [table["sample"].to_numpy(np.int64) for table in own]
        probabilities = [table[columns].to_numpy(np.float64) for table in own]
        tested = np.concatenate(tests)
        said = np.concatenate(probabilities).argmax(axis=1)
        confusions.append(
            confusion_counts(design.labels[tested], said, n_classes, design.subjects[tested], n_people)
        )
        folds = [
            Fold(fold.name, fold.train, test, fold.repeat)
            for fold, test in zip(design.folds, tests, strict=True)
        ]
        # Logarithms of probabilities are logits.
        logits = [np.log(np.maximum(values, np.finfo(float).tiny)) for values in probabilities]
        placed.append(placements(design.labels, logits, design.subjects, folds))
    found = score_intervals(np.stack(confusions), np.stack(placed), tested_samples(design), design.classes)
    recalls = found[found["metric"] == "sensitivity"].assign(metric="recall")
    if n_classes == 2:
        # Of two classes the second is the positive one, whose sensitivity and specificity are given.
        positive = (found["class"] == design.classes[1]) & (found["metric"] != "auc")
        of_all = found[positive].assign(**{"class": "all"})
        found = pd.concat([found[(found["class"] == "all") | (found["metric"] == "auc")], of_all])
    both = pd.concat([found, recalls], ignore_index=True)
    return both.rename(columns={"low": "ci_low", "high": "ci_high"})


def scored_units(tables: Sequence[pd.DataFrame], design: Design) -> Predictions:
    """Return labels and probabilities of what is scored together: folds of one run and one repetition.

    Where splits are drawn afresh, each is a repetition, and is scored by itself.

    Parameters
    ----------
    tables
        Predictions of the trainings, fold by fold of run by run.
    design
        Classes and folds.
    """
    codes = {name: code for code, name in enumerate(design.classes)}
    columns = [f"probability_{name}" for name in design.classes]
    pairs: Predictions = [
        (np.array([codes[name] for name in table["true"].astype(str)], np.int64), table[columns].to_numpy())
        for table in tables
    ]
    return _pooled(pairs, design)


def _pooled(pairs: Predictions, design: Design) -> Predictions:
    """Put those of one repetition together, of all runs one after the other."""
    size = len(design.folds) // design.n_repeats
    units = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return [
        (np.concatenate([labels for labels, _ in unit]), np.concatenate([own for _, own in unit]))
        for unit in units
    ]


def _tests(summary: pd.DataFrame, null: pd.DataFrame, smallest: float) -> pd.DataFrame:
    """Return mean, spread and, where there were permutations, p of every score."""
    keys = [f"{metric} {of}" for metric, of in zip(summary["metric"], summary["class"], strict=True)]
    summary = summary.assign(key=keys)
    if not len(null):
        return summary.drop(columns="key").assign(**dict.fromkeys(_TESTED, np.nan), n_permutations=0)
    grouped = null.assign(key=null["metric"] + " " + null["class"]).groupby("key")["value"]
    tests = score_tests(
        dict(zip(keys, summary["mean"], strict=True)),
        {str(key): values.to_numpy() for key, values in grouped},
        smallest=smallest,
    ).rename(columns={"metric": "key", "chance": "null_mean", "chance_sd": "null_sd"})
    tests["null_max"] = tests["key"].map(grouped.max())
    return summary.merge(tests[["key", *_TESTED, "n_permutations"]], on="key").drop(columns="key")


def _null_scores(tables: Sequence[pd.DataFrame], design: Design) -> pd.DataFrame:
    """Return the scores of every permutation, means over its folds where these are scored by themselves."""
    n_folds = len(design.folds)
    found = []
    for number, start in enumerate(range(0, len(tables), n_folds)):
        units = scored_units(tables[start : start + n_folds], design)
        own = _named(score_table(units, design.classes))
        own = own.groupby(["metric", "class"], sort=False)["value"].mean().reset_index()
        found.append(own.assign(run=number))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its metrics as one word, and ``all`` for the class of scores of all classes."""
    metrics = table["metric"].str.replace("-", "_")
    return table.assign(**{"metric": metrics, "class": table["class"].replace("", ALL_CLASSES)})


def save_tables(tables: dict[str, pd.DataFrame], folder: Path) -> dict[str, str]:
    """Write tables as TSV files; return the files by name."""
    found = {}
    for name, table in tables.items():
        found[name] = str(folder / f"{name}.tsv")
        write_frame(table, found[name])
    return found
