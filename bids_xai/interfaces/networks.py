"""Interfaces that gather volumes and train networks on them."""

from __future__ import annotations

from dataclasses import asdict
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

from bids_xai.atomic import reserve
from bids_xai.bids.covariates import with_covariates
from bids_xai.bids.sample_files import check_collected, stacked_rows
from bids_xai.decoding import partitions as draw
from bids_xai.decoding.design import Design
from bids_xai.decoding.network_design import network_design
from bids_xai.decoding.networks import NetworkParameters, predict, train_network
from bids_xai.decoding.search import random_search
from bids_xai.decoding.splits import Fold
from bids_xai.images import masking
from bids_xai.images.stacking import stack_volumes, varying_voxels
from bids_xai.inference.permutation import natural_scheme, permute_design
from bids_xai.interfaces.devices import on_own_gpu
from bids_xai.models.checkpoints import Card, save_checkpoint
from bids_xai.tables import read_frame, write_frame

# What seeds are of; appended to, never changed. Those of the softmax layer are 0 to 3; 13 to 16 are of
# balancing, the Mantel test, the biomarker and the lesion load.
STAGES = {"real": 10, "null": 11}
_FOLDS = 12


class CollectVolumes(SimpleInterface):
    """Stack whole volumes, with the mask that all share, their rows and the folds."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_samples = InputMultiObject(File(exists=True), mandatory=True, desc="4-D images of samples")
        in_rows = InputMultiObject(File(exists=True), mandatory=True, desc="TSV files, in the same order")
        in_masks = InputMultiObject(
            File(exists=True), mandatory=True, desc="masks on the grid of the samples"
        )
        in_participants = File(exists=True, desc="participants.tsv, for the columns that are asked for")
        columns = traits.List(traits.Str, desc="columns of participants.tsv that rows get")
        classes = traits.List(traits.Str, desc="classes in their order; empty: those of the rows, sorted")
        cv = traits.Str(desc="what is left out; absent: what suits the classes")
        n_folds = traits.Int(desc="number of folds; absent: what suits the classes")
        n_repeats = traits.Int(desc="how often people are dealt to folds; absent: what suits the classes")
        test_size = traits.Float(0.2, usedefault=True, desc="share of the people that holdout leaves out")
        stratify = traits.List(traits.Str, desc="columns that holdout keeps in equal shares")
        first_session = traits.Bool(False, usedefault=True, desc="holdout tests on first sessions only")
        undersample = traits.List(traits.Str, desc="column that is balanced, and columns of the bins")
        samples_per_class = traits.Int(desc="samples drawn of every class; absent: all")
        n_runs = traits.Int(1, usedefault=True, desc="trainings on the true labels")
        n_permutations = traits.Int(0, usedefault=True, desc="trainings on permuted labels")
        random_seed = traits.Int(0, usedefault=True, desc="seed of folds and draws")
        permute = traits.Str(desc="exchangeability of the labels; absent: what suits the design")
        exchange_within = traits.Str(desc="column whose levels are blocks of the exchange; absent: none")

    class _OutputSpec(TraitedSpec):
        out_data = File(exists=True, desc="float32 volumes (n_samples, x, y, z), .npy")
        out_rows = File(exists=True, desc="TSV file, one row per sample")
        out_mask = File(exists=True, desc="mask that heatmaps are kept in")
        out_design = File(exists=True, desc="classes, labels, blocks and folds, .json")
        out_folds = traits.List(traits.Int, desc="number of every fold")
        out_real = traits.List(traits.Dict, desc="run and fold of every training on the true labels")
        out_null = traits.List(traits.Dict, desc="run and fold of every training on permuted labels")
        permute = traits.Str(desc="exchangeability of the labels")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        check_collected(inputs.in_samples, inputs.in_masks)
        # Reports that show a heatmap over a sample need to know where it lies.
        within = inputs.exchange_within if isdefined(inputs.exchange_within) else None
        rows = stacked_rows(inputs.in_rows, inputs.in_samples, within)
        participants = Path(inputs.in_participants) if isdefined(inputs.in_participants) else None
        rows = with_covariates(rows, participants, inputs.columns if isdefined(inputs.columns) else ())
        design, kept = network_design(
            rows,
            classes=inputs.classes if isdefined(inputs.classes) else (),
            cv=inputs.cv if isdefined(inputs.cv) else None,
            n_folds=inputs.n_folds if isdefined(inputs.n_folds) else None,
            n_repeats=inputs.n_repeats if isdefined(inputs.n_repeats) else None,
            test_size=inputs.test_size,
            stratify=inputs.stratify if isdefined(inputs.stratify) else (),
            undersample=inputs.undersample if isdefined(inputs.undersample) else (),
            first_session=inputs.first_session,
            samples_per_class=inputs.samples_per_class if isdefined(inputs.samples_per_class) else None,
            seed=inputs.random_seed,
            exchange_within=within,
        )
        images = [nb.load(path) for path in inputs.in_samples]
        mask = masking.intersect([nb.load(path) for path in inputs.in_masks])
        nb.save(varying_voxels(images, mask), folder / "mask.nii.gz")
        data = np.lib.format.open_memmap(
            folder / "data.npy", mode="w+", dtype=np.float32, shape=(len(kept), *mask.shape[:3])
        )
        reserve(folder / "data.npy")
        stack_volumes(images, kept, out=data)
        data.flush()
        write_frame(rows.iloc[kept], folder / "rows.tsv")
        design.save(folder / "design.json")
        natural = natural_scheme(design.cv, design.labels, *design.exchange_codes[:3])
        folds = range(len(design.folds))
        self._results.update(
            permute=inputs.permute if isdefined(inputs.permute) else natural,
            out_data=str(folder / "data.npy"),
            out_rows=str(folder / "rows.tsv"),
            out_mask=str(folder / "mask.nii.gz"),
            out_design=str(folder / "design.json"),
            out_folds=list(folds),
            out_real=[{"run": run, "fold": fold} for run in range(inputs.n_runs) for fold in folds],
            out_null=[{"run": run, "fold": fold} for run in range(inputs.n_permutations) for fold in folds],
        )
        return runtime


class TrainNetwork(SimpleInterface):
    """Train one network on one fold; a training that was interrupted goes on where it stopped."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_data = File(exists=True, mandatory=True, desc="float32 volumes, .npy")
        in_rows = File(exists=True, mandatory=True, desc="TSV file, one row per sample")
        in_mask = File(exists=True, mandatory=True, desc="image on the grid of the volumes")
        in_design = File(exists=True, mandatory=True, desc="design, .json")
        stage = traits.Enum(*STAGES, mandatory=True, desc="true or permuted labels")
        unit = traits.Dict(mandatory=True, desc="run and fold")
        parameters = traits.Dict(mandatory=True, desc="of the training (decoding.networks)")
        search = traits.Dict(desc="values that a random search draws from, and its number of draws")
        validation_size = traits.Float(0.15, usedefault=True, desc="share of the training people")
        stratify = traits.List(traits.Str, desc="columns that validation keeps in equal shares")
        permute = traits.Str("between", usedefault=True, desc="exchangeability of the labels")
        random_seed = traits.Int(0, usedefault=True, desc="seed")
        provenance = traits.Dict(desc="what the checkpoint says of the data", nohash=True)
        device = traits.Enum("cpu", "cuda", "auto", usedefault=True, desc="where to train")
        n_threads = traits.Int(1, usedefault=True, desc="threads of this training")
        use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="tells the scheduler")

    class _OutputSpec(TraitedSpec):
        out_checkpoint = File(exists=True, desc="weights, .safetensors, with a card beside them")
        out_predictions = File(exists=True, desc="TSV file, one row per held-out sample")
        out_history = File(exists=True, desc="TSV file, one row per epoch")
        out_search = File(exists=True, desc="TSV file, one row per draw of a random search")
        out_training = traits.Dict(desc="epochs, iterations and seconds")

    input_spec = _InputSpec
    output_spec = _OutputSpec
    # nipype empties the folder of a node that was interrupted, unless it can go on.
    _can_resume = True

    @on_own_gpu
    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        run, number = int(inputs.unit["run"]), int(inputs.unit["fold"])
        volumes = np.load(inputs.in_data, mmap_mode="r")
        design = Design.load(inputs.in_design)
        rows = read_frame(Path(inputs.in_rows))
        of_labels, of_training = np.random.SeedSequence(
            [inputs.random_seed, STAGES[inputs.stage], run]
        ).spawn(2)
        labels, folds = in_use(design, inputs.stage, inputs.permute, of_labels)
        fold = folds[number]
        own = rows.assign(**{"class": [design.classes[code] for code in labels]})
        train, validation = draw.validation_split(
            own,
            fold.train,
            share=inputs.validation_size,
            stratify=tuple(inputs.stratify) if isdefined(inputs.stratify) else (),
            # Runs share the split of a fold: they differ in the network's own randomness alone.
            seed=np.random.SeedSequence([inputs.random_seed, _FOLDS, number]),
        )
        settings = {
            "n_classes": len(design.classes),
            "seed": of_training.spawn(number + 1)[number],
            "device": inputs.device,
            "n_threads": inputs.n_threads,
            # What it has reached is kept after every epoch, and taken up when the node runs again.
            "folder": folder / "state",
        }
        parameters, searched = NetworkParameters(**inputs.parameters), pd.DataFrame()
        if isdefined(inputs.search) and inputs.search:
            found = random_search(
                volumes, labels, train, validation, base=parameters, n_draws=inputs.search["draws"],
                space={name: values for name, values in inputs.search.items() if name != "draws"},
                **settings,
            )  # fmt: skip
            trained, parameters, searched = found.trained, found.parameters, found.table
        else:
            trained = train_network(volumes, labels, train, validation, parameters=parameters, **settings)
        probabilities = predict(
            trained.network,
            volumes,
            fold.test,
            batch_size=parameters.batch_size,
            device=inputs.device,
            input_scaling=parameters.input_scaling,
            n_threads=inputs.n_threads,
        )
        mask = nb.load(inputs.in_mask)
        card = Card(
            model=parameters.model,
            model_options=dict(parameters.model_options),
            shape=mask.shape[:3],
            affine=mask.affine,
            input_scaling=parameters.input_scaling,
            classes=tuple(design.classes),
            training=asdict(parameters),
            data={
                **(inputs.provenance if isdefined(inputs.provenance) else {}),
                "run": run,
                "fold": fold.name,
            },
        )
        name = f"{inputs.stage}-run-{run:03d}_fold-{number:03d}"
        checkpoint = save_checkpoint(folder / name, trained.network, card)
        predictions = prediction_table(rows, design.classes, labels, fold.test, probabilities)
        self._results.update(
            out_checkpoint=str(checkpoint),
            out_predictions=_save(predictions.assign(run=run, fold=fold.name), folder / "predictions.tsv"),
            out_search=_save(searched.assign(run=run, fold=fold.name), folder / "search.tsv"),
            out_history=_save(
                pd.DataFrame(list(trained.history))
                .rename(columns=lambda name: name.replace("-", "_"))
                .assign(run=run, fold=fold.name),
                folder / "history.tsv",
            ),
            out_training={
                "run": run,
                "fold": fold.name,
                "best_epoch": trained.best_epoch,
                "n_epochs": len(trained.history),
                "n_iterations": trained.n_iterations,
                "seconds": trained.seconds,
                "batch_size": parameters.batch_size,
                "learning_rate": parameters.learning_rate,
                "patience": parameters.patience,
                "n_train": len(train),
                "n_validation": len(validation),
                "n_test": len(fold.test),
            },
        )
        return runtime


def in_use(
    design: Design, stage: str, permute: str, seed: np.random.SeedSequence
) -> tuple[npt.NDArray[np.int64], tuple[Fold, ...]]:
    """Return labels and folds of a repetition: the true ones, or exchanged as ``permute`` says."""
    if stage == "real":
        return design.labels, design.folds
    return permute_design(design, permute, np.random.default_rng(seed))


def prediction_table(
    rows: pd.DataFrame,
    classes: tuple[str, ...],
    labels: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    probabilities: npt.NDArray,
) -> pd.DataFrame:
    """Return one row per held-out sample: who it is of, its class (in use) and what the network said."""
    table = rows.iloc[test][["subject", "session"]].reset_index(drop=True)
    table.insert(0, "sample", test)
    table["true"] = [classes[code] for code in labels[test]]
    table["predicted"] = [classes[code] for code in probabilities.argmax(axis=1)]
    for code, name in enumerate(classes):
        table[f"probability_{name}"] = probabilities[:, code]
    return table


def _save(table: pd.DataFrame, path: Path) -> str:
    write_frame(table, path)
    return str(path)
