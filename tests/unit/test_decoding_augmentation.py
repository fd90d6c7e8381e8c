"""Flips and shifts against a loop over voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.decoding.augmentation import augment
from bids_xai.errors import InputError


def moved(volume: np.ndarray, flipped: bool, shifts: tuple[int, ...]) -> np.ndarray:
    """Move voxel by voxel."""
    out = np.zeros_like(volume)
    for place in np.ndindex(volume.shape):
        start = (volume.shape[0] - 1 - place[0] if flipped else place[0], *place[1:])
        end = tuple(p + s for p, s in zip(place, shifts, strict=True))
        if all(0 <= p < size for p, size in zip(end, volume.shape, strict=True)):
            out[end] = volume[start]
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    shift=st.integers(0, 3),
    axes=st.sampled_from([(0,), (0, 1), (0, 1, 2), (2,), ()]),
)
def test_every_volume_is_one_of_the_moves_that_may_be_drawn(
    seed: int, flip: float, shift: int, axes: tuple[int, ...]
) -> None:
    batch = torch.randn(4, 1, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
    before = batch.clone()
    out = augment(batch, torch.Generator().manual_seed(seed), flip=flip, shift=shift, shift_axes=axes)
    assert torch.equal(batch, before)
    steps = range(-shift, shift + 1)
    for volume, result in zip(batch[:, 0].numpy(), out[:, 0].numpy(), strict=True):
        candidates = [
            moved(volume, flipped, (i, j, k))
            for flipped in {0.0: (False,), 0.5: (False, True), 1.0: (True,)}[flip]
            for i in (steps if 0 in axes else (0,))
            for j in (steps if 1 in axes else (0,))
            for k in (steps if 2 in axes else (0,))
        ]
        assert sum(np.array_equal(result, candidate) for candidate in candidates) == 1


def test_flips_and_shifts_are_drawn_uniformly() -> None:
    ramp = torch.arange(1.0, 10.0).reshape(1, 1, 9, 1, 1).expand(2000, 1, 9, 1, 1)
    out = augment(ramp, torch.Generator().manual_seed(0), flip=0.3, shift=2)[:, 0, :, 0, 0]
    flipped = out[:, 3] > out[:, 5]
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.05)
    centre = (out == 5.0).float().argmax(dim=1) - 4
    assert torch.bincount(centre + 2).float().div(2000).sub(0.2).abs().max() < 0.05
    # Flip and shift do not go together.
    both = np.corrcoef(flipped.numpy(), centre.numpy())[0, 1]
    assert abs(both) < 0.1


def test_the_generator_decides_and_channels_move_together() -> None:
    batch = torch.randn(6, 1, 5, 5, 5, generator=torch.Generator().manual_seed(1)).expand(-1, 2, -1, -1, -1)
    first = augment(batch, torch.Generator().manual_seed(3), flip=0.5, shift=2)
    again = augment(batch, torch.Generator().manual_seed(3), flip=0.5, shift=2)
    other = augment(batch, torch.Generator().manual_seed(4), flip=0.5, shift=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first[:, 0], first[:, 1])


def test_a_shift_out_of_the_volume_is_refused() -> None:
    with pytest.raises(InputError, match="Shifts of up to 4 voxels along axis 0, which has 4"):
        augment(torch.zeros(1, 1, 4, 9, 9), torch.Generator(), shift=4)
