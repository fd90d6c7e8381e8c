"""Classifiers that networks are compared with, on the same folds and the voxels of the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_xai.decoding.design import Design

# Eitel et al. (2019), section 2.5: values of C and gamma, chosen by 5 folds within the training set.
GRID = (0.001, 0.1, 1.0, 10.0)
_INNER_FOLDS = 5


def baseline_probabilities(
    name: str, X: npt.NDArray[np.float32], design: Design, *, seed: int
) -> list[npt.NDArray[np.float64]]:
    """Return the probabilities of the held-out samples of every fold, shape (n_test, n_classes).

    Features are standardised within the training set. SVMs are tuned by five folds of the training people,
    and give the softmax of their decision values.

    Parameters
    ----------
    name
        ``"logistic-regression"`` (l2, C = 1), ``"svm-linear"`` or ``"svm-rbf"``.
    X
        Samples, shape (n_samples, n_features).
    design
        Labels, people and folds.
    seed
        Of the inner folds.
    """
    found = []
    for fold in design.folds:
        classifier = _classifier(name, design, fold.train, seed)
        classifier.fit(X[fold.train], design.labels[fold.train])
        if name == "logistic-regression":
            found.append(classifier.predict_proba(X[fold.test]))
        else:
            found.append(_softmax(classifier.decision_function(X[fold.test])))
    return found


def _classifier(name: str, design: Design, train: npt.NDArray[np.int64], seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if name == "logistic-regression":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    kernel = name.removeprefix("svm-")
    grid: dict[str, Any] = {"svc__C": GRID}
    if kernel == "rbf":
        # Of standardised features, relative to their number.
        grid["svc__gamma"] = ["scale", *GRID]
    people = design.subjects[train]
    of_class = [len(np.unique(people[design.labels[train] == code])) for code in range(len(design.classes))]
    n_folds = min(_INNER_FOLDS, *of_class)
    classifier = make_pipeline(StandardScaler(), SVC(kernel=kernel, decision_function_shape="ovr"))
    if n_folds < 2:
        return classifier
    inner = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    parts = list(inner.split(np.zeros(len(train)), design.labels[train], people))
    return GridSearchCV(classifier, grid, cv=parts, scoring="balanced_accuracy")


def _softmax(decision: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if decision.ndim == 1:
        decision = np.stack([-decision, decision], axis=1) / 2
    exponentials = np.exp(decision - decision.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
