"""FSL's programs as nipype has them, run without a shell (:class:`bids_xai.interfaces.programs`)."""

from __future__ import annotations

from nipype.interfaces import fsl

from bids_xai.interfaces.programs import DirectCommand


class ApplyMask(fsl.ApplyMask, DirectCommand):
    """``fslmaths IN -mas MASK OUT`` (:class:`nipype.interfaces.fsl.ApplyMask`)."""


class ApplyXFM(fsl.ApplyXFM, DirectCommand):
    """``flirt -applyxfm`` (:class:`nipype.interfaces.fsl.ApplyXFM`)."""


class BET(fsl.BET, DirectCommand):
    """``bet`` (:class:`nipype.interfaces.fsl.BET`)."""


class ConvertXFM(fsl.ConvertXFM, DirectCommand):
    """``convert_xfm`` (:class:`nipype.interfaces.fsl.ConvertXFM`)."""


class FLIRT(fsl.FLIRT, DirectCommand):
    """``flirt`` (:class:`nipype.interfaces.fsl.FLIRT`)."""


class ImageMaths(fsl.ImageMaths, DirectCommand):
    """``fslmaths`` (:class:`nipype.interfaces.fsl.ImageMaths`)."""


class MCFLIRT(fsl.MCFLIRT, DirectCommand):
    """``mcflirt`` (:class:`nipype.interfaces.fsl.MCFLIRT`)."""


class MeanImage(fsl.MeanImage, DirectCommand):
    """``fslmaths IN -Tmean OUT`` (:class:`nipype.interfaces.fsl.MeanImage`)."""


class RobustFOV(fsl.RobustFOV, DirectCommand):
    """``robustfov`` (:class:`nipype.interfaces.fsl.RobustFOV`)."""
