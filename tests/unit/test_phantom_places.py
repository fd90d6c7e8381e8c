import numpy as np
import pytest
from scipy.spatial.distance import pdist

from bids_xai.phantom.places import (
    COMMON_PLACES,
    PLACES_PER_CLASS,
    RADIUS_MM,
    amplitude_maps,
    choose_places,
)
from bids_xai.phantom.template import grid, grid_points, load_template, sample, smoothed


@pytest.mark.parametrize("n_classes", [2, 3, 8])
def test_half_of_each_class_is_shared_with_its_neighbours(n_classes):
    places = choose_places(load_template(), n_classes, np.random.default_rng(1))
    owners = places.owners
    assert (owners.sum(axis=1) == PLACES_PER_CLASS).all()
    shared = owners.sum(axis=0) == 2
    assert (owners[:, shared].sum(axis=1) == PLACES_PER_CLASS // 2).all()
    assert places.common.sum() == COMMON_PLACES
    assert not (places.common & owners.any(axis=0)).any()
    assert pdist(places.centres).min() > 2 * RADIUS_MM


def test_amplitudes_lie_in_grey_matter_within_the_spheres():
    template = load_template()
    places = choose_places(template, 3, np.random.default_rng(0))
    classes, common = amplitude_maps(template, places, 6.0)
    shape, affine = grid(template, 6.0)
    assert classes.shape == (3, *shape)
    points = grid_points(shape, affine)
    grey = sample(smoothed(template.gm, 6.0), template.affine, points).reshape(shape)
    for code in range(3):  # textbook: every voxel against every sphere of the class
        expected = np.zeros(len(points))
        for centre, gain in zip(
            places.centres[places.owners[code]], places.gains[places.owners[code]], strict=True
        ):
            expected[np.linalg.norm(points - centre, axis=1) <= RADIUS_MM] = gain
        np.testing.assert_allclose(classes[code], np.where(grey > 0.4, expected.reshape(shape), 0), rtol=1e-6)
    assert not ((common > 0) & (classes > 0).any(axis=0)).any()
    assert (classes > 0).sum(axis=(1, 2, 3)).min() > 50


def test_the_grid_starts_at_the_first_voxel_of_the_template():
    shape, affine = grid(load_template(), 4.0)
    assert shape == (50, 59, 48)
    np.testing.assert_array_equal(affine[:3, 3], load_template().affine[:3, 3])
    corners = grid_points(shape, affine)[[0, 1, -1]]
    np.testing.assert_allclose(corners, [[-98, -134, -72], [-98, -134, -68], [98, 98, 116]])


def test_tissues_sum_to_one_in_the_brain_and_the_head_is_around_it():
    template = load_template()
    total = template.gm + template.wm + template.csf
    assert np.allclose(total[total > 0], 1, atol=1e-5)
    assert (template.t1w > 0).sum() > 1.3 * (total > 0).sum()
