"""One way to build any preprocessing engine."""

from __future__ import annotations

import inspect
from typing import Any

from nipype.pipeline import engine as pe

from bids_xai.workflows import ENGINES


def init_preproc_wf(preproc: str, **options: Any) -> pe.Workflow:
    """Build a preprocessing engine with those of the options that it has.

    All engines have the ports ``bold``, ``t1w``, ``flair``, ``template`` and ``template_mask`` on their
    inputnode, and ``images``, ``mask`` (on the analysis grid) and ``confounds`` on their outputnode. Options
    that are None are left to the engine.

    Parameters
    ----------
    preproc
        Name of the engine (:data:`bids_xai.workflows.ENGINES`).
    **options
        Parameters of any engine, for example ``modality``, ``registration``, ``resolution``.
    """
    factory = ENGINES[preproc].load()
    accepted = inspect.signature(factory).parameters
    given = {name: value for name, value in options.items() if name in accepted and value is not None}
    workflow: pe.Workflow = factory(**given)
    return workflow
