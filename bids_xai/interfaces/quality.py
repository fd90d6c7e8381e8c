"""Interfaces that judge registrations, and stop what follows from one that failed."""

from __future__ import annotations

from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_xai.images import alignment

_MEASURE = "correlation with the template"
_GAIN_MEASURE = "mutual information relative to shifts"
_GAIN_FLOOR = 1.0


class TemplateSimilarity(SimpleInterface):
    """Judge a registration by the correlation with the template, before (centred only) and after.

    A registration that stays below the floor has failed; where it started is only reported.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="the registered image on the template's grid")
        before = File(exists=True, mandatory=True, desc="the brain in its own space")
        template = File(exists=True, mandatory=True, desc="the template")
        mask = File(exists=True, mandatory=True, desc="brain mask of the template")
        floor = traits.Float(mandatory=True, desc="smallest correlation of a registration that worked")

    class _OutputSpec(TraitedSpec):
        quality = traits.Dict(desc="measure, values before and after, floor, whether it passed")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        template, mask = nb.load(self.inputs.template), nb.load(self.inputs.mask)
        inside = np.asarray(mask.dataobj) > 0
        target = np.asarray(template.dataobj, dtype=np.float32)
        before = alignment.resampled(nb.load(self.inputs.before), template)
        start = alignment.correlation(before, target, inside)
        registered = np.asarray(nb.load(self.inputs.in_file).dataobj, dtype=np.float32)
        end = alignment.correlation(registered, target, inside)
        self._results["quality"] = {
            "Measure": _MEASURE,
            "Before": round(start, 4),
            "After": round(end, 4),
            "Floor": self.inputs.floor,
            "Passed": bool(end >= self.inputs.floor),
        }
        return runtime


class CoregistrationQuality(SimpleInterface):
    """Judge an alignment of two contrasts: no shift by 12 mm may improve it.

    See :meth:`bids_xai.images.alignment.Comparison.information_gain`.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="the aligned image, in the space of the T1w")
        before = File(exists=True, mandatory=True, desc="the image in its own space")
        reference = File(exists=True, mandatory=True, desc="the brain in the T1w")

    class _OutputSpec(TraitedSpec):
        quality = traits.Dict(desc="measure, values before and after, floor, whether it passed")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        reference = nb.load(self.inputs.reference)
        start, end = (
            alignment.Comparison(reference, nb.load(path)).information_gain()
            for path in (self.inputs.before, self.inputs.in_file)
        )
        self._results["quality"] = {
            "Measure": _GAIN_MEASURE,
            "Before": round(start, 4),
            "After": round(end, 4),
            "Floor": _GAIN_FLOOR,
            "Passed": bool(end > _GAIN_FLOOR),
        }
        return runtime


class RequireAlignment(SimpleInterface):
    """Pass images on only if all registrations of the subject worked.

    Raises
    ------
    RuntimeError
        One did not: the subject fails, and the message says which image it was.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="images to pass on")
        qualities = traits.List(mandatory=True, desc="qualities of registrations")
        names = traits.List(traits.Str, mandatory=True, desc="files that were registered, in that order")

    class _OutputSpec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="the same images")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        failed = [
            f"{name} ({found['Measure']}: {found['After']:.2f}, expected more than {found['Floor']:.2f})"
            for name, found in zip(self.inputs.names, self.inputs.qualities, strict=True)
            if not found["Passed"]
        ]
        if failed:
            raise RuntimeError(
                f"The registration failed for {'; '.join(failed)}. Look at the subject's report; then "
                "correct the image's position in its header, choose another --registration or "
                "--registration-profile, or leave the participant out."
            )
        self._results["out_files"] = list(self.inputs.in_files)
        return runtime
