"""How well networks classify held-out samples, beside other classifiers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.reports.figures import confusion_matrices
from bids_xai.reports.html import Gallery, Table, Text, count, listed, number, percent
from bids_xai.reports.networks_curves import roc_curves
from bids_xai.reports.people import misclassified_parts
from bids_xai.reports.results import Results

NETWORK = "network"
SIGNIFICANT = 0.05
_MAIN = "balanced_accuracy"
_NAMES = {
    "accuracy": "Accuracy",
    _MAIN: "Balanced accuracy",
    "roc_auc": "Area under the ROC curve",
    "auc": "Area under the ROC curve",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_AREAS = ("auc", "roc_auc")
_COLUMNS = (
    ("mean", "Mean"),
    ("sd", "SD"),
    ("se", "SE"),
    ("ci_low", "95 % CI from"),
    ("ci_high", "to"),
    ("null_mean", "Null mean"),
    ("null_sd", "Null SD"),
    ("null_max", "Null maximum"),
)
_CLASSIFIERS = {
    NETWORK: "network",
    "logistic-regression": "logistic regression",
    "svm-linear": "linear SVM",
    "svm-rbf": "SVM with an RBF kernel",
}


def main_score(results: Results) -> dict[str, Any] | None:
    """Return mean, sd, and where labels were permuted p and its null, of the balanced accuracy over runs.

    None where neither ``score_tests`` nor ``scores`` holds it.
    """
    tests = _overall(results.table("score_tests"))
    if tests is not None:
        return {str(key): value for key, value in tests.items()}
    scores = network_scores(results)
    if not len(scores):
        return None
    values = scores.loc[(scores["metric"] == _MAIN) & _of_all(scores), "value"]
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1))} if len(values) else None


def network_scores(results: Results) -> pd.DataFrame:
    """Return the rows of ``scores`` that are of the network, none of other classifiers."""
    scores = results.table("scores")
    return scores[scores["model"] == NETWORK] if "model" in scores else scores


def baseline_means(results: Results) -> dict[str, float]:
    """Return the mean balanced accuracy of every classifier that the network is compared with, by name."""
    scores = results.table("scores")
    if "model" not in scores:
        return {}
    found = scores[(scores["metric"] == _MAIN) & _of_all(scores) & (scores["model"] != NETWORK)]
    means = found.groupby("model", sort=False)["value"].mean()
    return {str(name): float(value) for name, value in means.items()}


def _overall(tests: pd.DataFrame) -> pd.Series | None:
    rows = tests[(tests["metric"] == _MAIN) & _of_all(tests)] if len(tests) else tests
    return rows.iloc[0] if len(rows) else None


def _of_all(table: pd.DataFrame) -> pd.Series:
    if "class" not in table:
        return pd.Series(True, index=table.index)
    return table["class"].isna() | (table["class"] == ALL_CLASSES)


def group_sizes(results: Results) -> dict[str, int]:
    """Return the number of held-out decisions in each group of samples, over all runs.

    Groups are the classes (samples whose true class it is); TP, FP, TN and FN of the positive class where
    there are two classes and one is positive; correct and incorrect. Empty without ``predictions``.
    """
    predictions = results.table("predictions")
    if not len(predictions):
        return {}
    true, right = predictions["true"], predictions["true"] == predictions["predicted"]
    sizes = {name: int((true == name).sum()) for name in results.classes}
    sizes |= {"correct": int(right.sum()), "incorrect": int((~right).sum())}
    positive = results.manifest.get("positive")
    if positive is not None and len(results.classes) == 2:
        ill = true == positive
        sizes |= {"TP": int((ill & right).sum()), "FN": int((ill & ~right).sum())}
        sizes |= {"TN": int((~ill & right).sum()), "FP": int((~ill & ~right).sum())}
    return sizes


def score_blocks(results: Results, gallery: Gallery) -> list[Any]:
    """Return the table of scores, other classifiers, the ROC curves and the confusion of held-out samples."""
    blocks = [*score_table(results, "the network"), *_baselines(results)]
    roc = results.table("roc")
    if len(roc):
        present = [name for name in results.classes if (roc["class"] == name).any()]
        runs = int(roc["n_runs"].max()) if "n_runs" in roc else 0
        spread = "" if runs == 1 else " over runs, with its standard error"
        caption = (
            f"{'' if runs == 1 else 'Mean '}ROC curve of the network on held-out samples{spread}. The area "
            "under a curve that is read at a grid of false positive rates can differ from the mean of the "
            "areas of the runs, which is in the table."
        )
        alt = "ROC curves with their standard error"
        blocks.append(gallery.drawing(roc_curves(roc, present), "roc", alt, caption[0].upper() + caption[1:]))
    predictions = results.table("predictions")
    if len(predictions):
        rate = confusion_of(predictions)
        caption = (
            "Per cent of the held-out samples of each true class by predicted class, mean over runs (0 where "
            "nothing is written)."
        )
        figure = confusion_matrices(rate, results.classes)
        blocks.append(gallery.drawing(figure, "confusion", "Confusion matrix", caption))
        blocks += misclassified_parts(misclassified_of(predictions))
    return blocks


def confusion_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rate of every predicted class among samples of a true class, mean over runs.

    Parameters
    ----------
    predictions
        Columns run, true, predicted; a row per held-out sample of a run.

    Returns
    -------
    pandas.DataFrame
        Columns kind ("real"), true, predicted, rate.
    """
    counts = predictions.groupby(["run", "true", "predicted"]).size().unstack(fill_value=0)
    rates = counts.div(counts.sum(axis=1), axis=0).groupby("true").mean()
    rows = rates.reset_index().melt(id_vars="true", var_name="predicted", value_name="rate")
    return rows.assign(kind="real")


def misclassified_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return of every participant the share of wrong decisions, if each is of one class; else an empty table.

    Parameters
    ----------
    predictions
        Columns subject, true, predicted and ``probability_<class>``; a row per held-out sample of a run.

    Returns
    -------
    pandas.DataFrame
        See :func:`bids_xai.reports.people.misclassified_parts`.
    """
    if (predictions.groupby("subject")["true"].nunique() > 1).any():
        return pd.DataFrame()
    own = [row[f"probability_{row['true']}"] for _, row in predictions.iterrows()]
    rows = predictions.assign(wrong=predictions["true"] != predictions["predicted"], own=own)
    groups = rows.groupby("subject")
    return pd.DataFrame({
        "true": groups["true"].first(),
        "predicted": groups["predicted"].agg(lambda values: values.mode().iloc[0]),
        "n_decisions": groups.size(),
        "misclassified": groups["wrong"].mean(),
        "probability": groups["own"].mean(),
    }).reset_index()  # fmt: skip


def score_table(results: Results, classifier: str) -> list[Any]:
    """Return the table of scores with their intervals over people and their permutation tests."""
    table, tested = results.table("score_tests"), False
    if len(table):
        tested = "p" in table and bool(table["p"].notna().any())
    elif len(scores := network_scores(results)):
        keys = ["metric", "class"] if "class" in scores else ["metric"]
        grouped = scores.groupby(keys, dropna=False, sort=False)["value"]
        table = grouped.agg(mean="mean", sd="std", n_runs="count").reset_index()
    else:
        return []
    how = (
        "p = (b + 1)/(m + 1) over trainings on permuted labels, one-sided, uncorrected over rows."
        if tested
        else "No permutations: no p-values."
    )
    # What no row has, such as the spread of a single run, needs no column.
    shown = [(name, title) for name, title in _COLUMNS if name in table and table[name].notna().any()]
    rows = [
        [
            _metric(row["metric"]),
            _class(row.get("class")),
            *(_score(row["metric"], row[name]) for name, _ in shown),
            *([number(float(row["p"]))] if tested else []),
        ]
        for _, row in table.iterrows()
    ]
    header = ["Score", "Class", *(title for _, title in shown), *(["p"] if tested else [])]
    runs = f" over {count(_runs(table), 'run')}" if _runs(table) else " over runs"
    return [
        Table(header, rows, f"Scores of {classifier} on held-out samples{runs}. {how}{_intervals(table)}")
    ]


def _intervals(table: pd.DataFrame) -> str:
    if "ci_low" not in table:
        return ""
    return (
        " Confidence intervals are over participants (Wilson, with the effective number of samples), for "
        "these classifiers. Sensitivity, specificity and areas are of a class against all others."
    )


def _runs(table: pd.DataFrame) -> int:
    return int(table["n_runs"].max()) if "n_runs" in table else 0


def _baselines(results: Results) -> list[Any]:
    scores, means = results.table("scores"), baseline_means(results)
    if not means:
        return []
    order = [NETWORK, *(name for name in dict.fromkeys(scores["model"]) if name != NETWORK)]
    keys = ["metric", "class"]
    wide = (
        scores.groupby([*keys, "model"], sort=False)["value"].mean().unstack("model").reindex(columns=order)
    )
    wide = wide.reindex(pd.MultiIndex.from_frame(network_scores(results)[keys].drop_duplicates()))
    rows = [
        [_metric(metric), _class(of), *(_score(metric, value) for value in values)]
        for (metric, of), values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    caption = (
        "The network and other classifiers, trained and tested on the same people; means over what is "
        "scored. The others see the voxels of the mask as numbers without places; SVMs are tuned within the "
        "training people."
    )
    names = [classifier_name(name) for name in order]
    header = ["Score", "Class", *(name[:1].upper() + name[1:] for name in names)]
    return [Table(header, rows, caption), Text(_compared(results, means))]


def classifier_name(model: str) -> str:
    """Return a classifier of ``scores`` in words."""
    return _CLASSIFIERS.get(model, model)


def _compared(results: Results, means: dict[str, float]) -> str:
    own = main_score(results) or {"mean": float("nan")}
    others = [f"{classifier_name(name)} {percent(value)}" for name, value in means.items()]
    better = [classifier_name(name) for name, value in means.items() if value >= own["mean"]]
    start = f"Balanced accuracy: network {percent(own['mean'])}, {listed(others)}. "
    if better:
        return (
            f"{start}The {listed(better)} {'does' if len(better) == 1 else 'do'} as well as the network or "
            "better: these samples give no evidence that the classes differ in anything that needs a "
            "network. The difference is not tested."
        )
    return f"{start}The network has the highest value; the difference is not tested."


def _metric(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " ").capitalize())


def _class(value: Any) -> str:
    return ALL_CLASSES if value is None or pd.isna(value) else str(value)


def _score(metric: str, value: Any) -> str:
    """Return a rate in per cent, an area under a curve as it is."""
    if metric in _AREAS:
        return "n/a" if pd.isna(value) else f"{float(value):.3f}".replace("-", "−")
    return percent(value)
