"""Nodes that compute on a GPU take one for themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from bids_xai.decoding.devices import own_gpu


def on_own_gpu(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Run ``_run_interface`` of an interface that has the input ``device`` on a GPU of its own."""

    @functools.wraps(run)
    def run_alone(interface: Any, runtime: Any) -> Any:
        with own_gpu(interface.inputs.device):
            return run(interface, runtime)

    return run_alone
