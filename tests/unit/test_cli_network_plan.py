"""What is refused of networks and explanations before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bids_xai.cli.network_plan import check_network
from bids_xai.errors import InputError
from bids_xai.settings import resolve

SHAPE = (26, 30, 25)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


class Turned(nn.Module):
    """A network of the user's that turns the volume before its second convolution, with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.dense = nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2)
        self.bent = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.dense(self.second(self.bent(self.first(x)).transpose(2, 3)).mean((2, 3, 4)))


def turned(shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Return the network for two classes."""
    del shape, n_classes
    return Turned()


def check(*explain: str, model: str = "emotion", affine: np.ndarray = AFFINE, **network: Any) -> None:
    sections = {
        "preprocessing": {"modality": "T1w", "resolution": 4.0},
        "samples": {"target": "group"},
        "decoding": {"model": model},
        "network": {"explain": list(explain) or ["saliency"], **network},
    }
    check_network(resolve(sections), ("control", "patient"), SHAPE, affine)


@pytest.mark.parametrize(
    ("explain", "found", "expected"),
    [
        ("occlusion:stride=3", "stride 3.*never be covered", "a stride of at most 2"),
        ("occlusion:box=9x9x4,stride=5", "never be covered", "a stride of at most 4"),
        ("occlusion:box=2x2x26", "Boxes of 2 x 2 x 26", "fit the volume"),
        ("grad-cam:layer=features.9", "Unknown layer 'features.9'", "one of"),
        ("grad-cam:layer=classifier.3", "has 2 axes", "5 for Grad-CAM"),
        ("guided-grad-cam:layer=classifier", "has 2 axes", "5 for Grad-CAM"),
    ],
)
def test_explanations_that_cannot_be_are_refused(explain: str, found: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"--explain {explain}: .*{found}") as caught:
        check("saliency", explain)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "explain",
    [
        "occlusion",
        "occlusion:box=4x4x25,stride=4",
        "grad-cam",
        "grad-cam:layer=features.1.3",
        "guided-grad-cam",
    ],
)
def test_others_are_not(explain: str) -> None:
    check(explain)


def test_grad_cam_of_a_filter_looks_no_later_than_the_filter() -> None:
    check("grad-cam", explain_layer="features.1.3", explain_filter=2)
    with pytest.raises(InputError, match=r"does not depend on the layer 'features\.2\.0'"):
        check("grad-cam:layer=features.2.0", explain_layer="features.1.3")


def test_networks_of_the_user_are_tried() -> None:
    model = f"{__name__}:turned"
    check("grad-cam:layer=first", model=model)
    with pytest.raises(InputError, match="cells of layer 'second' lie, after 'transpose'"):
        check("grad-cam", model=model)
    with pytest.raises(InputError, match=r"--explain guided-backprop: .*GELU"):
        check("guided-backprop", model=model)


def test_axes_that_are_mirrored_run_left_to_right() -> None:
    flipped, front_first = np.diag([-4.0, 4.0, 4.0, 1.0]), AFFINE[[1, 0, 2, 3]]
    for affine in (AFFINE, flipped):
        check(affine=affine, flip=0.5, max_shift=1, shift_axes=("x", "y"))
    check(affine=front_first)
    check(affine=front_first, max_shift=1, shift_axes=("z",))
    with pytest.raises(InputError, match="axes of the grid run A, R, S, and its axis 1 is not x"):
        check(affine=front_first, flip=0.5)
    with pytest.raises(InputError, match="its axis 2 is not y"):
        check(affine=front_first, max_shift=1, shift_axes=("y",))
    assert torch.is_grad_enabled()
