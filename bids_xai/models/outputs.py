"""What the output of a network says of the classes."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("logit", "probability")


def class_scores(output: Tensor, kind: str = "logit") -> Tensor:
    """Return a score for every class, shape (n, n_classes).

    Parameters
    ----------
    output
        Logits of shape (n, n_classes), or (n, 1): the logit z of the second of two classes.
    kind
        ``"logit"``: the logits; -z and z where there is one. ``"probability"``: their softmax; 1 - sigmoid(z)
        and sigmoid(z) where there is one.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {KINDS}")
    if output.shape[1] == 1:
        both = torch.cat([-output, output], dim=1)
        return both if kind == "logit" else torch.sigmoid(both)
    return output if kind == "logit" else torch.softmax(output, dim=1)
