"""What a design is warned of, and what the warnings are of: biases and powerless permutations, simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_xai.decoding.design import Design, make_design
from bids_xai.inference.accuracy import why_no_prevalence
from bids_xai.inference.design_checks import (
    design_warnings,
    label_change,
    leaves_out_classes,
    unbalances_folds,
)
from bids_xai.inference.permutation import natural_scheme, p_value, permute_design
from bids_xai.inference.prevalence import infer_prevalence

CONFIDENCE = 0.999
N_PERMUTATIONS = 19


def images(sequences: list[str]) -> pd.DataFrame:
    """Return rows of anatomical images: a letter, the class, per session of a person."""
    return pd.DataFrame(
        [
            {"subject": f"{p:03d}", "session": str(s), "task": "", "run": "", "event": np.nan, "class": name}
            for p, own in enumerate(sequences)
            for s, name in enumerate(own)
        ]
    )


def events(n_subjects: int, n_runs: int, of_run: str) -> pd.DataFrame:
    """Return rows of events: a letter, the class, per event of a run."""
    return pd.DataFrame(
        [
            {"subject": f"{p:03d}", "session": "", "task": "x", "run": str(r), "event": e, "class": name}
            for p in range(n_subjects)
            for r in range(n_runs)
            for e, name in enumerate(of_run)
        ]
    )


def predictions(X: np.ndarray, labels: np.ndarray, folds: tuple) -> np.ndarray:
    """Return the predicted classes of the held-out samples of all folds: ridge regression with a prior.

    A large common part of the images stands for a bias: what leans to the larger class is wrong on who is
    left out.
    """
    found = []
    for fold in folds:
        T = labels[fold.train] * 2.0 - 1
        A = X[fold.train]
        weights = np.linalg.solve(A.T @ A + 5 * np.eye(A.shape[1]), A.T @ T)
        found.append((X[fold.test] @ weights > 0).astype(int))
    return np.concatenate(found)


def score(X: np.ndarray, labels: np.ndarray, folds: tuple) -> float:
    tested = np.concatenate([fold.test for fold in folds])
    return float((predictions(X, labels, folds) == labels[tested]).mean())


def study(
    design: Design,
    draw: Callable[[np.random.Generator], np.ndarray],
    scheme: str,
    n_datasets: int,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p-values, true and mean permuted accuracies of datasets."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_datasets):
        X = draw(rng)
        null = np.array([score(X, *permute_design(design, scheme, rng)) for _ in range(N_PERMUTATIONS)])
        real = score(X, design.labels, design.folds)
        found.append((p_value(real, null), real, null.mean()))
    p, real, null = np.array(found).T
    return p, real, null


def heads(n: int, width: int = 6) -> Callable[[np.random.Generator], np.ndarray]:
    """Return what draws noise around one common head."""
    return lambda rng: 2 + rng.standard_normal((n, width))


def is_valid(p: np.ndarray) -> bool:
    """Return whether no level has more small p-values than chance gives."""
    levels = np.array([0.05, 0.1, 0.2, 0.5])
    counts = (p[:, None] <= levels + 1e-9).sum(axis=0)
    return bool((counts <= stats.binom.ppf(CONFIDENCE, len(p), levels)).all())


@pytest.mark.slow
@pytest.mark.parametrize("per_class", [4, 6])
def test_balanced_folds_have_no_bias_where_leaving_one_person_out_is_below_chance(per_class: int) -> None:
    rows = images(["A"] * per_class + ["B"] * per_class)
    n_datasets = 25
    balanced, _ = make_design(rows)
    one_out, _ = make_design(rows, cv="subject")
    assert (balanced.cv, balanced.n_repeats) == ("kfold", 5)
    found = {}
    for name, design in (("balanced", balanced), ("one out", one_out)):
        _, real, null = study(design, heads(2 * per_class), "between", n_datasets)
        both = np.concatenate([real, null])
        found[name] = both.mean(), both.std(ddof=1) / np.sqrt(len(both))
    mean, error = found["balanced"]
    assert abs(mean - 0.5) < 3 * error
    mean, error = found["one out"]
    assert mean < 0.5 - 3 * error
    assert design_warnings(balanced, "between") == []
    assert leaves_out_classes(one_out)
    assert "--cv kfold, the default here" in design_warnings(one_out, None)[0]


def test_folds_that_stayed_with_the_people_would_make_p_too_small() -> None:
    # Shows that the exchange of folds matters: those of the true labels are balanced, others are not.
    design, _ = make_design(images(["A"] * 5 + ["B"] * 5))
    rng = np.random.default_rng(0)
    draw = heads(10)
    stays, moves = [], []
    for _ in range(60):
        X = draw(rng)
        labels, folds = permute_design(design, "between", rng)
        stays.append(score(X, labels, design.folds))
        moves.append(score(X, labels, folds))
    assert np.mean(stays) < 0.46
    assert np.mean(moves) > 0.47


@pytest.mark.slow
@pytest.mark.parametrize(("counts", "cv"), [((7, 5), None), ((6, 6), "holdout")])
def test_p_values_of_groups_are_valid(counts: tuple[int, int], cv: str | None) -> None:
    n_repeats = 2 if cv is None else None
    design, _ = make_design(images(["A"] * counts[0] + ["B"] * counts[1]), cv=cv, n_repeats=n_repeats)
    p, _, _ = study(design, heads(sum(counts)), "between", 80)
    assert is_valid(p)
    assert (p <= 0.5).sum() >= stats.binom.ppf(1 - CONFIDENCE, 80, 0.4)


CHANGERS = images(["AA"] * 14 + ["BB"] * 14 + ["AB"] * 6 + ["BA"] * 6)


def visits(effect: float, design: Design) -> Callable[[np.random.Generator], np.ndarray]:
    """Return what draws images of people who differ, with an effect of the class."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        people = 0.3 * rng.standard_normal((len(design.people), 12))[design.subjects]
        X = people + rng.standard_normal((len(design.labels), 12))
        X[:, :4] += effect * (design.labels[:, None] * 2 - 1)
        return X

    return draw


@pytest.mark.slow
def test_sequences_are_exchanged_where_few_people_change_class() -> None:
    design, _ = make_design(CHANGERS)
    scheme = natural_scheme(design.cv, design.labels, *design.exchange_codes[:3])
    assert (design.cv, scheme) == ("kfold", "whole")
    assert design_warnings(design, scheme) == []
    p, _, _ = study(design, visits(0.0, design), scheme, 80)
    assert is_valid(p)
    found, _, null = study(design, visits(0.35, design), scheme, 25)
    assert (found <= 0.05).mean() > 0.8
    # The exchange within people, the default once, keeps what it should take away, and sees less.
    within, _, kept = study(design, visits(0.35, design), "subject", 25)
    assert (within <= 0.05).mean() < (found <= 0.05).mean() - 0.2
    assert abs(null.mean() - 0.5) < 0.02
    assert kept.mean() > null.mean() + 0.08
    change, possible = label_change(design, "subject")
    assert (change, possible) == (pytest.approx(0.15), pytest.approx(0.5))
    (warning,) = design_warnings(design, "subject")
    assert "changes the labels of 15 % of the samples" in warning
    assert "would change 50 %" in warning


def test_permuting_single_samples_of_people_of_one_class_is_warned_of() -> None:
    design, _ = make_design(images(["AA"] * 5 + ["BB"] * 5))
    assert any("p-values are too small" in text for text in design_warnings(design, "all"))


@pytest.mark.slow
def test_exchanging_between_balanced_runs_is_below_chance_and_says_nothing_of_the_population() -> None:
    n_people, n_datasets = 4, 120
    design, _ = make_design(events(n_people, 4, "AABB"), cv="run")
    assert unbalances_folds(design, "subject")
    assert not unbalances_folds(design, "run")
    assert "below chance" in design_warnings(design, "subject")[0]
    assert design_warnings(design, "run") == []
    for scheme, biased in (("subject", True), ("run", False)):
        rng = np.random.default_rng(1)
        small, null_means = 0, []
        for _ in range(n_datasets):
            X = 1 + rng.standard_normal((len(design.labels), 4))
            tested = np.concatenate([fold.test for fold in design.folds])

            def by_person(labels: np.ndarray, X: np.ndarray = X, tested: np.ndarray = tested) -> np.ndarray:
                right = predictions(X, labels, design.folds) == labels[tested]
                return np.bincount(design.subjects[tested], right) / np.bincount(design.subjects[tested])

            null = np.stack(
                [by_person(permute_design(design, scheme, rng)[0]) for _ in range(N_PERMUTATIONS)]
            )
            null_means.append(null.mean())
            found = infer_prevalence(by_person(design.labels)[:, None], null[..., None], rng, n_draws=10)
            small += found.p_global[0] <= 0.5
        limit = stats.binom.ppf(CONFIDENCE, n_datasets, 0.5)
        mean, error = np.mean(null_means), np.std(null_means) / np.sqrt(n_datasets)
        assert (mean < 0.5 - 4 * error) == biased
        if not biased:
            assert small <= limit
        reason = why_no_prevalence(
            n_people,
            scheme,
            within_people=design.within_people,
            unbalances_folds=unbalances_folds(design, scheme),
        )
        assert ("below chance" in reason) == biased


def test_runs_of_one_class_each_are_unbalanced_anyway() -> None:
    rows = pd.concat([events(3, 2, "AAAA"), events(3, 2, "BBBB").assign(run=lambda t: "b" + t["run"])])
    design, _ = make_design(rows.reset_index(drop=True), cv="run")
    assert not unbalances_folds(design, "subject")
