"""Peaks have the same world coordinates whatever the order and direction of an image's axes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from torch import nn

from bids_xai.atlases.regions import labels_on_grid, region_table
from bids_xai.atlases.sources import Atlas
from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.explain import Explanation, explain
from bids_xai.images.masking import unmask
from bids_xai.interfaces.heatmap_results import strongest_positions
from bids_xai.reports.networks_maps import peak_position
from bids_xai.reports.slices import SliceView

SHAPE, PLANTED, CELL = (22, 26, 18), (14, 6, 11), 2
AFFINE = np.array([[3.0, 0.3, 0, -30], [-0.3, 2.5, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])
WORLD = AFFINE[:3, :3] @ PLANTED + AFFINE[:3, 3]
ORDERS = ["RAS", "LAS", "RPI", "PSR", "SAL", "ILP"]


def turned(data: npt.NDArray, order: str) -> nb.Nifti1Image:
    """Return an image whose voxel axes run in this order, as nibabel writes it."""
    image = nb.Nifti1Image(data, AFFINE)
    now, wanted = nb.io_orientation(AFFINE), nb.orientations.axcodes2ornt(order)
    return image.as_reoriented(nb.orientations.ornt_transform(now, wanted))


def seeing() -> nn.Sequential:
    """Return a network that answers to brightness above a threshold, wherever it is."""
    network = nn.Sequential(
        nn.Conv3d(1, 1, 3, bias=False), nn.ReLU(), nn.MaxPool3d(CELL), nn.Conv3d(1, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2, bias=False),
    )  # fmt: skip
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    with torch.no_grad():
        network[0].weight.copy_(line[:, None, None] * line[None, :, None] * line[None, None, :])
        network[3].weight.fill_(1.0)
        network[3].bias.fill_(-0.1)
        network[7].weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    return network


def volume() -> npt.NDArray[np.float32]:
    grid = np.indices(SHAPE)
    distance = sum((line - c) ** 2 for line, c in zip(grid, PLANTED, strict=True))
    return np.where(distance <= 8, np.exp(-distance / 3.0), 0).astype(np.float32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", [name for name in EXPLANATIONS if name != "region-occlusion"])
def test_explanations_point_to_the_same_millimetres(method: str, order: str, tmp_path: Path) -> None:
    data = np.ascontiguousarray(turned(volume(), order).dataobj)
    mask = turned(np.ones(SHAPE, np.uint8), order)
    inside = np.asarray(mask.dataobj) > 0
    found = explain(seeing(), data[None], np.array([1]), Explanation(method), mask=inside)[0]
    nb.save(unmask(found[inside], mask), tmp_path / "map.nii.gz")
    written = nb.load(tmp_path / "map.nii.gz")
    assert "".join(nb.aff2axcodes(written.affine)) == order
    # Half a jump of Grad-CAM, along the axes of the grid.
    most = np.linalg.norm(np.linalg.norm(AFFINE[:3, :3], axis=0) * CELL / 2)
    values = np.asarray(written.dataobj)
    peaks = np.argwhere(values >= values.max() * (1 - 1e-5))
    assert np.linalg.norm(nb.affines.apply_affine(written.affine, peaks).mean(axis=0) - WORLD) <= most
    view = SliceView(mask)
    named = peak_position(view.values(written), view.affine)
    assert named is not None
    assert np.linalg.norm(named - WORLD) <= 2 * most


@pytest.mark.parametrize("order", ORDERS)
def test_tables_give_the_millimetres_of_nibabel(order: str) -> None:
    """Peaks of regions, the strongest positions, and the slices of figures."""
    rng = np.random.default_rng(3)
    brain = rng.random(SHAPE) < 0.6
    brain[PLANTED] = True
    values = np.where(brain, rng.random(SHAPE), 0).astype(np.float32)
    values[PLANTED] = 5
    mask, image = turned(brain.astype(np.uint8), order), turned(values, order)
    inside = np.asarray(mask.dataobj) > 0
    maps = np.asarray(image.dataobj)[inside][None, None]
    # The atlas has its own order of axes.
    labels = 1 + (np.indices(SHAPE)[0] >= 11).astype(np.int32)
    table = pd.DataFrame({"index": [1, 2], "name": ["left", "right"]})
    atlas = Atlas("halves", turned(labels, "SPL"), table, space="", licence="", source="")
    of_voxels = labels_on_grid(atlas, mask)
    np.testing.assert_array_equal(of_voxels, np.asarray(turned(labels, order).dataobj)[inside])
    regions = region_table(of_voxels, atlas, maps, maps > 1, mask, ["W"], ["a"])
    right = regions.set_index("region").loc["right"]
    np.testing.assert_allclose(right[["peak_x", "peak_y", "peak_z"]].astype(float), WORLD, atol=1e-4)
    assert right["peak"] == 5

    drops = np.stack([maps[0, 0], np.zeros_like(maps[0, 0])])
    positions = strongest_positions(drops, ("a", "b"), mask, 6)
    strongest = np.argsort(-values, axis=None, kind="stable")[:6]
    expected = nb.affines.apply_affine(AFFINE, np.array(np.unravel_index(strongest, SHAPE)).T)
    assert positions["class"].tolist() == ["a"] * 6
    np.testing.assert_allclose(positions[["x", "y", "z"]], expected, atol=1e-4)

    view = SliceView(mask)
    np.testing.assert_allclose(peak_position(view.values(image), view.affine), WORLD, atol=1e-4)
    assert "".join(nb.aff2axcodes(view.affine)) == "RAS"
