"""Interfaces that draw figures of preprocessing for the subject's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _FigureOutputSpec(TraitedSpec):
    out_figure = File(exists=True, desc="SVG")


class MaskFigure(SimpleInterface):
    """Draw a mask's contour on its image (:func:`bids_xai.reports.reportlets.mask_overlay`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3-D image")
        in_mask = File(exists=True, mandatory=True, desc="mask on its grid")

    input_spec = _InputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_xai.reports.reportlets import mask_overlay

        figure = Path(runtime.cwd) / "mask.svg"
        mask_overlay(self.inputs.in_file, self.inputs.in_mask, figure)
        self._results["out_figure"] = str(figure)
        return runtime


class RegistrationFigure(SimpleInterface):
    """Show two aligned images by turns (:func:`bids_xai.reports.reportlets.registration_flicker`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        fixed = File(exists=True, mandatory=True, desc="3-D image")
        moving = File(exists=True, mandatory=True, desc="3-D image in the same space")
        mask = File(exists=True, desc="mask whose contour is drawn on both")
        fixed_label = traits.Str(mandatory=True, desc="what the fixed image is")
        moving_label = traits.Str(mandatory=True, desc="what the moving image is")

    input_spec = _InputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_xai.reports.reportlets import registration_flicker

        figure = Path(runtime.cwd) / "registration.svg"
        registration_flicker(
            self.inputs.fixed,
            self.inputs.moving,
            figure,
            mask=self.inputs.mask if isdefined(self.inputs.mask) else None,
            fixed_label=self.inputs.fixed_label,
            moving_label=self.inputs.moving_label,
        )
        self._results["out_figure"] = str(figure)
        return runtime


class RunFigure(SimpleInterface):
    """Draw motion, DVARS and the carpet of a run (:func:`bids_xai.reports.reportlets.bold_summary`)."""

    class _InputSpec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="4-D run after motion correction")
        in_mask = File(exists=True, mandatory=True, desc="brain mask on its grid")
        in_confounds = File(exists=True, mandatory=True, desc="TSV, one row per volume")
        repetition_time = traits.Float(mandatory=True, desc="seconds between volumes")

    input_spec = _InputSpec
    output_spec = _FigureOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_xai.reports.reportlets import bold_summary

        figure = Path(runtime.cwd) / "run.svg"
        inputs = self.inputs
        bold_summary(inputs.in_file, inputs.in_mask, inputs.in_confounds, figure, tr=inputs.repetition_time)
        self._results["out_figure"] = str(figure)
        return runtime
