"""Interfaces that judge registrations, brains and references, and stop what follows from one that failed."""

from __future__ import annotations

from collections.abc import Mapping
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

from bids_xai.images import alignment, brain
from bids_xai.images.motion import reference_agreement

_MEASURE = "correlation with the template"
_GAIN_MEASURE = "mutual information relative to shifts"
_GAIN_FLOOR = 1.0
_BRAIN_MEASURE = "volume and shape of the brain mask"
_REFERENCE_MEASURE = "correlation of the reference with the run's own mean"
# Realigned means of real runs have more than .97; of one that MCFLIRT had wrapped it was .02.
_REFERENCE_FLOOR = 0.7
_REGISTRATION_ADVICE = (
    "Look at the subject's report; then correct the image's position in its header, choose another "
    "--registration or --registration-profile, or leave the participant out."
)


class _QualityOutputSpec(TraitedSpec):
    quality = traits.Dict(desc="measure, what was found, what was expected, whether it passed")


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

    input_spec = _InputSpec
    output_spec = _QualityOutputSpec

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

    input_spec = _InputSpec
    output_spec = _QualityOutputSpec

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


class BrainQuality(SimpleInterface):
    """Judge a brain mask by its volume and shape (:func:`bids_xai.images.brain.brain_shape`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_mask = File(exists=True, mandatory=True, desc="mask of a whole brain")

    input_spec = _InputSpec
    output_spec = _QualityOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        shape = brain.brain_shape(nb.load(self.inputs.in_mask))
        self._results["quality"] = {
            "Measure": _BRAIN_MEASURE,
            "VolumeMl": round(shape.volume_ml, 1),
            "Elongation": round(shape.elongation, 3),
            "Solidity": round(shape.solidity, 3),
            "Passed": not shape.problem,
            "Problem": shape.problem,
        }
        return runtime


class ReferenceQuality(SimpleInterface):
    """Judge a run's reference by what it was made of (:func:`bids_xai.images.motion.reference_agreement`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="the reference: mean of the realigned run")
        in_run = File(exists=True, mandatory=True, desc="the run as it came")

    input_spec = _InputSpec
    output_spec = _QualityOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        found = reference_agreement(nb.load(self.inputs.in_file), nb.load(self.inputs.in_run))
        self._results["quality"] = {
            "Measure": _REFERENCE_MEASURE,
            "After": round(found, 4),
            "Floor": _REFERENCE_FLOOR,
            "Passed": bool(found > _REFERENCE_FLOOR),
        }
        return runtime


class RequireQuality(SimpleInterface):
    """Pass images on only if all that was judged of the subject is sound.

    Raises
    ------
    RuntimeError
        Something is not: the subject fails, and the message says which image it was and what to do.
    """

    class _InputSpec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="images to pass on")
        brain_quality = InputMultiObject(traits.Dict, desc="of the brain masks of the T1w")
        t1w_quality = InputMultiObject(traits.Dict, desc="of the registrations of the T1w")
        image_quality = InputMultiObject(traits.Dict, desc="of the registrations of the other images")
        reference_quality = InputMultiObject(traits.Dict, desc="of the references of the runs")
        names = traits.List(traits.Str, mandatory=True, desc="file names: the T1w, then the other images")

    class _OutputSpec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="the same images")

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        problems = []
        for kind, (what, advice) in _KINDS.items():
            qualities = getattr(self.inputs, kind)
            qualities = list(qualities) if isdefined(qualities) else []
            failed = [
                f"{name} ({problem(quality)})"
                for name, quality in zip(self._names(kind, len(qualities)), qualities, strict=True)
                if not quality["Passed"]
            ]
            if failed:
                problems.append(f"{what} failed for {'; '.join(failed)}. {advice}")
        if problems:
            raise RuntimeError("\n".join(problems))
        self._results["out_files"] = list(self.inputs.in_files)
        return runtime

    def _names(self, kind: str, n_found: int) -> list[str]:
        """Return the names of the images that qualities of a kind are of."""
        names, of_t1w = list(self.inputs.names), kind in ("brain_quality", "t1w_quality")
        if not n_found:
            return []
        # The T1w come first; the others are all the rest.
        return names[:n_found] if of_t1w else names[-n_found:]


def problem(quality: Mapping[str, Any]) -> str:
    """Say what was found and what was expected instead."""
    if "Problem" in quality:
        return str(quality["Problem"])
    return f"{quality['Measure']}: {quality['After']:.2f}, expected more than {quality['Floor']:.2f}"


_KINDS = {
    "brain_quality": (
        "The brain extraction",
        "Look at the outline of the brain in the subject's report. If it is wrong, take the skull off with "
        "another program and give that T1w (--preproc ants knows a brain without skull), choose the other of "
        "--preproc ants and fsl, use images preprocessed elsewhere (--preproc derivatives), or leave the "
        "participant out.",
    ),
    "t1w_quality": ("The registration", _REGISTRATION_ADVICE),
    "image_quality": ("The registration", _REGISTRATION_ADVICE),
    "reference_quality": (
        "The motion correction",
        "The mean of the realigned run does not show what the run shows. Look at the run and at the data "
        "type and scaling (scl_slope) in its header; convert it to float32, choose another --preproc, or "
        "leave the run out.",
    ),
}
