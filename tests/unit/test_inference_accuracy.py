"""Accuracies of all, of classes and of people against permutations, and the inference to a population."""

from __future__ import annotations

import numpy as np
import pytest

from bids_xai.decoding.scores import accuracy, class_accuracy
from bids_xai.inference.accuracy import (
    accuracy_tests,
    misclassified_table,
    of_one_class,
    prevalence_table,
    subject_tests,
    why_no_prevalence,
)
from bids_xai.inference.group_bootstrap import group_mean_p
from bids_xai.inference.permutation import p_value
from bids_xai.inference.prevalence import infer_prevalence
from bids_xai.inference.sequential import sequential_p

CLASSES, PEOPLE = ("face", "house", "tool"), ("01", "02", "A3", "4")


def confusions(rng, n_runs, hit, n_each=400):
    """Return counts of runs, people and classes whose samples are recognised with probability ``hit``."""
    shape = (n_runs, len(PEOPLE), len(CLASSES))
    right = rng.binomial(n_each, hit, shape)
    out = np.zeros((*shape, len(CLASSES)), dtype=np.int64)
    for c in range(len(CLASSES)):
        out[:, :, c, c] = right[:, :, c]
        out[:, :, c, (c + 1) % len(CLASSES)] = n_each - right[:, :, c]
    return out


@pytest.fixture
def runs(rng):
    return confusions(rng, 5, 0.345), confusions(rng, 299, 1 / 3)


def test_every_person_is_compared_with_the_own_permutations(runs):
    real, null = runs
    table = subject_tests(real, null, PEOPLE).set_index("subject")
    assert list(table.index) == list(PEOPLE)
    for number, name in enumerate(PEOPLE):
        own = accuracy(null[:, number])
        expected = {
            "mean": accuracy(real[:, number]).mean(), "sd": accuracy(real[:, number]).std(ddof=1),
            "null_mean": own.mean(), "null_sd": own.std(ddof=1), "null_max": own.max(),
            "null_low": np.quantile(own, 0.025), "null_high": np.quantile(own, 0.975),
            "p": p_value(accuracy(real[:, number]).mean(), own), "chance": own.mean(), "n_permutations": 299,
        }  # fmt: skip
        np.testing.assert_allclose(table.loc[name, list(expected)].astype(float), list(expected.values()))
    assert set(table["p_by"]) == {"counted"}
    assert table["p"].nunique() > 1


def test_who_is_of_one_class_is_counted_as_a_loop_counts(rng):
    true, n_runs = [0, 2, 1, 2], 7
    real = np.zeros((n_runs, len(PEOPLE), 3, 3), dtype=np.int64)
    decisions = rng.integers(0, 3, (n_runs, len(PEOPLE), 2))
    decisions[:, 0] = 0
    for run, person, sample in np.ndindex(decisions.shape):
        real[run, person, true[person], decisions[run, person, sample]] += 1
    assert of_one_class(real)
    table = misclassified_table(real, CLASSES, PEOPLE)
    assert table["subject"].tolist() == list(PEOPLE)
    for person, row in table.iterrows():
        own = decisions[:, person].ravel().tolist()
        assert row["true"] == CLASSES[true[person]]
        assert row["n_decisions"] == len(own) == 14
        assert row["misclassified"] == pytest.approx(sum(d != true[person] for d in own) / len(own))
        most = max(own.count(code) for code in range(3))
        assert own.count(CLASSES.index(row["predicted"])) == most
    assert table["misclassified"][0] == 0
    real[0, 1, 0, 1] += 1
    assert not of_one_class(real)


def test_overall_accuracy_is_that_of_all_people_together(runs):
    real, null = (counts.sum(axis=1) for counts in runs)
    table = accuracy_tests(real, null, CLASSES).set_index("scope")
    assert list(table.index) == ["all", *CLASSES]
    assert table.loc["all", "p"] == p_value(accuracy(real).mean(), accuracy(null))
    assert table.loc["tool", "p"] == p_value(class_accuracy(real)[:, 2].mean(), class_accuracy(null)[:, 2])


def test_small_p_come_from_the_tail_where_it_fits_and_nowhere_else(rng):
    n_each = 10**6  # nearly continuous
    real, null = confusions(rng, 3, 0.3353, n_each).sum(1), confusions(rng, 400, 1 / 3, n_each).sum(1)
    counted = accuracy_tests(real, null, CLASSES)
    table = accuracy_tests(real, null, CLASSES, "gpd")
    assert (counted["p"] == 1 / 401).all()
    assert (table["p_by"] == "gpd").all()
    assert (table["p"] < 1 / 1000).all()
    assert (table["p"] > 0).all()
    assert accuracy_tests(real, null, CLASSES, "gpd", smallest=0.002)["p"].min() == 0.002
    # Ten samples take few values: no continuous tail, and counted.
    coarse = accuracy_tests(
        confusions(rng, 3, 1.0, 3).sum(1), confusions(rng, 400, 1 / 3, 3).sum(1), CLASSES, "gpd"
    )
    assert (coarse["p_by"] == "counted").all()
    assert (coarse["p"] == 1 / 401).all()
    # Where many permutations reach the accuracy, they are counted.
    middle = accuracy_tests(null[:3], null, CLASSES, "gpd")
    assert (middle["p_by"] == "counted").all()


def test_permuting_that_stopped_early_has_its_own_p(runs):
    real, null = runs[0].sum(1), runs[1].sum(1)
    null[:150] = confusions(np.random.default_rng(0), 150, 0.36).sum(1)
    mean, chance = accuracy(real).mean(), accuracy(null)
    table = accuracy_tests(real, null, CLASSES, exceedances=7).set_index("scope")
    assert table.loc["all", "p"] == sequential_p(mean, chance, 7, 299)
    assert table.loc["all", "p"] != p_value(mean, chance)
    assert list(table["p_by"]) == ["sequential", "counted", "counted", "counted"]
    never = accuracy_tests(real, null, CLASSES, exceedances=300)
    assert set(never["p_by"]) == {"counted"}


def test_the_population_is_inferred_from_the_first_run_and_the_mean_of_all(rng):
    real, null = confusions(rng, 4, 0.7, 40), confusions(rng, 99, 1 / 3, 40)
    table = prevalence_table(real, null, CLASSES, np.random.default_rng(1)).set_index("scope")
    assert list(table.index) == ["all", *CLASSES]
    found = infer_prevalence(class_accuracy(real)[0], class_accuracy(null), np.random.default_rng(2))
    for name in ("minimum", "p_global", "p_majority", "prevalence"):
        np.testing.assert_allclose(table.loc[list(CLASSES), name], getattr(found, name))
    np.testing.assert_allclose(table.loc["all", "minimum"], accuracy(real[0]).min())
    np.testing.assert_allclose(table.loc["all", "mean"], accuracy(real).mean())
    p, highest = group_mean_p(
        accuracy(real).mean(axis=0)[:, None], accuracy(null)[..., None], np.random.default_rng(1)
    )
    np.testing.assert_allclose(table.loc["all", ["p_mean", "null_95"]].astype(float), [p[0], highest[0]])
    assert (table["n_subjects"] == len(PEOPLE)).all()


def test_a_class_that_a_person_has_no_samples_of_is_left_out(rng):
    real, null = confusions(rng, 2, 0.6, 40), confusions(rng, 49, 1 / 3, 40)
    real[:, 1, 2], null[:, 1, 2] = 0, 0
    table = prevalence_table(real, null, CLASSES, rng)
    assert list(table["scope"]) == ["all", "face", "house"]
    assert table.drop(columns=["scope", "prevalence_corrected"]).notna().all(axis=None)


@pytest.mark.parametrize(
    ("n_people", "scheme", "within", "words"),
    [(2, "run", True, ""), (5, "fold", True, ""), (5, "subject", True, ""), (1, "run", True, "one person"),
     (5, "subject", False, "trained on others"), (5, "all", True, "exchanged between people"),
     (5, "between", False, "trained on others")],
)  # fmt: skip
def test_people_must_be_independent_of_each_other(n_people, scheme, within, words):
    reason = why_no_prevalence(n_people, scheme, within_people=within)
    assert words in reason
    assert bool(reason) == bool(words)
