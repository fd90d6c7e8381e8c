"""Interface that gathers the samples of all subjects into one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
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

from bids_xai.atomic import reserve
from bids_xai.bids.sample_files import check_collected, stacked_rows
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.design import make_design
from bids_xai.images import masking
from bids_xai.images.stacking import stack_samples, varying_voxels
from bids_xai.inference.permutation import natural_scheme
from bids_xai.tables import write_frame


class CollectSamples(SimpleInterface):
    """Stack samples into a matrix, with the mask that all share, the folds and the Gram matrix.

    Voxels without variation in some run are left out of the mask
    (:func:`bids_xai.images.stacking.varying_voxels`).
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_samples = InputMultiObject(File(exists=True), mandatory=True, desc="4-D images of samples")
        in_rows = InputMultiObject(File(exists=True), mandatory=True, desc="TSV files, in the same order")
        in_masks = InputMultiObject(
            File(exists=True), mandatory=True, desc="masks on the grid of the samples"
        )
        classes = traits.List(traits.Str, desc="classes in their order; empty: those of the rows, sorted")
        cv = traits.Str(desc="what is left out; absent: what suits the classes")
        n_folds = traits.Int(desc="number of folds of cv kfold; absent: what suits the classes")
        n_repeats = traits.Int(desc="how often people are dealt to folds; absent: what suits the classes")
        random_seed = traits.Int(0, usedefault=True, desc="seed of the folds")
        permute = traits.Str(desc="exchangeability of the labels; absent: what suits the design")
        exchange_within = traits.Str(desc="column whose levels are blocks of the exchange; absent: none")

    class _OutputSpec(TraitedSpec):
        out_data = File(exists=True, desc="float32 matrix (n_samples, n_voxels), .npy")
        out_gram = File(exists=True, desc="what they are trained with, .npy (decoding.basis)")
        out_rows = File(exists=True, desc="TSV file, one row per sample")
        out_mask = File(exists=True, desc="mask of the voxels")
        out_design = File(exists=True, desc="classes, labels, blocks and folds, .json")
        permute = traits.Str(desc="exchangeability of the labels")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs, folder = self.inputs, Path(runtime.cwd)
        check_collected(inputs.in_samples, inputs.in_masks)
        within = inputs.exchange_within if isdefined(inputs.exchange_within) else None
        rows = stacked_rows(inputs.in_rows, inputs.in_samples, within).drop(columns=["image", "volume"])
        design, kept = make_design(
            rows,
            classes=inputs.classes if isdefined(inputs.classes) else (),
            cv=inputs.cv if isdefined(inputs.cv) else None,
            n_folds=inputs.n_folds if isdefined(inputs.n_folds) else None,
            n_repeats=inputs.n_repeats if isdefined(inputs.n_repeats) else None,
            seed=inputs.random_seed,
            exchange_within=within,
        )
        images = [nb.load(path) for path in inputs.in_samples]
        mask = masking.intersect([nb.load(path) for path in inputs.in_masks])
        mask = varying_voxels(images, mask)
        nb.save(mask, folder / "mask.nii.gz")
        n_voxels = int(np.asarray(mask.dataobj).sum())
        data = np.lib.format.open_memmap(
            folder / "data.npy", mode="w+", dtype=np.float32, shape=(len(kept), n_voxels)
        )
        reserve(folder / "data.npy")
        stack_samples(images, mask, kept, out=data)
        data.flush()
        with threadpool_limits(1):
            training_basis(data).save(folder / "gram.npy")
        write_frame(rows.iloc[kept], folder / "rows.tsv")
        design.save(folder / "design.json")
        natural = natural_scheme(design.cv, design.labels, *design.exchange_codes[:3])
        self._results.update(
            permute=inputs.permute if isdefined(inputs.permute) else natural,
            out_data=str(folder / "data.npy"),
            out_gram=str(folder / "gram.npy"),
            out_rows=str(folder / "rows.tsv"),
            out_mask=str(folder / "mask.nii.gz"),
            out_design=str(folder / "design.json"),
        )
        return runtime
