from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bids_xai.decoding.baselines import baseline_probabilities
from bids_xai.decoding.design import make_design


def _data(rng: np.random.Generator, n_people: int, classes: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    names = np.tile(classes, n_people)[:n_people]
    rows = pd.DataFrame({"subject": [f"{i:02d}" for i in range(n_people)], "class": names})
    rows = rows.assign(session="", task="", run="", event=np.nan)
    X = rng.normal(size=(n_people, 12)).astype(np.float32)
    X[:, : len(classes)] += 4 * (names[:, None] == np.array(classes))
    return X, rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic-regression", "svm-linear", "svm-rbf"])
@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_baselines_learn_what_there_is_and_give_probabilities(
    rng: np.random.Generator, name: str, classes: list[str]
) -> None:
    X, rows = _data(rng, 42, classes)
    design, _ = make_design(rows, classes=classes, cv="kfold", n_folds=3)
    found = baseline_probabilities(name, X, design, seed=0)
    right = []
    for fold, own in zip(design.folds, found, strict=True):
        assert own.shape == (len(fold.test), len(classes))
        assert own.sum(axis=1) == pytest.approx(1)
        right += list(own.argmax(axis=1) == design.labels[fold.test])
    assert np.mean(right) > 0.7


def test_nothing_of_the_held_out_people_is_learnt(rng: np.random.Generator) -> None:
    X, rows = _data(rng, 30, ["a", "b"])
    design, _ = make_design(rows, classes=["a", "b"], cv="kfold", n_folds=3)
    before = baseline_probabilities("logistic-regression", X, design, seed=0)[0]
    changed = X.copy()
    other = design.folds[0].test[1:]
    changed[other] *= 100
    after = baseline_probabilities("logistic-regression", changed, design, seed=0)[0]
    assert after[0] == pytest.approx(before[0])
