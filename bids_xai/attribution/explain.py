"""Explanations of many volumes, in batches."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_xai.attribution.explanation import Explanation, describe, parse_explanation
from bids_xai.attribution.modes import evaluating
from bids_xai.attribution.starts import Start
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

__all__ = ["Explanation", "describe", "explain", "parse_explanation"]

_UNITS = {"B": 0, "KB": 10, "MB": 20, "GB": 30, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


def explain(
    network: nn.Module,
    volumes: npt.NDArray | Tensor,
    targets: npt.NDArray | Tensor,
    explanation: Explanation,
    *,
    kind: str = "logit",
    batch_size: int = 4,
    device: str | torch.device = "cpu",
    regions: npt.NDArray | Tensor | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
    layer: str | None = None,
    filter: int = 0,  # noqa: A002
) -> npt.NDArray[np.float32]:
    """Explain volumes in batches, with the network evaluated and afterwards as it was.

    Parameters
    ----------
    network
        Network on ``device``.
    volumes
        Shape (n, x, y, z) or (n, 1, x, y, z).
    targets
        Class that is explained of every volume, shape (n,).
    explanation
        Method and options.
    kind
        Start from the class's ``"logit"`` or ``"probability"``.
    batch_size
        Volumes at once; where the memory does not suffice it is halved, down to one.
    device
        Where to compute; convolutions run deterministically there, in full float32.
    regions
        Labels on the volumes' grid, int, for explanations by region.
    mask
        Voxels, bool (x, y, z), that occlusion is limited to; None: all.
    layer, filter
        Explain this filter of an inner layer instead of a class (:class:`bids_xai.attribution.starts.Start`).

    Returns
    -------
    Maps, float32, shape (n, x, y, z).

    Raises
    ------
    InputError
        Not enough memory for one volume (names the size needed); shapes or classes that do not fit.
    """
    x = torch.as_tensor(volumes)
    x = x[:, None] if x.ndim == 4 else x
    target = torch.as_tensor(targets, dtype=torch.int64)
    if x.ndim != 5 or target.shape != x.shape[:1]:
        raise InputError(
            f"Volumes of shape {tuple(x.shape)} and targets of shape {tuple(target.shape)}.",
            "(n, x, y, z) and (n,)",
        )
    options: dict[str, Any] = dict(explanation.options)
    parameters = inspect.signature(explanation.function).parameters
    if "regions" in parameters:
        if regions is None:
            raise InputError(f"{explanation.name} without regions.", "an atlas on the grid of the volumes")
        options["regions"] = torch.as_tensor(regions).to(device)
    if mask is not None and "mask" in parameters:
        options["mask"] = torch.as_tensor(mask).to(device)
    start = Start(target, kind, layer, filter)
    maps = np.empty((len(x), *x.shape[2:]), np.float32)
    done, size = 0, max(1, batch_size)
    with (
        evaluating(network),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False),
    ):
        shown = _attempt(lambda: _checked(network, x[:1].to(device, torch.float32), start))
        if isinstance(shown, str):
            _refuse(explanation, tuple(x.shape[2:]), shown)
        while done < len(x):
            part = slice(done, min(done + size, len(x)))
            found = _attempt(
                lambda part=part: explanation.function(  # type: ignore[misc]
                    network, x[part].to(device, torch.float32), start.part(part), **options
                )
            )
            if isinstance(found, Tensor):
                maps[part] = found.detach().cpu().numpy()
                done = part.stop
            elif part.stop - part.start > 1:
                size = (part.stop - part.start) // 2
                _release(device)
            else:
                _refuse(explanation, tuple(x.shape[2:]), found)
    return maps


def _attempt(call: Callable[[], Tensor]) -> Tensor | str:
    """Return what a call returns, or the message that says that the memory did not suffice."""
    try:
        return call()
    except (MemoryError, RuntimeError) as error:
        # Only the text leaves: the traceback would keep the batch's tensors alive.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            return str(error)
        raise


def _release(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def _refuse(explanation: Explanation, shape: tuple[int, ...], message: str) -> NoReturn:
    needed = _bytes_asked(message)
    size = f"one more block of {needed / 2**30:.3g} GiB was asked for" if needed else "size unknown"
    raise InputError(
        f"Not enough memory for {explanation.title} of one volume of {' x '.join(map(str, shape))} voxels"
        f" ({size}).",
        f"at least {needed / 2**30:.3g} GiB more than was free" if needed else "more memory",
        "free memory, use larger voxels, or another device",
    )


def _bytes_asked(message: str) -> float:
    """Return the bytes that an allocator says it was asked for, 0 where it does not."""
    found = re.search(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGT]i?B)", message, re.IGNORECASE)
    if not found:
        return 0.0
    number, unit = found.groups()
    return float(number) * 2.0 ** _UNITS.get(unit, 0)


def _checked(network: nn.Module, x: Tensor, start: Start) -> Tensor:
    """Return the volume if the network has the classes, or the layer, that are to be explained."""
    if start.layer is not None:
        names = [name for name, _ in network.named_modules() if name]
        if start.layer not in names:
            raise InputError(
                f"Unknown layer {start.layer!r}.",
                f"one of {', '.join(names)}",
                nearest_name(start.layer, names),
            )
        return x
    with torch.no_grad():
        n_classes = max(network(x).shape[1], 2)
    wrong = sorted(set(start.target[(start.target < 0) | (start.target >= n_classes)].tolist()))
    if wrong:
        raise InputError(f"Class {wrong[0]} of a network with {n_classes} classes.", f"0 to {n_classes - 1}")
    return x
