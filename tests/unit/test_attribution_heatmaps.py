from __future__ import annotations

import numpy as np
import pytest

from bids_xai.attribution.heatmaps import (
    averaged,
    chosen_samples,
    explained_classes,
    group_members,
    group_names,
    group_sums,
    mean_over_runs,
    run_means,
)
from bids_xai.errors import InputError


def test_explained_class_is_one_for_everyone_or_each_samples_own() -> None:
    true, predicted = np.array([0, 1, 2]), np.array([0, 2, 2])
    assert list(explained_classes(1, true, predicted)) == [1, 1, 1]
    assert list(explained_classes("true", true, predicted)) == [0, 1, 2]
    assert list(explained_classes("predicted", true, predicted)) == [0, 2, 2]


def test_the_best_classified_of_every_class_are_chosen() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    own = np.array([0.9, 0.95, 0.7, 0.85, 0.2])
    probabilities = np.where(labels[:, None] == np.arange(2), own[:, None], 1 - own[:, None])
    assert list(chosen_samples(labels, probabilities)) == [0, 1, 2, 3, 4]
    assert list(chosen_samples(labels, probabilities, most=1)) == [1, 3]
    assert list(chosen_samples(labels, probabilities, above=0.8)) == [0, 1, 3]
    assert list(chosen_samples(labels, probabilities, most=1, above=0.9)) == [1]
    assert len(chosen_samples(labels, probabilities, above=0.99)) == 0


def test_groups_of_two_classes_are_those_of_a_confusion_matrix() -> None:
    true, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 0, 1])
    members = dict(zip(group_names(["hc", "ad"]), group_members(true, predicted, 2), strict=True))
    found = {name: list(np.flatnonzero(own)) for name, own in members.items()}
    assert found == {"hc": [0, 1], "ad": [2, 3, 4], "TP": [2, 4], "FP": [1], "TN": [0], "FN": [3]}


def test_groups_of_more_classes_are_right_and_wrong() -> None:
    members = group_members(np.array([0, 1, 2]), np.array([0, 2, 2]), 3)
    assert group_names(["a", "b", "c"]) == ("a", "b", "c", "correct", "incorrect")
    assert [list(np.flatnonzero(own)) for own in members] == [[0], [1], [2], [0, 2], [1]]


def test_means_of_folds_and_runs_are_those_of_a_plain_loop(rng: np.random.Generator) -> None:
    n_runs, n_methods, n_voxels = 3, 2, 7
    folds = []
    for k in (4, 6):
        maps = rng.normal(size=(n_runs, n_methods, k, n_voxels)).astype(np.float32)
        members = rng.random((n_runs, 3, k)) < 0.4
        members[1, 2] = False  # a group without samples in one run
        folds.append((maps, members))
    sums = [
        np.stack([[group_sums(m, own) for m in run] for run, own in zip(maps, members, strict=True)])
        for maps, members in folds
    ]
    means, counts = run_means(sums, [members.sum(axis=2) for _, members in folds])
    found = mean_over_runs(means, counts)
    for method in range(n_methods):
        for group in range(3):
            of_runs = []
            for run in range(n_runs):
                rows = np.concatenate([maps[run, method][members[run, group]] for maps, members in folds])
                if len(rows):
                    of_runs.append(rows.mean(axis=0))
                    assert means[run, method, group] == pytest.approx(rows.mean(axis=0), abs=1e-6)
                else:
                    assert not means[run, method, group].any()
            assert found[method, group] == pytest.approx(np.mean(of_runs, axis=0), abs=1e-6)


def test_heatmaps_of_one_key_are_averaged_over_folds(rng: np.random.Generator) -> None:
    first, second = (
        rng.normal(size=(2, 2, 5)).astype(np.float32),
        rng.normal(size=(2, 3, 5)).astype(np.float32),
    )
    found = averaged([first, second], [np.array([0, 1]), np.array([1, 2, 1])], 3)
    assert found.shape == (3, 2, 5)
    assert found[0] == pytest.approx(first[:, 0])
    assert found[1] == pytest.approx((first[:, 1] + second[:, 0] + second[:, 2]) / 3, abs=1e-6)
    assert found[2] == pytest.approx(second[:, 1])


@pytest.mark.parametrize(
    "classes", [("TP", "control"), ("correct", "a", "b"), ("true", "false"), ("a", "b", "predicted")]
)
def test_a_class_with_the_name_of_another_group_is_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="which tables and maps keep for something else"):
        group_names(classes)
    # Names that only other numbers of classes need are free.
    assert group_names(("correct", "wrong"))[:2] == ("correct", "wrong")
