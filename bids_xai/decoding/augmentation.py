"""Random flips and shifts of volumes, on the device that they are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bids_xai.errors import InputError

SAGITTAL = 0


def augment(
    batch: Tensor,
    generator: torch.Generator,
    *,
    flip: float = 0.0,
    shift: int = 0,
    shift_axes: Sequence[int] = (SAGITTAL,),
) -> Tensor:
    """Return volumes, each flipped or not and shifted by whole voxels; zeros come in.

    A volume is first mirrored along the first (sagittal) axis with probability ``flip`` and then moved by
    s voxels along every axis of ``shift_axes``, s uniform on -shift, ..., shift:
    ``out[i + s] = volume[i]``. Böhle et al. (2019): flip .5, shift 2 along the sagittal axis; Eitel et al.
    (2019): along two axes; Klingenberg et al. (2021): as Böhle.

    Parameters
    ----------
    batch
        Shape (n, channels, x, y, z); it is not changed.
    generator
        Of the CPU, so that volumes are moved alike on every device.
    flip
        Probability in [0, 1].
    shift
        Largest shift in voxels.
    shift_axes
        Spatial axes (0, 1, 2) that are shifted along.

    Raises
    ------
    InputError
        The shift is not smaller than the volume.
    """
    shape = batch.shape[2:]
    narrow = [axis for axis in shift_axes if shift >= shape[axis]]
    if narrow:
        raise InputError(
            f"Shifts of up to {shift} voxels along axis {narrow[0]}, which has {shape[narrow[0]]}.",
            "shifts smaller than the volume",
            "use a smaller shift",
        )
    if not flip and not shift:
        return batch
    # All are drawn whatever is used, so that a volume's flip does not depend on the shifts asked for.
    flips = torch.rand(len(batch), generator=generator) < flip
    shifts = torch.randint(-shift, shift + 1, (len(batch), 3), generator=generator)
    out = torch.zeros_like(batch)
    for number in range(len(batch)):
        volume = batch[number]
        moves = [int(shifts[number, axis]) if axis in shift_axes else 0 for axis in range(3)]
        source = [_span(-move, size) for move, size in zip(moves, shape, strict=True)]
        target = [_span(move, size) for move, size in zip(moves, shape, strict=True)]
        if flips[number]:
            volume = volume.flip(1 + SAGITTAL)
        out[(number, slice(None), *target)] = volume[(slice(None), *source)]
    return out


def _span(move: int, size: int) -> slice:
    """Return where voxels land that move by this much, of an axis of this size."""
    return slice(max(move, 0), size + min(move, 0))
