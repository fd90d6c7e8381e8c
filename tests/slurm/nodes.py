"""Nodes that tell where they run, need too much, or fail."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits


class Tell(SimpleInterface):
    """Return what Slurm gave to the job."""

    class _InputSpec(BaseInterfaceInputSpec):
        seconds = traits.Float(0.0, usedefault=True)
        hold_mb = traits.Int(0, usedefault=True)
        fail = traits.Bool(False, usedefault=True)
        die = traits.Bool(False, usedefault=True)
        use_gpu = traits.Bool(False, usedefault=True, nohash=True)

    class _OutputSpec(TraitedSpec):
        environment = traits.Dict()

    input_spec = _InputSpec
    output_spec = _OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        held = b"x" * (inputs.hold_mb * 2**20)
        time.sleep(inputs.seconds)
        if inputs.die:
            os.kill(os.getpid(), signal.SIGKILL)
        if inputs.fail:
            raise ValueError(f"a node that fails, holding {len(held)} bytes")
        self._results["environment"] = {**os.environ, "TOLD_BY": str(os.getpid())}
        return runtime
