"""The paragraph of the methods section about the training of networks, from the settings that were used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bids_xai.reports.html import count, listed, number
from bids_xai.reports.results import Results

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "stochastic gradient descent"}
_Clauses = tuple[tuple[str, Callable[[Any], str]], ...]
_MONITORS = {
    "loss": "lower loss",
    "accuracy": "higher accuracy",
    "balanced-accuracy": "higher balanced accuracy",
    "auc": "larger area under the ROC curve",
}
_SCALINGS = {
    "minmax": "to lie between 0 and 1",
    "zscore": "to zero mean and unit variance",
    "max": "by its maximum",
}


def training_text(results: Results) -> str:
    """Return how networks were trained, one clause per setting that is set.

    Parameters
    ----------
    results
        Manifest of kind ``networks``; settings that it does not have are not described.

    Returns
    -------
    str
        Works are cited as ``[@key]``.
    """
    settings = results.settings
    sentences = [
        *_samples(settings),
        *_optimisation(settings),
        *_stopping(settings),
        *_augmentation(settings),
        *_beginning(settings),
        *_search(settings),
    ]
    trainings = results.table("trainings")
    if len(trainings) and "best_epoch" in trainings:
        sentences.append(
            "The parameters of the epoch with the best validation were kept (median epoch "
            f"{number(float(trainings['best_epoch'].median()))} over {count(len(trainings), 'training')})."
        )
    return " ".join(sentences)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return listed([_value(one) for one in value])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _column(name: str) -> str:
    """Return a column of participants.tsv, and the width of its bins, in words."""
    column, _, width = str(name).removeprefix("participants:").partition(":")
    return f"{column} (in steps of {width})" if width else column


def _clauses(settings: Any, known: _Clauses) -> list[str]:
    # False, 0 and nothing: not used.
    return [words(settings[key]) for key, words in known if settings.get(key)]


def _samples(settings: Any) -> list[str]:
    found = []
    undersample = [_column(name) for name in settings.get("undersample") or ()]
    if undersample:
        within = f" within every level of {listed(undersample[1:])}" if undersample[1:] else ""
        found.append(
            "People were left out at random until every class had as many of each level of "
            f"{undersample[0]}{within}."
        )
    if settings.get("samples_per_class"):
        found.append(f"Of every class {settings['samples_per_class']} samples were drawn at random.")
    if settings.get("validation_size"):
        strata = [_column(name) for name in settings.get("stratify") or ()]
        equal = f", with equal shares of the classes and of {listed(strata)}" if strata else ""
        found.append(
            f"A share of {settings['validation_size']:g} of the training people was kept for "
            f"validation{equal}."
        )
    scaling = _SCALINGS.get(str(settings.get("input_scaling")))
    if scaling:
        found.append(f"Every volume was scaled {scaling} before the network saw it.")
    return found


def _optimisation(settings: Any) -> list[str]:
    searched = ("learning_rate", "batch_size") if settings.get("random_search") else ()
    known: _Clauses = (
        ("optimizer", lambda value: f"optimiser {_OPTIMIZERS.get(value, value)}"),
        ("learning_rate", lambda value: f"learning rate {_value(value)}"),
        ("weight_decay", lambda value: f"weight decay {_value(value)}"),
        ("schedule", lambda value: _schedule(value, settings)),
        ("batch_size", lambda value: f"batches of {value} samples"),
        ("class_weights", lambda _: "classes weighted by the inverse of their number of samples"),
        ("mixed_precision", lambda _: "in bfloat16 where a GPU was used"),
    )
    phrases = _clauses(settings, tuple(clause for clause in known if clause[0] not in searched))
    phrases = [phrase for phrase in phrases if phrase]
    return [f"Networks were trained on the cross-entropy ({'; '.join(phrases)})."] if phrases else []


def _schedule(name: str, settings: Any) -> str:
    if name == "cosine":
        return "the learning rate falling as a cosine over the epochs"
    if name == "inverse-time":
        decay = _value(settings.get("learning_rate_decay") or 0.0)
        return f"the learning rate divided by 1 + {decay} t after t updates"
    return "" if name == "none" else f"schedule of the learning rate: {name}"


def _stopping(settings: Any) -> list[str]:
    phrases = []
    if settings.get("patience") and not settings.get("random_search"):
        monitor = _MONITORS.get(str(settings.get("monitor")), "better value")
        phrases.append(f"after {count(settings['patience'], 'epoch')} without a {monitor} in validation")
    if settings.get("max_epochs"):
        phrases.append(f"after {count(settings['max_epochs'], 'epoch')} at the latest")
    return [f"Training stopped {', '.join(phrases)}."] if phrases else []


def _augmentation(settings: Any) -> list[str]:
    phrases = []
    if settings.get("flip"):
        phrases.append(f"mirrored left to right with probability {_value(settings['flip'])}")
    if settings.get("max_shift"):
        axes = settings.get("shift_axes") or ("x", "y", "z")
        phrases.append(f"moved by up to {count(settings['max_shift'], 'voxel')} along {_value(list(axes))}")
    return [f"Training volumes were {listed(phrases)}."] if phrases else []


def _beginning(settings: Any) -> list[str]:
    if not settings.get("pretrained"):
        return []
    transfer = settings.get("transfer")
    names = [transfer] if isinstance(transfer, str) else list(transfer or ())
    which = f" (those whose names begin with {listed(names)})" if names and names != ["all"] else ""
    return [f"Training began with the parameters of a network that was trained before{which}."]


def _search(settings: Any) -> list[str]:
    if not settings.get("random_search"):
        return []
    spaces = [
        f"{words} ({_either(settings[key])}{unit})"
        for key, words, unit in (
            ("search_batch_size", "batch size", ""),
            ("search_learning_rate", "learning rate", ""),
            ("search_patience", "patience", " epochs"),
        )
        if settings.get(key)
    ]
    what = f" of {listed(spaces)}" if spaces else ""
    monitor = _MONITORS.get(str(settings.get("monitor")), "best value")
    return [
        f"In every training {count(settings['random_search'], 'draw')}{what} were tried, and the one of the "
        f"{monitor.replace('lower', 'lowest').replace('higher', 'highest').replace('larger', 'largest')} in "
        "validation was kept [@eitel2021]."
    ]


def _either(values: Any) -> str:
    words = [_value(value) for value in (values if isinstance(values, list | tuple) else [values])]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
