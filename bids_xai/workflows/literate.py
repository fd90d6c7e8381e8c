"""What a graph does, in sentences that its own nodes give.

A factory sets ``workflow.__desc__`` (said before what the graphs inside it say) and ``workflow.__postdesc__``
(said after), with the values that its nodes hold, as those of niworkflows' ``LiterateWorkflow`` do. Works are
cited as ``[@key]``.
"""

from __future__ import annotations

from typing import Any

from nipype.interfaces.base import isdefined
from nipype.pipeline import engine as pe
from nipype.pipeline.engine.utils import topological_sort


def describe(workflow: pe.Workflow) -> str:
    """Return the sentences of a graph and of the graphs inside it, in the order that they run; each once."""
    return " ".join(dict.fromkeys(_sentences(workflow)))


def _sentences(workflow: pe.Workflow) -> list[str]:
    found = [getattr(workflow, "__desc__", "")]
    for node in topological_sort(workflow._graph)[0]:
        if isinstance(node, pe.Workflow):
            found += _sentences(node)
    found.append(getattr(workflow, "__postdesc__", ""))
    return [sentence.strip() for sentence in found if sentence.strip()]


def value_of(node: pe.Node, name: str, default: Any = None) -> Any:
    """Return an input of the interface of a node or map node; the default where it is undefined."""
    value = getattr(node.interface.inputs, name)
    return value if isdefined(value) else default
